"""Figures of merit of several labels an image, of which any number may hold.

Truths are 0 or 1, (n, labels), and probabilities float (n, labels), within [0, 1].
"""

import numpy as np
import numpy.typing as npt
from sklearn.metrics import roc_auc_score

from dr_tfx.statistics.intervals import PatientBootstrap, percentiles
from dr_tfx.statistics.metrics import Estimate

FloatArray = npt.NDArray[np.float64]
_EPSILON = 1e-7  # Probabilities nearer to 0 or 1 are taken as that near.


def log_losses(truth: npt.ArrayLike, probability: npt.ArrayLike, weights: FloatArray) -> FloatArray:
    """Return the weighted log loss of each image, (n,), as RSNA's challenge of 2019 has it.

    Args:
      truth: of the labels.
      probability: likewise.
      weights: (labels,), with the sum 1; RSNA's are 2 for `any` and 1 for each kind, over 7.
    """
    right = np.where(np.asarray(truth) > 0.5, probability, 1 - np.asarray(probability, np.float64))
    losses = -np.log(np.clip(right, _EPSILON, 1 - _EPSILON))
    return np.asarray(losses @ weights)


def mean_auc(truth: npt.ArrayLike, probability: npt.ArrayLike) -> float:
    """Return the mean AUC of the labels that some images have and others have not; else NaN."""
    truth, probability = np.asarray(truth), np.asarray(probability)
    found = [
        roc_auc_score(truth[:, k] > 0.5, probability[:, k])
        for k in range(truth.shape[1])
        if len(np.unique(truth[:, k] > 0.5)) == 2
    ]
    return float(np.mean(found)) if found else float("nan")


def auc_samples(
    truth: npt.ArrayLike, probability: npt.ArrayLike, bootstrap: PatientBootstrap
) -> FloatArray:
    """Return `mean_auc` of every resample, (resamples,); labels without both classes are out."""
    truth, probability = np.asarray(truth), np.asarray(probability)
    columns = [k for k in range(truth.shape[1]) if len(np.unique(truth[:, k])) == 2]
    if not columns:
        return np.full(1, np.nan)
    samples = [bootstrap.ranking_samples(truth[:, k], probability[:, k])[0] for k in columns]
    told = np.stack(samples)
    count = (~np.isnan(told)).sum(axis=0)
    return np.where(count > 0, np.nansum(told, axis=0) / np.maximum(count, 1), np.nan)


def auc_estimate(
    truth: npt.ArrayLike, probability: npt.ArrayLike, bootstrap: PatientBootstrap
) -> Estimate:
    """Return `mean_auc` with its interval."""
    return percentiles(mean_auc(truth, probability), auc_samples(truth, probability, bootstrap))
