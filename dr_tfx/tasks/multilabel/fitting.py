"""Everything that is fitted on `validation`, and frozen for every other split."""

import dataclasses
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from dr_tfx.statistics import operating_points
from dr_tfx.tasks.multilabel.scores import DEFAULT_THRESHOLD
from dr_tfx.tasks.multilabel.settings import MultilabelEvaluation
from dr_tfx.tasks.patients import PatientDecision


@dataclasses.dataclass(frozen=True)
class MultilabelFitted:
    """The thresholds of one model, chosen by `evaluation.threshold_rule`."""

    split: str  # The split that they were chosen on.
    thresholds: Mapping[str, float]  # Of each label.
    patients: PatientDecision

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return {
            "patients": self.patients.to_dict(),
            "split": self.split,
            "thresholds": dict(self.thresholds),
        }


def threshold(target: npt.ArrayLike, score: npt.ArrayLike, settings: MultilabelEvaluation) -> float:
    """Return the threshold that the rule chooses; without images of both classes, the default."""
    if len(np.unique(target)) < 2:
        return DEFAULT_THRESHOLD
    return operating_points.choose(target, score, settings)[0].threshold
