"""Measures that compare runs of several labels."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import pandas as pd

from dr_tfx.reports.style import ReportFigure
from dr_tfx.statistics import multilabel
from dr_tfx.statistics.intervals import PatientBootstrap, percentiles
from dr_tfx.tasks import judging, labels
from dr_tfx.tasks.judging import ComparedRun, Measure
from dr_tfx.tasks.multilabel.kind import TRUTH
from dr_tfx.tasks.multilabel.summary import truth_of

if TYPE_CHECKING:
    from dr_tfx.tasks.multilabel.kind import Multilabel


class MultilabelComparison(judging.ComparisonSide):
    """The mean AUC of the labels, and the AUC of the group."""

    MEASURES: tuple[Measure, ...] = (
        Measure("auc", "Mean AUC", "number", decides=True, guessing=0.5),
        Measure("decision_auc", "AUC of the decision", "number", decides=True, guessing=0.5),
    )
    TRUTH: ClassVar = {"stratum": "set of labels"}

    def __init__(self, task: "Multilabel"):
        self._task = task

    @property
    def reads(self) -> Mapping[str, Any]:
        names = self._task.experiment.task.class_names
        return {
            "counts": labels.shape_of_counts(names),
            "decision": {"auc": judging.INTERVAL},
            "figures": dict.fromkeys(("auc", "log_loss"), judging.INTERVAL),
        }

    @property
    def values(self) -> Mapping[str, Sequence[int] | Sequence[str]]:
        experiment = self._task.experiment
        found = labels.values(experiment.task.class_names, experiment.dataset)
        return {**found, **{TRUTH + name: (0, 1) for name in self._task.columns}}

    def figures_of(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Return every measure, with log_loss."""
        figures = summary["figures"]
        found = {"auc": figures["auc"], "decision_auc": summary["decision"]["auc"]}
        return found | {"log_loss": figures["log_loss"]["value"]}

    def measured(self, predictions: pd.DataFrame, bootstrap: PatientBootstrap) -> dict[str, Any]:
        """Return the AUCs of the probabilities."""
        scores, truth = self._task.scores, truth_of(predictions, self._task)
        ranking = bootstrap.ranking(predictions["target"].to_numpy(), scores.deciding(predictions))
        mean = multilabel.auc_estimate(truth, scores.of_table(predictions), bootstrap)
        return {"auc": mean.to_dict(), "decision_auc": ranking["auc"].to_dict()}

    def differences(self, run: ComparedRun, first: ComparedRun) -> dict[str, Any]:
        """Return the differences of both by bootstrap."""
        resamples = self._task.experiment.evaluation.bootstrap_resamples
        bootstrap = PatientBootstrap(first.predictions["cluster"], resamples=resamples)
        truth, groups = truth_of(first.predictions, self._task), first.predictions[["target"]]
        values, samples = {}, {}
        for name, one in (("run", run), ("first", first)):
            told = self._task.scores.of_table(one.predictions)
            decides = self._task.scores.deciding(one.predictions)[:, None]
            pairs = {"auc": (truth, told), "decision_auc": (groups.to_numpy(), decides)}
            values[name] = {key: multilabel.mean_auc(*pair) for key, pair in pairs.items()}
            samples[name] = {
                key: multilabel.auc_samples(*pair, bootstrap) for key, pair in pairs.items()
            }
        return {
            measure.key: percentiles(
                values["run"][measure.key] - values["first"][measure.key],
                samples["run"][measure.key] - samples["first"][measure.key],
            ).to_dict()
            for measure in self.MEASURES
        }

    def draw(self, runs: Sequence[ComparedRun], result: Mapping[str, Any]) -> list[ReportFigure]:
        """Return nothing: the engine's figure of differences says it all."""
        return []
