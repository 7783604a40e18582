"""The steps of a run: each is a function of (seed, step), and the run can stop after any of them.

A step is Keras' `train_step`, which scales the loss for float16, updates the metrics and averages
over devices.
"""

import time
from collections.abc import Callable, Iterator
from typing import Any, NoReturn

import keras
import numpy as np
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.config import seeds, specs
from dr_tfx.input_pipeline import augmentation, mixing
from dr_tfx.machine import progress, resources
from dr_tfx.models import network
from dr_tfx.storage import store_reads
from dr_tfx.training import board, checkpoints, distribution, stages, validation


class Loop:
    """The steps of one session: it watches clock, memory and loss, and saves between steps."""

    def __init__(
        self,
        model: keras.Model,
        run: checkpoints.Run,
        stage: stages.Phase,
        *,
        memory: resources.Memory,
        batches: Iterator[dict[str, Any]],
        tensorboard: board.Board,
        interrupted: Callable[[], bool],
        claim: Callable[[], None],
    ):
        """Take no step yet.

        Args:
          model: the compiled model that is trained.
          run: the state of the run, with which every step goes on.
          stage: the stage that the steps belong to.
          memory: the memory of the process tree and its ceiling.
          batches: the batches from `run.step` on, divided among the devices.
          tensorboard: starts and stops the profile.
          interrupted: returns whether a person wants the run to stop.
          claim: called once, after the first step of the session has succeeded.
        """
        self._model, self._run, self._memory, self._board = model, run, memory, tensorboard
        self._batches, self._interrupted, self._claim = batches, interrupted, claim
        self._stage, self._claimed = stage, False
        self._step = _step_function(model, run.experiment)
        self._began = time.monotonic() - run.seconds  # As if the run had never been interrupted.
        self._epoch_began = 0.0
        self._waited = 0.0
        self._input_wait = 0.0

    def steps_until(self, last: int, steps: int) -> dict[str, float]:
        """Take the steps up to the global step `last`, the end of an epoch of `steps` steps.

        Returns:
          The training figures of the epoch as Keras names them, and its learning rate.

        Raises:
          MemoryCeilingError: the ceiling is reached; the run is saved.
          KeyboardInterrupt: the run was interrupted, and is saved.
          ValueError: the training diverged.
          StoreError: the next batch cannot be fetched; the run is saved.
        """
        run, training = self._run, self._run.experiment.training
        self._epoch_began = time.monotonic() - run.running.get("seconds", 0.0)
        self._waited = run.running.get("waited", 0.0)
        self._memory.restart(run.running.get("peak_memory_gb", 0.0))
        if run.step == last - steps:
            self._model.reset_metrics()
        title = f"epoch {run.epoch + 1}/{stages.of(run.experiment)[-1].end}"
        done, session = run.step - (last - steps), time.monotonic()
        bar = progress.bar(total=steps, unit="step", title=title, done=done, leave=False)
        shown, first, taken = session, run.step, None
        with bar:
            while run.step < last:
                self._board.before(run.step)
                before = time.monotonic()
                batch = self._next_batch(taken)
                self._waited += time.monotonic() - before
                # This waits for the step before. The accelerator worked on it while the batch was
                # fetched, and is never more than one step behind.
                self._settle(taken)
                if training.schedule == "cosine":
                    # The middle of the step decides, so that no step is in vain.
                    passed = run.epoch + (run.step + 0.5 - (last - steps)) / steps
                    self._model.optimizer.learning_rate = self._stage.rate(passed)
                ends = tf.constant(float(self._has_to_end()))
                taken = self._step(batch, tf.constant(run.step, tf.int64), ends)
                run.step += 1
                now = time.monotonic()
                if run.step % training.checkpoint_steps == 0 and run.step < last:
                    self._settle(taken)
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

    def validate(self, examples: validation.Validation) -> dict[str, float]:
        """Return the figures of the validation split.

        Raises:
          MemoryCeilingError, KeyboardInterrupt: the ceiling is reached, or the run was interrupted;
            it is saved as it was before.
          ValueError: the training diverged.
        """
        found = examples.figures(self._has_to_end)
        ends = {"ends": float(found is None)}
        if distribution.agreed(self._model.distribute_strategy, ends)["ends"] or found is None:
            self._stop()
        self._check(found["loss"], "The validation loss")
        return found

    def figures(self) -> dict[str, float]:
        """Return the epoch's costs for its row of history.csv, to be called after validation.

        These are seconds, the share of the training's time spent waiting for input, and the peak of
        memory in GB of 1e9 bytes.
        """
        self._memory.exceeded()
        self._run.seconds = time.monotonic() - self._began
        return {
            "seconds": round(time.monotonic() - self._epoch_began, 3),
            "input_wait": round(self._input_wait, 5),
            "peak_memory_gb": round(self._memory.peak_gb, 3),
        }

    def _share(self) -> float:
        """Return the share of the epoch's time so far that was spent waiting for input."""
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

    def _next_batch(self, taken: tf.Tensor | None) -> dict[str, Any]:
        """Return the next batch.

        Raises:
          StoreError: the object store of the data set does not give it; the run is saved, unless
            it has several workers, who save together or not at all.
        """
        try:
            return next(self._batches)
        except store_reads.StoreError as error:
            if self._run.workers > 1 or not self._run.step:
                raise
            self._settle(taken)
            self._save()
            saved = f"The run is saved at step {self._run.step}."
            raise store_reads.StoreError(f"{error} {saved}") from error

    def _has_to_end(self) -> bool:
        return self._interrupted() or self._memory.exceeded()

    def _settle(self, taken: tf.Tensor | None) -> None:
        """Wait for a step, and end the run if a worker had to end before it.

        Saving takes all workers, so that they have to stop at the same step.
        """
        if taken is None:
            return
        loss, ends = taken.numpy()
        self._check(loss, "The loss")
        if not self._claimed:
            self._claim()
            self._claimed = True
        if ends:
            self._stop()

    def _check(self, loss: float, name: str) -> None:
        """Refuse to go on with a loss that is not finite.

        Raises:
          ValueError: it is not.
        """
        if not np.isfinite(loss):
            rate = float(np.asarray(self._model.optimizer.learning_rate))
            raise ValueError(
                f"{name} is {loss} after step {self._run.step}: the training diverged, and there "
                f"is no bundle. Lower {self._stage.where}.learning_rate, which is {rate:g} by "
                "now, and choose another --workdir."
            )

    def _stop(self) -> NoReturn:
        """Save the run and raise a MemoryCeilingError, or a KeyboardInterrupt."""
        self._save()
        # All wait until the state is written: a worker that ends sooner would end the others.
        distribution.agreed(self._model.distribute_strategy, {"saved": 1.0})
        saved = f"The run is saved at step {self._run.step}."
        if self._interrupted():
            raise KeyboardInterrupt(f"Interrupted. {saved} The same command goes on from there.")
        if self._memory.peak_gb < self._memory.limit_gb:
            raise resources.MemoryCeilingError(
                "Another worker has reached its own config.training.max_memory_gb, or was "
                f"interrupted; its output says which. {saved}"
            )
        raise self._memory.error(saved)


def _step_function(
    model: keras.Model, experiment: specs.Experiment
) -> Callable[[dict[str, Any], tf.Tensor, tf.Tensor], tf.Tensor]:
    """Return the function that takes one step.

    Its arguments are a batch, the global step (int64) and `ends` (float32, 1 where this worker has
    to end after the step). It returns float32 (2,), means over all devices: the loss of the epoch
    so far, and `ends`.
    """
    strategy, spec = model.distribute_strategy, experiment.training.augmentation
    encode = tasks.of(experiment).model.encode
    reseed = _dropout_seeder(model, experiment.training.seed)
    decay = experiment.training.layer_decay
    slower = network.rates(model, decay) if decay < 1 else []
    in_xla, train_step = distribution.on_tpu(strategy), model.train_step
    if experiment.training.xla and not in_xla:  # Changing pictures stays outside of it.
        train_step = tf.function(train_step, jit_compile=True)

    def on_device(batch: dict[str, tf.Tensor], number: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
        reseed(number, tf.distribute.get_replica_context().replica_id_in_sync_group)
        changed = augmentation.augment(batch, spec, in_xla=in_xla)
        figures = train_step((changed["image"], *mixing.targets(changed, encode)))
        return tf.stack([tf.cast(figures["loss"], tf.float32), ends])

    @tf.function(autograph=False)
    def step(batch: dict[str, Any], number: tf.Tensor, ends: tf.Tensor) -> tf.Tensor:
        reseed(number, None)
        before = [tf.identity(weight) for weight, _ in slower]
        found = strategy.run(on_device, args=(batch, number, ends))
        # Whatever the optimizer makes of a rate, a part of its step is that part of the rate.
        for (weight, share), was in zip(slower, before, strict=True):
            weight.assign(was + share * (tf.convert_to_tensor(weight) - was))
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, found, axis=None)

    return step


def _dropout_seeder(
    model: keras.Model, seed: int
) -> Callable[[tf.Tensor, tf.Tensor | int | None], None]:
    """Return the function that sets every dropout's state for a step and a device.

    The state is a function of (seed, step, name of the layer, device). The function has to be
    called once with None for the device, outside of all devices, and then on each device.
    """
    layers = [x for x in model.layers if isinstance(x, keras.layers.Dropout) and x.rate > 0]
    keys = [seeds.stable_hash("dropout", seed, layer.name) % 2**31 for layer in layers]

    def reseed(step: tf.Tensor, device: tf.Tensor | int | None) -> None:
        for layer, key in zip(layers, keys, strict=True):
            if hasattr(layer, "seed_generator"):
                # Keras 3 keeps a pair of numbers on each device.
                if device is not None:
                    own = key + tf.cast(device, tf.int64)
                    layer.seed_generator.state.assign(tf.stack([own, step]))
            elif device is None:
                # Keras 2 keeps the counter and the key of Philox. A step uses part of the
                # counter's lower word, and each device continues from another place.
                layer._random_generator._maybe_init()
                layer._random_generator._generator.state.assign(tf.stack([0, step, key]))

    return reseed
