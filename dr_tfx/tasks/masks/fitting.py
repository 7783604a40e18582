"""The thresholds of a lesion model, chosen on validation and frozen for every other split."""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import pandas as pd

from dr_tfx.config import typed
from dr_tfx.statistics import pixel_counts
from dr_tfx.tasks.masks import scores


@dataclasses.dataclass(frozen=True)
class MasksFitted:
    """The threshold of each lesion: the lowest probability of a pixel that is marked."""

    split: str  # The split that they were fitted on.
    thresholds: Annotated[
        Mapping[str, float],
        typed.Rule(lambda of: all(0 < x < 1 for x in of.values()), "more than 0 and less than 1"),
    ]

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return {"split": self.split, "thresholds": dict(self.thresholds)}


def fit(predictions: pd.DataFrame, lesions: tuple[str, ...], *, split: str) -> MasksFitted:
    """Choose the threshold of the best Dice over the pixels of all photographs, a lesion at a time.

    Args:
      predictions: with the columns `lesion/<lesion>` and `other/<lesion>`.
      lesions: their names.
      split: the split that the predictions are of.
    """
    thresholds = {}
    for lesion in lesions:
        sides = (side.sum(axis=0) for side in scores.compared_in(predictions, lesion))
        counts = map(pixel_counts.in_steps, sides)
        thresholds[lesion] = pixel_counts.best_step(*counts) / pixel_counts.BINS
    return MasksFitted(split, thresholds)
