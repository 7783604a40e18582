"""The probabilities of several classes: combined over views, decided, and put into words."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dr_tfx.statistics import multiclass
from dr_tfx.tasks import kind

if TYPE_CHECKING:
    from dr_tfx.tasks.classes.kind import Classes

PROBABILITY = "probability/"  # The prefix of the columns of single classes.
SURENESS = "sureness"  # The highest probability.


class ClassesScores(kind.ScoreSide):
    """One probability a class."""

    explained = SURENESS

    def __init__(self, task: "Classes"):
        self._names = task.class_names
        self._columns = [PROBABILITY + name for name in self._names]

    @property
    def answer_names(self) -> tuple[str, ...]:
        return ("decision", SURENESS, *self._columns)

    @property
    def watched(self) -> tuple[str, ...]:
        return tuple(self._columns)

    def columns(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return each class's probability, the mean over the views, and the highest: (images,).

        Args:
          outputs: float64 (images, views, units), the network's.
        """
        images, views, units = outputs.shape
        of_views = self.probabilities(outputs.reshape(images * views, units))
        mean = of_views.reshape(images, views, -1).mean(axis=1)
        return {SURENESS: mean.max(axis=1), **dict(zip(self._columns, mean.T, strict=True))}

    def probabilities(self, outputs: np.ndarray) -> npt.NDArray[np.float64]:
        """Return the probabilities (n, classes) that the network's outputs (n, units) mean."""
        return np.asarray(outputs, np.float64)

    def of_table(self, table: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return the probabilities (n, classes) of a table of predictions."""
        return table[self._columns].to_numpy(np.float64)

    def decided(
        self, probability: npt.NDArray[np.float64], fitted: Any = None
    ) -> npt.NDArray[np.int64]:
        """Return the class of the highest probability, (n,)."""
        del fitted
        return probability.argmax(axis=1)

    def read(self, table: pd.DataFrame, fitted: Any) -> list[kind.Reading]:
        """Return decision and probabilities of each row, calibrated once something is fitted."""
        told = self.of_table(table)
        decided = self.decided(told, fitted).tolist()
        shown = told if fitted is None else multiclass.apply_temperature(told, fitted.temperature)
        number = table[self.explained].tolist()
        rows = zip(decided, shown.tolist(), number, strict=True)
        return [self._reading(*row) for row in rows]

    def _reading(self, place: int, probability: list[float], number: float) -> kind.Reading:
        decision = self._names[place]
        words = f"{decision}   probability {probability[place]:.3f}"
        answer = {"decision": decision, SURENESS: max(probability)}
        answer |= dict(zip(self._columns, probability, strict=True))
        of_names = dict(zip(self._names, probability, strict=True))
        return kind.Reading(number, decision, words, answer, of_names)

    def rule(self, fitted: Any) -> str:
        return "The decision is the class of the highest probability."

    def wrongness(
        self, table: pd.DataFrame, groups: np.ndarray, fitted: Any
    ) -> npt.NDArray[np.float64]:
        """Return how much more probable the decided class is than the true one."""
        told = self.of_table(table)
        decided = self.decided(told, fitted)
        rows = np.arange(len(told))
        others = np.where(np.arange(told.shape[1]) == decided[:, None], -np.inf, told).max(axis=1)
        right = decided == groups
        return np.where(
            right, others - told[rows, decided], told[rows, decided] - told[rows, groups]
        )
