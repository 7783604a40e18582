"""Cross-validation: a run and its evaluation on every fold, and the report over all photographs.

A set of a few hundred photographs has none to spare for a test. So it is dealt to folds, each of
them is tested by a model of its own, and `out_of_fold` tells what all these models together were
worth. Everything that is chosen for a fold is chosen on the fold after it.
"""

import dataclasses
from pathlib import Path

import keras
from absl import logging

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.dataset import manifest, splits
from dr_tfx.evaluation import evaluate, out_of_fold
from dr_tfx.models import bundle_file
from dr_tfx.storage import locks
from dr_tfx.training import distribution, train


def crossvalidate(
    experiment: specs.Experiment,
    *,
    data_dir: Path,
    workdir: Path,
    config: bundle_file.Config | None = None,
) -> Path:
    """Train and evaluate a model on every fold, one after the other, and write the report.

    The same call again goes on where an interrupted one stopped: finished folds are skipped, and an
    unfinished training resumes at its last checkpoint.

    Args:
      experiment: the settings of every run; those of its data set are DATA_DIR's.
      data_dir: folder of the data set.
      workdir: receives a folder for each run, `fold-0` and so on, and `out_of_fold`.
      config: what the settings were before any were changed, for the reports.

    Returns:
      The path of WORKDIR/out_of_fold/report.html.

    Raises:
      FileNotFoundError, ValueError, OSError, MemoryCeilingError, KeyboardInterrupt: see
        `train.train` and `evaluate.evaluate`; also ValueError if there are no folds, the settings
        name one of them, or TF_CONFIG names several processes.
    """
    experiment = tasks.on_data(typed.to_dict(experiment), manifest.load(data_dir))
    count, fold = experiment.dataset.split.folds, experiment.training.fold
    if not count:
        raise ValueError(
            f"{data_dir} has no folds. Build it with as many as there are to be, such as "
            "--config.dataset.split.folds=5 for drtfx-build-examples."
        )
    typed.require(
        fold == -1,
        f"config.training.fold is {fold}, but every fold is trained here; leave it at -1, or use "
        "drtfx-train for a single one.",
    )
    if (workers := distribution.workers()) > 1:
        raise ValueError(
            f"TF_CONFIG names {workers} processes, but a cross-validation runs in one. Unset it or "
            "train single folds with drtfx-train --fold, whose processes share every batch."
        )
    with locks.held(workdir):
        for number, name in enumerate(splits.names_of(experiment.dataset.split)):
            logging.info("%s, of %d folds", name, count)
            training = dataclasses.replace(experiment.training, fold=number)
            run = dataclasses.replace(experiment, training=training)
            _train_and_evaluate(run, data_dir=data_dir, workdir=workdir / name, config=config)
        return out_of_fold.report(experiment, data_dir=data_dir, workdir=workdir)


def _train_and_evaluate(
    experiment: specs.Experiment,
    *,
    data_dir: Path,
    workdir: Path,
    config: bundle_file.Config | None,
) -> None:
    """Do what is missing of the run on one fold."""
    pages = {
        split: evaluate.usual_folder(workdir, split) / "report.html"
        for split in (evaluate.SELECTION_SPLIT, "test")
    }
    keras.backend.clear_session()  # The models of the fold before.
    train.train(experiment, data_dir=data_dir, workdir=workdir, config=config)
    if bundle_file.read(workdir).fitted is None:
        for page in pages.values():  # It is that of an earlier model.
            page.unlink(missing_ok=True)
    for split, page in pages.items():
        if not page.is_file():
            evaluate.evaluate(workdir=workdir, data_dir=data_dir, split=split)
