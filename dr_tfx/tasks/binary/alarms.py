"""Sentences on what makes the figures of a binary model worthless or uncertain."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from dr_tfx.statistics import metrics, operating_points
from dr_tfx.statistics.metrics import Estimate
from dr_tfx.tasks import alarms as shared

_MAX_AUC_WIDTH = 0.10
_MAX_RATE_WIDTH = 0.20


def alarms(
    confusion: npt.ArrayLike,
    auc: Estimate,
    *,
    class_names: Sequence[str],
    patients: Sequence[int],
    patients_known: bool = True,
    estimates: Mapping[str, Estimate] | None = None,
) -> list[str]:
    """Return the alarms that figures of merit raise; an empty list is good news.

    Args:
      confusion: int (2, 2), [[TN, FP], [FN, TP]].
      auc: the AUC with its interval.
      class_names: the names of class 0 and class 1.
      patients: how many patients have images of each class.
      patients_known: False where every image counts as a patient of its own.
      estimates: the rates of the confusion matrix with intervals by a bootstrap over patients; by
        default those of `metrics.rates`, which takes images as independent.
    """
    counts = np.asarray(confusion)
    rate = metrics.rates(confusion) if estimates is None else estimates
    found = _one_class(counts, class_names) + shared.one_answer(counts, class_names)
    if auc.high < 0.5:
        found.append(f"The AUC, {shared.span(auc)}, is below chance: are the labels reversed?")
    elif auc.low <= 0.5:
        found.append(f"The AUC, {shared.span(auc)}, is compatible with guessing, 0.5.")
    found += _no_better_than_majority(counts, rate, class_names)
    if rate["sensitivity"].value < 0.5:
        found.append(
            f"The sensitivity is {100 * rate['sensitivity'].value:.1f} %: more than half of the "
            f"'{class_names[1]}' images are missed."
        )
    # A bootstrap over a handful of patients can be narrow by accident, so they are counted too.
    small = shared.few(class_names, patients, patients_known=patients_known)
    limits = [("AUC", auc, _MAX_AUC_WIDTH)]
    limits += [(key, rate[key], _MAX_RATE_WIDTH) for key in ("sensitivity", "specificity")]
    small += [
        f"{name} {shared.span(e)}"
        for name, e, limit in limits
        if np.isfinite(e.value) and e.high - e.low > limit
    ]
    if small:
        found.append(
            f"Too few {'patients' if patients_known else 'images'} to conclude: {'; '.join(small)}."
        )
    return found


def one_number(score: npt.ArrayLike) -> list[str]:
    """Return an alarm if all scores are one number as far as float32 can tell, else nothing.

    Args:
      score: float64 (images,).
    """
    values = np.asarray(score)
    if len(operating_points.candidates(values)) > 2:
        return []
    return [
        f"The scores of all {len(values):,} images are {values.mean():.3g} but for rounding: the "
        "model always says the same, and its AUC ranks rounding errors at best."
    ]


def _one_class(counts: metrics.IntArray, class_names: Sequence[str]) -> list[str]:
    images = counts.sum(axis=1).tolist()
    if all(images):
        return []
    there = int(np.argmax(images))
    rate = ("specificity", "sensitivity")[there]
    return [
        f"AUC: not defined. All {images[there]:,} images are '{class_names[there]}', so that only "
        f"the {rate} can be seen here."
    ]


def _no_better_than_majority(
    counts: metrics.IntArray, rate: Mapping[str, Estimate], class_names: Sequence[str]
) -> list[str]:
    text = shared.not_above_majority(counts, rate["accuracy"], class_names)
    if not text:
        return []
    # Where a class is rare, a threshold that finds it costs accuracy, which is no collapse.
    if rate["sensitivity"].low + rate["specificity"].low > 1:
        text += (
            ", though sensitivity and specificity together are better than chance: here accuracy "
            "says little"
        )
    return [f"{text}."]
