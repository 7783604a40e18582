"""One process's session of a run: from the last checkpoint to the end, epoch by epoch."""

import contextlib
from pathlib import Path
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from tqdm import tqdm

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.input_pipeline import in_order, loader
from dr_tfx.machine import interrupts, resources
from dr_tfx.models import network
from dr_tfx.training import (
    alarms,
    board,
    callbacks,
    checkpoints,
    distribution,
    identity,
    loop,
    objectives,
    stages,
    validation,
)


class Models(NamedTuple):
    """The models of a session.

    Attributes:
      trained: the model that learns, over all devices.
      judge: the model that is validated, with the weights of the other one or their averages. It
        is the same model, unless there are averages, or several devices share the batches: one
        device then validates, because the last batch cannot be shared equally. The cores of a TPU
        validate together, because a model of one alone would be computed by the host.
    """

    trained: keras.Model
    judge: keras.Model


def make_models(
    run: checkpoints.Run, stage: stages.Phase, strategy: tf.distribute.Strategy
) -> Models:
    """Return the models of a stage of a run, the trained one compiled.

    Pre-trained weights are loaded at its first step only.

    Raises:
      ValueError: an unknown backbone, or weights that cannot be had or do not fit.
    """
    several = strategy.num_replicas_in_sync > 1
    with strategy.scope():
        trained = network.build(stage.experiment, load_weights=run.step == 0)
        if several:
            trained = network.synchronized(trained)
        objectives.compile_model(trained, stage.experiment)
    if not several and not run.experiment.training.weight_average:
        return Models(trained, trained)
    judges = strategy if distribution.on_tpu(strategy) else tf.distribute.get_strategy()
    with judges.scope():
        return Models(trained, network.build(run.experiment, load_weights=False))


class Session:
    """The epochs that are left of a stage of a run."""

    def __init__(
        self,
        models: Models,
        run: checkpoints.Run,
        stage: stages.Phase,
        *,
        data: manifest.Manifest,
        memory: resources.Memory,
        guests: callbacks.Guests,
    ):
        """Take no step yet.

        Args:
          models: the result of `make_models`.
          run: the state of the run.
          stage: the stage that is to be trained.
          data: the manifest of the data set.
          memory: the memory of the process tree and its ceiling.
          guests: the callbacks that were given to the run.
        """
        self._models, self._run, self._stage = models, run, stage
        self._data, self._memory, self._guests = data, memory, guests
        self._strategy = models.trained.distribute_strategy
        self._alarms = alarms.Watch(run.experiment, data)

    def fit(self, data_dir: Path, *, profile: bool) -> None:
        """Train to the end of the stage or early stopping.

        Args:
          data_dir: folder of the data set.
          profile: write a TensorBoard profile of some steps after the start.

        Raises:
          MemoryCeilingError: `training.max_memory_gb` is reached; a checkpoint is saved.
          KeyboardInterrupt: Ctrl-C was pressed; a checkpoint is saved.
          ValueError: the training diverged.
        """
        run, stage = self._run, self._stage
        worker = distribution.worker(self._strategy)
        # The loader comes first: its processes start while the rest is made.
        batches, steps = loader.train_batches(
            data_dir,
            self._data,
            run.experiment,
            first_step=run.step,
            worker=worker,
            workers=distribution.workers(),
            kept_in=run.workdir / "checkpoints" / f"order-{worker}",
        )
        profile_from = run.step if profile and run.chief else None
        folder = run.workdir / "tensorboard"
        with (
            contextlib.closing(batches),
            contextlib.closing(board.Board(folder, profile_from)) as tensorboard,
            interrupts.noted() as interrupted,
        ):
            examples = in_order.validation(data_dir, self._data, run.experiment)
            deciding = self._restored(examples)
            judged = validation.Validation(self._models.judge, run.experiment, examples)
            divided = distribution.distribute(batches, self._strategy)
            running = loop.Loop(
                self._models.trained,
                run,
                stage,
                memory=self._memory,
                batches=divided,
                tensorboard=tensorboard,
                interrupted=interrupted,
                claim=self._claim,
            )
            epochs = stages.of(run.experiment)[-1].end
            self._guests.meet(self._models.trained, epochs=epochs, steps=steps)
            while run.epoch < stage.end and not run.stopped:
                self._guests.epoch_begins(run.epoch)
                logs = running.steps_until((run.epoch + 1) * steps, steps)
                logs |= self._validated(running, judged)
                for callback in deciding.values():
                    # Some callbacks add the learning rate to the logs.
                    callback.on_epoch_end(run.epoch, dict(logs))
                run.callbacks = {name: _counters(callback) for name, callback in deciding.items()}
                self._finish_epoch({**logs, **running.figures()}, tensorboard)

    def _claim(self) -> None:
        """Claim WORKDIR; a start that fails before its first step leaves the folder free."""
        if self._run.chief:
            identity.claim(self._run.workdir, self._run.experiment, self._data)

    def _restored(self, examples: in_order.Targets) -> dict[str, keras.callbacks.Callback]:
        """Restore the trained model from the last checkpoint, and return the restored callbacks."""
        with self._strategy.scope():
            _complete(self._models.trained, examples)
        self._run.restore(self._models.trained)
        deciding = _deciding(self._models.trained, self._stage)
        for name, values in self._run.callbacks.items():
            for attribute, value in values.items():
                setattr(deciding[name], attribute, value)
        return deciding

    def _validated(self, running: loop.Loop, judged: validation.Validation) -> dict[str, float]:
        """Return the figures of the validation split, the same for all workers."""
        trained, judge = self._models
        if judge is not trained:
            judge.set_weights(self._averaged(trained.get_weights()))
        found = {f"val_{name}": value for name, value in running.validate(judged).items()}
        return found if judge is trained else distribution.agreed(self._strategy, found)

    def _averaged(self, weights: list[np.ndarray]) -> list[np.ndarray]:
        """Return the averages that the weights of a finished epoch give: see `weight_average`.

        The first epochs count alike, so that the weights at random from which a head began do not.
        """
        share = min(self._run.experiment.training.weight_average, 1 - 1 / (self._run.epoch + 1))
        if not share:
            return weights
        both = zip(self._run.averages, weights, strict=True)
        return [(share * old + (1 - share) * new).astype(new.dtype) for old, new in both]

    def _finish_epoch(self, figures: dict[str, float], tensorboard: board.Board) -> None:
        """Save the finished epoch, print its figures and say which alarms began and ended."""
        run, (trained, judge) = self._run, self._models
        if run.experiment.training.weight_average:
            run.averages = judge.get_weights()
        row = {"epoch": run.epoch + 1, **figures}
        row["alarms"] = len(self._alarms.standing([*run.history, row]))
        if run.chief:
            tensorboard.write(row, run.epoch)
        self._guests.epoch_ends(run.epoch, row)
        run.finish_epoch(trained, judge, row, stopped=bool(trained.stop_training))
        _say(row, run.experiment)
        if run.chief:
            for sentence in self._alarms.changes(run.history):
                logging.warning("%s", sentence)


def _complete(model: keras.Model, examples: in_order.Targets) -> None:
    """Make the variables that Keras makes at the first step: the optimizer's and the metrics'.

    A checkpoint can fill them only once they exist.
    """
    optimizer = model.optimizer
    # The optimizers of tensorflow-addons have no `build`.
    make = getattr(optimizer, "build", None) or optimizer._create_all_weights
    make(model.trainable_variables)
    batch = next(iter(examples))
    if hasattr(model, "_symbolic_build"):  # Keras 3 cannot test a batch with two workers.
        model._symbolic_build(data_batch=batch)
    else:
        devices = model.distribute_strategy.num_replicas_in_sync
        model.test_on_batch(*(part[:devices] for part in batch))
    model.reset_metrics()


def _deciding(model: keras.Model, stage: stages.Phase) -> dict[str, keras.callbacks.Callback]:
    """Return the callbacks of Keras that change the course of a stage."""
    training, modes = stage.experiment.training, tasks.of(stage.experiment).MONITORS
    deciding: dict[str, keras.callbacks.Callback] = {}
    if training.schedule == "plateau":
        deciding["plateau"] = keras.callbacks.ReduceLROnPlateau(
            monitor=training.plateau_monitor,
            mode=modes[training.plateau_monitor],
            factor=training.plateau_factor,
            patience=training.plateau_patience,
        )
    if stage.is_last:
        deciding["early_stopping"] = keras.callbacks.EarlyStopping(
            monitor=training.early_stopping_monitor,
            mode=modes[training.early_stopping_monitor],
            patience=training.early_stopping_patience,
        )
    model.stop_training = False
    for callback in deciding.values():
        callback.set_model(model)
        callback.on_train_begin()
    return deciding


def _counters(callback: keras.callbacks.Callback) -> dict[str, float]:
    """Return the state of a callback, to be restored after an interruption."""
    names = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")
    return {name: float(getattr(callback, name)) for name in names if hasattr(callback, name)}


def _say(row: dict[str, float], experiment: specs.Experiment) -> None:
    """Print the figures of an epoch that the kind of task chooses."""
    names, epochs = tasks.of(experiment).model.shown, stages.of(experiment)[-1].end
    figures = ", ".join(f"{name} {row[name]:.4f}" for name in names if name in row)
    tqdm.write(f"epoch {row['epoch']}/{epochs}: {figures}, input wait {row['input_wait']:.1%}")
