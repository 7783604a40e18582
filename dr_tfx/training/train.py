"""One training run, from DATA_DIR to a WORKDIR with checkpoints, history and the bundle.

The training loop is the library's own (`loop`), so that it can stop and resume after any step.
"""

import contextlib
from collections.abc import Sequence
from pathlib import Path

import keras
import tensorflow as tf
from absl import logging

from dr_tfx import tasks
from dr_tfx.config import seeds, specs, typed
from dr_tfx.dataset import folds, leakage, manifest
from dr_tfx.machine import resources
from dr_tfx.models import bundle_file, bundles, network, precision
from dr_tfx.storage import files, locks
from dr_tfx.training import (
    alarms,
    callbacks,
    checkpoints,
    distribution,
    identity,
    objectives,
    session,
    stages,
    trackers,
)


def train(
    experiment: specs.Experiment,
    *,
    data_dir: Path,
    workdir: Path,
    profile: bool = False,
    given: Sequence[keras.callbacks.Callback] = (),
    tracked_by: Sequence[str] = (),
    config: bundle_file.Config | None = None,
) -> Path:
    """Train to the end of the last stage or early stopping, and write the best epoch's bundle.

    The same call again resumes after the last saved step, or does nothing when the run is finished.
    With more epochs it goes on, see `identity.with_waves`; the bundle is replaced at the end.
    With `training.deterministic` the final weights are those of an uninterrupted run on the same
    machine, bit for bit. Workers that TF_CONFIG names share every batch; DATA_DIR and WORKDIR have
    to be the same folders for all of them, and the first one writes.

    Args:
      experiment: the settings of the run; those of its data set are DATA_DIR's.
      data_dir: folder of the data set.
      workdir: folder of the run.
      profile: write a TensorBoard profile of some steps after the start.
      given: callbacks of Keras that are told of the epochs; see `callbacks.Guests`.
      config: what the settings were before any were changed, for the report.
      tracked_by: names in `trackers.TRACKERS`, which are told of the epochs by the chief.

    Returns:
      WORKDIR.

    Raises:
      FileNotFoundError: there is no data set.
      ValueError: the task does not fit the data set, which may have folds of which the config names
        none, WORKDIR holds a run of another config, the devices cannot share a batch or have too
        little memory, a loss, optimizer or metric is not available here, a figure that decides is
        not defined on the validation split, or the training diverged.
      ConnectionError: another worker has ended.
      OSError: WORKDIR cannot be written, or another process writes into it.
      MemoryCeilingError: `training.max_memory_gb` is reached; a checkpoint is saved.
      KeyboardInterrupt: Ctrl-C was pressed; a checkpoint is saved.
    """
    training = experiment.training
    distribution.workers()  # Refuses a task that would train a run of its own.
    data = manifest.load(data_dir)
    experiment = tasks.on_data(typed.to_dict(experiment), data)
    experiment = identity.with_waves(workdir, experiment)
    data = folds.view(data, training.fold, where=str(data_dir))
    if _is_finished(workdir, experiment, data):
        return workdir
    _check_monitors(experiment, data)
    for sentence in leakage.alarms(leakage.within(data.to_dict())):
        logging.warning("ALARM: %s", sentence)
    memory = resources.Memory(training.max_memory_gb)
    if memory.exceeded():
        raise memory.error()

    objectives.check(experiment)
    with distribution.lost_worker_named(), contextlib.ExitStack() as held:
        # The strategy comes first, because workers connect here.
        strategy = distribution.strategy(training.batch_size, xla=training.xla)
        chief = distribution.is_chief(strategy)
        if chief:
            held.enter_context(locks.held(workdir))
            # Another process may have finished it while this one started.
            if _is_finished(workdir, experiment, data):
                return workdir
        _seed(training.seed, deterministic=training.deterministic)
        run = checkpoints.Run(workdir, experiment, chief=chief)
        _go_on_alike(run, strategy)
        told = [trackers.make(name, workdir, experiment) for name in tracked_by if chief]
        guests = callbacks.Guests([*given, *told])
        run = _take_stages(run, strategy, data_dir, data, memory, guests, profile=profile)
        _finish(run, data, config)
        guests.leave()
    return workdir


def _take_stages(
    run: checkpoints.Run,
    strategy: tf.distribute.Strategy,
    data_dir: Path,
    data: manifest.Manifest,
    memory: resources.Memory,
    guests: callbacks.Guests,
    *,
    profile: bool,
) -> checkpoints.Run:
    """Train to the end of each stage that is left, and return the run as it then is."""
    experiment = run.experiment
    with distribution.full_device_named(experiment, run.precision):
        for stage in stages.of(experiment):
            if run.epoch >= stage.end or run.stopped:
                continue
            run.begin(stage.number)
            models = session.make_models(run, stage, strategy)
            session.Session(models, run, stage, data=data, memory=memory, guests=guests).fit(
                data_dir, profile=profile
            )
            profile = False  # It is one of steps after the start.
            # The next stage begins from what the first worker has written by now.
            distribution.agreed(strategy, {"written": 1.0})
            run = checkpoints.Run(run.workdir, experiment, chief=run.chief)
    return run


def _is_finished(workdir: Path, experiment: specs.Experiment, data: manifest.Manifest) -> bool:
    """Tell whether WORKDIR holds the bundle of this run, and no more epochs can be added to it.

    Raises:
      ValueError: WORKDIR belongs to another run, or its state at the end is gone.
    """
    claimed = identity.is_claimed(workdir, experiment, data)
    if not (workdir / bundles.BUNDLE_FILE).is_file():
        return False
    if identity.same_run(bundle_file.read(workdir).experiment, experiment):
        locks.clear(workdir)  # A kill right after the bundle was written leaves it.
        logging.info(
            "%s holds the finished run already; nothing to do. With a larger "
            "--config.training.epochs it goes on.",
            workdir,
        )
        return True
    run = checkpoints.Run(workdir, experiment)
    if not run.epoch:
        raise ValueError(
            f"{workdir} cannot go on: the state at its end, {workdir}/checkpoints/last, is gone. "
            f"Begin another run from its weights: --config.model.weights={workdir}, with another "
            "--workdir."
        )
    if run.stopped and not claimed:
        logging.warning(
            "%s was stopped after epoch %d by config.training.early_stopping_patience=%d, as a run "
            "of more epochs would have been; nothing to do. To go on all the same, begin another "
            "run from its weights: --config.model.weights=%s, with another --workdir.",
            workdir,
            run.epoch,
            experiment.training.early_stopping_patience,
            workdir,
        )
        return True
    return False


def _go_on_alike(run: checkpoints.Run, strategy: tf.distribute.Strategy) -> None:
    """Set the precision that the run began with, and warn if its order of examples changes.

    Raises:
      ValueError: the workers have different settings, or would resume at different steps.
    """
    settings = typed.to_dict(run.experiment)
    settings["training"].pop("max_memory_gb")
    mine: dict[str, float] = {
        "step": run.step,
        "settings": seeds.stable_hash(settings) % 2**32,
    }
    agreed = distribution.agreed(strategy, mine)
    if agreed["settings"] != mine["settings"]:
        raise ValueError(
            "The workers do not have the same config. All of them need the same --config and the "
            "same flags; only --max_memory_gb may differ."
        )
    if agreed["step"] != run.step:
        raise ValueError(
            f"The workers do not see the same run: this one finds {run.step} finished steps in "
            f"{run.workdir}, and another one finds more or fewer. --workdir has to be one folder "
            "that all of them share."
        )
    # `auto` on another device must not change a run that has begun.
    run.precision = precision.set_policy(run.precision or run.experiment.training.precision)
    workers = distribution.workers()
    if run.workers not in (0, workers):
        logging.warning(
            "The steps so far were taken by %d workers, those to come by %d. Their parts of the "
            "shards, and so the order of the examples, are not those of an uninterrupted run.",
            run.workers,
            workers,
        )
    run.workers = workers


def _finish(
    run: checkpoints.Run, data: manifest.Manifest, config: bundle_file.Config | None
) -> None:
    """Write the bundle of the best epoch. The state stays, so that more epochs can follow.

    Raises:
      ValueError: there is no best epoch.
    """
    select_by = run.experiment.training.select_by
    if not run.best_epoch:
        if not all(alarms.has_diverged(row) for row in run.history):
            raise ValueError(
                f"No epoch gave a finite {select_by}, though the validation loss is finite: the "
                f"validation split shows nothing that {select_by} measures, such as a lesion. "
                "There is no bundle. Put photographs that do into the validation split, or set "
                "config.training.select_by=val_loss, and choose another --workdir."
            )
        raise ValueError(
            f"No epoch gave a finite {select_by} and a validation loss below "
            f"{alarms.MEANINGLESS:,.0f}: the training diverged, and there is no bundle. Lower "
            "config.training.learning_rate and choose another --workdir."
        )
    if not run.chief:
        return
    run.write_history()
    best = network.build(run.experiment, load_weights=False)
    best.load_weights(run.workdir / "checkpoints" / "best.weights.h5")
    with files.named(run.workdir / bundles.MODEL_FILE):
        bundles.save(
            run.workdir,
            best,
            experiment=run.experiment,
            data=data,
            precision=run.precision,
            best_epoch=run.best_epoch,
            config=config,
        )
    best_of = {row["epoch"]: row[select_by] for row in run.history}[run.best_epoch]
    logging.info(
        "Best epoch %d of %d by %s, %.3f; drtfx-evaluate tells its interval.",
        run.best_epoch,
        len(run.history),
        select_by,
        best_of,
    )


def _seed(seed: int, *, deterministic: bool) -> None:
    """Seed everything that is drawn once, such as the weights."""
    # The seed is never 0: tf.data then compares its seed tensors in Python and fails.
    keras.utils.set_random_seed(seed + 1)
    if keras.__version__.startswith("2."):  # This gives its dropout a state that can be set.
        keras.backend.experimental.enable_tf_random_generator()
    if deterministic:
        tf.config.experimental.enable_op_determinism()


def _check_monitors(experiment: specs.Experiment, data: manifest.Manifest) -> None:
    """Refuse to let a figure decide that is not defined on the validation split.

    Raises:
      ValueError: the message names the settings, the split and the group that is missing.
    """
    task = tasks.of(experiment)
    images = task.images(data, "validation")
    undefined, training = task.undefined(images), experiment.training
    deciding = [
        f"config.training.{name}={value}"
        for name in ("select_by", "early_stopping_monitor", "plateau_monitor")
        if (value := getattr(training, name)) in undefined
    ]
    for sentence in tasks.lacking({"validation": images}):
        if deciding:
            others = " or ".join(name for name in task.MONITORS if name not in undefined)
            raise ValueError(f"{sentence}, and so may {others} in place of {', '.join(deciding)}.")
        logging.warning("%s.", sentence)
