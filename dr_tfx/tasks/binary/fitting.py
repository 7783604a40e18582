"""Everything that is fitted on `validation`, and frozen for every other split.

A threshold that is chosen where it is reported flatters itself, and so does a calibration. Both are
fitted here, once. The bundle keeps them, and every other split merely uses them.
"""

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any

import numpy as np
import pandas as pd

from dr_tfx.config import typed
from dr_tfx.statistics import calibration, operating_points
from dr_tfx.statistics.operating_points import OperatingPoint
from dr_tfx.tasks import patients
from dr_tfx.tasks.binary.settings import BinaryEvaluation
from dr_tfx.tasks.patients import PatientDecision


@dataclasses.dataclass(frozen=True)
class Fitted:
    """The operating points and the calibration of one model."""

    split: str  # The split that everything was fitted on.
    # The first one decides.
    points: Annotated[tuple[OperatingPoint, ...], typed.Rule(bool, "one operating point or more")]
    patients: PatientDecision  # By the same rule.
    slope: typed.Positive  # Of the calibration, and the next one too; see `calibration.Scaling`.
    intercept: typed.Finite

    @property
    def scaling(self) -> calibration.Scaling:
        """What makes a calibrated probability of a score."""
        return calibration.Scaling(self.slope, self.intercept)

    @property
    def threshold(self) -> float:
        """The lowest score of an image that is decided to be of the positive class."""
        return self.points[0].threshold

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types; `from_dict` reads it back."""
        return {
            "intercept": self.intercept,
            "operating_points": [dataclasses.asdict(point) for point in self.points],
            "patients": self.patients.to_dict(),
            "slope": self.slope,
            "split": self.split,
            "threshold": self.threshold,
        }


def from_dict(content: Mapping[str, Any]) -> Fitted:
    """Return the inverse of `Fitted.to_dict`.

    Raises:
      ConfigError: it is not what `Fitted.to_dict` gives; names the key.
    """
    plain = dict(content)
    plain.pop("threshold", None)  # That of the first point.
    if "operating_points" in plain:
        plain["points"] = plain.pop("operating_points")
    found: Fitted = typed.record(Fitted, plain, "fitted")
    found.patients.check()
    return found


def fit(predictions: pd.DataFrame, settings: BinaryEvaluation, *, split: str) -> Fitted:
    """Choose every threshold and the calibration on these predictions.

    Args:
      predictions: one row an image: patient, target (0 or 1), score (float in [0, 1]).
      settings: the rules.
      split: the split that the predictions are of.

    Raises:
      ValueError: only one class is present.
    """
    target, score = predictions["target"], predictions["score"].astype(np.float64)
    points = operating_points.choose(target, score, settings)
    decided = patients.fit(
        predictions["patient"], target, score, settings, default=points[0].threshold
    )
    return Fitted(split, points, decided, *calibration.fit(target, score))
