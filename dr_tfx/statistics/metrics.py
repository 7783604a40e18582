"""Figures of merit of a binary classifier.

They are pure functions of counts and arrays, without files, models or TensorFlow. Two conventions
hold everywhere:

* class 1 is the positive class, and the decision is positive when `score >= threshold`;
* intervals are two-sided, 95 %.

`operating_points` finds thresholds; `intervals` gives intervals with patients as the unit.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

Z = 1.959963984540054
"""The normal distribution's 97.5 % quantile."""


class Estimate(NamedTuple):
    """A figure and the ends of its 95 % interval; NaN where one is undefined."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """Return it as JSON types: NaN and infinity, which JSON does not have, become None."""
        return {k: float(v) if np.isfinite(v) else None for k, v in self._asdict().items()}


def from_json(estimate: Mapping[str, float | None]) -> Estimate:
    """Return the inverse of `Estimate.to_dict`; what was infinite is NaN."""
    return Estimate(**{k: float("nan") if v is None else v for k, v in estimate.items()})


def wilson(successes: int, trials: int) -> Estimate:
    """Return a proportion of independent trials with its interval; NaN within (0, 1) for none."""
    if not 0 <= successes <= trials:
        raise ValueError(f"got {successes} successes in {trials} trials")
    if trials == 0:
        return Estimate(float("nan"), 0.0, 1.0)
    return wilson_interval(successes / trials, trials)


def wilson_interval(share: float, trials: float) -> Estimate:
    """Return a share with its score interval (Wilson 1927, JASA 22:209).

    Unlike the textbook interval p +- 1.96 s it stays inside [0, 1] and keeps its coverage near 0
    and 1, where the rates of a screening test live. SciPy's takes whole numbers of trials only.

    Args:
      share: the successes by the trials.
      trials: how many trials, not necessarily a whole number.
    """
    z2n = Z**2 / trials
    centre = (share + z2n / 2) / (1 + z2n)
    half = np.sqrt(z2n * (share * (1 - share) + z2n / 4)) / (1 + z2n)
    # At 0 and 1 the end is exact in theory; `min` and `max` remove the rounding error.
    return Estimate(share, float(min(share, centre - half)), float(max(share, centre + half)))


def auc_margin(positives: int, negatives: int) -> float:
    """Return how far from 0.5 the AUC of scores that say nothing lies, in 95 % of all cases.

    It is the spread of the Mann-Whitney statistic (Mann and Whitney 1947); NaN without both
    classes. Images count as independent.
    """
    if not positives or not negatives:
        return float("nan")
    return float(Z * np.sqrt((positives + negatives + 1) / (12 * positives * negatives)))


def confusion_matrix(target: npt.ArrayLike, score: npt.ArrayLike, threshold: float) -> IntArray:
    """Return counts, int64 (2, 2), by truth and decision: [[TN, FP], [FN, TP]]."""
    target = np.asarray(target, np.int64)
    decision = (np.asarray(score, np.float64) >= threshold).astype(np.int64)
    return np.bincount(2 * target + decision, minlength=4).reshape(2, 2)


def class_table(confusion: npt.ArrayLike, class_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Return precision, recall, F1 and support of each class, with macro and weighted means.

    Args:
      confusion: (k, k) counts, rows the truth.
      class_names: the k names.

    Returns:
      scikit-learn's `classification_report`, without its accuracy, keyed by class name and by
      'macro avg' and 'weighted avg'. Where nothing was predicted, precision counts as 0.
    """
    counts = np.asarray(confusion)
    truth, decision = np.indices(counts.shape)  # Each cell is one weighted example.
    from sklearn.metrics import classification_report  # Loads for a second, which few need.

    table = classification_report(
        truth.ravel(),
        decision.ravel(),
        sample_weight=counts.ravel(),
        labels=range(len(class_names)),
        target_names=list(class_names),
        output_dict=True,
        zero_division=0,
    )
    return {
        name: {k: int(v) if k == "support" else float(v) for k, v in row.items()}
        for name, row in table.items()
        if isinstance(row, dict)
    }


def rate_values(
    tn: npt.ArrayLike, fp: npt.ArrayLike, fn: npt.ArrayLike, tp: npt.ArrayLike
) -> dict[str, Any]:
    """Return every rate of a confusion matrix, or of many: counts of one shape -> arrays of it.

    The rates are accuracy, balanced_accuracy, f1 (of class 1), kappa (Cohen's), lr_negative and
    lr_positive (the likelihood ratios, (1 - sensitivity) / specificity and sensitivity /
    (1 - specificity)), mcc (Matthews' correlation; 0 where one class is decided for all), npv, ppv,
    sensitivity and specificity. 0 / 0 is NaN, and a ratio to 0 is infinite.
    """
    tn, fp, fn, tp = (np.asarray(count, np.float64) for count in (tn, fp, fn, tp))
    total, called, positives = tn + fp + fn + tp, tp + fp, tp + fn
    with np.errstate(divide="ignore", invalid="ignore"):
        sensitivity, specificity = tp / positives, tn / (tn + fp)
        accuracy = (tn + tp) / total
        by_chance = (called * positives + (total - called) * (total - positives)) / total**2
        spread = np.sqrt(called) * np.sqrt(positives) * np.sqrt(tn + fp) * np.sqrt(tn + fn)
        return {
            "accuracy": accuracy,
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "f1": 2 * tp / (called + positives),
            "kappa": (accuracy - by_chance) / (1 - by_chance),
            "lr_negative": (fn / positives) / specificity,
            "lr_positive": sensitivity / (fp / (tn + fp)),
            "mcc": np.where(spread > 0, (tn * tp - fp * fn) / np.where(spread > 0, spread, 1), 0.0),
            "npv": tn / (tn + fn),
            "ppv": tp / called,
            "sensitivity": sensitivity,
            "specificity": specificity,
        }


def rates(confusion: npt.ArrayLike) -> dict[str, Estimate]:
    """Return sensitivity, specificity, PPV, NPV and accuracy of [[TN, FP], [FN, TP]].

    They have Wilson's interval, as if images were independent, because the patients of mere counts
    are not known.
    """
    (tn, fp), (fn, tp) = np.asarray(confusion).tolist()
    return {
        "accuracy": wilson(tn + tp, tn + fp + fn + tp),
        "npv": wilson(tn, tn + fn),
        "ppv": wilson(tp, tp + fp),
        "sensitivity": wilson(tp, tp + fn),
        "specificity": wilson(tn, tn + fp),
    }
