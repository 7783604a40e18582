"""Measures that compare runs of grades."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from dr_tfx.statistics import multiclass
from dr_tfx.tasks import judging
from dr_tfx.tasks.classes.comparison import ClassesComparison
from dr_tfx.tasks.judging import Measure

if TYPE_CHECKING:
    from dr_tfx.tasks.grades.kind import Grades

_REFERRED = Measure(
    "referred_auc", "AUC of referred grades", "number", decides=True, ranks=True, guessing=0.5
)
_ANY = Measure("any_auc", "AUC above the lowest grade", "number", ranks=True, guessing=0.5)


class GradesComparison(ClassesComparison):
    """Kappa, macro AUC and that of cuts of the scale, and what each run decides."""

    FIGURES = (*ClassesComparison.FIGURES, "kappa", "mae", "rps")
    MAY_DIFFER: ClassVar = ("head", "smoothing")

    def __init__(self, task: "Grades"):
        super().__init__(task)
        referred = task.experiment.task.refer_from
        # Where every grade above the lowest is referred, the two are one.
        self._grade_of = {_REFERRED.key: referred} | ({_ANY.key: 1} if referred > 1 else {})
        self.MEASURES = (
            Measure("kappa", "Quadratic weighted kappa", "number", decides=True, guessing=0.0),
            *(measure for measure in (_REFERRED, _ANY) if measure.key in self._grade_of),
            *ClassesComparison.MEASURES,
        )

    @property
    def reads(self) -> Mapping[str, Any]:
        cuts = [{"auc": judging.INTERVAL, "grade": int}]
        return {**super().reads, "cuts": cuts}

    def figures_of(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Return every measure, with log_loss, mae and rps."""
        areas = {cut["grade"]: cut["auc"] for cut in summary["cuts"]}
        return super().figures_of(summary) | {
            key: areas[grade] for key, grade in self._grade_of.items()
        }

    def _cuts(self, predictions: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return the grades that each cut calls positive, and P(grade or above)."""
        above = multiclass.above(self._task.scores.of_table(predictions))
        target = predictions["target"].to_numpy()
        return {
            key: (target >= grade, above[:, grade - 1]) for key, grade in self._grade_of.items()
        }
