"""Whether Keras' own `model.fit` on `as_tf_dataset` learns what drtfx-train learns.

    python -m benchmarks.training.plain_fit --data_dir=DATA --workdir=RUN
    python -m benchmarks.training.plain_fit --data_dir=DATA --workdir=RUN0 --workdir=RUN1

RUN is the folder of a finished drtfx-train of a task of two classes on DATA, which has a validation
split. A network of the same settings, with weights of its own, is given `load_dataset(DATA)
.as_tf_dataset("train")` by plain `model.fit`: with the run's epochs, batches, seed, optimizer and
loss, and with Keras' callbacks, which lower the rate at a plateau, stop early and keep the best
epoch. What drtfx-train has besides, such as augmentation, stages and averages of weights, is to be
off in the run, or the difference tells of it, too.

Every row is one run: its AUC on validation, that of `model.fit`, and their difference, which is
paired, each with the 95 % interval of a bootstrap over the patients. The last row is the mean of
all runs, where there are several. Both models are asked in the views of the run's evaluation.
"""

import argparse
import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    import keras

    import dr_tfx
    from dr_tfx.config import specs

_SPLIT = "validation"


def fit(experiment: "specs.Experiment", data: "dr_tfx.Dataset") -> "keras.Model":
    """Return a network of these settings that `model.fit` has trained."""
    import keras

    from dr_tfx import tasks
    from dr_tfx.models import network
    from dr_tfx.training import objectives

    training, modes = experiment.training, tasks.of(experiment).MONITORS
    keras.utils.set_random_seed(training.seed)
    model = network.build(experiment)
    objectives.compile_model(model, experiment)
    settings = {"experiment": experiment, "batch_size": training.batch_size}
    model.fit(
        data.as_tf_dataset("train", seed=training.seed, **settings),
        validation_data=data.as_tf_dataset(_SPLIT, **settings),
        epochs=training.epochs,
        callbacks=[
            keras.callbacks.ReduceLROnPlateau(
                monitor=training.plateau_monitor,
                mode=modes[training.plateau_monitor],
                factor=training.plateau_factor,
                patience=training.plateau_patience,
            ),
            keras.callbacks.EarlyStopping(
                monitor=training.early_stopping_monitor,
                mode=modes[training.early_stopping_monitor],
                patience=training.early_stopping_patience,
                restore_best_weights=True,
            ),
        ],
        verbose=0,
    )
    return model


def scores(data_dir: Path, run: Path) -> tuple[pd.DataFrame, np.ndarray]:
    """Return validation as the run scores it, and the scores of `model.fit`."""
    import dr_tfx
    from dr_tfx.evaluation import scored
    from dr_tfx.inference import scoring

    bundle = dr_tfx.load_bundle(run).bundle
    data = dr_tfx.load_dataset(data_dir)
    theirs = dataclasses.replace(bundle, model=fit(bundle.experiment, data))
    table, plain = (scoring.predict_split(each, data.folder, _SPLIT) for each in (bundle, theirs))
    return scored.clustered(table, data.manifest), plain["score"].to_numpy()


def table(found: Sequence[tuple[str, pd.DataFrame, np.ndarray]]) -> pd.DataFrame:
    """Return the rows of some runs.

    Args:
      found: of each its name, and what `scores` returns.
    """
    from sklearn.metrics import roc_auc_score

    from dr_tfx.statistics.intervals import PatientBootstrap

    target = found[0][1]["target"].to_numpy()
    bootstrap = PatientBootstrap(found[0][1]["cluster"])

    def drawn(score: np.ndarray) -> np.ndarray:
        """Return the AUC, and those of all resamples."""
        return np.append(roc_auc_score(target, score), bootstrap.ranking_samples(target, score)[0])

    names = [name for name, _, _ in found]
    pairs = [(drawn(run["score"].to_numpy()), drawn(plain)) for _, run, plain in found]
    if len(found) > 1:
        names.append("mean")
        pairs.append(tuple(np.mean(column, axis=0) for column in zip(*pairs, strict=True)))
    rows = {
        name: {"drtfx-train": ours, "model.fit": plain, "difference": plain - ours}
        for name, (ours, plain) in zip(names, pairs, strict=True)
    }
    return pd.DataFrame(rows).T.map(_interval)


def _interval(drawn: np.ndarray) -> str:
    """Return a figure, which is the first, with the interval of the others."""
    low, high = np.nanpercentile(drawn[1:], [2.5, 97.5])
    return f"{drawn[0]:.3f} ({low:.3f} to {high:.3f})"


def main() -> None:
    """Print the table."""
    described = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=described)
    parser.add_argument("--data_dir", type=Path, required=True, help="The data set of the runs.")
    parser.add_argument(
        "--workdir", type=Path, action="append", required=True, help="A finished run; repeatable."
    )
    given = parser.parse_args()
    found = [(str(run), *scores(given.data_dir, run)) for run in given.workdir]
    photographs = found[0][1]
    positive = int(photographs["target"].sum())
    print(f"{len(photographs)} photographs of {_SPLIT}, {positive} of the second class")
    print(table(found).to_string())


if __name__ == "__main__":
    main()
