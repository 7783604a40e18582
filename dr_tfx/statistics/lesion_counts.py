"""Lesions that maps find, and marks that are none: what a curve of FROC is made of.

A lesion is a connected part of the truth, and a mark a connected part of what lies at or above a
threshold; pixels that touch by a corner are connected. A mark is false if less than a fifth of it
is lesion, as Zhang et al. have it (2014, Medical Image Analysis 18:1026): one that covers all of a
picture finds nothing. A lesion is found if a mark that is not false touches it.
"""

import cv2
import numpy as np
import numpy.typing as npt

from dr_tfx.statistics.pixel_counts import BINS

FloatArray = npt.NDArray[np.float64]

# Niemeijer et al. 2011, IEEE Transactions on Medical Imaging 30:215.
RATES = (1 / 8, 1 / 4, 1 / 2, 1, 2, 4, 8)
"""False marks an image at which sensitivity is averaged."""

QUADRANTS = ("upper_left", "upper_right", "lower_left", "lower_right")  # As the picture is seen.
_LEAST = 0.2  # Of a mark that is lesion, if the mark is not false.


def count(
    truth: npt.NDArray[np.bool_], steps: npt.NDArray[np.int64]
) -> tuple[FloatArray, FloatArray]:
    """Return how many lesions are found and how many marks are false, at each threshold.

    Both are float64 (BINS,), for pixels marked from each step on. At step 0 stand all lesions, and
    no false mark.

    Args:
      truth: bool (height, width).
      steps: the step of probability of each pixel, likewise, as `pixel_counts.bins_of` gives it.
    """
    found, false = np.zeros(BINS), np.zeros(BINS)
    shown = np.asarray(steps, np.uint8)
    lesions, labels = cv2.connectedComponents(truth.astype(np.uint8), connectivity=8)
    found[0] = lesions - 1
    for step in range(1, int(shown.max()) + 1):
        marked = shown >= step
        rows, columns = (np.flatnonzero(marked.any(axis=axis)) for axis in (1, 0))
        box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
        shown, labels, marked = shown[box], labels[box], marked[box]  # Higher steps lie within it.
        marks, mark, facts, _ = cv2.connectedComponentsWithStats(
            marked.astype(np.uint8), connectivity=8
        )
        both = marked & (labels > 0)
        lesion_part = np.bincount(mark[both], minlength=marks)
        is_true = lesion_part >= _LEAST * facts[:, cv2.CC_STAT_AREA]
        is_true[0] = True  # It is what is not marked.
        false[step] = (~is_true).sum()
        found[step] = len(np.unique(labels[both & is_true[mark]]))
    return found, false


def by_quadrant(marked: npt.NDArray[np.bool_]) -> dict[str, tuple[int, float]]:
    """Return how many marks each quadrant of a picture has, and their share of the picture.

    A mark is in the quadrant of its centre of mass, with all of its pixels.

    Args:
      marked: bool (height, width).

    Returns:
      By the names of QUADRANTS.
    """
    height, width = marked.shape
    _, _, facts, centres = cv2.connectedComponentsWithStats(marked.astype(np.uint8), connectivity=8)
    areas = facts[1:, cv2.CC_STAT_AREA]  # The first is what is not marked.
    right, lower = (centres[1:] > [(width - 1) / 2, (height - 1) / 2]).T
    place = 2 * lower + right
    return {
        name: (int((place == k).sum()), float(areas[place == k].sum() / marked.size))
        for k, name in enumerate(QUADRANTS)
    }


def largest(marked: npt.NDArray[np.bool_]) -> npt.NDArray[np.bool_]:
    """Return the largest mark of a picture, bool (height, width); nothing of one without marks."""
    _, mark, facts, _ = cv2.connectedComponentsWithStats(marked.astype(np.uint8), connectivity=8)
    areas = facts[1:, cv2.CC_STAT_AREA]
    return np.asarray(mark == 1 + areas.argmax()) if len(areas) else np.zeros_like(marked)


def sensitivity_at(found: FloatArray, false: FloatArray, images: FloatArray) -> FloatArray:
    """Return the mean sensitivity at `RATES` false marks an image; NaN where there is no lesion.

    At a rate it is that of the threshold which finds most with no more false marks.

    Args:
      found: (..., BINS), the first of `count`, summed over images.
      false: (..., BINS), likewise the second.
      images: (...), in how many images.
    """
    sensitivity, rate = curve(found, false, images)
    best = [np.where(rate <= most, sensitivity, 0).max(axis=-1) for most in RATES]
    return np.where(found[..., 0] > 0, np.mean(best, axis=0), np.nan)


def curve(
    found: FloatArray, false: FloatArray, images: FloatArray
) -> tuple[FloatArray, FloatArray]:
    """Return sensitivity and false marks an image at the steps from 1 on, (..., BINS - 1) each.

    The arguments are those of `sensitivity_at`.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        rate = false[..., 1:] / np.asarray(images)[..., np.newaxis]
        return found[..., 1:] / found[..., :1], rate
