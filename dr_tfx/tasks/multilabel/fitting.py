"""Everything that is fitted on `validation`, and frozen for every other split."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dr_tfx.statistics import operating_points
from dr_tfx.tasks.multilabel.scores import DEFAULT_THRESHOLD
from dr_tfx.tasks.multilabel.settings import MultilabelEvaluation

FUSIONS = ("max", "top_mean")
"""How the deciding numbers of a patient's images become one: the highest, or the mean of some."""


@dataclasses.dataclass(frozen=True)
class MultilabelFitted:
    """The thresholds of one model, chosen by `evaluation.threshold_rule`."""

    split: str  # The split that they were chosen on.
    thresholds: Mapping[str, float]  # Of each label.
    patient_thresholds: Mapping[str, float]  # Of each fusion.

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return {
            "patient_thresholds": dict(self.patient_thresholds),
            "split": self.split,
            "thresholds": dict(self.thresholds),
        }


def threshold(target: npt.ArrayLike, score: npt.ArrayLike, settings: MultilabelEvaluation) -> float:
    """Return the threshold that the rule chooses; without images of both classes, the default."""
    if len(np.unique(target)) < 2:
        return DEFAULT_THRESHOLD
    return operating_points.choose(target, score, settings)[0].threshold


def fuse(
    patient: npt.ArrayLike, target: npt.ArrayLike, score: npt.ArrayLike, *, top: int
) -> pd.DataFrame:
    """Return one row a patient: patient, images, target (1 if any image's is), each fusion.

    Args:
      patient: of each image.
      target: 0 or 1 of each image.
      score: the deciding number of each image.
      top: of how many of the highest scores `top_mean` is the mean; all, where there are fewer.
    """
    table = pd.DataFrame({"patient": patient, "target": target, "score": score})
    table = table.sort_values("score", ascending=False, kind="stable")
    grouped = table.groupby("patient", sort=True)
    found = grouped.agg(images=("score", "size"), target=("target", "max"), max=("score", "max"))
    found["top_mean"] = grouped.head(top).groupby("patient", sort=True)["score"].mean()
    return found.reset_index()
