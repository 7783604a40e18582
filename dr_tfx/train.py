"""One training run: DATA_DIR in, a WORKDIR with checkpoints, history and the bundle out.

The loop is the library's own: what it does at a step is a function of (seed, step), and it can stop
and go on after any of them. The step itself is Keras' `train_step`, which scales the loss for
float16, updates the metrics and averages over devices.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging
from tqdm import tqdm

from dr_tfx import (
    augmentation,
    checkpoints,
    collapse,
    distribution,
    input_pipeline,
    leaks,
    manifest,
    models,
    objectives,
    resources,
    specs,
    splits,
)

PROFILED = (10, 20)  # First and last step of --profile, after a start; tracing is over by then.


def train(
    experiment: specs.Experiment, *, data_dir: Path, workdir: Path, profile: bool = False
) -> Path:
    """Trains until `epochs` or early stopping, and writes the bundle of the best epoch.

    The same call again resumes after the last saved step, or does nothing when all is done. With
    `training.deterministic` the weights at the end are those of an uninterrupted run, bit for bit,
    on the same machine. Workers that TF_CONFIG names share every batch; DATA_DIR and WORKDIR have
    to be the same folders for all of them, and the first one writes.

    Args:
      experiment: what to do.
      data_dir: folder of the data set.
      workdir: folder of the run.
      profile: write a TensorBoard profile of some steps after the start.

    Returns:
      WORKDIR.

    Raises:
      FileNotFoundError, ValueError: no data set, data of another contract, a WORKDIR that holds a
        run of another config, a batch that the devices cannot share, or a loss, optimizer or metric
        that cannot be had here.
      resources.MemoryCeilingError: `training.max_memory_gb` is reached; a checkpoint is saved.
    """
    training = experiment.training
    data = manifest.load(data_dir)
    _check_data(experiment, data, data_dir)
    checkpoints.check_claim(workdir, experiment, data)
    if (workdir / models.BUNDLE_FILE).is_file():
        logging.info("%s holds the finished run already; nothing to do.", workdir)
        return workdir
    for alarm in leaks.alarms(leaks.within(data.to_dict())):
        logging.warning("ALARM: %s", alarm)
    memory = resources.Memory(training.max_memory_gb)
    if memory.exceeded():
        raise memory.error()

    objectives.check(experiment)
    strategy = distribution.strategy(training.batch_size)  # First: workers connect here.
    _seed(training.seed, deterministic=training.deterministic)
    run = checkpoints.Run(workdir, experiment, chief=distribution.is_chief(strategy))
    # `auto` on another device must not change a run that has begun.
    run.precision = models.set_precision(run.precision or training.precision)
    if run.epoch < training.epochs and not run.stopped:
        with strategy.scope():
            model = _compiled(experiment, load_weights=run.step == 0)
        # Keras cannot evaluate a last batch that devices share unequally: one of them does it.
        several = strategy.num_replicas_in_sync > 1
        judge = _compiled(experiment, load_weights=False) if several else model
        # Only now: a start that failed for its weights leaves the folder free for another setting.
        if run.chief:
            checkpoints.claim(workdir, experiment, data)
        with input_pipeline.damage_named(data_dir):
            _fit(model, judge, run, memory, data_dir=data_dir, data=data, profile=profile)
    if not run.best_epoch:
        raise ValueError(
            f"No epoch gave a finite {training.select_by}: the training diverged. Lower "
            "config.training.learning_rate and choose another --workdir."
        )
    if not run.chief:
        return workdir
    run.write_history()
    best = models.build(experiment, load_weights=False)
    best.load_weights(workdir / "checkpoints" / "best.weights.h5")
    models.save_bundle(
        workdir,
        best,
        experiment=experiment,
        data=data,
        precision=run.precision,
        best_epoch=run.best_epoch,
    )
    run.remove()
    logging.info("Best epoch %d by %s.", run.best_epoch, training.select_by)
    return workdir


def _compiled(experiment: specs.Experiment, *, load_weights: bool = True) -> keras.Model:
    model = models.build(experiment, load_weights=load_weights)
    objectives.compile_model(model, experiment)
    return model


def _complete(model: keras.Model, validation: tf.data.Dataset) -> None:
    """Makes what Keras makes at the first step: the optimizer's slots, the metrics' variables.

    So they are there to be restored. tensorflow-addons' optimizers have no `build`.
    """
    optimizer = model.optimizer
    make = getattr(optimizer, "build", None) or optimizer._create_all_weights
    make(model.trainable_variables)
    batch = next(iter(validation))
    if hasattr(model, "_symbolic_build"):  # Keras 3, which cannot test a batch with two workers.
        model._symbolic_build(data_batch=batch)
    else:
        devices = model.distribute_strategy.num_replicas_in_sync
        model.test_on_batch(*(part[:devices] for part in batch))
    model.reset_metrics()


def _fit(
    model: keras.Model,
    judge: keras.Model,
    run: checkpoints.Run,
    memory: resources.Memory,
    *,
    data_dir: Path,
    data: manifest.Manifest,
    profile: bool,
) -> None:
    """All epochs that are left, each judged by `judge` with the model's weights."""
    training = run.experiment.training
    validation = input_pipeline.validation_dataset(data_dir, data, run.experiment)
    strategy = model.distribute_strategy
    with strategy.scope():
        _complete(model, validation)
    run.restore(model)
    batches, steps = input_pipeline.train_batches(
        data_dir, data, run.experiment, first_step=run.step
    )
    deciding = _deciding(model, training)
    for name, values in run.callbacks.items():
        for attribute, value in values.items():
            setattr(deciding[name], attribute, value)

    board = Board(run.workdir / "tensorboard", run.step if profile and run.chief else None)
    divided = distribution.distribute(batches, strategy)
    loop = _Loop(model, run, memory, divided, board)
    judged_on = _judged_on(data, run.experiment.task)
    try:
        while run.epoch < training.epochs and not run.stopped:
            logs = loop.steps_until((run.epoch + 1) * steps, steps)
            if judge is not model:
                judge.set_weights(model.get_weights())
            found = judge.evaluate(validation, return_dict=True, verbose=0)
            found = {f"val_{name}": float(value) for name, value in found.items()}
            logs |= found if judge is model else distribution.agreed(strategy, found)
            for callback in deciding.values():
                callback.on_epoch_end(run.epoch, dict(logs))  # Some add the learning rate to them.
            run.callbacks = {name: _counters(callback) for name, callback in deciding.items()}
            row = {"epoch": run.epoch + 1, **logs, **loop.figures()}
            row["alarms"] = len(collapse.standing([*run.history, row], judged_on))
            if run.chief:
                board.write(row, run.epoch)
            run.finish_epoch(model, judge, row, stopped=bool(model.stop_training))
            _say(row, training.epochs)
            for sentence in collapse.changes(run.history, judged_on) if run.chief else ():
                logging.warning("%s", sentence)
    finally:
        board.close()


class _Loop:
    """Takes steps, watches the clock and the memory, and saves the run between steps."""

    def __init__(
        self,
        model: keras.Model,
        run: checkpoints.Run,
        memory: resources.Memory,
        batches: Iterator[dict[str, Any]],
        board: "Board",
    ):
        self._model, self._run, self._memory, self._board = model, run, memory, board
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
        shown, first, loss = session, run.step, None
        with bar:
            while run.step < last:
                self._check_memory()
                self._board.before(run.step)
                before = time.monotonic()
                batch = next(self._batches)
                self._waited += time.monotonic() - before
                if loss is not None:
                    # The step before this one: an accelerator works on it while the batch is
                    # fetched, and is never more than one step behind.
                    loss.numpy()
                loss = self._step(batch, tf.constant(run.step, tf.int64))
                run.step += 1
                now = time.monotonic()
                if run.step % training.checkpoint_steps == 0 and run.step < last:
                    self._save()
                if now - shown > 0.2 or run.step == last:
                    shown = now
                    speed = (run.step - first) * training.batch_size / (now - session)
                    bar.n = run.step - (last - steps)
                    bar.set_postfix(
                        loss=f"{float(loss):.4f}",
                        samples_s=f"{speed:.0f}",
                        input_wait=f"{self._share():.1%}",
                    )
        logs = {name: float(v) for name, v in self._model.get_metrics_result().items()}
        self._input_wait = self._share()
        return logs

    def figures(self) -> dict[str, float]:
        """What the epoch cost: for its row of history.csv, after validation."""
        self._memory.exceeded()
        self._run.seconds = time.monotonic() - self._began
        return {
            "learning_rate": float(np.asarray(self._model.optimizer.learning_rate)),
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

    def _check_memory(self) -> None:
        if not self._memory.exceeded():
            return
        if distribution.workers() > 1:
            # Saving takes all workers, of which the others are in the midst of a step.
            raise self._memory.error("The run goes on after its last checkpoint.")
        self._save()
        raise self._memory.error(f"The run is saved at step {self._run.step}.")


def _step_function(
    model: keras.Model, experiment: specs.Experiment
) -> Callable[[dict[str, Any], tf.Tensor], tf.Tensor]:
    """(batch, global step) -> the epoch's mean loss so far, having taken one step."""
    strategy, spec = model.distribute_strategy, experiment.training.augmentation
    reseed = _dropout_seeder(model, experiment.training.seed)

    def on_device(batch: dict[str, tf.Tensor]) -> tf.Tensor:
        images = augmentation.augment(batch["image"], batch["draws"], spec)
        return model.train_step((images, batch["target"], batch["weight"]))["loss"]

    @tf.function
    def step(batch: dict[str, Any], number: tf.Tensor) -> tf.Tensor:
        reseed(number)
        losses = strategy.run(on_device, args=(batch,))
        return strategy.reduce(tf.distribute.ReduceOp.MEAN, losses, axis=None)

    return step


def _dropout_seeder(model: keras.Model, seed: int) -> Callable[[tf.Tensor], None]:
    """Step -> sets the state of every dropout, a function of (seed, step, layer's name)."""
    layers = [x for x in model.layers if isinstance(x, keras.layers.Dropout) and x.rate > 0]
    keys = [splits.stable_hash("dropout", seed, layer.name) % 2**31 for layer in layers]

    def reseed(step: tf.Tensor) -> None:
        for layer, key in zip(layers, keys, strict=True):
            if hasattr(layer, "seed_generator"):  # Keras 3: a pair of numbers.
                layer.seed_generator.state.assign(tf.stack([key, step]))
            else:  # Keras 2: Philox' counter, of which a step uses part of the lower word, and key.
                layer._random_generator._maybe_init()
                layer._random_generator._generator.state.assign(tf.stack([0, step, key]))

    return reseed


def _deciding(model: keras.Model, training: specs.Training) -> dict[str, keras.callbacks.Callback]:
    """Keras' callbacks that change the course of a run."""
    deciding = {
        "plateau": keras.callbacks.ReduceLROnPlateau(
            monitor=training.plateau_monitor,
            mode=checkpoints.mode(training.plateau_monitor),
            factor=training.plateau_factor,
            patience=training.plateau_patience,
        ),
        "early_stopping": keras.callbacks.EarlyStopping(
            monitor=training.early_stopping_monitor,
            mode=checkpoints.mode(training.early_stopping_monitor),
            patience=training.early_stopping_patience,
        ),
    }
    model.stop_training = False
    for callback in deciding.values():
        callback.set_model(model)
        callback.on_train_begin()
    return deciding


def _counters(callback: keras.callbacks.Callback) -> dict[str, float]:
    names = ("wait", "best", "best_epoch", "stopped_epoch", "cooldown_counter")
    return {name: float(getattr(callback, name)) for name in names if hasattr(callback, name)}


class Board:
    """TensorBoard's files: every epoch's figures as Keras names them, and a profile of steps."""

    def __init__(self, folder: Path, profile_from: int | None):
        """Args: the folder, and the global step of the start if some steps shall be profiled."""
        self._folder = folder
        self._writers: dict[str, Any] = {}
        start = profile_from
        self._profiled = None if start is None else [start + step for step in PROFILED]
        self._profiling = False

    def write(self, row: dict[str, float], epoch: int) -> None:
        """Writes a row of history.csv; `val_x` becomes validation's `epoch_x`."""
        for name, value in row.items():
            part = "validation" if name.startswith("val_") else "train"
            if part not in self._writers:
                self._writers[part] = tf.summary.create_file_writer(str(self._folder / part))
            if name != "epoch":
                with self._writers[part].as_default():
                    tf.summary.scalar(f"epoch_{name.removeprefix('val_')}", value, step=epoch)
        for writer in self._writers.values():
            writer.flush()

    def before(self, step: int) -> None:
        """Starts and stops the profile, between steps."""
        if self._profiled is None:
            return
        first, last = self._profiled
        if step == first:
            tf.profiler.experimental.start(str(self._folder))
            self._profiling = True
        elif step > last and self._profiling:
            self._stop_profile()

    def close(self) -> None:
        """Ends what is open."""
        if self._profiling:
            self._stop_profile()
        elif self._profiled:
            logging.warning("No profile: there were fewer than %d steps left.", PROFILED[0])
        for writer in self._writers.values():
            writer.close()

    def _stop_profile(self) -> None:
        tf.profiler.experimental.stop()
        self._profiling, self._profiled = False, None
        logging.info("The profile is in %s: tensorboard --logdir=%s", self._folder, self._folder)


def _judged_on(data: manifest.Manifest, task: specs.Task) -> collapse.Validation:
    """What the alarms need to know of the validation split."""
    counts = [0, 0]
    for shard in data.shards_of("validation"):
        counts[task.label_map[shard.label]] += shard.records
    return collapse.Validation((counts[0], counts[1]), task.class_names)


def _say(row: dict[str, float], epochs: int) -> None:
    names = ("loss", "auc", "val_loss", "val_auc", "val_accuracy")
    figures = ", ".join(f"{name} {row[name]:.4f}" for name in names if name in row)
    tqdm.write(f"epoch {row['epoch']}/{epochs}: {figures}, input wait {row['input_wait']:.1%}")


def _seed(seed: int, *, deterministic: bool) -> None:
    """Seeds everything that is drawn once, such as the weights."""
    # Not 0: with a global seed of 0 tf.data compares its seed tensors in Python and fails.
    keras.utils.set_random_seed(seed + 1)
    if keras.__version__.startswith("2."):  # Else its dropout has no state that could be set.
        keras.backend.experimental.enable_tf_random_generator()
    if deterministic:
        tf.config.experimental.enable_op_determinism()


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
