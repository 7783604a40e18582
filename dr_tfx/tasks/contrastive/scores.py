"""The points of two views of each photograph, as columns of a table."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dr_tfx.config import specs
from dr_tfx.tasks import kind

ONE, OTHER = "one/", "other/"  # Begin the columns of the first view, and of the second.
_DECISION = "photograph"


class ContrastiveScores(kind.ScoreSide):
    """A model that tells photographs apart, and says nothing of any."""

    explained = ""
    answer_names = watched = ("length",)

    def __init__(self, experiment: specs.Experiment):
        self._dimensions = experiment.task.dimensions

    def check_explained(self, *, where: Any) -> None:
        raise ValueError(
            f"the model of {where} was trained without labels, and has no number that heat maps "
            f"could explain. Train a task from its backbone, with --config.model.weights={where}/"
            "weights.safetensors"
        )

    def names(self, view: str) -> list[str]:
        """Return the columns of a view, ONE or OTHER."""
        return [f"{view}{i}" for i in range(self._dimensions)]

    def columns(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return the points of the first two views.

        Args:
          outputs: float64 (images, views, dimensions); a single view counts as both.
        """
        pairs = zip((ONE, OTHER), (outputs[:, 0], outputs[:, -1]), strict=True)
        return {
            name: column
            for view, points in pairs
            for name, column in zip(self.names(view), points.T, strict=True)
        }

    def points(self, table: pd.DataFrame, view: str) -> npt.NDArray[np.float64]:
        """Return the points of a view of each row, float64 (n, dimensions)."""
        return table[self.names(view)].to_numpy(np.float64)

    def read(self, table: pd.DataFrame, fitted: Any) -> list[kind.Reading]:
        """Return the distance of each point from 0, which is all that one photograph has."""
        lengths = np.linalg.norm(self.points(table, ONE), axis=1).tolist()
        return [
            kind.Reading(length, _DECISION, f"length {length:.3f}", {"length": length})
            for length in lengths
        ]

    def rule(self, fitted: Any) -> str:
        return "Nothing is decided: the model was trained without labels."

    def wrongness(
        self, table: pd.DataFrame, groups: np.ndarray, fitted: Any
    ) -> npt.NDArray[np.float64]:
        return np.zeros(len(table))
