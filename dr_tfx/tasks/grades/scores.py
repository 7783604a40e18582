"""The grades that a model tells: probabilities, expected grade, decision and words."""

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
import pandas as pd

from dr_tfx.statistics import multiclass
from dr_tfx.tasks import kind
from dr_tfx.tasks.classes import scores as classes_scores
from dr_tfx.tasks.grades import heads
from dr_tfx.tasks.grades.fitting import GradesFitted, by_cut_points

if TYPE_CHECKING:
    from dr_tfx.tasks.grades.kind import Grades

GRADE = "grade"  # The expected grade, 0 to the number of grades less 1.
REFERRED = "referred"  # The probability of a grade that is referred.


class GradesScores(classes_scores.ClassesScores):
    """A probability for each grade, and the expected grade."""

    explained = GRADE

    def __init__(self, task: "Grades"):
        super().__init__(task)
        self._head, self._referred = task.experiment.task.head, task.experiment.task.refer_from
        self._rule = task.experiment.evaluation.decide

    @property
    def answer_names(self) -> tuple[str, ...]:
        return ("decision", GRADE, REFERRED, *self._columns)

    @property
    def watched(self) -> tuple[str, ...]:
        return (GRADE,)

    def columns(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return the expected grade and each grade's probability, means over the views.

        Args:
          outputs: float64 (images, views, units), the network's.
        """
        told = super().columns(outputs)
        told.pop(classes_scores.SURENESS)
        probability = np.stack(list(told.values()), axis=1)
        return {GRADE: heads.expected(probability), **told}

    def probabilities(self, outputs: np.ndarray) -> npt.NDArray[np.float64]:
        return np.asarray(heads.probabilities(outputs, self._head, len(self._names)), np.float64)

    def decided(
        self,
        probability: npt.NDArray[np.float64],
        fitted: GradesFitted | None = None,
        *,
        rule: str | None = None,
    ) -> npt.NDArray[np.int64]:
        """Return the grade that is decided, (n,).

        Args:
          probability: (n, grades).
          fitted: has the cut-points; before it does, the expected grade is rounded.
          rule: a value of `config.evaluation.decide` instead of the run's own.
        """
        rule = rule or self._rule
        if rule == "most_probable":
            return probability.argmax(axis=1)
        cuts = np.arange(len(self._names) - 1) + 0.5
        if rule == "cut_points" and fitted is not None:
            cuts = np.array(fitted.cut_points)
        return by_cut_points(heads.expected(probability), cuts)

    def rule(self, fitted: GradesFitted | None) -> str:
        if self._rule == "most_probable":
            return "The decision is the grade of the highest probability."
        if self._rule == "expected" or fitted is None:
            return "The decision is the expected grade, rounded."
        cuts = ", ".join(f"{cut:.2f}" for cut in fitted.cut_points)
        return f"The decision is the number of cut-points up to the expected grade: {cuts}."

    def wrongness(
        self, table: pd.DataFrame, groups: np.ndarray, fitted: GradesFitted | None
    ) -> npt.NDArray[np.float64]:
        """Return the squared distance of each decision, and the rest by the expected grade."""
        told = self.of_table(table)
        distance = np.abs(self.decided(told, fitted) - groups)
        off = np.abs(heads.expected(told) - groups) / len(self._names)  # It is below 1.
        return np.where(distance > 0, distance**2 + off, off - 1)

    def _reading(self, place: int, probability: list[float], number: float) -> kind.Reading:
        decision = self._names[place]
        referred = float(multiclass.above([probability])[0, self._referred - 1])
        words = f"{decision}   expected grade {number:.2f}   referred {referred:.3f}"
        answer = {"decision": decision, GRADE: number, REFERRED: referred}
        answer |= dict(zip(self._columns, probability, strict=True))
        of_names = dict(zip(self._names, probability, strict=True))
        is_suspected = place >= self._referred
        return kind.Reading(number, decision, words, answer, of_names, is_suspected)
