"""Whether photographs are drawn from where those of validation were.

Photographs are summed up, each as a row of numbers, and nothing of a single one is kept. Three sums
are compared with those of validation: where the numbers that the model gives lie, by the largest
population stability index (Siddiqi 2006); and the means of what the model sees (its last features)
and of the pictures' own numbers, by Hotelling's T-squared (1931). None of them has a limit that
holds for any number of photographs (of the index: Yurdakul and Naranjo 2020), and photographs of a
patient are alike. So each limit is what patients drawn from validation itself, as many, exceed in
one of a hundred draws; the validation that they are compared with is drawn anew, too, as it is a
sample itself (bootstrap of both sides, studentized: Hall and Wilson 1991, Biometrics 47:757). How
often the quality gate refuses or flags is compared by Fisher's exact test.
"""

import collections
import functools
import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dr_tfx.statistics import metrics
from dr_tfx.statistics.drift_reference import (
    FEATURES,
    PICTURES,
    QUALITY,
    SCORES,
    FloatArray,
    Reference,
    reference,
)

__all__ = [
    "FEATURES",
    "FEWEST",
    "LEVEL",
    "PICTURES",
    "QUALITY",
    "SCORES",
    "Counted",
    "FloatArray",
    "Judged",
    "Reference",
    "Signal",
    "judge",
    "reference",
]

LEVEL = 0.01
"""How often photographs that are drawn as validation's were are told to be others, at most. Each
comparison has its share of it (Bonferroni)."""
FEWEST = 30
"""Photographs of which nothing is told if they are fewer; likewise patients of validation."""
_DRAWS, _AT_ONCE = 1999, 250
_SINGULAR = 1e-9  # Added to a covariance, so that it has an inverse.
_STEP = 1.1  # Numbers of patients whose limits are shared lie within this factor.


class Signal(NamedTuple):
    """One comparison.

    Attributes:
      value: an index, a distance in standard deviations, or a share of photographs.
      limit: what is not exceeded but for `LEVEL`; NaN where a test has no such number.
      differs: whether they are others.
    """

    value: float
    limit: float
    differs: bool


class Judged(NamedTuple):
    """Photographs beside those of validation.

    Attributes:
      photographs: how many were read.
      signals: the comparisons, by name; none where there are too few photographs.
      shares: of the photographs in the bins of each score, by its name: here, and in validation.
      means: of the numbers of a picture, by name: here, in validation, and the deviation there.
      verdicts: of the quality gate, by why, "" for all together: shares with their intervals,
        here and in the data set.
    """

    photographs: int
    signals: Mapping[str, Signal]
    shares: Mapping[str, tuple[FloatArray, FloatArray]]
    means: Mapping[str, tuple[float, float, float]]
    verdicts: Mapping[str, tuple[metrics.Estimate, metrics.Estimate]]

    @property
    def differing(self) -> list[str]:
        """The comparisons by which they are others."""
        return [name for name, signal in self.signals.items() if signal.differs]


class Counted:
    """Photographs that are counted, and nothing else of them.

    Attributes:
      sums: of their rows.
      verdicts: of the quality gate, by why.
      refused: how many of those were not read.
    """

    def __init__(self, reference: Reference):
        self.sums = np.zeros_like(reference.sums)
        self.verdicts: collections.Counter[str] = collections.Counter()
        self.refused = 0

    def add(self, row: FloatArray | None, verdict: str = "") -> None:
        """Count a photograph; `row` is None if it was not read."""
        if row is None:
            self.refused += 1
        else:
            self.sums += row
        if verdict:
            self.verdicts[verdict] += 1

    @property
    def photographs(self) -> int:
        """How many were read."""
        return round(self.sums[0])


def judge(known: Reference, counted: Counted) -> Judged:
    """Compare photographs with those of validation."""
    sums, photographs = counted.sums, counted.photographs
    values: dict[str, float] = {}
    limits: Mapping[str, float] = {}
    names = _compared(known)
    if photographs >= FEWEST:
        each = known.sums[0] / len(known.patients)  # Photographs of a patient.
        patients = max(1, round(photographs / each))
        limits = _limits(_Null(known), round(math.log(patients, _STEP)), LEVEL / len(names))
        ones = np.ones((1, len(known.patients)))
        values = {
            name: float(value[0])
            for name, value in _values(known, ones, sums[np.newaxis], patients).items()
        }
    signals = {
        name: Signal(values[name], limits[name], values[name] > limits[name]) for name in values
    }
    seen = photographs + counted.refused
    flagged, before = sum(counted.verdicts.values()), sum(known.verdicts.values())
    if QUALITY in names and signals:
        p = _fisher(flagged, seen, before, known.judged)
        signals[QUALITY] = Signal(flagged / seen, float("nan"), p <= LEVEL / len(names))
    return Judged(
        photographs,
        signals,
        _shares(known, sums),
        _means(known, sums),
        _rates(known, counted.verdicts, seen) if QUALITY in names else {},
    )


def _compared(known: Reference) -> list[str]:
    """Return the comparisons that there are."""
    there = {
        SCORES: bool(known.scores),
        FEATURES: known.directions.shape[1] > 0,
        PICTURES: bool(known.pictures),
        QUALITY: known.judged > 0,
    }
    return [name for name, is_there in there.items() if is_there]


class _Null:
    """A reference by which a cache finds what was drawn from it."""

    def __init__(self, known: Reference):
        self.known = known

    def __hash__(self) -> int:
        return id(self.known)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Null) and other.known is self.known


@functools.lru_cache(maxsize=64)
def _limits(null: _Null, step: int, level: float) -> dict[str, float]:
    """Return what patients who are drawn from validation do not exceed but for `level`.

    Args:
      null: the reference.
      step: `_STEP` to the power of it is how many patients are drawn.
      level: a share of the draws.
    """
    known, patients = null.known, max(1, round(_STEP**step))
    rng, count = np.random.default_rng(0), len(known.patients)
    equal = np.full(count, 1 / count)
    parts: dict[str, list[FloatArray]] = collections.defaultdict(list)
    for start in range(0, _DRAWS, _AT_ONCE):
        size = min(_AT_ONCE, _DRAWS - start)
        before = rng.multinomial(count, equal, size).astype(np.float64)
        drawn = rng.multinomial(patients, equal, size) @ known.patients
        for name, value in _values(known, before, drawn, patients).items():
            parts[name].append(value)
    return {name: float(np.quantile(np.concatenate(v), 1 - level)) for name, v in parts.items()}


def _values(
    known: Reference, weights: FloatArray, drawn: FloatArray, patients: int
) -> dict[str, FloatArray]:
    """Return what is compared, (n,), by the name of the comparison.

    Args:
      known: the reference.
      weights: how often each of its patients counts, (n, patients).
      drawn: sums of photographs, (n, columns).
      patients: how many patients these are of.
    """
    before, found = weights @ known.patients, {}
    if known.scores:
        indices = [
            _stability(drawn[:, known.parts[name]], before[:, known.parts[name]])
            for name in known.scores
        ]
        found[SCORES] = np.max(indices, axis=0)
    for name in (PICTURES, FEATURES):
        part = known.parts[name]
        if part.stop > part.start:
            found[name] = _distance(known, part, weights, drawn, patients)
    return found


def _stability(here: FloatArray, before: FloatArray) -> FloatArray:
    """Return the population stability index of counts (n, bins), of which none is taken as 0."""
    p, q = (
        (counts + 0.5) / (counts.sum(axis=1, keepdims=True) + 0.5 * counts.shape[1])
        for counts in (here, before)
    )
    return np.asarray(((p - q) * np.log(p / q)).sum(axis=1))


def _distance(
    known: Reference, part: slice, weights: FloatArray, drawn: FloatArray, patients: int
) -> FloatArray:
    """Return how far means are from those of validation, in deviations of a patient's mean, (n,).

    It is the root of Hotelling's T-squared, divided by what that grows by with the number of
    patients. The covariance is that of the patients' sums, so that photographs of one patient may
    be alike.
    """
    counts, sums = known.patients[:, :1], known.patients[:, part]
    basis = _basis(known, part)
    centred = (sums - counts * (known.sums[part] / known.sums[0])) @ basis
    means = (drawn[:, part] / drawn[:, :1] - known.sums[part] / known.sums[0]) @ basis
    k, both = basis.shape[1], np.concatenate([counts, centred], axis=1)
    products = (both[:, :, np.newaxis] * both[:, np.newaxis, :]).reshape(len(both), -1)
    total = weights @ both
    own = total[:, 1:] / total[:, :1]  # The mean of those that are drawn as validation.
    moments = (weights @ products).reshape(-1, k + 1, k + 1)
    less = np.concatenate([-own[:, :, np.newaxis], np.broadcast_to(np.eye(k), (len(own), k, k))], 2)
    each = total[:, 0] / weights.sum(axis=1)
    scale = (weights.sum(axis=1) * each**2)[:, np.newaxis, np.newaxis]
    covariance = less @ moments @ less.transpose(0, 2, 1) / scale
    covariance += _SINGULAR * np.eye(k)
    off = (means - own)[:, :, np.newaxis]
    squared = (off * np.linalg.solve(covariance, off)).sum(axis=(1, 2))
    return np.sqrt(np.maximum(squared, 0))


def _basis(known: Reference, part: slice) -> FloatArray:
    """Return directions along which the patients' means differ at all, scaled to a variance of 1.

    A grey picture has as much of red as of blue.
    """
    means = known.patients[:, part] / known.patients[:, :1]
    scale = np.where(means.std(axis=0) > 0, means.std(axis=0), 1)
    covariance = np.atleast_2d(np.cov(means / scale, rowvar=False))
    variances, directions = np.linalg.eigh(covariance)
    kept = variances > 1e-6 * max(variances[-1], 1e-6)
    return np.asarray(directions[:, kept] / np.sqrt(variances[kept]) / scale[:, np.newaxis])


def _fisher(here: int, seen: int, before: int, judged: int) -> float:
    """Return how often chance parts two shares at least as unevenly."""
    from scipy import stats  # Loads for a second, which a server's start need not wait for.

    return float(stats.fisher_exact([[here, seen - here], [before, judged - before]])[1])


def _shares(known: Reference, sums: FloatArray) -> dict[str, tuple[FloatArray, FloatArray]]:
    of = [(name, known.parts[name]) for name in known.scores]
    return {
        name: (sums[part] / max(1, sums[0]), known.sums[part] / known.sums[0]) for name, part in of
    }


def _means(known: Reference, sums: FloatArray) -> dict[str, tuple[float, float, float]]:
    part = known.parts[PICTURES]
    of_patients = known.patients[:, part] / known.patients[:, :1]
    here, before = sums[part] / max(1, sums[0]), known.sums[part] / known.sums[0]
    deviation = of_patients.std(axis=0)
    return {
        name: (float(here[i]), float(before[i]), float(deviation[i]))
        for i, name in enumerate(known.pictures)
    }


def _rates(
    known: Reference, verdicts: Mapping[str, int], seen: int
) -> dict[str, tuple[metrics.Estimate, metrics.Estimate]]:
    """Return the shares of each verdict, and first of all together, here and in the data set."""
    names: Sequence[str] = sorted({*known.verdicts, *verdicts})
    sums = {"": (sum(verdicts.values()), sum(known.verdicts.values()))}
    sums |= {name: (verdicts.get(name, 0), known.verdicts.get(name, 0)) for name in names}
    return {
        name: (metrics.wilson(here, seen), metrics.wilson(before, known.judged))
        for name, (here, before) in sums.items()
    }
