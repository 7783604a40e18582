"""Measures that compare runs of several classes."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from dr_tfx.reports.style import ReportFigure
from dr_tfx.statistics import multiclass, multilabel
from dr_tfx.statistics.intervals import PatientBootstrap, percentiles
from dr_tfx.tasks import judging, labels
from dr_tfx.tasks.judging import ComparedRun, Measure

if TYPE_CHECKING:
    from dr_tfx.tasks.classes.kind import Classes


class ClassesComparison(judging.ComparisonSide):
    """Macro AUC, and what each run decides."""

    MEASURES: tuple[Measure, ...] = (
        Measure("auc", "AUC", "number", decides=True, ranks=True, guessing=0.5),
        Measure("balanced_accuracy", "Balanced accuracy", "percent", decides=True),
        Measure("accuracy", "Accuracy", "percent", decides=True),
    )
    FIGURES: tuple[str, ...] = ("accuracy", "auc", "balanced_accuracy")  # Of metrics.json.
    TRUTH: ClassVar = {"stratum": "label"}

    def __init__(self, task: "Classes"):
        self._task = task

    @property
    def reads(self) -> Mapping[str, Any]:
        return {
            "calibration": {"after": {"log_loss": float | None}},
            "counts": labels.shape_of_counts(self._task.class_names),
            "figures": dict.fromkeys(self.FIGURES, judging.INTERVAL),
        }

    @property
    def values(self) -> Mapping[str, Sequence[int] | Sequence[str]]:
        return labels.values(self._task.class_names, self._task.experiment.dataset)

    def figures_of(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Return every measure, with log_loss."""
        found = {key: summary["figures"][key] for key in self.FIGURES}
        return found | {"log_loss": summary["calibration"]["after"]["log_loss"]}

    def measured(self, predictions: pd.DataFrame, bootstrap: PatientBootstrap) -> dict[str, Any]:
        """Return the AUCs of the probabilities, and the figures of the decisions."""
        truth, names = predictions["target"].to_numpy(), self._task.class_names
        figures = multiclass.ClassFigures(truth, len(names), bootstrap)
        found = figures.decisions(self._decided(predictions))
        found["auc"] = figures.macro_auc(self._task.scores.of_table(predictions))
        for key, cut in self._cuts(predictions).items():
            found[key] = bootstrap.ranking(*cut)["auc"]
        return {measure.key: found[measure.key].to_dict() for measure in self.MEASURES}

    def differences(self, run: ComparedRun, first: ComparedRun) -> dict[str, Any]:
        """Return the differences of all measures by bootstrap."""
        resamples = self._task.experiment.evaluation.bootstrap_resamples
        bootstrap = PatientBootstrap(first.predictions["cluster"], resamples=resamples)
        truth = first.predictions["target"].to_numpy()
        figures = multiclass.ClassFigures(truth, len(self._task.class_names), bootstrap)
        found = figures.differences(
            self._decided(run.predictions), self._decided(first.predictions)
        )
        theirs, ours = (self._task.scores.of_table(each.predictions) for each in (run, first))
        found["auc"] = percentiles(
            multiclass.macro_auc(truth, theirs) - multiclass.macro_auc(truth, ours),
            figures.auc_samples(theirs) - figures.auc_samples(ours),
        )
        cuts = self._cuts(run.predictions), self._cuts(first.predictions)
        for key, (positive, _) in cuts[1].items():
            scores = [each[key][1] for each in cuts]
            areas = [multilabel.mean_auc(positive[:, None], score[:, None]) for score in scores]
            drawn = [bootstrap.ranking_samples(positive, score)[0] for score in scores]
            found[key] = percentiles(areas[0] - areas[1], drawn[0] - drawn[1])
        return {measure.key: found[measure.key].to_dict() for measure in self.MEASURES}

    def _cuts(self, predictions: pd.DataFrame) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Return what is told apart besides: the measure, who is positive (n,), the score (n,)."""
        return {}

    def _decided(self, predictions: pd.DataFrame) -> np.ndarray:
        names = self._task.class_names
        return np.array([names.index(name) for name in predictions["decision"]])

    def draw(self, runs: Sequence[ComparedRun], result: Mapping[str, Any]) -> list[ReportFigure]:
        """Return nothing: the engine's figure of differences says it all."""
        return []
