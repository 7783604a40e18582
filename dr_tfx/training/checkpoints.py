"""The state of a run on disk: its history and its last checkpoint, from which it goes on."""

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
from dr_tfx.storage import files
from dr_tfx.training import alarms, identity

_STATE, _VARIABLES = "state.json", "variables.npz"
_AVERAGE = "average_"  # Begins the names of averages in the file of variables.


class Run:
    """The state of a run, and its folder `checkpoints/last/step-<global step>[-epoch-<finished>]`.

    The folder is written under a temporary name and then renamed, so that there is always one whole
    state; older ones are removed afterwards. It holds every variable bit for bit (weights, the
    optimizer's slots, iterations and loss scale, the metrics of the unfinished epoch), the averages
    of the weights, the counters of the callbacks, the best epoch so far, the history, and the
    precision that was chosen.
    """

    def __init__(self, workdir: Path, experiment: specs.Experiment, *, chief: bool = True):
        """Read the last whole state, if there is one, except for its variables.

        Args:
          workdir: the folder of the run.
          experiment: the settings of the run.
          chief: True if this process writes; one of several workers does.

        Raises:
          ValueError: the state cannot be read.
        """
        self.workdir, self.experiment, self.chief = workdir, experiment, chief
        self.step = 0  # Finished steps since the run began.
        self.best_epoch = 0
        self.best_value: float | None = None
        self.stopped = False  # True once early stopping has ended the run.
        self.stage = 0  # The number of the stage that the state belongs to.
        self.seconds = 0.0  # Duration of all sessions up to the state.
        self.precision = ""  # The dtype policy; empty until the first session chooses it.
        self.workers = 0  # Number of workers that took the steps up to the state.
        self.callbacks: dict[str, dict[str, float]] = {}
        self.running: dict[str, float] = {}  # Costs of the unfinished epoch; empty between epochs.
        # Averages of the weights over epochs, as `Model.get_weights` orders them; often none.
        self.averages: list[np.ndarray] = []
        self.history: list[dict[str, float]] = []
        self._last = _last(workdir)
        self._folder: Path | None = None
        self._stored: dict[str, Any] = {}
        self._begins = False  # True if a stage begins, so that only the weights go on.
        states = sorted(p for p in self._last.glob("step-*") if not p.name.endswith(".tmp"))
        if states:
            self._read(states[-1])

    @property
    def epoch(self) -> int:
        """The number of finished epochs."""
        return len(self.history)

    def begin(self, stage: int) -> None:
        """Go on with a stage of the run, which may be another one than that of the state."""
        if stage != self.stage:
            self.stage, self.callbacks, self._begins = stage, {}, True

    def restore(self, model: keras.Model) -> None:
        """Fill the variables of a compiled model, if there is a state.

        Where a stage begins, these are the weights alone.

        Raises:
          ValueError: the state is damaged, or belongs to a model with other variables.
        """
        if self._folder is None:
            return
        path = self._folder / _VARIABLES
        variables, stored = _variables(model), self._stored["variables"]
        if self._begins:
            variables = _weights(model)
            stored = stored[: len(variables)]
        found = [_description(variable) for variable in variables]
        if found != stored:
            i = next((i for i, (a, b) in enumerate(zip(found, stored, strict=False)) if a != b), -1)
            detail = (
                f"variable {i} is {stored[i]} in the file and {found[i]} in the model"
                if i >= 0
                else "the rest is equal"
            )
            raise ValueError(
                f"{path} does not fit the model: the file has {len(stored)} variables and the "
                f"model {len(found)}; {detail}. The file was written with "
                f"{self._stored['libraries']}, this is {_libraries()}. Resume with the versions "
                "that began the run, or choose another --workdir."
            )
        try:
            with np.load(path) as arrays:
                values = [arrays[str(i)] for i in range(len(variables))]
                averages = [arrays[name] for name in arrays.files if name.startswith(_AVERAGE)]
        except Exception as error:  # NumPy raises BadZipFile, EOFError, ValueError and others.
            raise self._damaged(self._folder, error) from error
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)
        self.averages = averages
        logging.info("Resuming after step %d of %s.", self.step, self.workdir)

    def finish_epoch(
        self, model: keras.Model, judge: keras.Model, row: dict[str, float], *, stopped: bool
    ) -> None:
        """Record a finished epoch: the best weights first, then the state, then the history.

        Args:
          model: the model that is trained.
          judge: the model that was validated, which one worker can save alone. Over several
            workers, reading the statistics of a BatchNorm of Keras 2 takes all of them.
          row: the epoch's row of history.csv.
          stopped: True if early stopping has ended the run.
        """
        self.stopped = stopped
        self.running = {}
        self.history.append(row)
        select_by = self.experiment.training.select_by
        value = row[select_by]
        sign = 1 if tasks.of(self.experiment).MONITORS[select_by] == "max" else -1
        usable = np.isfinite(value) and not alarms.has_diverged(row)
        if usable and (self.best_value is None or sign * value > sign * self.best_value):
            self.best_epoch, self.best_value = self.epoch, value
            self._save_best(judge)
        self.save(model)
        self.write_history()

    def save(self, model: keras.Model) -> None:
        """Write the state at `step`, and remove the older ones."""
        variables = _variables(model)
        # All workers take part: some variables of Keras 2 can be read only by all of them together.
        descriptions = [_description(variable) for variable in variables]
        arrays: dict[str, Any] = {str(i): variable.numpy() for i, variable in enumerate(variables)}
        arrays |= {f"{_AVERAGE}{i}": average for i, average in enumerate(self.averages)}
        if not self.chief:
            return
        # The state of a finished epoch sorts behind one that was saved before its validation.
        finished = "" if self.running else f"-epoch-{self.epoch:05d}"
        final = self._last / f"step-{self.step:08d}{finished}"
        if final.exists():  # This process resumed from it, or has saved it already.
            return
        temporary = final.with_name(final.name + ".tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        with files.named(final), (temporary / _VARIABLES).open("wb") as stream:
            np.savez(stream, **arrays)
            stream.flush()
            os.fsync(stream.fileno())
        state = {name: getattr(self, name) for name in _FIELDS}
        state["variables"] = descriptions
        state["libraries"] = _libraries()
        files.write_text(temporary / _STATE, json.dumps(state))
        temporary.rename(final)
        for older in self._last.glob("step-*"):
            if older != final:
                # It is renamed first, so that a half-removed folder is never taken for a state.
                shutil.rmtree(older.rename(older.with_name(older.name + ".tmp")))

    def write_history(self) -> None:
        """Write history.csv, one row for each finished epoch."""
        if self.chief:
            text = pd.DataFrame(self.history).to_csv(index=False)
            files.write_text(self.workdir / identity.HISTORY_FILE, text)

    def _save_best(self, model: keras.Model) -> None:
        if not self.chief:
            return
        folder = self.workdir / "checkpoints"
        folder.mkdir(exist_ok=True)
        with files.named(folder / "best.weights.h5"):
            model.save_weights(folder / "tmp.weights.h5")
        (folder / "tmp.weights.h5").replace(folder / "best.weights.h5")

    def _read(self, folder: Path) -> None:
        try:
            found = json.loads((folder / _STATE).read_text(encoding="utf-8"))
            self._stored = {name: found[name] for name in (*_FIELDS, "variables", "libraries")}
            for name in _FIELDS:
                setattr(self, name, self._stored[name])
        except (OSError, ValueError, LookupError, TypeError, RecursionError) as error:
            raise self._damaged(folder, error) from error
        self._folder = folder

    def _damaged(self, folder: Path, error: Exception) -> ValueError:
        return ValueError(
            f"{folder} cannot be read: {error!r}. It is damaged, or was written by another version "
            "of dr_tfx. Choose another --workdir, or delete this folder to begin the run again."
        )


_FIELDS = (
    "step",
    "best_epoch",
    "best_value",
    "stopped",
    "stage",
    "seconds",
    "precision",
    "workers",
    "callbacks",
    "running",
    "history",
)


def _last(workdir: Path) -> Path:
    return workdir / "checkpoints" / "last"


def _variables(model: keras.Model) -> list[Any]:
    """Return all variables that a step changes, except for dropout's, which every step sets."""
    optimizer = model.optimizer
    slots = optimizer.variables
    slots = list(
        slots() if callable(slots) else slots
    )  # Older optimizers of Keras 2 have a method.
    # Keras 2 keeps the loss scale apart from the optimizer's variables. Some optimizers keep the
    # learning rate apart as well, which a callback changes.
    slots += getattr(getattr(optimizer, "_loss_scale", None), "_weights", {}).values()
    rate = optimizer.learning_rate
    slots += [rate] if isinstance(rate, tf.Variable) else []
    metrics = [variable for metric in model.metrics for variable in metric.variables]
    return [*_weights(model), *slots, *metrics]


def _weights(model: keras.Model) -> list[Any]:
    """Return the weights in an order that does not depend on which layers learn."""
    return [weight for layer in model.layers for weight in layer.weights]


def _description(variable: Any) -> str:
    """Return the last word of a variable's name, its shape and its dtype.

    The other words of the name may hold a number that depends on the models made before.
    """
    name = getattr(variable, "path", variable.name)
    last = re.sub(r"[_\d]*(:\d+)?$", "", name).replace("/", "_").split("_")[-1]
    return f"{last} {tuple(variable.shape)} {tf.as_dtype(variable.dtype).name}"


def _libraries() -> str:
    return f"TensorFlow {tf.__version__} with Keras {keras.__version__}"
