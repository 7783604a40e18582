"""One training run: DATA_DIR in, a WORKDIR with checkpoints, history and the bundle out.

The loop is the library's own (`loop`): it can stop and go on after any step.
"""

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging
from tqdm import tqdm

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import leakage, manifest, splits
from dr_tfx.input_pipeline import loader
from dr_tfx.machine import resources
from dr_tfx.models import bundles, network, precision
from dr_tfx.training import alarms, board, checkpoints, distribution, loop, objectives


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
      ConnectionError: of several workers another one has ended.
      resources.MemoryCeilingError: `training.max_memory_gb` is reached; a checkpoint is saved.
    """
    training = experiment.training
    data = manifest.load(data_dir)
    _check_data(experiment, data, data_dir)
    checkpoints.check_claim(workdir, experiment, data)
    if (workdir / bundles.BUNDLE_FILE).is_file():
        logging.info("%s holds the finished run already; nothing to do.", workdir)
        return workdir
    for sentence in leakage.alarms(leakage.within(data.to_dict())):
        logging.warning("ALARM: %s", sentence)
    memory = resources.Memory(training.max_memory_gb)
    if memory.exceeded():
        raise memory.error()

    objectives.check(experiment)
    with distribution.lost_worker_named():
        strategy = distribution.strategy(training.batch_size)  # First: workers connect here.
        _seed(training.seed, deterministic=training.deterministic)
        run = checkpoints.Run(workdir, experiment, chief=distribution.is_chief(strategy))
        _go_on_alike(run, strategy)
        if run.epoch < training.epochs and not run.stopped:
            several = strategy.num_replicas_in_sync > 1
            with strategy.scope():
                model = _compiled(experiment, load_weights=run.step == 0, several=several)
            # Keras cannot evaluate a last batch that devices share unequally: one of them does it.
            judge = _compiled(experiment, load_weights=False) if several else model
            # Only now: a start that failed for its weights leaves the folder to another setting.
            if run.chief:
                checkpoints.claim(workdir, experiment, data)
            with loader.damage_named(data_dir):
                _fit(model, judge, run, memory, data_dir=data_dir, data=data, profile=profile)
    if not run.best_epoch:
        raise ValueError(
            f"No epoch gave a finite {training.select_by}: the training diverged. Lower "
            "config.training.learning_rate and choose another --workdir."
        )
    if run.chief:
        _finish(run, data)
    return workdir


def _go_on_alike(run: checkpoints.Run, strategy: tf.distribute.Strategy) -> None:
    """Sets the precision that the run began with; says so if its order cannot be the same.

    Raises:
      ValueError: the workers have different settings, or would go on at different steps.
    """
    settings = specs.to_dict(run.experiment)
    settings["training"].pop("max_memory_gb")
    mine: dict[str, float] = {
        "step": run.step,
        "settings": splits.stable_hash(settings) % 2**32,
    }
    agreed = distribution.agreed(strategy, mine)
    if agreed["settings"] != mine["settings"]:
        raise ValueError(
            "The workers do not have the same config. All of them need the same --config and the "
            "same flags, but for --max_memory_gb."
        )
    if agreed["step"] != run.step:
        raise ValueError(
            f"The workers do not see the same run: this one finds {run.step} steps finished in "
            f"{run.workdir}, and another one finds more or less. --workdir has to be one folder "
            "that all of them share."
        )
    # `auto` on another device must not change a run that has begun.
    run.precision = precision.set_policy(run.precision or run.experiment.training.precision)
    workers = distribution.workers()
    if run.workers not in (0, workers):
        logging.warning(
            "%d workers took the steps so far, from here on %d do: their parts of the shards, and "
            "so the order of the examples, are not those of a run that was not interrupted.",
            run.workers,
            workers,
        )
    run.workers = workers


def _finish(run: checkpoints.Run, data: manifest.Manifest) -> None:
    """Writes the bundle of the best epoch; what the run would go on with is not needed any more."""
    run.write_history()
    best = network.build(run.experiment, load_weights=False)
    best.load_weights(run.workdir / "checkpoints" / "best.weights.h5")
    bundles.save(
        run.workdir,
        best,
        experiment=run.experiment,
        data=data,
        precision=run.precision,
        best_epoch=run.best_epoch,
    )
    run.remove()
    logging.info("Best epoch %d by %s.", run.best_epoch, run.experiment.training.select_by)


def _compiled(
    experiment: specs.Experiment, *, load_weights: bool, several: bool = False
) -> keras.Model:
    model = network.build(experiment, load_weights=load_weights)
    if several:
        model = network.synchronized(model)
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
    strategy = model.distribute_strategy
    batches, steps = loader.train_batches(  # First: what reads starts meanwhile.
        data_dir,
        data,
        run.experiment,
        first_step=run.step,
        worker=distribution.worker(strategy),
        workers=distribution.workers(),
    )
    profile_from = run.step if profile and run.chief else None
    with (
        contextlib.closing(batches),
        contextlib.closing(board.Board(run.workdir / "tensorboard", profile_from)) as tensorboard,
    ):
        validation = loader.validation_dataset(data_dir, data, run.experiment)
        with strategy.scope():
            _complete(model, validation)
        run.restore(model)
        deciding = _deciding(model, training)
        for name, values in run.callbacks.items():
            for attribute, value in values.items():
                setattr(deciding[name], attribute, value)

        divided = distribution.distribute(batches, strategy)
        running = loop.Loop(model, run, memory, divided, tensorboard)
        wrong_with, over = _alarms(run.experiment, data)
        while run.epoch < training.epochs and not run.stopped:
            logs = running.steps_until((run.epoch + 1) * steps, steps)
            if judge is not model:
                judge.set_weights(model.get_weights())
            found = running.validate(judge, validation)
            found = {f"val_{name}": float(value) for name, value in found.items()}
            logs |= found if judge is model else distribution.agreed(strategy, found)
            for callback in deciding.values():
                callback.on_epoch_end(run.epoch, dict(logs))  # Some add the learning rate to them.
            run.callbacks = {name: _counters(callback) for name, callback in deciding.items()}
            row = {"epoch": run.epoch + 1, **logs, **running.figures()}
            row["alarms"] = len(alarms.standing([*run.history, row], wrong_with))
            if run.chief:
                tensorboard.write(row, run.epoch)
            run.finish_epoch(model, judge, row, stopped=bool(model.stop_training))
            _say(row, run.experiment)
            for sentence in alarms.changes(run.history, wrong_with, over) if run.chief else ():
                logging.warning("%s", sentence)


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


def _alarms(
    experiment: specs.Experiment, data: manifest.Manifest
) -> tuple[Callable[[alarms.Row], dict[str, str]], Mapping[str, str]]:
    """Return what finds alarms in a row of history.csv, and the sentences for their end."""
    task = tasks.of(experiment)
    counts = [0] * len(task.data.groups)
    for shard in data.shards_of("validation"):
        counts[task.data.group_of[shard.label]] += shard.records
    judgement = task.judgement
    return lambda row: judgement.wrong_with(row, counts), judgement.alarm_over


def _say(row: dict[str, float], experiment: specs.Experiment) -> None:
    names, epochs = tasks.of(experiment).model.shown, experiment.training.epochs
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
