"""Calibration: scores read as probabilities, and what is gained by referring the uncertain ones.

Platt scaling (Platt 1999, Advances in Large Margin Classifiers) takes the logit of a score times a
slope, plus an intercept, as the logit of the probability. Both are fitted on validation by
likelihood. The slope makes scores more or less extreme; the intercept mends those that are all too
high or too low, as after training on classes made equally frequent. No score is moved past another:
neither a ranking changes, nor a decision at a threshold that is scaled likewise.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from scipy.special import expit, logit

from dr_tfx.statistics.intervals import PatientBootstrap
from dr_tfx.statistics.metrics import Estimate

FloatArray = npt.NDArray[np.float64]

BINNING = "at most 10 bins with equally many images, equal scores in one bin"
SLOPES = (0.05, 20.0)
"""The range of slopes: scores that are no better than chance would have none, or less."""

_INTERCEPTS = (-40.0, 40.0)
_BINS = 10
_EPSILON = 1e-15  # A float32 sigmoid gives exactly 0 and 1, whose logits are infinite.
_SIMULATIONS = 1000
_BLOCK = 2**21  # Random numbers held at once.
_REFERRED = np.round(np.arange(0, 0.95, 0.05), 2)


class Scaling(NamedTuple):
    """What makes a probability of a score."""

    slope: float  # Above 0.
    intercept: float

    def __call__(self, score: npt.ArrayLike) -> FloatArray:
        """Return probabilities within (0, 1) for scores in [0, 1]."""
        return expit(_logit(score) * self.slope + self.intercept)


def fit(target: npt.ArrayLike, score: npt.ArrayLike) -> Scaling:
    """Return the scaling of highest likelihood, with a slope within SLOPES.

    The targets are Platt's: 1 and 0, drawn a little towards the share of the other class, as if one
    more image of each class had been seen. So scores that separate the classes have a fit too.

    Args:
      target: (n,) 0 or 1.
      score: (n,) in [0, 1].
    """
    truth, logits = np.asarray(target) == 1, _logit(score)
    positive = int(truth.sum())
    negative = len(truth) - positive
    wanted = np.where(truth, (positive + 1) / (positive + 2), 1 / (negative + 2))

    def loss(at: FloatArray) -> tuple[float, FloatArray]:
        margin = logits * at[0] + at[1]
        wrong = expit(margin) - wanted
        value = np.logaddexp(0, margin).mean() - (wanted * margin).mean()
        return float(value), np.array([(wrong * logits).mean(), wrong.mean()])

    options = {"ftol": 1e-15, "gtol": 1e-10, "maxiter": 1000}
    found = minimize(
        loss,
        (1.0, 0.0),
        jac=True,
        method="L-BFGS-B",
        bounds=(SLOPES, _INTERCEPTS),
        options=options,
    )
    return Scaling(*map(float, found.x))


def log_loss(target: npt.ArrayLike, probability: npt.ArrayLike) -> float:
    """Return the mean negative log-likelihood (natural logarithm); 34.5 for a wrong 0 or 1."""
    margin = np.where(np.asarray(target) == 1, 1, -1) * _logit(probability)
    return float(np.logaddexp(0, -margin).mean())


def assess(
    target: npt.ArrayLike,
    probability: npt.ArrayLike,
    bootstrap: PatientBootstrap,
    *,
    seed: int = 0,
) -> dict[str, Any]:
    """Return how well probabilities (n,) fit targets (n,), as plain JSON types.

    Returns:
      brier: the mean squared error, an interval.
      log_loss: see `log_loss`.
      ece: the mean distance of probability and share of class 1 in a bin, weighted by the images of
        the bin; see BINNING.
      ece_if_calibrated: that distance, which is never below 0, by chance alone if every probability
        were right: the mean and a 95 % interval by consistency resampling (Bröcker and Smith 2007,
        Weather and Forecasting 22:651).
      mean_score: the mean probability.
      bins: the bins, for the reliability curve.
    """
    target, p = np.asarray(target), np.asarray(probability, np.float64)
    edges = np.unique(np.quantile(p, np.arange(1, _BINS + 1) / _BINS, method="inverted_cdf"))
    number = np.searchsorted(edges, p, "left")  # The bin of each image.
    images = np.bincount(number, minlength=len(edges))
    expected = np.bincount(number, weights=p, minlength=len(edges))
    found = np.bincount(number, weights=target, minlength=len(edges))
    members = number[:, None] == np.arange(len(edges))
    rates = bootstrap.proportions(target == 1, members)
    bins = [
        {
            "high": float(p[number == b].max()),
            "images": int(images[b]),
            "low": float(p[number == b].min()),
            "mean_score": float(expected[b] / images[b]),
            "rate": rates[b].to_dict(),
        }
        for b in range(len(edges))
    ]
    chance = _chance_ece(p, members.astype(np.float64), seed=seed)
    return {
        "bins": bins,
        "brier": bootstrap.mean((p - target) ** 2).to_dict(),
        "ece": float(np.abs(found - expected).sum() / len(p)),
        "ece_if_calibrated": chance.to_dict(),
        "log_loss": log_loss(target, p),
        "mean_score": float(p.mean()),
    }


def _chance_ece(p: FloatArray, members: FloatArray, *, seed: int) -> Estimate:
    """Return the ECE of targets that are drawn with the probabilities themselves.

    Args:
      p: (n,) probabilities.
      members: (n, bins), 1 in the bin of an image, else 0.
      seed: of the draws.
    """
    rng, values, expected = np.random.default_rng(seed), [], p @ members
    at_once = max(1, _BLOCK // len(p))
    for start in range(0, _SIMULATIONS, at_once):
        size = min(at_once, _SIMULATIONS - start)
        drawn = (rng.random((size, len(p))) < p).astype(np.float64) @ members
        values.append(np.abs(drawn - expected).sum(axis=1) / len(p))
    ece = np.concatenate(values)
    return Estimate(float(ece.mean()), *map(float, np.quantile(ece, [0.025, 0.975])))


def notes(target: npt.ArrayLike, slope: float, after: dict[str, Any]) -> list[str]:
    """Return sentences on what the probabilities after scaling are not good for."""
    found = []
    if not SLOPES[0] * 1.001 < slope < SLOPES[1] / 1.001:
        found.append(
            f"The slope, {slope:.3g}, lies at the end of its range: the scores of validation "
            "separate the classes wholly, or not at all."
        )
    if after["ece"] > after["ece_if_calibrated"]["high"]:
        found.append(
            f"The calibration error, {after['ece']:.3f}, is more than chance explains (up to "
            f"{after['ece_if_calibrated']['high']:.3f}); mean probability "
            f"{after['mean_score']:.3f}, share of the positive class "
            f"{np.mean(np.asarray(target)):.3f}. Do not read the scores as probabilities here."
        )
    return found


def certainty(probability: npt.ArrayLike, threshold: npt.ArrayLike) -> FloatArray:
    """Return how far probabilities are from the threshold, (n,), as a share of the way to 0 or 1.

    It is a share because with a threshold of .8 the surest positive is no further from it than .6.
    """
    p, t = np.asarray(probability, np.float64), np.asarray(threshold, np.float64)
    tiny = np.finfo(np.float64).tiny
    return np.where(p >= t, (p - t) / np.maximum(1 - t, tiny), (t - p) / np.maximum(t, tiny))


def referral_curve(
    target: npt.ArrayLike,
    positive: npt.ArrayLike,
    certainty: npt.ArrayLike,
    bootstrap: PatientBootstrap,
) -> list[dict[str, Any]]:
    """Return what the decisions are worth if the most uncertain images go to a human instead.

    The method is that of Leibig et al. 2017 (Scientific Reports 7:17816). Of equally uncertain
    images the first go first.

    Args:
      target: (n,) 0 or 1.
      positive: (n,) bool, the decisions.
      certainty: (n,), see `certainty`, of the calibrated probabilities.
      bootstrap: over the patients of the n images.

    Returns:
      Rows of fraction (referred), images (left), majority_rate (of those left), and accuracy,
      sensitivity and specificity of those left, as intervals.
    """
    truth, order = np.asarray(target) == 1, np.argsort(np.asarray(certainty), kind="stable")
    right, n = np.asarray(positive, bool) == truth, len(order)
    rank = np.empty(n, np.int64)
    rank[order] = np.arange(n)
    # One image is always left.
    left = rank[:, None] >= np.minimum(np.round(_REFERRED * n), n - 1)  # (n, fractions)
    rates = {
        "accuracy": bootstrap.proportions(right, left),
        "sensitivity": bootstrap.proportions(right, left & truth[:, None]),
        "specificity": bootstrap.proportions(right, left & ~truth[:, None]),
    }
    rows = []
    for i, fraction in enumerate(_REFERRED.tolist()):
        share = float(np.mean(truth[left[:, i]]))
        row = {"fraction": fraction, "images": int(left[:, i].sum())}
        row["majority_rate"] = max(share, 1 - share)
        rows.append(row | {name: of[i].to_dict() for name, of in rates.items()})
    return rows


def _logit(probability: npt.ArrayLike) -> FloatArray:
    return logit(np.clip(np.asarray(probability, np.float64), _EPSILON, 1 - _EPSILON))
