"""The worth of a model of grades: the side of the kind that fits, judges and reports."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from dr_tfx.statistics import metrics, multiclass
from dr_tfx.tasks import alarms, judging
from dr_tfx.tasks.classes.judgement import ClassesJudgement
from dr_tfx.tasks.grades import fitting, summary
from dr_tfx.tasks.grades.fitting import GradesFitted

if TYPE_CHECKING:
    from dr_tfx.reports.style import ReportFigure
    from dr_tfx.tasks.grades.comparison import GradesComparison
    from dr_tfx.tasks.grades.kind import Grades

_RATES = (  # Key of a point's rates, its name, and how it is written.
    ("sensitivity", "Sensitivity", "percent"),
    ("specificity", "Specificity", "percent"),
    ("ppv", "PPV", "percent"),
    ("npv", "NPV", "percent"),
)


class GradesJudgement(ClassesJudgement):
    """Cut-points, thresholds, a temperature, and what follows from them."""

    SCHEMA = summary.SCHEMA
    TEMPLATES = Path(__file__).parent / "templates"
    CURVES: ClassVar = {
        "loss": "loss",
        "kappa": "quadratic weighted kappa",
        "auc": "macro AUC",
        "accuracy": "accuracy",
        "mae": "MAE in grades",
    }
    optimism = (
        "Cut-points and operating points were chosen on this split: optimistic.",
        "The temperature of the calibration was fitted on this split: optimistic.",
    )
    alarm_over: ClassVar = alarms.OVER | {
        alarms.CHANCE: "The validation kappa is now above guessing",
    }

    def __init__(self, task: "Grades"):
        super().__init__(task)
        self._grades = task

    @functools.cached_property
    def comparison(self) -> "GradesComparison":
        from dr_tfx.tasks.grades.comparison import GradesComparison  # Loads matplotlib.

        return GradesComparison(self._grades)

    def fit(self, predictions: pd.DataFrame, *, split: str) -> GradesFitted:
        return fitting.fit(predictions, self._grades, split=split)

    def fitted_from(self, content: Mapping[str, Any]) -> GradesFitted:
        return fitting.from_dict(content, self._grades)

    def chosen(self, fitted: Any) -> dict[str, Any]:
        """Return temperature, rule, cut-points, and the threshold of a referred grade."""
        points = fitted.points.get(str(self._grades.experiment.task.refer_from), ())
        return {
            "cut_points": list(fitted.cut_points),
            "decide": self._grades.experiment.evaluation.decide,
            "referred_threshold": points[0].threshold if points else None,
            "temperature": fitted.temperature,
        }

    def summarise(
        self, predictions: pd.DataFrame, fitted: Any, *, patients_known: bool
    ) -> dict[str, Any]:
        return summary.summarise(predictions, fitted, self._grades, patients_known=patients_known)

    def rankings(self, predictions: pd.DataFrame) -> list[judging.Ranking]:
        """Return the distinction of the grades that are referred."""
        referred = self._grades.experiment.task.refer_from
        above = multiclass.above(self._task.scores.of_table(predictions))[:, referred - 1]
        name = summary.cut_names(self._grades.class_names)[referred - 1]
        positive = (predictions["target"] >= referred).to_numpy()
        return [judging.Ranking(name, positive, above)]

    def figures(
        self, predictions: pd.DataFrame, summary: Mapping[str, Any]
    ) -> "list[ReportFigure]":
        from dr_tfx.tasks.grades import report_figures  # Loads matplotlib.

        truth, probability = (
            predictions["target"].to_numpy(),
            self._task.scores.of_table(predictions),
        )
        return report_figures.draw_figures(truth, probability, summary)

    def page_values(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "rates": _RATES,
            "referred": next(cut for cut in summary["cuts"] if cut["referred"]),
        }

    def wrong_with(self, row: Mapping[str, float], counts: Sequence[int]) -> dict[str, str]:
        found = alarms.collapsed(row, counts, self._grades.class_names)
        # The spread of the kappa of decisions that know nothing is that of a correlation.
        margin = metrics.Z / np.sqrt(sum(counts))
        value = row.get("val_kappa", float("nan"))
        if value <= margin:
            found[alarms.CHANCE] = (
                f"The validation kappa, {value:.3f}, is not above what guessing gives on so few "
                f"images, 0 ± {margin:.3f}."
            )
        return found
