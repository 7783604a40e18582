"""The state of a run on disk: what WORKDIR is a run of, its history, and all needed to go on."""

import json
import os
import re
import shutil
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
import tensorflow as tf
from absl import logging

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest

CONFIG_FILE = "config.json"
HISTORY_FILE = "history.csv"
# What a run may be continued with in another way than it was begun: none of them changes what is
# learnt but by rounding, and a run that stopped at its ceiling of memory must be able to go on with
# a higher one.
FREE = ("checkpoint_steps", "deterministic", "max_memory_gb")
_STATE, _VARIABLES = "state.json", "variables.npz"


class Run:
    """A run's state, and its folder `checkpoints/last/step-<global step>[-epoch-<finished>]`.

    The folder is written under a temporary name and renamed, so that there is always one whole
    state; older ones are removed after. It holds every variable bit for bit (weights, the
    optimizer's slots, iterations and loss scale, the running epoch's metrics), the counters of
    the callbacks, the best epoch so far, the history, and the precision that was chosen.
    """

    def __init__(self, workdir: Path, experiment: specs.Experiment, *, chief: bool = True):
        """Reads the last whole state, if there is one, but for its variables.

        Args:
          workdir: the run's folder.
          experiment: of the run.
          chief: whether this process writes; of several workers one does.

        Raises:
          ValueError: the state cannot be read.
        """
        self.workdir, self.experiment, self.chief = workdir, experiment, chief
        self.step = 0  # Finished steps since the run began.
        self.best_epoch = 0
        self.best_value: float | None = None
        self.stopped = False  # By early stopping.
        self.seconds = 0.0  # Of all sessions, up to the state.
        self.precision = ""  # Once chosen, a property of the run.
        self.workers = 0  # That took the steps up to the state.
        self.callbacks: dict[str, dict[str, float]] = {}
        self.running: dict[str, float] = {}  # Of the unfinished epoch: seconds, waiting, peak.
        self.history: list[dict[str, float]] = []
        self._last = workdir / "checkpoints" / "last"
        self._folder: Path | None = None
        self._stored: dict[str, Any] = {}
        states = sorted(p for p in self._last.glob("step-*") if not p.name.endswith(".tmp"))
        if states:
            self._read(states[-1])

    @property
    def epoch(self) -> int:
        """Finished epochs."""
        return len(self.history)

    def restore(self, model: keras.Model) -> None:
        """Fills a compiled model's variables, if there is a state.

        Raises:
          ValueError: the state is damaged, or one of a model with other variables.
        """
        if self._folder is None:
            return
        path = self._folder / _VARIABLES
        variables = _variables(model)
        found = [_description(variable) for variable in variables]
        stored = self._stored["variables"]
        if found != stored:
            i = next((i for i, (a, b) in enumerate(zip(found, stored, strict=False)) if a != b), -1)
            detail = f"{stored[i]} there, {found[i]} now" if i >= 0 else "their number differs"
            raise ValueError(
                f"{path} does not fit the model: {len(stored)} variables there, {len(found)} now; "
                f"{detail}. It was written with {self._stored['libraries']}, this is "
                f"{_libraries()}. Go on with the versions that began the run, or choose another "
                "--workdir."
            )
        try:
            with np.load(path) as arrays:
                values = [arrays[str(i)] for i in range(len(variables))]
        except Exception as error:  # BadZipFile, EOFError, ValueError, ...: what NumPy meets.
            raise self._damaged(self._folder, error) from error
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        logging.info("Resuming after step %d of %s.", self.step, self.workdir)

    def finish_epoch(
        self, model: keras.Model, judge: keras.Model, row: dict[str, float], *, stopped: bool
    ) -> None:
        """Records a finished epoch: best weights first, then the state, then the history.

        Args:
          model: that is trained.
          judge: has its weights, and can be saved by one worker alone: over several, reading a
            BatchNorm of Keras 2 takes all.
          row: of history.csv.
          stopped: by early stopping.
        """
        self.stopped = stopped
        self.running = {}
        self.history.append(row)
        select_by = self.experiment.training.select_by
        value = row[select_by]
        sign = 1 if tasks.of(self.experiment).MONITORS[select_by] == "max" else -1
        if np.isfinite(value) and (
            self.best_value is None or sign * value > sign * self.best_value
        ):
            self.best_epoch, self.best_value = self.epoch, value
            self._save_best(judge)
        self.save(model)
        self.write_history()

    def save(self, model: keras.Model) -> None:
        """Writes the state at `step`, and removes the older ones."""
        variables = _variables(model)
        # Of several workers all do this: to look at some of Keras 2's variables takes all of them.
        descriptions = [_description(variable) for variable in variables]
        arrays: dict[str, Any] = {str(i): variable.numpy() for i, variable in enumerate(variables)}
        if not self.chief:
            return
        # A finished epoch has a name of its own, later than that of a state before its validation.
        finished = "" if self.running else f"-epoch-{self.epoch:05d}"
        final = self._last / f"step-{self.step:08d}{finished}"
        if final.exists():  # What this process resumed from, or has saved already.
            return
        temporary = final.with_name(final.name + ".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        with (temporary / _VARIABLES).open("wb") as stream:
            np.savez(stream, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        state = {name: getattr(self, name) for name in _FIELDS}
        state["variables"] = descriptions
        state["libraries"] = _libraries()
        manifest.write_text(temporary / _STATE, json.dumps(state))
        temporary.rename(final)
        for older in self._last.glob("step-*"):
            if older != final:
                # Renamed first: what is left of a removal that was killed is taken for no state.
                shutil.rmtree(older.rename(older.with_name(older.name + ".tmp")))

    def write_history(self) -> None:
        """Writes history.csv, one row a finished epoch."""
        if self.chief:
            text = pd.DataFrame(self.history).to_csv(index=False)
            manifest.write_text(self.workdir / HISTORY_FILE, text)

    def remove(self) -> None:
        """Removes the state, which a finished run has no use for."""
        if self.chief:
            shutil.rmtree(self._last, ignore_errors=True)

    def _save_best(self, model: keras.Model) -> None:
        if not self.chief:
            return
        folder = self.workdir / "checkpoints"
        folder.mkdir(exist_ok=True)
        model.save_weights(folder / "tmp.weights.h5")
        (folder / "tmp.weights.h5").replace(folder / "best.weights.h5")

    def _read(self, folder: Path) -> None:
        try:
            self._stored = json.loads((folder / _STATE).read_text(encoding="utf-8"))
            for name in _FIELDS:
                setattr(self, name, self._stored[name])
        except (OSError, ValueError, KeyError) as error:
            raise self._damaged(folder, error) from error
        self._folder = folder

    def _damaged(self, folder: Path, error: Exception) -> ValueError:
        return ValueError(
            f"{folder} cannot be read: {error!r}. It was damaged or written by another version; "
            "choose another --workdir, or delete this folder to begin the run again."
        )


_FIELDS = (
    "step",
    "best_epoch",
    "best_value",
    "stopped",
    "seconds",
    "precision",
    "workers",
    "callbacks",
    "running",
    "history",
)


def _variables(model: keras.Model) -> list[Any]:
    """Everything that a step changes, dropout's state apart: it is set before every step."""
    optimizer = model.optimizer
    slots = optimizer.variables
    slots = list(slots() if callable(slots) else slots)  # A method of Keras 2's older optimizers.
    # Keras 2 keeps the scale of the loss apart from its optimizer's variables, and some
    # optimizers the learning rate, which a callback changes.
    slots += getattr(getattr(optimizer, "_loss_scale", None), "_weights", {}).values()
    rate = optimizer.learning_rate
    slots += [rate] if isinstance(rate, tf.Variable) else []
    metrics = [variable for metric in model.metrics for variable in metric.variables]
    return [*model.weights, *slots, *metrics]


def _description(variable: Any) -> str:
    """Last word of the name, shape and dtype: other words may count models made before."""
    name = getattr(variable, "path", variable.name)
    last = re.sub(r"[_\d]*(:\d+)?$", "", name).replace("/", "_").split("_")[-1]
    return f"{last} {tuple(variable.shape)} {tf.as_dtype(variable.dtype).name}"


def _libraries() -> str:
    return f"TensorFlow {tf.__version__} with Keras {keras.__version__}"


def claim(workdir: Path, experiment: specs.Experiment, data: manifest.Manifest) -> None:
    """Writes config.json, which says what WORKDIR is a run of."""
    workdir.mkdir(parents=True, exist_ok=True)
    manifest.write_text(workdir / CONFIG_FILE, _claim(experiment, data))


def check_claim(workdir: Path, experiment: specs.Experiment, data: manifest.Manifest) -> None:
    """Refuses a WORKDIR that is another run's.

    Raises:
      ValueError: names the settings that differ.
    """
    path = workdir / CONFIG_FILE
    if not path.is_file():
        return
    claimed = path.read_text(encoding="utf-8")
    if claimed == _claim(experiment, data):
        return
    theirs = manifest.flat(json.loads(claimed)["experiment"])
    mine = manifest.flat(json.loads(_claim(experiment, data))["experiment"])
    different = [
        f"config.{key}: there {theirs.get(key)!r}, now {mine.get(key)!r}"
        for key in {**mine, **theirs}
        if theirs.get(key) != mine.get(key)
    ] or ["the data set is another"]
    raise ValueError(
        f"{workdir} holds a run of another config. {'; '.join(different)}. "
        "Choose another --workdir, or delete this one."
    )


def _claim(experiment: specs.Experiment, data: manifest.Manifest) -> str:
    """The text of config.json, without the settings that are FREE."""
    settings = specs.to_dict(experiment)
    for name in FREE:
        del settings["training"][name]
    mine = {"experiment": settings, "data": data.fingerprint}
    return json.dumps(mine, indent=2, sort_keys=True) + "\n"
