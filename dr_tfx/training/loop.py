"""The steps of a run: each a function of (seed, step), the run saved between any two of them.

The step itself is Keras' `train_step`, which scales the loss for float16, updates the metrics and
averages over devices.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import keras
import numpy as np
import tensorflow as tf
from tqdm import tqdm

from dr_tfx import tasks
from dr_tfx.config import seeds, specs
from dr_tfx.input_pipeline import augmentation
from dr_tfx.machine import resources
from dr_tfx.training import board, checkpoints, distribution


class Loop:
    """Takes steps, watches the clock and the memory, and saves the run between steps."""

    def __init__(
        self,
        model: keras.Model,
        run: checkpoints.Run,
        memory: resources.Memory,
        batches: Iterator[dict[str, Any]],
        tensorboard: board.Board,
    ):
        self._model, self._run, self._memory, self._board = model, run, memory, tensorboard
        self._batches = batches
        self._step = _step_function(model, run.experiment)
        self._began = time.monotonic() - run.seconds  # As if the run had never been interrupted.
        self._epoch_began = 0.0
        self._waited = 0.0
        self._input_wait = 0.0

    def steps_until(self, last: int, steps: int) -> dict[str, float]:
        """Takes the steps up to the global step `last`, the end of an epoch of `steps`.

        Returns:
          The epoch's training figures as Keras names them, and the learning rate it had.
        """
        run, training = self._run, self._run.experiment.training
        self._epoch_began = time.monotonic() - run.running.get("seconds", 0.0)
        self._waited = run.running.get("waited", 0.0)
        self._memory.restart(run.running.get("peak_memory_gb", 0.0))
        if run.step == last - steps:
            self._model.reset_metrics()
        title = f"epoch {run.epoch + 1}/{training.epochs}"
        done, session = run.step - (last - steps), time.monotonic()
        bar = tqdm(total=steps, initial=done, desc=title, unit="step", leave=False)
        shown, first, taken = session, run.step, None
        with bar:
            while run.step < last:
                self._board.before(run.step)
                before = time.monotonic()
                batch = next(self._batches)
                self._waited += time.monotonic() - before
                # The step before this one: an accelerator works on it while the batch is fetched,
                # and is never more than one step behind.
                self._settle(taken)
                full = tf.constant(float(self._memory.exceeded()))
                taken = self._step(batch, tf.constant(run.step, tf.int64), full)
                run.step += 1
                now = time.monotonic()
                if run.step % training.checkpoint_steps == 0 and run.step < last:
                    self._save()
                if now - shown > 0.2 or run.step == last:
                    shown = now
                    speed = (run.step - first) * training.batch_size / (now - session)
                    bar.n = run.step - (last - steps)
                    bar.set_postfix(
                        loss=f"{taken.numpy()[0]:.4f}",
                        samples_s=f"{speed:.0f}",
                        input_wait=f"{self._share():.1%}",
                    )
            self._settle(taken)
        logs = {name: float(v) for name, v in self._model.get_metrics_result().items()}
        logs["learning_rate"] = float(np.asarray(self._model.optimizer.learning_rate))
        self._input_wait = self._share()
        return logs

    def validate(self, judge: keras.Model, validation: tf.data.Dataset) -> dict[str, float]:
        """What Keras' `evaluate` of `judge` says, which may be the model that is trained."""
        # The state that is saved is that before the validation, which counts in its metrics, too.
        metrics = [v for metric in self._model.metrics for v in metric.variables]
        metrics = metrics if judge is self._model else []
        trained = [variable.numpy() for variable in metrics]

        def look(batch: int, logs: dict[str, Any]) -> None:
            if self._memory.exceeded():
                raise _FullError

        watch = keras.callbacks.LambdaCallback(on_test_batch_end=look)
        found, full = {}, 0.0
        try:
            found = judge.evaluate(validation, return_dict=True, verbose=0, callbacks=[watch])
        except _FullError:
            full = 1.0
        if distribution.agreed(self._model.distribute_strategy, {"full": full})["full"]:
            for variable, value in zip(metrics, trained, strict=True):
                variable.assign(value)
            self._stop()
        return found

    def figures(self) -> dict[str, float]:
        """What the epoch cost: for its row of history.csv, after validation."""
        self._memory.exceeded()
        self._run.seconds = time.monotonic() - self._began
        return {
            "seconds": round(time.monotonic() - self._epoch_began, 3),
            "input_wait": round(self._input_wait, 5),
            "peak_memory_gb": round(self._memory.peak_gb, 3),
        }

    def _share(self) -> float:
        """Share of the epoch's time so far spent waiting for input."""
        return self._waited / max(time.monotonic() - self._epoch_began, 1e-9)

    def _save(self) -> None:
        now = time.monotonic()
        self._run.seconds = now - self._began
        self._run.running = {
            "seconds": now - self._epoch_began,
            "waited": self._waited,
            "peak_memory_gb": self._memory.peak_gb,
        }
        self._run.save(self._model)

    def _settle(self, taken: tf.Tensor | None) -> None:
        """Waits for a step, and ends the run if a worker was at its ceiling of memory before it.

        Saving takes all workers, so they have to stop at the same step.
        """
        if taken is not None and taken.numpy()[1]:
            self._stop()

    def _stop(self) -> NoReturn:
        """Saves the run and says that its memory does not suffice."""
        self._save()
        # Until it is written: who ends sooner takes the others along.
        distribution.agreed(self._model.distribute_strategy, {"saved": 1.0})
        saved = f"The run is saved at step {self._run.step}."
        if self._memory.peak_gb < self._memory.limit_gb:
            raise resources.MemoryCeilingError(
                "Another worker has reached its own config.training.max_memory_gb; what it printed "
                f"says what to lower. {saved}"
            )
        raise self._memory.error(saved)


class _FullError(Exception):
    """The ceiling of memory is reached during validation."""


def _step_function(
    model: keras.Model, experiment: specs.Experiment
) -> Callable[[dict[str, Any], tf.Tensor, tf.Tensor], tf.Tensor]:
    """(batch, global step, full) -> float32 (2,), having taken one step: means over all devices.

    One of the epoch's loss so far, and one of `full`, 1 where a worker's memory is at its ceiling.
    """
    strategy, spec = model.distribute_strategy, experiment.training.augmentation
    encode = tasks.of(experiment).model.encode
    reseed = _dropout_seeder(model, experiment.training.seed)

    def on_device(batch: dict[str, tf.Tensor], number: tf.Tensor, full: tf.Tensor) -> tf.Tensor:
        reseed(number, tf.distribute.get_replica_context().replica_id_in_sync_group)
        changed = augmentation.augment(batch, spec)
        figures = model.train_step((changed["image"], *encode(changed)))
        return tf.stack([tf.cast(figures["loss"], tf.float32), full])

    @tf.function
    def step(batch: dict[str, Any], number: tf.Tensor, full: tf.Tensor) -> tf.Tensor:
        reseed(number, None)
        found = strategy.run(on_device, args=(batch, number, full))
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, found, axis=None)

    return step


def _dropout_seeder(
    model: keras.Model, seed: int
) -> Callable[[tf.Tensor, tf.Tensor | int | None], None]:
    """(step, device) -> sets every dropout's state, a function of (seed, step, name, device).

    To be called for all devices, without a number, and then on each.
    """
    layers = [x for x in model.layers if isinstance(x, keras.layers.Dropout) and x.rate > 0]
    keys = [seeds.stable_hash("dropout", seed, layer.name) % 2**31 for layer in layers]

    def reseed(step: tf.Tensor, device: tf.Tensor | int | None) -> None:
        for layer, key in zip(layers, keys, strict=True):
            if hasattr(layer, "seed_generator"):
                # Keras 3: a pair of numbers, which each device has.
                if device is not None:
                    own = key + tf.cast(device, tf.int64)
                    layer.seed_generator.state.assign(tf.stack([own, step]))
            elif device is None:
                # Keras 2: Philox' counter, of which a step uses part of the lower word, and key. It
                # goes on elsewhere on each device.
                layer._random_generator._maybe_init()
                layer._random_generator._generator.state.assign(tf.stack([0, step, key]))

    return reseed
