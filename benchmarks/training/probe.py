"""Linear probes: how much of the labels frozen features tell, out of fold, as a table.

    python -m benchmarks.training.probe --config=configs/dr_grade.py --data_dir=DATA \
        --weights=FILE.weights.h5 --finer=2
    python -m benchmarks.training.probe --config=configs/dr_grade.py --data_dir=DATA \
        --weights=FILE.weights.h5 --copies=3 --changes=mixup=.4 --changes=blur=1,jpeg=.5
    python -m benchmarks.training.probe --config=configs/dr_grade.py --data_dir=DATA \
        --backbone=EfficientNetLite0 --weights=lite0.safetensors --finer=2

DATA is a data set with folds (--config.dataset.split.folds=5), and FILE holds the weights of the
config's backbone or of another one, none of which learns: a logistic regression on the pooled
features, of pictures as they are and mirrored, tells whether a label is above k, for each k. It is
fitted on all folds but one and asked about that one. Before a training is changed, this says in a
minute whether other pixels, another backbone or other features are worth it.

With --copies, it is fitted on so many copies of each photograph besides, augmented as the config
says. Each --changes is a table of its own, with the differences from the first, of which the
intervals are paired.

Every row is one k: its AUC over all photographs with the 95 % interval of a bootstrap over them.
The last row is the quadratic weighted kappa of the rounded sum of these probabilities. `seconds`
are of processor time, for features and regressions.
"""

import argparse
import dataclasses
import time
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

if TYPE_CHECKING:
    import tensorflow as tf

    from dr_tfx.config import specs

_RESAMPLES = 1000


class Seen(NamedTuple):
    """What the probe has of photographs, in one order.

    Attributes:
      given: pooled features of pictures as they are and mirrored, float32 (2, photographs, k).
      labels: (photographs,).
      folds: (photographs,).
      copies: for each of the changes, features of augmented copies, float32 (changes, copies,
        photographs, k).
      partners: the labels of what they are mixed with, (changes, copies, photographs),
      shares: and their own shares.
    """

    given: np.ndarray
    labels: np.ndarray
    folds: np.ndarray
    copies: np.ndarray
    partners: np.ndarray
    shares: np.ndarray


def features(
    config: Path,
    data_dir: Path,
    model: dict[str, Any],
    *,
    copies: int,
    changes: Sequence[dict[str, float]],
) -> Seen:
    """Return what the probe has of all photographs of a data set with folds."""
    from dr_tfx import tasks
    from dr_tfx.config import config_files, specs, typed
    from dr_tfx.dataset import manifest, records, splits
    from dr_tfx.evaluation import probe
    from dr_tfx.input_pipeline import in_order
    from dr_tfx.models import network

    data = manifest.load(data_dir)
    experiment = tasks.from_config(config_files.load(config))
    chosen = dataclasses.replace(experiment.model, **model)
    made = network.build(dataclasses.replace(experiment, dataset=data.dataset, model=chosen))
    look = probe.pooled(made)
    label = records.LABEL_PREFIX + data.dataset.label_column
    usual = typed.to_dict(experiment.training.augmentation)
    arms = [typed.record(specs.Augmentation, usual | each, "changes") for each in changes]
    found: list[list[np.ndarray]] = [[], [], [], []]
    augmented: list[list[list[list[np.ndarray]]]] = [
        [[[] for _ in range(copies)] for _ in arms] for _ in range(3)
    ]
    for fold, name in enumerate(splits.names_of(data.dataset.split)):
        for batch in in_order.Batches(
            data_dir, data, name, batch_size=16, features={label: records.Feature("int64")}
        ):
            images, labels = batch[records.IMAGE], batch[label]
            parts = look(images).numpy(), look(images[:, :, ::-1]).numpy()
            for column, part in zip(
                found, (*parts, labels, np.full_like(labels, fold)), strict=True
            ):
                column.append(part)
            for arm, spec in enumerate(arms):
                for copy in range(copies):
                    seed = [fold, len(found[0]), copy]
                    changed, *mixed = _augmented(images.copy(), labels, spec, seed)
                    for kept, part in zip(augmented, (look(changed).numpy(), *mixed), strict=True):
                        kept[arm][copy].append(part)
    plain, mirrored, labels, folds = map(np.concatenate, found)
    shape = len(arms), copies, len(labels)
    of_copies, partners, shares = (
        np.array([[np.concatenate(one) for one in row] for row in column]) for column in augmented
    )
    return Seen(
        given=np.stack([plain, mirrored]),
        labels=labels,
        folds=folds,
        copies=of_copies.reshape(*shape, plain.shape[-1]),
        partners=partners.reshape(shape),
        shares=shares.reshape(shape),
    )


def _augmented(
    images: np.ndarray, labels: np.ndarray, spec: "specs.Augmentation", seed: list[int]
) -> tuple["tf.Tensor", np.ndarray, np.ndarray]:
    """Return images as training sees them, the labels that they are mixed with, and own shares."""
    import tensorflow as tf

    from dr_tfx.dataset import records
    from dr_tfx.input_pipeline import augmentation, compression, mixing

    draws = np.random.default_rng(seed).random((len(images), augmentation.DRAWS), np.float32)
    for image, (across, down) in zip(images, augmentation.flips(draws, spec), strict=True):
        image[...] = image[:: -1 if down else 1, :: -1 if across else 1].copy()
    compression.compress(images, augmentation.qualities(draws, spec))
    shares, partners = np.ones(len(images), np.float32), labels
    if spec.mixup or spec.cutmix:
        mixed = mixing.mix({records.IMAGE: images, "of": labels}, draws[:, 15:17], spec)
        images, shares, partners = (
            mixed[name] for name in (records.IMAGE, mixing.SHARE, mixing.OTHER + "of")
        )
    batch = {records.IMAGE: tf.constant(images), "draws": tf.constant(draws)}
    return augmentation.augment(batch, spec)[records.IMAGE], partners, shares


def out_of_fold(seen: Seen, arm: int) -> np.ndarray:
    """Return P(label > k) for each photograph and k, which never rises with k: (photographs, k).

    Args:
      seen: what is known of the photographs.
      arm: the number of the changes with which the copies were augmented.
    """
    from dr_tfx.evaluation import probe

    given, labels, folds = seen[:3]
    copies, partners, shares = (part[arm] for part in seen[3:])
    above = np.zeros((len(labels), labels.max()))
    for fold in np.unique(folds):
        tested = folds == fold
        # A copy that is mixed is there for both labels, each with its share.
        kept = [given[:, ~tested], copies[:, ~tested], copies[:, ~tested]]
        rows = np.concatenate([part.reshape(-1, given.shape[-1]) for part in kept])
        own = np.tile(labels[~tested], 2 + len(copies))
        truth = np.concatenate([own, partners[:, ~tested].ravel()])
        share = shares[:, ~tested].ravel()
        weights = np.concatenate([np.ones(len(own) - len(share)), share, 1 - share])
        rows, truth, weights = (x[weights > 0] for x in (rows, truth, weights))
        for k in range(above.shape[1]):
            model = probe.regression()
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # 300 steps are enough.
                model.fit(rows, truth > k, logisticregression__sample_weight=weights)
            above[tested, k] = np.mean([model.predict_proba(x[tested])[:, 1] for x in given], 0)
    return np.minimum.accumulate(above, axis=1)


def _figures(labels: np.ndarray, above: np.ndarray) -> dict[str, Callable[[np.ndarray], float]]:
    """Return the rows of a table: functions of the numbers of some photographs."""
    from sklearn.metrics import cohen_kappa_score, roc_auc_score

    def area(k: int) -> Callable[[np.ndarray], float]:
        return lambda i: roc_auc_score(labels[i] > k, above[i, k])

    grades = np.rint(above.sum(axis=1))
    return {
        **{f"above {k}": area(k) for k in range(above.shape[1])},
        "kappa": lambda i: cohen_kappa_score(labels[i], grades[i], weights="quadratic"),
    }


def _drawn(figure: Callable[[np.ndarray], float], count: int) -> np.ndarray:
    """Return a figure of so many photographs, then of resamples, the same for every figure."""
    rng = np.random.default_rng(0)
    drawn = [figure(rng.integers(0, count, count)) for _ in range(_RESAMPLES)]
    return np.array([figure(np.arange(count)), *drawn])


def _interval(drawn: np.ndarray) -> str:
    """Return a figure, or a difference of two, with its interval."""
    low, high = np.percentile(drawn[1:], [2.5, 97.5])
    return f"{drawn[0]:.3f} ({low:.3f}-{high:.3f})"


def _changes(text: str) -> dict[str, float]:
    """Return the settings of `training.augmentation` of a flag."""
    return {k: float(v) for k, v in (part.split("=") for part in text.split(",") if part)}


def main() -> None:
    """Print the tables."""
    described = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=described)
    parser.add_argument("--config", type=Path, required=True, help="The config of a run.")
    parser.add_argument("--data_dir", type=Path, required=True, help="A data set with folds.")
    parser.add_argument("--backbone", help="model.backbone, if it is not that of the config.")
    parser.add_argument("--weights", required=True, help="A .weights.h5 file, or imagenet.")
    parser.add_argument("--finer", default="", help="model.finer_features, such as 2 or 2,4.")
    parser.add_argument("--copies", type=int, default=0, help="Augmented copies to fit on.")
    parser.add_argument(
        "--changes", action="append", default=[], help="Settings of training.augmentation."
    )
    given = parser.parse_args()
    finer = tuple(int(factor) for factor in given.finer.split(",") if factor)
    model = {"weights": given.weights, "finer_features": finer}
    model |= {"backbone": given.backbone} if given.backbone else {}
    began, arms = time.process_time(), ["", *given.changes]
    changes = [_changes(text) for text in arms]
    seen = features(given.config, given.data_dir, model, copies=given.copies, changes=changes)
    count, first = len(seen.labels), dict[str, np.ndarray]()
    for arm, text in enumerate(arms):
        print(f"changes: {text or 'none'}")
        figures = _figures(seen.labels, out_of_fold(seen, arm))
        for name, drawn in ((name, _drawn(one, count)) for name, one in figures.items()):
            less = drawn - first.setdefault(name, drawn)
            more = f"  difference {_interval(less)}" if arm else ""
            print(f"{name:<12} {_interval(drawn)}{more}")
    seconds = time.process_time() - began
    print(f"{count} photographs, {seen.given.shape[-1]} features, {seconds:.0f} seconds")


if __name__ == "__main__":
    main()
