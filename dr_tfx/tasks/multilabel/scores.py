"""The probabilities of several labels: combined over views, decided, and put into words."""

from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dr_tfx.config import label_sets
from dr_tfx.tasks import kind

if TYPE_CHECKING:
    from dr_tfx.tasks.multilabel.kind import Multilabel

PROBABILITY = "probability/"  # The prefix of the columns of single labels.
HIGHEST = "highest"  # The highest probability.
DEFAULT_THRESHOLD = 0.5  # It decides until an evaluation has chosen thresholds.


class MultilabelScores(kind.ScoreSide):
    """One probability a label."""

    explained = HIGHEST

    def __init__(self, task: "Multilabel"):
        self._names, self._task = task.columns, task.experiment.task
        self._columns = [PROBABILITY + name for name in self._names]
        by = self._task.decided_by
        self._deciding = [self._names.index(by)] if by else list(range(len(self._names)))

    @property
    def answer_names(self) -> tuple[str, ...]:
        return ("decision", "labels", HIGHEST, *self._columns)

    @property
    def watched(self) -> tuple[str, ...]:
        return tuple(self._columns)

    def columns(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return each label's probability, the mean over the views, and the highest: (images,).

        Args:
          outputs: float64 (images, views, labels), probabilities.
        """
        mean = outputs.mean(axis=1)
        return {HIGHEST: mean.max(axis=1), **dict(zip(self._columns, mean.T, strict=True))}

    def of_table(self, table: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return the probabilities (n, labels) of a table of predictions."""
        return table[self._columns].to_numpy(np.float64)

    def thresholds(self, fitted: Any) -> npt.NDArray[np.float64]:
        """Return the threshold of each label, (labels,)."""
        if fitted is None:
            return np.full(len(self._names), DEFAULT_THRESHOLD)
        return np.array([fitted.thresholds[name] for name in self._names])

    def deciding(self, table: pd.DataFrame) -> npt.NDArray[np.float64]:
        """Return the number by which images are ranked: the deciding label, or the highest."""
        return self.of_table(table)[:, self._deciding].max(axis=1)

    def margin(self, table: pd.DataFrame, fitted: Any) -> npt.NDArray[np.float64]:
        """Return how far the deciding labels are above their thresholds: below 0, none is."""
        above = self.of_table(table) - self.thresholds(fitted)
        return np.asarray(above[:, self._deciding].max(axis=1))

    def read(self, table: pd.DataFrame, fitted: Any) -> list[kind.Reading]:
        """Return the group, the labels that are decided, and every probability of each row."""
        told, groups = self.of_table(table), self._task.class_names
        decided = (self.margin(table, fitted) >= 0).tolist()
        holds = told >= self.thresholds(fitted)
        found = []
        for row, is_any, of_row in zip(told.tolist(), decided, holds, strict=True):
            names = [name for name, is_held in zip(self._names, of_row, strict=True) if is_held]
            shown = [f"{n} {p:.3f}" for n, p in zip(self._names, row, strict=True) if n in names]
            group, most = groups[int(is_any)], max(row)
            words = f"{group}   {', '.join(shown) or f'highest {most:.3f}'}"
            answer = {"decision": group, "labels": "+".join(names) or label_sets.NONE}
            answer |= {HIGHEST: most, **dict(zip(self._columns, row, strict=True))}
            of_names = dict(zip(self._names, row, strict=True))
            found.append(kind.Reading(most, group, words, answer, of_names, is_any))
        return found

    def rule(self, fitted: Any) -> str:
        """Return the sentence that names the thresholds."""
        limits = zip(self._names, self.thresholds(fitted), strict=True)
        told = ", ".join(f"{name} from {limit:.3f} up" for name, limit in limits)
        by = f"'{self._task.decided_by}' is" if self._task.decided_by else "one of them is"
        return (
            f"Labels are decided by their probabilities, {told}; an image is "
            f"'{self._task.class_names[1]}' if {by}."
        )

    def wrongness(
        self, table: pd.DataFrame, groups: np.ndarray, fitted: Any
    ) -> npt.NDArray[np.float64]:
        """Return how far the group lies on the wrong side of what decides it."""
        above = self.margin(table, fitted)
        return np.where(groups == 1, -above, above)
