"""Figures of merit of a binary classifier, each with the uncertainty that belongs to it.

Pure computation on arrays and one data frame: no files, no model, no TensorFlow. The names of
classes and strata are data. Two conventions hold everywhere:

* class 1 is the positive class, and the decision is positive when `score >= threshold`;
* intervals are two-sided, 95 %.

Rates (sensitivity, accuracy, ...) carry Wilson's interval, which takes images as independent. Two
eyes of one patient are not, so these intervals are somewhat narrow; the AUC's interval resamples
patients and does not share that fault.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import classification_report, roc_auc_score

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

THRESHOLD_RULES = {"accuracy": "accuracy", "youden": "balanced_accuracy"}
"""Name of a rule -> the column of `threshold_table` that it maximises."""

_Z = 1.959963984540054  # the normal distribution's 97.5 % quantile
_BLOCK = 2**19  # bounds the bootstrap's memory: images x resamples held at once, in float64
_ONE_CLASS = 0.95
_MIN_PATIENTS = 30
_MAX_AUC_WIDTH = 0.10
_MAX_RATE_WIDTH = 0.20


class Estimate(NamedTuple):
    """A figure and the ends of its 95 % interval; `value` is NaN where it is undefined."""

    value: float
    low: float
    high: float

    def to_dict(self) -> dict[str, float | None]:
        """As JSON knows it: NaN, which JSON does not know, becomes None."""
        return {k: None if np.isnan(v) else float(v) for k, v in self._asdict().items()}


def wilson(successes: int, trials: int) -> Estimate:
    """A proportion with its score interval (Wilson 1927, JASA 22:209).

    Unlike the textbook interval p +- 1.96 s it stays inside [0, 1] and keeps its coverage near
    0 and 1, where the rates of a screening test live. No trials: NaN within (0, 1).
    """
    if not 0 <= successes <= trials:
        raise ValueError(f"got {successes} successes in {trials} trials")
    if trials == 0:
        return Estimate(float("nan"), 0.0, 1.0)
    share, z2n = successes / trials, _Z**2 / trials
    centre = (share + z2n / 2) / (1 + z2n)
    half = np.sqrt(z2n * (share * (1 - share) + z2n / 4)) / (1 + z2n)
    # At 0 and 1 the end is exact in theory; min and max remove the rounding error.
    return Estimate(share, float(min(share, centre - half)), float(max(share, centre + half)))


def auc_interval(
    target: npt.ArrayLike,
    score: npt.ArrayLike,
    patient: npt.ArrayLike,
    *,
    resamples: int = 2000,
    seed: int = 0,
) -> Estimate:
    """The area under the ROC curve with a percentile bootstrap interval over patients.

    Patients are drawn with replacement, each with all of its images (the cluster bootstrap of
    Field and Welsh 2007, JRSS B 69:369). Resamples with only one class have no AUC and are
    skipped. Each resample is a vector of patient counts, so its AUC is the Mann-Whitney statistic
    with weights: no sorting after the first.

    Args:
      target: (n,) 0 or 1.
      score: (n,) higher means positive.
      patient: (n,) any labels.
      resamples: how many times to draw.
      seed: the same seed gives the same interval.

    Raises:
      ValueError: if there is only one class, or no resample held both.
    """
    target, score = np.asarray(target), np.asarray(score, np.float64)
    _require_both_classes(target)
    cluster, names = pd.factorize(np.asarray(patient))
    order = np.argsort(score[target == 0], kind="stable")
    negatives = score[target == 0][order]
    negative_cluster, positive_cluster = cluster[target == 0][order], cluster[target == 1]
    below = np.searchsorted(negatives, score[target == 1], "left")
    not_above = np.searchsorted(negatives, score[target == 1], "right")
    rng, values = np.random.default_rng(seed), []
    at_once = max(1, _BLOCK // len(target))
    for start in range(0, resamples, at_once):
        size = min(at_once, resamples - start)
        drawn = rng.integers(len(names), size=(len(names), size)) * size + np.arange(size)
        counts = np.bincount(drawn.ravel(), minlength=len(names) * size)
        counts = counts.reshape(len(names), size).astype(np.float64)
        positive = counts[positive_cluster]  # (positives, resamples): weight of every image
        running = np.zeros((len(negatives) + 1, size))
        np.cumsum(counts[negative_cluster], axis=0, out=running[1:])
        wins = np.einsum("pr,pr->r", positive, running[below] + running[not_above]) / 2
        pairs = positive.sum(axis=0) * running[-1]
        values.append(wins[pairs > 0] / pairs[pairs > 0])
    usable = np.concatenate(values) if values else np.empty(0)
    if not usable.size:
        raise ValueError(
            f"none of {resamples} resamples of {len(names)} patients held both classes"
        )
    low, high = np.quantile(usable, [0.025, 0.975])
    return Estimate(float(roc_auc_score(target, score)), float(low), float(high))


def confusion_matrix(target: npt.ArrayLike, score: npt.ArrayLike, threshold: float) -> IntArray:
    """(2, 2) int64 counts, rows the truth, columns the decision: [[TN, FP], [FN, TP]]."""
    target = np.asarray(target, np.int64)
    decision = (np.asarray(score, np.float64) >= threshold).astype(np.int64)
    return np.bincount(2 * target + decision, minlength=4).reshape(2, 2)


def class_table(confusion: npt.ArrayLike, class_names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Precision, recall, F1 and support of each class, with macro and weighted means.

    Args:
      confusion: (k, k) counts, rows the truth.
      class_names: the k names.

    Returns:
      scikit-learn's `classification_report`, without its accuracy, keyed by class name and by
      'macro avg' and 'weighted avg'. Where nothing was predicted, precision counts as 0.
    """
    counts = np.asarray(confusion)
    truth, decision = np.indices(counts.shape)  # one weighted example for each cell
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


def rates(confusion: npt.ArrayLike) -> dict[str, Estimate]:
    """Sensitivity, specificity, PPV, NPV and accuracy of [[TN, FP], [FN, TP]] (Wilson)."""
    (tn, fp), (fn, tp) = np.asarray(confusion).tolist()
    return {
        "accuracy": wilson(tn + tp, tn + fp + fn + tp),
        "npv": wilson(tn, tn + fn),
        "ppv": wilson(tp, tp + fp),
        "sensitivity": wilson(tp, tp + fn),
        "specificity": wilson(tn, tn + fp),
    }


def grid_values(grid: tuple[float, float, float]) -> FloatArray:
    """Thresholds of (first, last, step), both ends included and free of summed rounding error."""
    first, last, step = grid
    if not (0 <= first <= last <= 1 and step > 0):
        raise ValueError(f"expected 0 <= first <= last <= 1 and step > 0, got {grid}")
    return np.round(first + step * np.arange(round((last - first) / step) + 1), 10)


def threshold_table(
    target: npt.ArrayLike, score: npt.ArrayLike, thresholds: npt.ArrayLike
) -> pd.DataFrame:
    """One row a threshold: threshold, accuracy, balanced_accuracy, sensitivity, specificity."""
    target, score = np.asarray(target), np.asarray(score, np.float64)
    _require_both_classes(target)
    positives, negatives = np.sort(score[target == 1]), np.sort(score[target == 0])
    found = len(positives) - np.searchsorted(positives, thresholds, "left")
    cleared = np.searchsorted(negatives, thresholds, "left")
    sensitivity, specificity = found / len(positives), cleared / len(negatives)
    return pd.DataFrame(
        {
            "threshold": np.asarray(thresholds, np.float64),
            "accuracy": (found + cleared) / len(target),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "sensitivity": sensitivity,
            "specificity": specificity,
        }
    )


def choose_threshold(
    target: npt.ArrayLike,
    score: npt.ArrayLike,
    *,
    rule: str,
    grid: tuple[float, float, float],
) -> float:
    """The best threshold by a rule; of equals the lowest, which is the most sensitive.

    'accuracy' looks for the highest accuracy on the grid. 'youden' looks for the highest
    sensitivity + specificity - 1 (Youden 1950, Cancer 3:32), whatever the prevalence, at every
    midpoint between neighbouring scores: the grid may not reach the scores of the rare class.
    """
    if rule not in THRESHOLD_RULES:
        raise ValueError(f"unknown threshold rule {rule!r}; known: {', '.join(THRESHOLD_RULES)}")
    if rule == "youden":
        distinct = np.unique(np.asarray(score, np.float64))
        candidates = (distinct[1:] + distinct[:-1]) / 2 if len(distinct) > 1 else distinct
    else:
        candidates = grid_values(grid)
    table = threshold_table(target, score, candidates)
    return float(table["threshold"].iloc[int(table[THRESHOLD_RULES[rule]].argmax())])


def alarms(
    confusion: npt.ArrayLike,
    auc: Estimate,
    *,
    class_names: Sequence[str],
    patients: Sequence[int],
    patients_known: bool = True,
) -> list[str]:
    """Plain sentences on what makes the figures worthless or uncertain; none is good news.

    Args:
      confusion: [[TN, FP], [FN, TP]].
      auc: with its interval.
      class_names: of class 0 and 1.
      patients: how many patients have images of each class.
      patients_known: False where every image counts as a patient of its own.
    """
    counts, rate = np.asarray(confusion), rates(confusion)
    total, found = counts.sum(), []
    truth, decided = counts.sum(axis=1) / total, counts.sum(axis=0) / total
    top, common = int(decided.argmax()), int(truth.argmax())
    if decided[top] == 1 or (decided[top] >= _ONE_CLASS and truth[top] < _ONE_CLASS):
        found.append(
            f"{100 * decided[top]:.1f} % of the decisions are '{class_names[top]}', yet only "
            f"{100 * truth[top]:.1f} % of the images are: the model (almost) always says the same."
        )
    if auc.high < 0.5:
        found.append(f"The AUC, {_span(auc)}, is below chance: are the labels reversed?")
    elif auc.low <= 0.5:
        found.append(f"The AUC, {_span(auc)}, is compatible with guessing, 0.5.")
    if rate["accuracy"].low <= truth[common]:
        found.append(
            f"The accuracy, {_span(rate['accuracy'])}, is not clearly above {truth[common]:.3f}, "
            f"which always saying '{class_names[common]}' reaches."
        )
    if rate["sensitivity"].value < 0.5:
        found.append(
            f"The sensitivity is {100 * rate['sensitivity'].value:.1f} %: more than half of the "
            f"'{class_names[1]}' images are missed."
        )
    # A bootstrap over a handful of patients can be narrow by accident: count them as well.
    named = zip(class_names, patients, strict=True)
    of = "patients with " if patients_known else ""
    small = [f"{n} {of}'{name}' images" for name, n in named if n < _MIN_PATIENTS]
    limits = [("AUC", auc, _MAX_AUC_WIDTH)]
    limits += [(key, rate[key], _MAX_RATE_WIDTH) for key in ("sensitivity", "specificity")]
    small += [f"{name} {_span(e)}" for name, e, limit in limits if e.high - e.low > limit]
    if small:
        found.append(
            f"Too few {'patients' if patients_known else 'images'} to conclude: {'; '.join(small)}."
        )
    return found


def _span(estimate: Estimate) -> str:
    return f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"


def _require_both_classes(target: npt.NDArray[Any]) -> None:
    present = np.unique(target).tolist()
    if present != [0, 1]:
        raise ValueError(f"expected examples of class 0 and of class 1, got classes {present}")
