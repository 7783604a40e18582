"""Intervals of figures of merit: how far each can be trusted, with patients as the unit.

The two eyes of a patient resemble each other, and intervals that count them as two are too narrow.
All intervals are two-sided, 95 %.

* AUC, average precision and figures made of several rates have the percentiles of a bootstrap that
  draws patients with replacement, each with all images (Field and Welsh 2007, JRSS B 69:369).
* Shares, such as sensitivity, have Wilson's interval at the effective number of images: the number
  at which independent images would vary as the same bootstrap does (Dean and Pagano 2015, Journal
  of Survey Statistics and Methodology 3:484). Percentiles would call 27 right of 27 certain.

scikit-learn gives the figures themselves. A resample is a vector of weights, so that scores are
sorted once; `benchmarks/statistics/intervals.py` compares this with a call of scikit-learn for each
resample.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy.optimize import brentq

from dr_tfx.statistics import metrics
from dr_tfx.statistics.metrics import Estimate

FloatArray = npt.NDArray[np.float64]

_BLOCK = 2**21  # Images x resamples held at once; as float64 they are 16 MB an array.


class PatientBootstrap:
    """Resamples of patients, drawn once, so that every figure is computed on the same ones.

    Args:
      patient: (n,) any labels, one an image; all arrays given later have the same order.
      resamples: how many times to draw; each takes one byte a patient.
      seed: the same seed gives the same intervals.
      within: (n,) any labels: from each group of patients of one label, as many are drawn as it
        has. A patient of several counts to that of the first image. None: all are one group.
    """

    def __init__(
        self,
        patient: npt.ArrayLike,
        *,
        resamples: int = 2000,
        seed: int = 0,
        within: npt.ArrayLike | None = None,
    ):
        self._cluster, names = pd.factorize(np.asarray(patient))
        rng = np.random.default_rng(seed)
        group = np.zeros(len(names), np.int64)
        if within is not None:
            _, first = np.unique(self._cluster, return_index=True)
            group = pd.factorize(np.asarray(within)[first])[0]
        groups = [np.flatnonzero(group == number) for number in np.unique(group)]
        # A byte is enough: that a patient is drawn 256 times is less likely than 1e-490.
        self._times = np.empty((len(names), resamples), np.uint8)
        for column in range(resamples):
            for members in groups:
                drawn = rng.integers(len(members), size=len(members))
                self._times[members, column] = np.bincount(drawn, minlength=len(members))

    def sums(self, values: npt.ArrayLike) -> FloatArray:
        """Return the sums over the images of every resample, (k, resamples), of values (n, k)."""
        columns = np.asarray(values, np.float64)
        by_patient = np.zeros((len(self._times), columns.shape[1]))
        np.add.at(by_patient, self._cluster, columns)
        step = max(1, _BLOCK // len(self._times))
        starts = range(0, self._times.shape[1], step)
        blocks = (self._times[:, start : start + step].astype(np.float64) for start in starts)
        return np.concatenate([by_patient.T @ block for block in blocks], axis=1)

    def patients(self, among: npt.ArrayLike) -> int:
        """Return how many patients have some of the images (n,) bool."""
        return len(np.unique(self._cluster[np.asarray(among, bool)]))

    def mean(self, values: npt.ArrayLike) -> Estimate:
        """Return the mean of values (n,) and its percentile interval."""
        column = np.asarray(values, np.float64)
        total, images = self.sums(np.stack([column, np.ones_like(column)], axis=1))
        return percentiles(float(column.mean()), total / images)

    def proportions(self, success: npt.ArrayLike, among: npt.ArrayLike) -> list[Estimate]:
        """Return k shares of successes, each among some of the images.

        The share among no images is NaN, within (0, 1).

        Args:
          success: (n,) bool.
          among: (n, k) bool, the images of each share.
        """
        trials = np.asarray(among, bool)
        right = np.asarray(success, bool)[:, None] & trials
        drawn, k = self.sums(np.concatenate([right, trials], axis=1)), trials.shape[1]
        return [
            self._share(int(right[:, i].sum()), drawn[[i, k + i]], trials[:, i]) for i in range(k)
        ]

    def ranking(self, target: npt.ArrayLike, score: npt.ArrayLike) -> dict[str, Estimate]:
        """Return `auc` and `average_precision` of scores (n,) for targets (n,).

        Neither is defined where all targets are of one class: they are NaN then. Where fewer than
        two patients are of a class, nothing is known and the interval is (0, 1). Where the classes
        are wholly separated, the AUC has Newcombe's interval (2006, Statistics in Medicine 25:559,
        method 5, with patients for images) and the average precision has none (NaN).
        """
        # Loads for a second, which few need.
        from sklearn.metrics import average_precision_score, roc_auc_score

        target, score = np.asarray(target), np.asarray(score, np.float64)
        if len(np.unique(target)) < 2:
            undefined = Estimate(float("nan"), float("nan"), float("nan"))
            return {"auc": undefined, "average_precision": undefined}
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
        """Return AUC and average precision of every resample, (2, resamples).

        They are NaN where a resample lacks a class. A resample is a vector of weights, so that the
        scores are sorted once.
        """
        target, score = np.asarray(target), np.asarray(score, np.float64)
        order = np.argsort(-score, kind="stable")
        # The place of the last of equal scores.
        ends = np.flatnonzero(np.append(np.diff(score[order]) != 0, True))
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

    def bands(
        self, target: npt.ArrayLike, score: npt.ArrayLike, at: FloatArray
    ) -> dict[str, FloatArray]:
        """Return the ends between which the curves of 95 % of the resamples lie, place by place.

        Args:
          target: (n,), 0 or 1.
          score: (n,), higher where an image is taken for 1. A curve has the points of at most 100
            scores.
          at: (k,), places from 0 to 1.

        Returns:
          Two lines (2, k) each, the lower one first: `roc`, the sensitivity at that share of false
          alarms, and `precision_recall`, the precision at that recall. They are empty, (2, 0),
          where no resample has both classes.
        """
        truth, scores = np.asarray(target) == 1, np.asarray(score, np.float64)
        thresholds = np.quantile(np.unique(scores), np.linspace(1, 0, 100), method="nearest")
        called = scores[:, None] >= np.unique(thresholds)[::-1]
        found, alarmed = np.split(
            self.sums(np.concatenate([called & truth[:, None], called & ~truth[:, None]], axis=1)),
            2,
        )
        usable = (found[-1] > 0) & (alarmed[-1] > 0)  # At the lowest score, all are called.
        found, alarmed = found[:, usable], alarmed[:, usable]
        of_all = found + alarmed
        precision = np.where(of_all, found / np.maximum(of_all, 1), 1.0)
        found, alarmed = found / found[-1:], alarmed / alarmed[-1:]
        begins = np.zeros((1, found.shape[1]))  # Of a ROC curve, where nothing is called.
        curves = {
            "roc": (np.concatenate([begins, alarmed]), np.concatenate([begins, found])),
            "precision_recall": (found, precision),
        }
        drawn = {
            name: [np.interp(at, *line) for line in zip(x.T, y.T, strict=True)]
            for name, (x, y) in curves.items()
        }
        return {
            name: np.quantile(lines, [0.025, 0.975], axis=0) if lines else np.empty((2, 0))
            for name, lines in drawn.items()
        }

    def rates(self, target: npt.ArrayLike, positive: npt.ArrayLike) -> dict[str, Estimate]:
        """Return the rates of `metrics.rate_values` for decisions (n,) bool and targets (n,).

        Percentiles cannot tell how far a figure made of several rates is known where all resamples
        agree or some are infinite. Its ends are then those at both ends of sensitivity and
        specificity, which are wider.
        """
        cells = _cells(target, positive)
        resampled = self.sums(cells)
        (tn, fp, fn, tp), (rtn, rfp, rfn, rtp) = cells.sum(axis=0).tolist(), resampled
        found = {
            name: self._share(successes, np.stack(sums), np.any(cells[:, among], axis=1))
            for name, successes, sums, among in (  # `among` lists the cells that are the trials.
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
        """Return the same rates of every resample: name -> (resamples,)."""
        return metrics.rate_values(*self.sums(_cells(target, positive)))

    def _share(self, successes: int, sums: FloatArray, among: npt.NDArray[np.bool_]) -> Estimate:
        """Return a share with Wilson's interval at the effective number of trials.

        Args:
          successes: how many there are.
          sums: (2, resamples), the successes and the trials of every resample.
          among: (n,), which images are trials.
        """
        trials = int(among.sum())
        if trials == 0:
            return Estimate(float("nan"), 0.0, 1.0)
        share, patients = successes / trials, self.patients(among)
        usable = sums[1] > 0
        variance = np.var(sums[0][usable] / sums[1][usable])
        # Where all resamples agree, they tell nothing of the spread, and a patient counts as one.
        effective = float(patients)
        if variance > 1e-12 and patients > 1:
            # A resample of m patients varies (m - 1) / m times as much as m new patients.
            effective = share * (1 - share) / (variance * patients / (patients - 1))
        return metrics.wilson_interval(share, min(effective, trials))


def _cells(target: npt.ArrayLike, positive: npt.ArrayLike) -> npt.NDArray[np.bool_]:
    """Return which images are TN, FP, FN and TP, bool (n, 4)."""
    truth, called = np.asarray(target) == 1, np.asarray(positive, bool)
    return np.stack([~truth & ~called, ~truth & called, truth & ~called, truth & called], axis=1)


def percentiles(value: float, resampled: FloatArray) -> Estimate:
    """Return a figure with the 2.5 and 97.5 % quantiles of its resamples.

    Resamples that are NaN are left out; where no other is left, the ends are NaN.
    """
    usable = resampled[~np.isnan(resampled)]
    if not usable.size:
        return Estimate(value, float("nan"), float("nan"))
    # Each end is an observed value: between infinite ones nothing can be interpolated.
    low, high = np.quantile(usable, [0.025, 0.975], method="inverted_cdf")
    return Estimate(value, float(low), float(high))


def _newcombe_low(negatives: int, positives: int) -> float:
    """Return the lower end for an observed AUC of 1: (1 - A)^2 = z^2 Var(A), divided by 1 - A."""
    star = (negatives + positives) / 2 - 1

    def excess(area: float) -> float:
        spread = 1 + star * (1 - area) / (2 - area) + star * area / (1 + area)
        return 1 - area - metrics.Z**2 * area * spread / (negatives * positives)

    solve: Callable[..., float] = brentq
    return float(solve(excess, 0.0, 1.0))
