"""Whether two scores of the same images differ: the AUCs by DeLong's test, any rate by bootstrap.

DeLong et al. 1988 (Biometrics 44:837), for several images of a patient in Obuchowski's form (1997,
Biometrics 53:567). Both methods are paired: what makes an image hard for both scores cancels out.
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
    """AUC of `first` minus AUC of `second`, scores (n,) of the same images, and its p-value.

    Normal theory, two-sided; see the module. Without `patient`, (n,), images are independent.

    Raises:
      ValueError: if there is only one class.
    """
    target = np.asarray(target)
    require_both_classes(target)
    cluster = pd.factorize(np.asarray(patient))[0] if patient is not None else range(len(target))
    placed = [_placements(target, np.asarray(score, np.float64)) for score in (first, second)]
    difference = placed[0] - placed[1]  # (n,) how much each image adds to the difference
    value = float(difference[target == 1].mean())
    by_patient = np.zeros((2, max(cluster) + 1))
    for c in (0, 1):
        mine = target == c
        excess = (difference - value)[mine]
        np.add.at(by_patient[c], np.asarray(cluster)[mine], excess / mine.sum())
    held = [len(np.unique(np.asarray(cluster)[target == c])) for c in (0, 1)]
    if min(held) < 2:
        return Estimate(value, -1.0, 1.0), 1.0  # One patient of a class does not tell.
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
    """`first` minus `second`, scores (n,) of the same images, each decided at its threshold.

    Percentile bootstrap: both are judged on the same resamples of patients, so what makes an image
    hard for both cancels out.

    Returns:
      auc, average_precision, accuracy, balanced_accuracy, sensitivity and specificity.

    Raises:
      ValueError: if there is only one class.
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
    """(n,) the share of the other class that an image is ranked rightly against; ties count half.

    By midranks, in n log n (Sun and Xu 2014, IEEE Signal Processing Letters 21:1389).
    """
    placed, everywhere = np.empty(len(score)), rankdata(score)
    for c in (0, 1):
        mine = target == c
        above = (everywhere[mine] - rankdata(score[mine])) / (~mine).sum()
        placed[mine] = above if c else 1 - above
    return placed
