"""The worth of a model of several classes: the side of the kind that fits, judges and reports."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from dr_tfx.config import typed
from dr_tfx.statistics import metrics, multiclass
from dr_tfx.tasks import alarms, judging
from dr_tfx.tasks.classes import summary
from dr_tfx.tasks.classes.fitting import ClassesFitted

if TYPE_CHECKING:
    from dr_tfx.reports.style import ReportFigure
    from dr_tfx.tasks.classes.comparison import ClassesComparison
    from dr_tfx.tasks.classes.kind import Classes


class ClassesJudgement(judging.JudgementSide):
    """A temperature, and what decisions and probabilities are worth."""

    SCHEMA = summary.SCHEMA
    TEMPLATES = Path(__file__).parent / "templates"
    CURVES: ClassVar = {
        "loss": "loss",
        "auc": "macro AUC",
        "balanced_accuracy": "balanced accuracy",
        "accuracy": "accuracy",
    }
    optimism: tuple[str, ...] = (
        "The temperature of the calibration was fitted on this split: optimistic.",
    )
    alarm_over: ClassVar = alarms.OVER | {
        alarms.CHANCE: "The validation's balanced accuracy is now above guessing",
    }

    def __init__(self, task: "Classes"):
        self._task = task

    @functools.cached_property
    def comparison(self) -> "ClassesComparison":
        from dr_tfx.tasks.classes.comparison import ClassesComparison  # Loads matplotlib.

        return ClassesComparison(self._task)

    def checked(self, predictions: pd.DataFrame) -> pd.DataFrame:
        return summary.checked(predictions, self._task.class_names)

    def fit(self, predictions: pd.DataFrame, *, split: str) -> ClassesFitted:
        probability = self._task.scores.of_table(predictions)
        return ClassesFitted(
            split, multiclass.fit_temperature(predictions["target"].to_numpy(), probability)
        )

    def fitted_from(self, content: Mapping[str, Any]) -> ClassesFitted:
        found: ClassesFitted = typed.record(ClassesFitted, content, "fitted")
        return found

    def chosen(self, fitted: Any) -> dict[str, Any]:
        """Return the temperature."""
        return {"temperature": fitted.temperature}

    def summarise(
        self, predictions: pd.DataFrame, fitted: Any, *, patients_known: bool
    ) -> dict[str, Any]:
        return summary.summarise(predictions, fitted, self._task, patients_known=patients_known)

    def rankings(self, predictions: pd.DataFrame) -> list[judging.Ranking]:
        """Return the distinction of each class from all others."""
        truth = predictions["target"].to_numpy()
        probability = self._task.scores.of_table(predictions)
        return [
            judging.Ranking(name, truth == k, probability[:, k])
            for k, name in enumerate(self._task.class_names)
        ]

    def gallery(self, summary: Mapping[str, Any]) -> list[str]:
        """Return the ids of the worst errors of each class."""
        return [mistake["id"] for mistake in summary["most_wrong"]]

    def figures(
        self, predictions: pd.DataFrame, summary: Mapping[str, Any]
    ) -> "list[ReportFigure]":
        from dr_tfx.tasks.classes import report_figures  # Loads matplotlib.

        return report_figures.draw_figures(summary)

    def wrong_with(self, row: Mapping[str, float], counts: Sequence[int]) -> dict[str, str]:
        found = alarms.collapsed(row, counts, self._task.class_names)
        there = np.array([n for n in counts if n])
        share = 1 / len(there)
        # The spread of the mean recall of decisions that are drawn alike for all images.
        margin = metrics.Z * np.sqrt(share * (1 - share) * (1 / there).sum()) / len(there)
        value = row.get("val_balanced_accuracy", float("nan"))
        if value - margin <= share:
            found[alarms.CHANCE] = (
                f"The validation's balanced accuracy, {value:.3f}, is not above what guessing "
                f"gives on so few images, {share:.3f} ± {margin:.3f}."
            )
        return found
