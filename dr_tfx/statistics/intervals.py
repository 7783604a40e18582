"""How far a figure can be trusted: intervals over patients.

Patients are the unit, not images: the two eyes of a patient resemble each other, and intervals that
count them as two are too narrow. All intervals are two-sided, 95 %.

* AUC, average precision and what is made of several rates: percentiles of a bootstrap that draws
  patients with replacement, each with all images (Field and Welsh 2007, JRSS B 69:369).
* Shares, such as sensitivity: Wilson's interval at the effective number of images, that at which
  independent images would vary as the same bootstrap does (Dean and Pagano 2015, Journal of Survey
  Statistics and Methodology 3:484). The percentiles of 27 right of 27 would say: certain.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import brentq
from sklearn.metrics import average_precision_score, roc_auc_score

from dr_tfx.statistics import metrics
from dr_tfx.statistics.metrics import Estimate
from dr_tfx.statistics.operating_points import require_both_classes

FloatArray = npt.NDArray[np.float64]

_BLOCK = 2**21  # Images x resamples held at once, in float64: 16 MB an array.


class PatientBootstrap:
    """Resamples of patients, drawn once: every figure is computed on the same ones.

    Args:
      patient: (n,) any labels, one an image; all arrays given later have the same order.
      resamples: how many times to draw. Memory: one byte a patient and resample.
      seed: the same seed gives the same intervals.
    """

    def __init__(self, patient: npt.ArrayLike, *, resamples: int = 2000, seed: int = 0):
        self._cluster, names = pd.factorize(np.asarray(patient))
        patients, rng = len(names), np.random.default_rng(seed)
        # No patient is ever drawn 256 times: that would be less likely than 1e-490.
        self._times = np.empty((patients, resamples), np.uint8)
        for column in range(resamples):
            drawn = rng.integers(patients, size=patients)
            self._times[:, column] = np.bincount(drawn, minlength=patients)

    def sums(self, values: npt.ArrayLike) -> FloatArray:
        """(n, k) values of the images -> (k, resamples) sums over every resample's images."""
        columns = np.asarray(values, np.float64)
        by_patient = np.zeros((len(self._times), columns.shape[1]))
        np.add.at(by_patient, self._cluster, columns)
        step = max(1, _BLOCK // len(self._times))
        starts = range(0, self._times.shape[1], step)
        blocks = (self._times[:, start : start + step].astype(np.float64) for start in starts)
        return np.concatenate([by_patient.T @ block for block in blocks], axis=1)

    def mean(self, values: npt.ArrayLike) -> Estimate:
        """The mean of (n,) values and its percentile interval."""
        column = np.asarray(values, np.float64)
        total, images = self.sums(np.stack([column, np.ones_like(column)], axis=1))
        return percentiles(float(column.mean()), total / images)

    def proportions(self, success: npt.ArrayLike, among: npt.ArrayLike) -> list[Estimate]:
        """The shares of successes (n,) bool among some images each, (n, k) bool.

        Of no images: NaN in (0, 1).
        """
        trials = np.asarray(among, bool)
        right = np.asarray(success, bool)[:, None] & trials
        drawn, k = self.sums(np.concatenate([right, trials], axis=1)), trials.shape[1]
        return [
            self._share(int(right[:, i].sum()), drawn[[i, k + i]], trials[:, i]) for i in range(k)
        ]

    def ranking(self, target: npt.ArrayLike, score: npt.ArrayLike) -> dict[str, Estimate]:
        """`auc` and `average_precision` of scores (n,) for targets (n,).

        Of a class in fewer than two patients nothing is known: the interval is (0, 1). The AUC of
        classes that are wholly separated has Newcombe's (2006, Statistics in Medicine 25:559,
        method 5, patients for images), their average precision none (NaN).

        Raises:
          ValueError: if there is only one class.
        """
        target, score = np.asarray(target), np.asarray(score, np.float64)
        require_both_classes(target)
        auc = float(roc_auc_score(target, score))
        precision = float(average_precision_score(target, score))
        patients = [len(np.unique(self._cluster[target == c])) for c in (0, 1)]
        if min(patients) < 2:
            return {
                "auc": Estimate(auc, 0.0, 1.0),
                "average_precision": Estimate(precision, 0.0, 1.0),
            }
        resampled = self.ranking_samples(target, score)
        found = {
            "auc": percentiles(auc, resampled[0]),
            "average_precision": percentiles(precision, resampled[1]),
        }
        if auc in (0.0, 1.0):
            end = _newcombe_low(*patients)
            found["auc"] = Estimate(auc, end, 1.0) if auc else Estimate(auc, 0.0, 1 - end)
        if auc == 1.0:
            found["average_precision"] = Estimate(1.0, float("nan"), float("nan"))
        return found

    def ranking_samples(self, target: npt.ArrayLike, score: npt.ArrayLike) -> FloatArray:
        """(2, resamples): AUC and average precision of each; NaN where it lacks a class.

        A resample is a vector of weights, so nothing is sorted after the first.
        """
        target, score = np.asarray(target), np.asarray(score, np.float64)
        order = np.argsort(-score, kind="stable")
        ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))  # Of equal scores.
        positive, cluster = (target[order] == 1)[:, None], self._cluster[order]
        parts, step = [], max(1, _BLOCK // len(target))
        for start in range(0, self._times.shape[1], step):
            weight = self._times[:, start : start + step][cluster].astype(np.float64)
            found = np.cumsum(weight * positive, axis=0)[ends]
            called = np.cumsum(weight, axis=0)[ends]
            alarmed = called - found
            more = np.diff(found, axis=0, prepend=0)
            pairs = found[-1] * alarmed[-1]
            with np.errstate(invalid="ignore"):
                area = np.diff(alarmed, axis=0, prepend=0) * (found - more / 2)
                auc = area.sum(axis=0) / pairs
                precision = (more * found / np.maximum(called, 1)).sum(axis=0) / found[-1]
            parts.append([auc, np.where(pairs > 0, precision, np.nan)])
        return np.concatenate(parts, axis=1)

    def rates(self, target: npt.ArrayLike, positive: npt.ArrayLike) -> dict[str, Estimate]:
        """The rates of `metrics.rate_values` of decisions (n,) bool for targets (n,).

        Where percentiles cannot tell how far a figure made of several rates is known, as all
        resamples agree or some are infinite, its ends are those at both ends of sensitivity and
        specificity: wider.
        """
        cells = _cells(target, positive)
        resampled = self.sums(cells)
        (tn, fp, fn, tp), (rtn, rfp, rfn, rtp) = cells.sum(axis=0).tolist(), resampled
        found = {
            name: self._share(successes, np.stack(sums), np.any(cells[:, among], axis=1))
            for name, successes, sums, among in (  # `among` which of the cells are the trials
                ("accuracy", tn + tp, [rtn + rtp, resampled.sum(axis=0)], [0, 1, 2, 3]),
                ("npv", tn, [rtn, rtn + rfn], [0, 2]),
                ("ppv", tp, [rtp, rtp + rfp], [1, 3]),
                ("sensitivity", tp, [rtp, rtp + rfn], [2, 3]),
                ("specificity", tn, [rtn, rtn + rfp], [0, 1]),
            )
        }
        values, samples = metrics.rate_values(tn, fp, fn, tp), metrics.rate_values(*resampled)
        low, high = (
            metrics.rate_values(
                found["specificity"][end] * (tn + fp),
                (1 - found["specificity"][end]) * (tn + fp),
                (1 - found["sensitivity"][end]) * (tp + fn),
                found["sensitivity"][end] * (tp + fn),
            )
            for end in (1, 2)
        )
        for name in set(values) - set(found):
            estimate, sample = percentiles(float(values[name]), samples[name]), samples[name]
            if estimate.low == estimate.high or np.isinf(sample).any():
                ends = sorted([float(low[name]), float(high[name])])
                estimate = Estimate(estimate.value, *ends)
            found[name] = estimate
        return dict(sorted(found.items()))

    def rate_samples(self, target: npt.ArrayLike, positive: npt.ArrayLike) -> dict[str, FloatArray]:
        """The same rates of every resample: name -> (resamples,)."""
        return metrics.rate_values(*self.sums(_cells(target, positive)))

    def _share(self, successes: int, sums: FloatArray, among: npt.NDArray[np.bool_]) -> Estimate:
        """Wilson's interval at the effective number of trials.

        Args:
          successes: how many there are.
          sums: (2, resamples) successes and trials of every resample.
          among: (n,) which images are trials.
        """
        trials = int(among.sum())
        if trials == 0:
            return Estimate(float("nan"), 0.0, 1.0)
        share, patients = successes / trials, len(np.unique(self._cluster[among]))
        usable = sums[1] > 0
        variance = np.var(sums[0][usable] / sums[1][usable])
        # Where all resamples agree they do not tell: then a patient counts as one.
        effective = float(patients)
        if variance > 1e-12 and patients > 1:
            # A resample of m patients varies (m - 1) / m as much as m new ones.
            effective = share * (1 - share) / (variance * patients / (patients - 1))
        return metrics.wilson_interval(share, min(effective, trials))


def _cells(target: npt.ArrayLike, positive: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """(n, 4) which images are true negatives, false positives, false negatives, true positives."""
    truth, called = np.asarray(target) == 1, np.asarray(positive, bool)
    return np.stack([~truth & ~called, ~truth & called, truth & ~called, truth & called], axis=1)


def percentiles(value: float, resampled: FloatArray) -> Estimate:
    """A figure with the 2.5 and 97.5 % quantiles of its resamples; those that are NaN are left out.

    No usable resample: the ends are NaN.
    """
    usable = resampled[~np.isnan(resampled)]
    if not usable.size:
        return Estimate(value, float("nan"), float("nan"))
    # An observed value at each end: between infinite ones nothing can be interpolated.
    low, high = np.quantile(usable, [0.025, 0.975], method="inverted_cdf")
    return Estimate(value, float(low), float(high))


def _newcombe_low(negatives: int, positives: int) -> float:
    """Lower end for an observed AUC of 1; (1 - A)^2 = z^2 Var(A), divided by 1 - A."""
    star = (negatives + positives) / 2 - 1

    def excess(area: float) -> float:
        spread = 1 + star * (1 - area) / (2 - area) + star * area / (1 + area)
        return 1 - area - metrics.Z**2 * area * spread / (negatives * positives)

    solve: Callable[..., float] = brentq
    return float(solve(excess, 0.0, 1.0))
