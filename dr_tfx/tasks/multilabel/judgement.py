"""The worth of a model of several labels: the side of the kind that fits, judges and reports."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from dr_tfx.config import typed
from dr_tfx.tasks import judging, patients
from dr_tfx.tasks.multilabel import fitting, summary
from dr_tfx.tasks.multilabel.fitting import MultilabelFitted
from dr_tfx.tasks.multilabel.scores import DEFAULT_THRESHOLD

if TYPE_CHECKING:
    from dr_tfx.reports.style import ReportFigure
    from dr_tfx.tasks.multilabel.comparison import MultilabelComparison
    from dr_tfx.tasks.multilabel.kind import Multilabel

_NOT_ABOVE = 0.5  # An AUC that guessing reaches.


class MultilabelJudgement(judging.JudgementSide):
    """A threshold for each label, and what decisions of images and of patients are worth."""

    SCHEMA = summary.SCHEMA
    TEMPLATES = Path(__file__).parent / "templates"
    CURVES: ClassVar = {"loss": "loss", "auc": "mean AUC", "log_loss": "weighted log loss"}
    optimism: tuple[str, ...] = ("The thresholds were chosen on this split: optimistic.",)
    alarm_over: ClassVar = {"chance": "The validation's mean AUC is now above guessing"}

    def __init__(self, task: "Multilabel"):
        self._task = task

    @functools.cached_property
    def comparison(self) -> "MultilabelComparison":
        from dr_tfx.tasks.multilabel.comparison import MultilabelComparison  # Loads matplotlib.

        return MultilabelComparison(self._task)

    def checked(self, predictions: pd.DataFrame) -> pd.DataFrame:
        return summary.checked(predictions, self._task)

    def fit(self, predictions: pd.DataFrame, *, split: str) -> MultilabelFitted:
        settings, scores = self._task.experiment.evaluation, self._task.scores
        truth, told = summary.truth_of(predictions, self._task), scores.of_table(predictions)
        decided = patients.fit(
            predictions["patient"],
            predictions["target"],
            scores.deciding(predictions),
            settings,
            default=DEFAULT_THRESHOLD,
        )
        return MultilabelFitted(
            split,
            {
                name: fitting.threshold(truth[:, k], told[:, k], settings)
                for k, name in enumerate(self._task.columns)
            },
            decided,
        )

    def fitted_from(self, content: Mapping[str, Any]) -> MultilabelFitted:
        found: MultilabelFitted = typed.record(MultilabelFitted, content, "fitted")
        typed.require(
            set(found.thresholds) == set(self._task.columns),
            f"fitted.thresholds is of {sorted(found.thresholds)}; expected "
            f"{sorted(self._task.columns)}.",
        )
        found.patients.check()
        return found

    def chosen(self, fitted: Any) -> dict[str, Any]:
        """Return the thresholds and their rule."""
        rule = self._task.experiment.evaluation.threshold_rule
        return {"threshold_rule": rule, "thresholds": dict(fitted.thresholds)}

    def summarise(
        self, predictions: pd.DataFrame, fitted: Any, *, patients_known: bool
    ) -> dict[str, Any]:
        return summary.summarise(predictions, fitted, self._task, patients_known=patients_known)

    def rankings(self, predictions: pd.DataFrame) -> list[judging.Ranking]:
        """Return the distinction of each label."""
        truth = summary.truth_of(predictions, self._task)
        told = self._task.scores.of_table(predictions)
        return [
            judging.Ranking(name, truth[:, k] > 0, told[:, k])
            for k, name in enumerate(self._task.columns)
        ]

    def gallery(self, summary: Mapping[str, Any]) -> list[str]:
        """Return the ids of the worst errors of each group."""
        return [mistake["id"] for mistake in summary["most_wrong"]]

    def figures(
        self, predictions: pd.DataFrame, summary: Mapping[str, Any]
    ) -> "list[ReportFigure]":
        from dr_tfx.tasks.multilabel import report_figures  # Loads matplotlib.

        return report_figures.draw_figures(summary, self._task.experiment.task.class_names)

    def wrong_with(self, row: Mapping[str, float], counts: Sequence[int]) -> dict[str, str]:
        value = row.get("val_auc", float("nan"))
        if all(counts) and value <= _NOT_ABOVE:
            return {"chance": f"The validation's mean AUC, {value:.3f}, is not above guessing."}
        return {}
