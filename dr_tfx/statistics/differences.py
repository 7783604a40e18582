"""Differences of two scores of the same images: of the AUC by DeLong's test, of rates by bootstrap.

DeLong et al. 1988 (Biometrics 44:837) is used for several images of a patient in Obuchowski's form
(1997, Biometrics 53:567). Both methods are paired: what makes an image hard for both scores cancels
out.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.stats import norm, rankdata
from sklearn.metrics import average_precision_score, roc_auc_score

from dr_tfx.statistics import metrics
from dr_tfx.statistics.intervals import PatientBootstrap, percentiles
from dr_tfx.statistics.metrics import Estimate
from dr_tfx.statistics.operating_points import require_both_classes

FloatArray = npt.NDArray[np.float64]

_COMPARED = ("accuracy", "balanced_accuracy", "sensitivity", "specificity")


def delong(
    target: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    patient: npt.ArrayLike | None = None,
) -> tuple[Estimate, float]:
    """Return the AUC of `first` minus that of `second`, and the p-value of the difference.

    The test is two-sided and by normal theory; see the module.

    Args:
      target: (n,) 0 or 1.
      first: (n,) scores.
      second: (n,) scores of the same images.
      patient: (n,) labels; by default images are independent.

    Raises:
      ValueError: only one class is present.
    """
    target = np.asarray(target)
    require_both_classes(target)
    cluster = pd.factorize(np.asarray(patient))[0] if patient is not None else range(len(target))
    placed = [_placements(target, np.asarray(score, np.float64)) for score in (first, second)]
    difference = placed[0] - placed[1]  # (n,), what each image adds to the difference.
    value = float(difference[target == 1].mean())
    by_patient = np.zeros((2, max(cluster) + 1))
    for c in (0, 1):
        mine = target == c
        excess = (difference - value)[mine]
        np.add.at(by_patient[c], np.asarray(cluster)[mine], excess / mine.sum())
    held = [len(np.unique(np.asarray(cluster)[target == c])) for c in (0, 1)]
    if min(held) < 2:
        return Estimate(value, -1.0, 1.0), 1.0  # One patient tells nothing of the spread.
    own = [h / (h - 1) * (s**2).sum() for h, s in zip(held, by_patient, strict=True)]
    patients = by_patient.shape[1]
    both = 2 * patients / (patients - 1) * (by_patient[0] * by_patient[1]).sum()
    error = float(np.sqrt(max(sum(own) + both, 0.0)))
    if error == 0:
        return Estimate(value, value, value), 1.0 if value == 0 else 0.0
    half = metrics.Z * error
    return Estimate(value, value - half, value + half), float(2 * norm.sf(abs(value) / error))


def paired_differences(
    target: npt.ArrayLike,
    first: npt.ArrayLike,
    second: npt.ArrayLike,
    patient: npt.ArrayLike,
    *,
    thresholds: tuple[float, float],
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Estimate]:
    """Return every figure of `first` minus that of `second`, by percentile bootstrap.

    Both scores are judged on the same resamples of patients, so that what makes an image hard for
    both cancels out.

    Args:
      target: (n,) 0 or 1.
      first: (n,) scores.
      second: (n,) scores of the same images.
      patient: (n,) labels; images of one are drawn together.
      thresholds: those of `first` and of `second`.
      resamples: how many times to draw.
      seed: of the draws.

    Returns:
      auc, average_precision, accuracy, balanced_accuracy, sensitivity and specificity.

    Raises:
      ValueError: only one class is present.
    """
    bootstrap = PatientBootstrap(patient, resamples=resamples, seed=seed)
    target = np.asarray(target)
    require_both_classes(target)
    scores = [np.asarray(score, np.float64) for score in (first, second)]
    whole, drawn = [], []
    for score, threshold in zip(scores, thresholds, strict=True):
        rates = metrics.rate_values(*metrics.confusion_matrix(target, score, threshold).ravel())
        samples: Mapping[str, Any] = bootstrap.rate_samples(target, score >= threshold)
        auc, precision = bootstrap.ranking_samples(target, score)
        whole.append(
            {
                "auc": roc_auc_score(target, score),
                "average_precision": average_precision_score(target, score),
                **{name: rates[name] for name in _COMPARED},
            }
        )
        drawn.append(
            {
                "auc": auc,
                "average_precision": precision,
                **{name: samples[name] for name in _COMPARED},
            }
        )
    return {
        name: percentiles(float(whole[0][name] - whole[1][name]), drawn[0][name] - drawn[1][name])
        for name in whole[0]
    }


def _placements(target: npt.NDArray[Any], score: FloatArray) -> FloatArray:
    """Return the share of the other class against which each image is ranked rightly, (n,).

    Ties count half. Midranks give it in n log n (Sun and Xu 2014, IEEE Signal Processing Letters
    21:1389).
    """
    placed, everywhere = np.empty(len(score)), rankdata(score)
    for c in (0, 1):
        mine = target == c
        above = (everywhere[mine] - rankdata(score[mine])) / (~mine).sum()
        placed[mine] = above if c else 1 - above
    return placed
