"""The worth of a binary model: the side of the kind that fits, judges and reports."""

import functools
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from dr_tfx.tasks import judging
from dr_tfx.tasks.binary import collapse, fitting, scores, settings, summary

if TYPE_CHECKING:
    from dr_tfx.reports.style import ReportFigure
    from dr_tfx.tasks.binary.comparison import BinaryComparison

_REFERRED = (0, 10, 20, 30, 50)  # Percent, in the table; the figure has all fractions.
_RATES = (  # Key of a point's rates, its name, and how it is written.
    ("sensitivity", "Sensitivity", "percent"),
    ("specificity", "Specificity", "percent"),
    ("ppv", "PPV", "percent"),
    ("npv", "NPV", "percent"),
    ("lr_positive", "LR+", "ratio"),
    ("lr_negative", "LR−", "ratio"),
    ("f1", "F1", "number"),
    ("mcc", "MCC", "number"),
    ("kappa", "Cohen's kappa", "number"),
    ("balanced_accuracy", "Balanced accuracy", "percent"),
    ("accuracy", "Accuracy", "percent"),
)


class BinaryJudgement(judging.JudgementSide):
    """Thresholds, a calibration, and what follows from them."""

    SCHEMA = summary.SCHEMA
    TEMPLATES = Path(__file__).parent / "templates"
    CURVES: ClassVar = {"loss": "loss", "auc": "AUC", "accuracy": "accuracy"}

    optimism = (
        "The threshold, and every other operating point, was chosen on this split: optimistic.",
        "The calibration was fitted on this split: optimistic.",
    )
    alarm_over = collapse.OVER

    def __init__(self, experiment: settings.BinaryExperiment):
        self._experiment = experiment

    @functools.cached_property
    def comparison(self) -> "BinaryComparison":
        from dr_tfx.tasks.binary.comparison import BinaryComparison  # Loads matplotlib.

        return BinaryComparison(self._experiment)

    def checked(self, predictions: pd.DataFrame) -> pd.DataFrame:
        return summary.checked(predictions)

    def fit(self, predictions: pd.DataFrame, *, split: str) -> fitting.Fitted:
        return fitting.fit(predictions, self._experiment.evaluation, split=split)

    def fitted_from(self, content: Mapping[str, Any]) -> fitting.Fitted:
        return fitting.from_dict(content)

    def chosen(self, fitted: fitting.Fitted) -> dict[str, Any]:
        """Return the threshold that decides, its rule, and the rule in words."""
        decides = fitted.points[0]
        return {
            "threshold": decides.threshold,
            "threshold_description": decides.description,
            "threshold_rule": decides.rule,
        }

    def summarise(
        self, predictions: pd.DataFrame, fitted: fitting.Fitted, *, patients_known: bool
    ) -> dict[str, Any]:
        return summary.summarise(
            predictions, fitted, self._experiment, patients_known=patients_known
        )

    def rankings(self, predictions: pd.DataFrame) -> list[judging.Ranking]:
        """Return the one distinction that there is."""
        positive = (predictions["target"] == 1).to_numpy()
        name = self._experiment.task.class_names[1]
        return [judging.Ranking(name, positive, predictions[scores.SCORE].to_numpy())]

    def gallery(self, summary: Mapping[str, Any]) -> list[str]:
        """Return the ids of the worst misses, then of the worst false alarms."""
        return [mistake["id"] for mistake in summary["most_wrong"]]

    def figures(
        self, predictions: pd.DataFrame, summary: Mapping[str, Any]
    ) -> "list[ReportFigure]":
        from dr_tfx.tasks.binary import report_figures  # Loads matplotlib.

        return report_figures.draw_figures(predictions, summary)

    def page_values(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        from dr_tfx.tasks.binary import report_figures  # Loads matplotlib.

        referral = summary["referral"]
        return {
            "points": report_figures.marked_points(summary),
            "rates": _RATES,
            "referral": [row for row in referral if round(100 * row["fraction"]) in _REFERRED],
            "tta": summary["scores"]["tta"],
            "weakest": min(summary["strata"], key=lambda row: row["rate"]["value"]),
        }

    def wrong_with(self, row: Mapping[str, float], counts: Sequence[int]) -> dict[str, str]:
        return collapse.wrong_with(row, counts, self._experiment.task.class_names)
