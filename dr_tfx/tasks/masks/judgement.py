"""The worth of a lesion model: the side of the kind that fits, judges and reports."""

import functools
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from dr_tfx.config import typed
from dr_tfx.preprocessing import outlines
from dr_tfx.tasks import judging
from dr_tfx.tasks.masks import contrast, fitting, scores, summary

if TYPE_CHECKING:
    from dr_tfx.reports.style import ReportFigure
    from dr_tfx.tasks.masks.comparison import MasksComparison
    from dr_tfx.tasks.masks.kind import Masks

_FULL = 0.5


class MasksJudgement(judging.JudgementSide):
    """A threshold for each lesion, and how well what is marked covers the truth."""

    SCHEMA = summary.SCHEMA
    TEMPLATES = Path(__file__).parent / "templates"
    CURVES: ClassVar = {"loss": "loss", "aupr": "mean AUPR of the lesions"}
    optimism = ("The threshold of each lesion was chosen on this split: optimistic.",)
    alarm_over: ClassVar = {
        "empty": "Pixels of the validation photographs are marked as lesions again",
        "full": "The model no longer marks (almost) every pixel as a lesion",
    }

    def __init__(self, task: "Masks"):
        self._task = task

    @functools.cached_property
    def comparison(self) -> "MasksComparison":
        from dr_tfx.tasks.masks.comparison import MasksComparison  # Loads matplotlib.

        return MasksComparison(self._task)

    def checked(self, predictions: pd.DataFrame) -> pd.DataFrame:
        return summary.checked(predictions, self._task.lesions)

    def fit(self, predictions: pd.DataFrame, *, split: str) -> fitting.MasksFitted:
        return fitting.fit(predictions, self._task.lesions, split=split)

    def fitted_from(self, content: Mapping[str, Any]) -> fitting.MasksFitted:
        found: fitting.MasksFitted = typed.record(fitting.MasksFitted, content, "fitted")
        typed.require(
            set(found.thresholds) == set(self._task.lesions),
            f"fitted.thresholds has {sorted(found.thresholds)}; expected one for each of "
            f"{', '.join(self._task.lesions)}.",
        )
        return found

    def chosen(self, fitted: fitting.MasksFitted) -> dict[str, Any]:
        """Return the thresholds."""
        return {"thresholds": dict(fitted.thresholds)}

    def summarise(
        self, predictions: pd.DataFrame, fitted: fitting.MasksFitted, *, patients_known: bool
    ) -> dict[str, Any]:
        return summary.summarise(predictions, fitted, self._task, patients_known=patients_known)

    def summarise_altered(
        self,
        predictions: pd.DataFrame,
        altered: Iterable[tuple[str, pd.DataFrame]],
        fitted: fitting.MasksFitted,
    ) -> dict[str, Any]:
        """Return `clip_limits`."""
        return {"clip_limits": contrast.summarise(predictions, altered, fitted, self._task)}

    def areas_under_curves(self, predictions: pd.DataFrame) -> dict[str, float]:
        """Return the AUPR of each lesion over the pixels of all photographs."""
        step = scores.DEFAULT_STEP  # It changes no area.
        found = {
            name: float(summary.LesionCounts(predictions, name, step).figures()["aupr"])
            for name in self._task.lesions
        }
        return {name: area for name, area in found.items() if not math.isnan(area)}

    def gallery(self, summary: Mapping[str, Any]) -> list[str]:
        """Return the ids of the images of the lowest Dice."""
        return [row["id"] for row in summary["most_wrong"]]

    def figures(
        self, predictions: pd.DataFrame, summary: Mapping[str, Any]
    ) -> "list[ReportFigure]":
        from dr_tfx.tasks.masks import report_figures  # Loads matplotlib.

        return report_figures.draw_figures(predictions, summary)

    def page_values(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        return {
            "has_clahe": contrast.in_recipe(self._task.experiment.dataset.recipe),
            "legend": outlines.legend(self._task.lesions),
        }

    def wrong_with(self, row: Mapping[str, float], counts: Sequence[int]) -> dict[str, str]:
        marked = row.get("val_marked", float("nan"))
        if marked == 0:
            return {
                "empty": "No pixel of the validation photographs has a probability of .5 for any "
                "lesion: the maps are empty."
            }
        if marked > _FULL:
            return {
                "full": f"{100 * marked:.1f} % of the validation pixels are marked as lesions at "
                "threshold 0.5: the maps are full."
            }
        return {}
