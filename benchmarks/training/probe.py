"""Linear probes: how much of the labels frozen features tell, out of fold, as a table.

    python -m benchmarks.training.probe --config=configs/dr_grade.py --data_dir=DATA \
        --weights=FILE.weights.h5 --finer=2

DATA is a data set with folds (--config.dataset.split.folds=5), and FILE holds the weights of the
config's backbone, none of which learns: a logistic regression on the pooled features, of pictures
as they are and mirrored, tells whether a label is above k, for each k. It is fitted on all folds
but one and asked about that one. Before a training is changed, this says in a minute whether other
pixels, another backbone or other features are worth it.

Every row is one k: its AUC over all photographs with the 95 % interval of a bootstrap over them.
The last row is the quadratic weighted kappa of the rounded sum of these probabilities. `seconds`
are of processor time, for features and regressions.
"""

import argparse
import dataclasses
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np

_RESAMPLES = 1000
_STRENGTH = 1e-3  # C of the regression: there are several times as many features as photographs.


def features(
    config: Path, data_dir: Path, weights: str, finer: tuple[int, ...]
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pooled features, float32 (2, photographs, k), and labels and folds (photographs,)."""
    import keras
    import tensorflow as tf

    from dr_tfx import tasks
    from dr_tfx.config import config_files
    from dr_tfx.dataset import manifest, records, splits
    from dr_tfx.input_pipeline import loader
    from dr_tfx.models import network

    data = manifest.load(data_dir)
    experiment = tasks.from_config(config_files.load(config))
    model = dataclasses.replace(experiment.model, weights=weights, finer_features=finer)
    made = network.build(dataclasses.replace(experiment, dataset=data.dataset, model=model))
    pooled = keras.Model(made.inputs, made.get_layer(network.POOLING).output)
    look = tf.function(lambda images: pooled(tf.cast(images, tf.float32), training=False))
    label = records.LABEL_PREFIX + data.dataset.label_column
    found: list[list[np.ndarray]] = [[], [], [], []]
    for fold, name in enumerate(splits.names_of(data.dataset.split)):
        for batch in loader.evaluation_dataset(
            data_dir, data, name, batch_size=16, features={label: records.Feature("int64")}
        ):
            images, labels = batch[records.IMAGE], batch[label].numpy()
            parts = look(images).numpy(), look(images[:, :, ::-1]).numpy()
            for column, part in zip(
                found, (*parts, labels, np.full_like(labels, fold)), strict=True
            ):
                column.append(part)
    plain, mirrored, labels, folds = map(np.concatenate, found)
    return np.stack([plain, mirrored]), labels, folds


def out_of_fold(given: np.ndarray, labels: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return P(label > k) for each photograph and k, which never rises with k: (photographs, k)."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    above = np.zeros((len(labels), labels.max()))
    for fold in np.unique(folds):
        tested = folds == fold
        for k in range(above.shape[1]):
            model = make_pipeline(StandardScaler(), LogisticRegression(C=_STRENGTH, max_iter=300))
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # 300 steps are enough.
                model.fit(np.concatenate(given[:, ~tested]), np.tile(labels[~tested] > k, 2))
            above[tested, k] = np.mean([model.predict_proba(x[tested])[:, 1] for x in given], 0)
    return np.minimum.accumulate(above, axis=1)


def _row(name: str, figure: Callable[[np.ndarray], float], count: int) -> str:
    """Return a row of the table: a figure of the photographs of given numbers."""
    rng = np.random.default_rng(0)
    drawn = [figure(rng.integers(0, count, count)) for _ in range(_RESAMPLES)]
    low, high = np.percentile(drawn, [2.5, 97.5])
    return f"{name:<12} {figure(np.arange(count)):.3f} ({low:.3f}-{high:.3f})"


def main() -> None:
    """Print the table."""
    described = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=described)
    parser.add_argument("--config", type=Path, required=True, help="The config of a run.")
    parser.add_argument("--data_dir", type=Path, required=True, help="A data set with folds.")
    parser.add_argument("--weights", required=True, help="A .weights.h5 file, or imagenet.")
    parser.add_argument("--finer", default="", help="model.finer_features, such as 2 or 2,4.")
    given = parser.parse_args()
    from sklearn.metrics import cohen_kappa_score, roc_auc_score

    finer = tuple(int(factor) for factor in given.finer.split(",") if factor)
    began = time.process_time()
    found, labels, folds = features(given.config, given.data_dir, given.weights, finer)
    above = out_of_fold(found, labels, folds)
    seconds = time.process_time() - began
    count = len(labels)
    for k in range(above.shape[1]):
        print(_row(f"above {k}", lambda i, k=k: roc_auc_score(labels[i] > k, above[i, k]), count))
    grades = np.rint(above.sum(axis=1))
    print(
        _row("kappa", lambda i: cohen_kappa_score(labels[i], grades[i], weights="quadratic"), count)
    )
    print(f"{count} photographs, {found.shape[-1]} features, {seconds:.0f} seconds")


if __name__ == "__main__":
    main()
