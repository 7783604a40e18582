"""Calibration: scores read as probabilities, and what is gained by referring the uncertain ones.

Temperature scaling (Guo et al. 2017, ICML) divides the logit of a score by one number, fitted on
validation by likelihood. It makes scores more or less extreme and moves none past another: neither
a ranking changes, nor a decision at a threshold that is scaled likewise. It cannot mend scores that
are all too high or all too low, as after training on classes made equally frequent.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar
from scipy.special import expit, logit

from dr_tfx.statistics.intervals import PatientBootstrap
from dr_tfx.statistics.metrics import Estimate

FloatArray = npt.NDArray[np.float64]

BINNING = "at most 10 bins with equally many images, equal scores in one bin"
TEMPERATURES = (0.05, 20.0)
"""The range of temperatures. Scores that separate the classes fit best at 0, which is none."""

_BINS = 10
_EPSILON = 1e-15  # A float32 sigmoid gives exactly 0 and 1, whose logits are infinite.
_SIMULATIONS = 1000
_BLOCK = 2**21  # Random numbers held at once.
_REFERRED = np.round(np.arange(0, 0.95, 0.05), 2)


def fit_temperature(target: npt.ArrayLike, score: npt.ArrayLike) -> float:
    """Return the temperature of highest likelihood, within TEMPERATURES; 1 where all are alike.

    Args:
      target: (n,) 0 or 1.
      score: (n,) in [0, 1].
    """
    margin = np.where(np.asarray(target) == 1, 1, -1) * _logit(score)  # It is above 0 if right.

    def loss(log_temperature: float) -> float:
        return float(np.logaddexp(0, -margin / np.exp(log_temperature)).mean())

    return best_temperature(loss)


def best_temperature(loss: Callable[[float], float]) -> float:
    """Return the temperature of least loss, within TEMPERATURES; 1 where all are alike.

    Args:
      loss: a function of the logarithm of the temperature.
    """
    bounds = tuple(np.log(TEMPERATURES).tolist())
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    best = min((0.0, float(found.x), *bounds), key=loss)  # The first of equals is temperature 1.
    return float(np.exp(best))


def apply_temperature(score: npt.ArrayLike, temperature: float) -> FloatArray:
    """Return probabilities within (0, 1) for scores in [0, 1]."""
    return expit(_logit(score) / temperature)


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


def notes(target: npt.ArrayLike, temperature: float, after: dict[str, Any]) -> list[str]:
    """Return sentences on what the probabilities after scaling are not good for."""
    found = []
    if not TEMPERATURES[0] * 1.001 < temperature < TEMPERATURES[1] / 1.001:
        found.append(
            f"The temperature, {temperature:.3g}, lies at the end of its range: the scores of "
            "validation separate the classes wholly, or not at all."
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
