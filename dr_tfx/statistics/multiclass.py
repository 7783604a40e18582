"""Figures of merit of several classes, which may be ordered.

They are pure functions of counts and arrays. Counts are tables of confusion whose last two axes are
the truth and the decision, so that one call judges one table or every resample of a bootstrap.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize_scalar

from dr_tfx.statistics.intervals import PatientBootstrap, percentiles
from dr_tfx.statistics.metrics import Estimate

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]

TEMPERATURES = (0.05, 20.0)
"""The range of temperatures. Scores that separate the classes fit best at 0, which is none."""

_EPSILON = 1e-15  # A float32 softmax gives exactly 0, whose logarithm is infinite.


def confusion(truth: npt.ArrayLike, decided: npt.ArrayLike, classes: int) -> IntArray:
    """Return counts, int64 (classes, classes), rows the truth, of class numbers (n,)."""
    cells = classes * np.asarray(truth, np.int64) + np.asarray(decided, np.int64)
    return np.bincount(cells, minlength=classes**2).reshape(classes, classes)


def costs(classes: int) -> IntArray:
    """Return the cost of each cell under quadratic weights, int64 (classes, classes)."""
    number = np.arange(classes)
    return (number[:, None] - number[None]) ** 2


def accuracy(counts: npt.ArrayLike) -> FloatArray:
    """Return the share of the diagonal, (...), of counts (..., k, k)."""
    table = np.asarray(counts, np.float64)
    with np.errstate(invalid="ignore"):
        return np.trace(table, axis1=-2, axis2=-1) / table.sum(axis=(-2, -1))


def balanced_accuracy(counts: npt.ArrayLike) -> FloatArray:
    """Return the mean recall, (...), of counts (..., k, k), over the classes that there are."""
    table = np.asarray(counts, np.float64)
    images = table.sum(axis=-1)
    recall = np.diagonal(table, axis1=-2, axis2=-1) / np.where(images > 0, images, 1)
    with np.errstate(invalid="ignore"):
        return recall.sum(axis=-1) / (images > 0).sum(axis=-1)


def mean_distance(counts: npt.ArrayLike) -> FloatArray:
    """Return the mean of |truth - decision|, (...), of counts (..., k, k): the MAE in classes."""
    table = np.asarray(counts, np.float64)
    distance = np.sqrt(costs(table.shape[-1]))
    with np.errstate(invalid="ignore"):
        return (table * distance).sum(axis=(-2, -1)) / table.sum(axis=(-2, -1))


def quadratic_kappa(counts: npt.ArrayLike) -> FloatArray:
    """Return Cohen's kappa with quadratic weights (Cohen 1968), (...), of counts (..., k, k).

    One decision for all gives 0. Where all images are of one class and all decisions are that one,
    it is not defined: NaN.
    """
    table = np.asarray(counts, np.float64)
    weights, total = costs(table.shape[-1]), table.sum(axis=(-2, -1))
    by_chance = table.sum(axis=-1)[..., :, None] * table.sum(axis=-2)[..., None, :]
    with np.errstate(invalid="ignore", divide="ignore"):
        expected = (weights * by_chance).sum(axis=(-2, -1)) / total
        return 1 - (weights * table).sum(axis=(-2, -1)) / expected


def macro_auc(truth: npt.ArrayLike, probability: npt.ArrayLike) -> float:
    """Return the mean AUC of each class against all others; NaN if there is one class.

    Classes of which there is no image are left out.

    Args:
      truth: (n,) class numbers.
      probability: (n, classes).
    """
    from sklearn.metrics import roc_auc_score  # Loads for a second, which few need.

    truth, probability = np.asarray(truth), np.asarray(probability)
    present = np.unique(truth).tolist()
    if len(present) < 2:
        return float("nan")
    return float(np.mean([roc_auc_score(truth == k, probability[:, k]) for k in present]))


def log_loss(truth: npt.ArrayLike, probability: npt.ArrayLike) -> float:
    """Return the mean negative log-likelihood (natural logarithm); 34.5 for a wrong 0."""
    told = np.take_along_axis(np.asarray(probability), np.asarray(truth)[:, None], axis=1)
    return float(-np.log(np.clip(told, _EPSILON, 1)).mean())


def above(probability: npt.ArrayLike) -> FloatArray:
    """Return P(class > k) for each k but the last, (n, classes - 1), of probabilities (n, classes).

    It never rises with k.
    """
    reverse = np.asarray(probability, np.float64)[:, ::-1]
    return np.minimum(np.cumsum(reverse, axis=1), 1.0)[:, ::-1][:, 1:]


def ranked_probability_scores(truth: npt.ArrayLike, probability: npt.ArrayLike) -> FloatArray:
    """Return the ranked probability score of each image, (n,): 0 is best, 1 is worst.

    It is the mean over k of the squared error of P(class > k) (Epstein 1969, Journal of Applied
    Meteorology 8:985), so that probability far from the truth costs more than probability near it.
    """
    higher = np.asarray(truth)[:, None] > np.arange(np.shape(probability)[1] - 1)
    return ((above(probability) - higher) ** 2).mean(axis=1)


def fit_temperature(truth: npt.ArrayLike, probability: npt.ArrayLike) -> float:
    """Return the temperature of highest likelihood, within TEMPERATURES; 1 where all are alike.

    Args:
      truth: (n,) class numbers.
      probability: (n, classes).
    """

    def loss(log_temperature: float) -> float:
        return log_loss(truth, apply_temperature(probability, float(np.exp(log_temperature))))

    bounds = tuple(np.log(TEMPERATURES).tolist())
    found = minimize_scalar(loss, bounds=bounds, method="bounded", options={"xatol": 1e-9})
    best = min((0.0, float(found.x), *bounds), key=loss)  # The first of equals is temperature 1.
    return float(np.exp(best))


def apply_temperature(probability: npt.ArrayLike, temperature: float) -> FloatArray:
    """Return probabilities (n, classes) whose logarithms are divided by the temperature.

    This is temperature scaling (Guo et al. 2017, ICML): the order of an image's classes stays.
    """
    logs = np.log(np.clip(np.asarray(probability, np.float64), _EPSILON, 1)) / temperature
    powers = np.exp(logs - logs.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


_OF_COUNTS: Mapping[str, Callable[[npt.ArrayLike], FloatArray]] = {
    "accuracy": accuracy,
    "balanced_accuracy": balanced_accuracy,
    "kappa": quadratic_kappa,
    "mae": mean_distance,
}
"""The figures of a table of confusion, by name."""


class ClassFigures:
    """Figures of decisions and probabilities of some images, with intervals over patients.

    All are computed on the same resamples, so that differences of two are paired.
    """

    def __init__(self, truth: npt.ArrayLike, classes: int, bootstrap: PatientBootstrap):
        """Draw nothing: the bootstrap has.

        Args:
          truth: (n,) class numbers.
          classes: how many there are.
          bootstrap: over the patients of the n images.
        """
        self._truth, self._classes, self._bootstrap = np.asarray(truth), classes, bootstrap

    def decisions(self, decided: npt.ArrayLike) -> dict[str, Estimate]:
        """Return accuracy, balanced_accuracy, kappa and mae of decided classes (n,)."""
        counts, samples = self._counts(decided), self._samples(decided)
        found = {
            name: percentiles(float(figure(counts)), figure(samples))
            for name, figure in _OF_COUNTS.items()
        }
        everything = np.ones((len(self._truth), 1), bool)
        right = self._truth == np.asarray(decided)
        return found | {"accuracy": self._bootstrap.proportions(right, everything)[0]}

    def differences(self, decided: npt.ArrayLike, other: npt.ArrayLike) -> dict[str, Estimate]:
        """Return the same figures of `decided` minus those of `other`, paired."""
        whole = [self._counts(decisions) for decisions in (decided, other)]
        drawn = [self._samples(decisions) for decisions in (decided, other)]
        return {
            name: percentiles(
                float(figure(whole[0]) - figure(whole[1])), figure(drawn[0]) - figure(drawn[1])
            )
            for name, figure in _OF_COUNTS.items()
        }

    def macro_auc(self, probability: npt.ArrayLike) -> Estimate:
        """Return the macro AUC of probabilities (n, classes)."""
        return percentiles(macro_auc(self._truth, probability), self.auc_samples(probability))

    def auc_samples(self, probability: npt.ArrayLike) -> FloatArray:
        """Return the macro AUC of every resample, (resamples,); NaN where one lacks a class."""
        present = np.unique(self._truth).tolist()
        if len(present) < 2:
            return np.full(1, np.nan)
        values = np.asarray(probability)
        areas = [self._bootstrap.ranking_samples(self._truth == k, values[:, k]) for k in present]
        return np.mean([area[0] for area in areas], axis=0)

    def recalls(self, decided: npt.ArrayLike) -> list[Estimate]:
        """Return the share of each class's images that are decided as that class."""
        members = self._truth[:, None] == np.arange(self._classes)
        return self._bootstrap.proportions(self._truth == np.asarray(decided), members)

    def _counts(self, decided: npt.ArrayLike) -> IntArray:
        return confusion(self._truth, decided, self._classes)

    def _samples(self, decided: npt.ArrayLike) -> FloatArray:
        """Return the counts of every resample, (resamples, classes, classes)."""
        cells = self._classes * self._truth + np.asarray(decided)
        members = cells[:, None] == np.arange(self._classes**2)
        return self._bootstrap.sums(members).T.reshape(-1, self._classes, self._classes)


def to_json(figures: Mapping[str, Estimate]) -> dict[str, Any]:
    """Return estimates as plain JSON types."""
    return {name: estimate.to_dict() for name, estimate in figures.items()}
