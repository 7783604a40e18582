"""Figures of maps of probability from counts alone, so that no map has to be kept.

A map is counted against its truth: how much lesion, and how much else, lies under each of `BINS`
equal steps of probability. All figures at any threshold follow from these counts, and so do those
of a resample, whose counts are sums. Counts need not be whole: a pixel that a lesion covers partly
counts to both sides, which is what the map would give at the resolution of the photograph.

The area under precision and recall needs finer steps where most pixels are: nine of ten that show
no lesion have less than the first step's .01. So counts are kept in `FINE` steps, the equal ones
cut where the logit is a multiple of 1 / `LOGIT_CUTS`.
"""

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

BINS = 100
"""Steps of probability. Their lower ends, 0, 0.01, ..., are the thresholds that can be chosen."""

LOGIT_CUTS = 25
FARTHEST = 225
"""Cuts on either side of probability .5, which the number of a fine step counts beside the ends."""

FINE = BINS + 2 * FARTHEST + 1
_ROUNDING = 1e-11  # What lies so little below the lower end of a step is in it.


def bins_of(probability: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the step that each probability is in, 0 to BINS - 1, of any shape."""
    steps = np.floor((np.asarray(probability, np.float64) + _ROUNDING) * BINS).astype(np.int64)
    return np.clip(steps, 0, BINS - 1)


def count(probability: npt.ArrayLike, amount: npt.ArrayLike) -> FloatArray:
    """Return how much lies in each step, float64 (BINS,).

    Args:
      probability: of each pixel, any shape.
      amount: what each pixel counts, of the same shape.
    """
    steps, counts = bins_of(probability).ravel(), np.asarray(amount, np.float64).ravel()
    return np.bincount(steps, counts, minlength=BINS).astype(np.float64)


def count_finely(probability: npt.ArrayLike, *amounts: npt.ArrayLike) -> list[FloatArray]:
    """Return how much of each amount lies in each fine step, float64 (FINE,)."""
    steps = _fine(probability).ravel()
    counts = (np.asarray(amount, np.float64).ravel() for amount in amounts)
    return [np.bincount(steps, each, minlength=FINE).astype(np.float64) for each in counts]


def in_steps(fine: FloatArray) -> FloatArray:
    """Return counts (..., FINE) of fine steps as those of the equal steps, (..., BINS)."""
    starts = _fine(np.arange(BINS) / BINS)
    return np.add.reduceat(fine, starts, axis=-1)


def _fine(probability: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Return the fine step that each probability is in, 0 to FINE - 1, of any shape."""
    values = np.clip(np.asarray(probability, np.float64) + _ROUNDING, 1e-9, 1 - 1e-9)
    cuts = np.floor(LOGIT_CUTS * np.log(values / (1 - values)))
    below = np.clip(cuts, -FARTHEST - 1, FARTHEST) + FARTHEST + 1
    return bins_of(probability) + below.astype(np.int64)


def average_precision(lesion: FloatArray, other: FloatArray) -> FloatArray:
    """Return the area under the curve of precision and recall; NaN where there is no lesion.

    It is the sum of precisions, each weighted by the recall that its step adds, as scikit-learn
    has it, for scores that are no finer than the steps.

    Args:
      lesion: (..., FINE), or of any other steps, how much lesion is in each.
      other: likewise of what is none.
    """
    found = np.cumsum(lesion[..., ::-1], axis=-1)
    called = found + np.cumsum(other[..., ::-1], axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = found / np.maximum(called, 1e-12)
        gained = lesion[..., ::-1] / found[..., -1:]
    area = np.asarray((precision * gained).sum(axis=-1))
    return np.where(found[..., -1] > 0, area, np.nan)


def overlap(
    covered: npt.ArrayLike, hit: npt.ArrayLike, extra: npt.ArrayLike
) -> tuple[FloatArray, FloatArray]:
    """Return Dice and IoU of what is marked; NaN where there is no lesion.

    Args:
      covered: how much lesion there is, of any shape.
      hit: how much of it is marked.
      extra: how much else is marked.
    """
    covered, hit, extra = (np.asarray(x, np.float64) for x in (covered, hit, extra))
    with np.errstate(invalid="ignore", divide="ignore"):
        iou = np.where(covered > 0, hit / (covered + extra), np.nan)
    return 2 * iou / (1 + iou), iou


def best_step(lesion: FloatArray, other: FloatArray) -> int:
    """Return the step from which on marking gives the best Dice; the middle if there is no lesion.

    Of several, it is the one nearest to the middle.

    Args:
      lesion: (BINS,), how much lesion is in each step.
      other: likewise of what is none.
    """
    middle, covered = BINS // 2, lesion.sum()
    if not covered:
        return middle
    hit, extra = (np.cumsum(side[::-1])[::-1] for side in (lesion, other))
    dice = overlap(covered, hit[1:], extra[1:])[0]
    best = 1 + np.flatnonzero(dice >= dice.max() - 1e-12)
    return int(best[np.argmin(np.abs(best - middle))])


def curve(lesion: FloatArray, other: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return recall and precision at each step from the highest on, (..., BINS) each, or NaN."""
    found = np.cumsum(lesion[..., ::-1], axis=-1)
    called = found + np.cumsum(other[..., ::-1], axis=-1)
    with np.errstate(invalid="ignore", divide="ignore"):
        return found / found[..., -1:], np.where(called > 0, found / called, np.nan)
