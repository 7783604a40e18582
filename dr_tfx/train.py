"""One training run: DATA_DIR in, a WORKDIR with checkpoints, history and the bundle out."""

import json
import shutil
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
import pandas as pd
from absl import logging
from tqdm import tqdm

from dr_tfx import input_pipeline, manifest, models, objectives, specs, splits

CONFIG_FILE = "config.json"
HISTORY_FILE = "history.csv"


def train(experiment: specs.Experiment, *, data_dir: Path, workdir: Path) -> Path:
    """Trains until `epochs` or early stopping, and writes the bundle of the best epoch.

    The same call again resumes after the last finished epoch, or does nothing when all is done.

    Returns:
      WORKDIR.

    Raises:
      FileNotFoundError, ValueError: no data set, data of another contract, a WORKDIR that holds a
        run of another config, or a loss, optimizer or metric that cannot be had here.
    """
    data = manifest.load(data_dir)
    _check_data(experiment, data, data_dir)
    _check_claim(workdir, experiment, data)
    if (workdir / models.BUNDLE_FILE).is_file():
        logging.info("%s holds the finished run already; nothing to do.", workdir)
        return workdir

    objectives.check(experiment)
    _seed(experiment.training.seed)
    precision = models.set_precision(experiment.training.precision)
    run = Run(workdir, experiment)
    model = run.restore() or _compiled(experiment)
    # Only now: a start that failed for its weights leaves the folder free for another setting.
    workdir.mkdir(parents=True, exist_ok=True)
    manifest.write_text(workdir / CONFIG_FILE, _claim(experiment, data))
    if run.epoch < experiment.training.epochs and not run.stopped:
        with input_pipeline.damage_named(data_dir):
            _fit(model, run, data_dir=data_dir, data=data)
    if not run.best_epoch:
        raise ValueError(
            f"No epoch gave a finite {experiment.training.select_by}: the training diverged. Lower "
            "config.training.learning_rate and choose another --workdir."
        )
    run.write_history()
    best = models.build(experiment, load_weights=False)
    best.load_weights(workdir / "checkpoints" / "best.weights.h5")
    models.save_bundle(
        workdir,
        best,
        experiment=experiment,
        data=data,
        precision=precision,
        best_epoch=run.best_epoch,
    )
    shutil.rmtree(workdir / "checkpoints" / "last", ignore_errors=True)
    logging.info("Best epoch %d by %s.", run.best_epoch, experiment.training.select_by)
    return workdir


def _compiled(experiment: specs.Experiment) -> keras.Model:
    model = models.build(experiment)
    objectives.compile_model(model, experiment)
    return model


def _fit(model: keras.Model, run: "Run", *, data_dir: Path, data: manifest.Manifest) -> None:
    experiment = run.experiment
    training, first = experiment.training, run.epoch
    batches, steps = input_pipeline.train_dataset(data_dir, data, experiment, first_epoch=first)
    validation = input_pipeline.validation_dataset(data_dir, data, experiment)
    plateau = keras.callbacks.ReduceLROnPlateau(
        monitor=training.plateau_monitor,
        mode=_mode(training.plateau_monitor),
        factor=training.plateau_factor,
        patience=training.plateau_patience,
    )
    stopping = keras.callbacks.EarlyStopping(
        monitor=training.early_stopping_monitor,
        mode=_mode(training.early_stopping_monitor),
        patience=training.early_stopping_patience,
    )
    model.fit(
        batches,
        steps_per_epoch=steps,
        initial_epoch=first,
        epochs=training.epochs,
        validation_data=validation,
        shuffle=False,
        verbose=0,
        callbacks=[
            Progress(steps, training.epochs),
            keras.callbacks.TensorBoard(str(run.workdir / "tensorboard"), write_graph=False),
            plateau,
            stopping,
            Saver(run, {"plateau": plateau, "early_stopping": stopping}),
        ],
    )


class Run:
    """The state of a run on disk: history, best weights, and what is needed to go on.

    After every epoch `checkpoints/last/<epoch>` is written under a temporary name and renamed, so
    that there is always one whole state; older ones are removed after.
    """

    def __init__(self, workdir: Path, experiment: specs.Experiment):
        self.workdir, self.experiment = workdir, experiment
        self.epoch = 0  # Finished epochs.
        self.best_epoch = 0
        self.best_value: float | None = None
        self.stopped = False
        self.callbacks: dict[str, dict[str, float]] = {}
        self.history: list[dict[str, float]] = []
        self._last = workdir / "checkpoints" / "last"

    def restore(self) -> keras.Model | None:
        """Loads the last whole state, if there is one, and returns its compiled model."""
        states = sorted(p for p in self._last.glob("epoch-*") if not p.name.endswith(".tmp"))
        if not states:
            return None
        state = json.loads((states[-1] / "state.json").read_text(encoding="utf-8"))
        for name in ("epoch", "best_epoch", "best_value", "stopped", "callbacks", "history"):
            setattr(self, name, state[name])
        logging.info("Resuming after epoch %d of %s.", self.epoch, self.workdir)
        return keras.models.load_model(states[-1] / "model.keras")

    def save(self, model: keras.Model, row: dict[str, float], *, stopped: bool) -> None:
        """Records a finished epoch: best weights first, then the state, then the history."""
        self.epoch, self.stopped = int(row["epoch"]), stopped
        self.history.append(row)
        select_by = self.experiment.training.select_by
        value = row[select_by]
        sign = 1 if _mode(select_by) == "max" else -1
        if np.isfinite(value) and (
            self.best_value is None or sign * value > sign * self.best_value
        ):
            self.best_epoch, self.best_value = self.epoch, value
            self._save_best(model)
        self._save_last(model)
        self.write_history()

    def write_history(self) -> None:
        """Writes history.csv, one row a finished epoch."""
        text = pd.DataFrame(self.history).to_csv(index=False)
        manifest.write_text(self.workdir / HISTORY_FILE, text)

    def _save_best(self, model: keras.Model) -> None:
        folder = self.workdir / "checkpoints"
        folder.mkdir(exist_ok=True)
        model.save_weights(folder / "tmp.weights.h5")
        (folder / "tmp.weights.h5").replace(folder / "best.weights.h5")

    def _save_last(self, model: keras.Model) -> None:
        final = self._last / f"epoch-{self.epoch:05d}"
        temporary = final.with_name(final.name + ".tmp")
        for leftover in (temporary, final):
            shutil.rmtree(leftover, ignore_errors=True)
        temporary.mkdir(parents=True)
        model.save(temporary / "model.keras")
        state: dict[str, Any] = {
            name: getattr(self, name)
            for name in ("epoch", "best_epoch", "best_value", "stopped", "callbacks", "history")
        }
        manifest.write_text(temporary / "state.json", json.dumps(state))
        temporary.rename(final)
        for older in self._last.glob("epoch-*"):
            if older != final:
                shutil.rmtree(older)


class Saver(keras.callbacks.Callback):
    """Saves the run after every epoch, with the counters of the callbacks that decide things.

    Must be the last callback: it reads what the others decided in this epoch, and puts their
    counters back after they have reset them at the start.
    """

    def __init__(self, run: Run, deciding: dict[str, keras.callbacks.Callback]):
        super().__init__()
        self._run, self._deciding = run, deciding
        self._started = 0.0

    def on_train_begin(self, logs: dict | None = None) -> None:
        for name, values in self._run.callbacks.items():
            for attribute, value in values.items():
                setattr(self._deciding[name], attribute, value)

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        _reseed_dropout(self.model, self._run.experiment.training.seed, epoch)
        self._started = time.monotonic()

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        row = {"epoch": epoch + 1, **{k: float(v) for k, v in (logs or {}).items()}}
        row.pop("lr", None)  # Keras 2 and 3 name it differently, and only with some callbacks.
        row["learning_rate"] = float(np.asarray(self.model.optimizer.learning_rate))
        row["seconds"] = round(time.monotonic() - self._started, 3)
        counters = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")
        self._run.callbacks = {
            name: {a: float(getattr(callback, a)) for a in counters if hasattr(callback, a)}
            for name, callback in self._deciding.items()
        }
        self._run.save(self.model, row, stopped=bool(self.model.stop_training))


class Progress(keras.callbacks.Callback):
    """A bar over the steps of each epoch, and one line of figures after it."""

    def __init__(self, steps: int, epochs: int):
        super().__init__()
        self._steps, self._epochs = steps, epochs

    def on_epoch_begin(self, epoch: int, logs: dict | None = None) -> None:
        title = f"epoch {epoch + 1}/{self._epochs}"
        self._bar = tqdm(total=self._steps, desc=title, unit="step", leave=False)

    def on_train_batch_end(self, batch: int, logs: dict | None = None) -> None:
        self._bar.update()
        self._bar.set_postfix(loss=f"{float((logs or {}).get('loss', float('nan'))):.4f}")

    def on_epoch_end(self, epoch: int, logs: dict | None = None) -> None:
        self._bar.close()
        names = ("loss", "auc", "val_loss", "val_auc", "val_accuracy")
        figures = ", ".join(f"{n} {float(logs[n]):.4f}" for n in names if logs and n in logs)
        tqdm.write(f"epoch {epoch + 1}/{self._epochs}: {figures}")


def _seed(seed: int) -> None:
    """Seeds everything that is drawn once, such as the weights."""
    # Not 0: with a global seed of 0 tf.data compares its seed tensors in Python and fails.
    keras.utils.set_random_seed(seed + 1)
    if keras.__version__.startswith("2."):  # Else its dropout has no state that could be set.
        keras.backend.experimental.enable_tf_random_generator()


def _reseed_dropout(model: keras.Model, seed: int, epoch: int) -> None:
    """Makes dropout a function of seed and epoch: its state is not in a saved model."""
    for layer in model.layers:
        if isinstance(layer, keras.layers.Dropout) and layer.rate > 0:
            state = splits.stable_hash("dropout", seed, epoch, layer.name) % 2**31
            if hasattr(layer, "seed_generator"):  # Keras 3
                layer.seed_generator.state.assign([state, 0])
            else:
                layer._random_generator._maybe_init()
                layer._random_generator._generator.reset_from_seed(state)


def _mode(monitor: str) -> str:
    return "min" if monitor.endswith("loss") else "max"


def _check_data(experiment: specs.Experiment, data: manifest.Manifest, data_dir: Path) -> None:
    """The config's recipe and labels must be those the data was built with."""
    wanted = manifest.flat(specs.to_dict(experiment.dataset))
    have = manifest.flat(specs.to_dict(data.dataset))
    different = [
        f"config.dataset.{key}: config {wanted[key]!r}, data {have[key]!r}"
        for key in wanted
        if key.split(".")[0] in ("recipe", "label_names", "label_column", "split")
        and wanted[key] != have[key]
    ]
    if different:
        raise ValueError(
            f"{data_dir} was not built with this config. {'; '.join(different)}. Build it with "
            "drtfx-build-examples and this config, or give the config it was built with."
        )


def _claim(experiment: specs.Experiment, data: manifest.Manifest) -> str:
    """The text of config.json: what WORKDIR is a run of."""
    mine = {"experiment": specs.to_dict(experiment), "data": data.fingerprint}
    return json.dumps(mine, indent=2, sort_keys=True) + "\n"


def _check_claim(workdir: Path, experiment: specs.Experiment, data: manifest.Manifest) -> None:
    """Refuses a WORKDIR that is another run's."""
    path = workdir / CONFIG_FILE
    if not path.is_file():
        return
    claimed = path.read_text(encoding="utf-8")
    if claimed == _claim(experiment, data):
        return
    theirs, mine = (
        manifest.flat(json.loads(claimed)["experiment"]),
        manifest.flat(specs.to_dict(experiment)),
    )
    different = [
        f"config.{key}: there {theirs.get(key)!r}, now {value!r}"
        for key, value in mine.items()
        if theirs.get(key) != value
    ] or ["the data set is another"]
    raise ValueError(
        f"{workdir} holds a run of another config. {'; '.join(different)}. "
        "Choose another --workdir, or delete this one."
    )
