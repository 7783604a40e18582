"""Measures that compare binary runs: ranking, and rates at each run's own threshold."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import pandas as pd
from matplotlib.axes import Axes
from sklearn.metrics import roc_curve

from dr_tfx.config import typed
from dr_tfx.reports.pages import interval, number
from dr_tfx.reports.style import (
    LEGEND_LINE,
    SOFT,
    ReportFigure,
    draw,
    series,
    short,
    unit_square,
)
from dr_tfx.statistics import differences
from dr_tfx.statistics.intervals import PatientBootstrap
from dr_tfx.tasks import judging, labels
from dr_tfx.tasks.binary import settings
from dr_tfx.tasks.judging import ComparedRun, Measure


class BinaryComparison(judging.ComparisonSide):
    """AUC and average precision, and what each run's threshold decides."""

    MEASURES = (
        Measure("auc", "AUC", "number", decides=True, ranks=True, guessing=0.5),
        Measure("average_precision", "Average precision", "number", ranks=True),
        Measure("sensitivity", "Sensitivity", "percent", decides=True),
        Measure("specificity", "Specificity", "percent", decides=True),
        Measure("balanced_accuracy", "Balanced accuracy", "percent"),
        Measure("accuracy", "Accuracy", "percent"),
    )
    TRUTH: ClassVar = {"stratum": "label"}

    def __init__(self, experiment: settings.BinaryExperiment):
        """Take the settings of the runs."""
        self._experiment = experiment
        self._positive = experiment.task.class_names[1]

    @property
    def reads(self) -> Mapping[str, Any]:
        rates = dict.fromkeys((measure.key for measure in self.MEASURES), judging.INTERVAL)
        ranking = {key: rates.pop(key) for key in ("auc", "average_precision")}
        after = {"brier": judging.INTERVAL, "ece": float | None}
        return {
            "calibration": {"after": after},
            "counts": labels.shape_of_counts(self._experiment.task.class_names),
            "scores": {"tta": {**ranking, "at_threshold": {"rates": rates}}},
            "selection": {"threshold": typed.Share},
        }

    @property
    def values(self) -> Mapping[str, Sequence[int] | Sequence[str]]:
        return labels.values(self._experiment.task.class_names, self._experiment.dataset)

    def figures_of(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Return every measure, with brier (an interval), ece and threshold."""
        tta, calibration = summary["scores"]["tta"], summary["calibration"]["after"]
        rates = tta["at_threshold"]["rates"]
        found = {measure.key: {**tta, **rates}[measure.key] for measure in self.MEASURES}
        return found | {
            "brier": calibration["brier"],
            "ece": calibration["ece"],
            "threshold": summary["selection"]["threshold"],
        }

    def measured(self, predictions: pd.DataFrame, bootstrap: PatientBootstrap) -> dict[str, Any]:
        """Return AUC and average precision of the scores, and the rates of the decisions."""
        target, score = predictions["target"].to_numpy(), predictions["score"].to_numpy()
        positive = (predictions["decision"] == self._positive).to_numpy()
        found = bootstrap.ranking(target, score) | bootstrap.rates(target, positive)
        return {measure.key: found[measure.key].to_dict() for measure in self.MEASURES}

    def differences(self, run: ComparedRun, first: ComparedRun) -> dict[str, Any]:
        """Return the AUC's difference by DeLong's method, with `p`, the others by bootstrap."""
        target = first.predictions["target"].to_numpy()
        clusters = first.predictions["cluster"]
        theirs, ours = (each.predictions["score"].to_numpy() for each in (run, first))
        auc, p = differences.delong(target, theirs, ours, clusters)
        found = differences.paired_differences(
            target,
            theirs,
            ours,
            clusters,
            thresholds=(
                run.summary["selection"]["threshold"],
                first.summary["selection"]["threshold"],
            ),
            resamples=first.bundle["experiment"]["evaluation"]["bootstrap_resamples"],
        )
        told = {measure.key: found[measure.key].to_dict() for measure in self.MEASURES}
        return told | {"auc": {**auc.to_dict(), "p": p}}

    def draw(self, runs: Sequence[ComparedRun], result: Mapping[str, Any]) -> list[ReportFigure]:
        """Return the ROC curves of all runs, each with its operating point."""
        areas = [
            f"{run['name']} {number(run['auc'])} ({interval(run['auc'], 'number')})"
            for run in result["runs"]
        ]
        figure = draw(
            "roc",
            lambda axes: _roc(axes[0], runs, result),
            title="ROC curves",
            alt=f"ROC curves, each with its operating point. Areas: {', '.join(areas)}.",
            height=4.0 + LEGEND_LINE * len(runs),
        )
        return [figure]


def _roc(axis: Axes, runs: Sequence[ComparedRun], result: Mapping[str, Any]) -> None:
    axis.plot([0, 1], [0, 1], color=SOFT, lw=1, ls="--")
    for i, (run, figures) in enumerate(zip(runs, result["runs"], strict=True)):
        false_alarms, found, _ = roc_curve(run.predictions["target"], run.predictions["score"])
        label = f"{short(run.name)}, {number(figures['auc'])}"
        axis.plot(false_alarms, found, **series(i), label=label)
        point = 1 - figures["specificity"]["value"], figures["sensitivity"]["value"]
        colour = series(i)["color"]
        axis.plot(*point, color=colour, marker="o", ms=7, ls="none", clip_on=False)
    unit_square(axis, "1 − specificity", "sensitivity")
    axis.figure.legend(loc="outside lower center")
