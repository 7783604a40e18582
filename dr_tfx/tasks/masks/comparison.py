"""Measures that compare lesion models: the means over the lesions, and each lesion's AUPR."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import pandas as pd

from dr_tfx.reports.style import ReportFigure
from dr_tfx.statistics.intervals import PatientBootstrap
from dr_tfx.tasks import judging
from dr_tfx.tasks.judging import ComparedRun, Measure
from dr_tfx.tasks.masks.kind import COVER
from dr_tfx.tasks.masks.scores import steps_decided
from dr_tfx.tasks.masks.summary import LesionCounts, estimates

if TYPE_CHECKING:
    from dr_tfx.tasks.masks.kind import Masks

_KEYS = ("aupr", "dice", "froc")


class MasksComparison(judging.ComparisonSide):
    """AUPR, Dice and FROC, the mean over the lesions and of each lesion."""

    TRUTH: ClassVar = {"stratum": "label", COVER: "lesions"}
    # How the network is made, learns and looks: what it marks is `dataset.masks`.
    MAY_DIFFER: ClassVar = (
        *("width", "widest", "patch", "patches", "lesion_share", "tile", "missed"),
        *("reconstruction", "deep_supervision", "lesion_weights"),
    )

    def __init__(self, task: "Masks"):
        self._task = task
        self.MEASURES = (
            Measure("aupr", "Mean AUPR", "number", decides=True, ranks=True),
            Measure("dice", "Mean Dice", "number", decides=True),
            Measure("froc", "Mean FROC", "number", ranks=True),
            *(
                Measure(f"aupr_{name}", f"AUPR, {name}", "number", ranks=True)
                for name in task.lesions
            ),
            *(Measure(f"dice_{name}", f"Dice, {name}", "number") for name in task.lesions),
            *(
                Measure(f"froc_{name}", f"FROC, {name}", "number", ranks=True)
                for name in task.lesions
            ),
        )

    @property
    def reads(self) -> Mapping[str, Any]:
        figures = dict.fromkeys(_KEYS, judging.INTERVAL)
        return {
            "figures": figures,
            "lesions": [{**figures, "name": Literal[self._task.lesions]}],
        }

    @property
    def values(self) -> Mapping[str, Sequence[int] | Sequence[str]]:
        return {"stratum": range(len(self._task.experiment.dataset.label_names))}

    def figures_of(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Return every measure."""
        found = {key: summary["figures"][key] for key in _KEYS}
        for row in summary["lesions"]:
            found |= {f"{key}_{row['name']}": row[key] for key in _KEYS}
        return {measure.key: found[measure.key] for measure in self.MEASURES}

    def measured(self, predictions: pd.DataFrame, bootstrap: PatientBootstrap) -> dict[str, Any]:
        """Return every measure; what is marked is what each photograph's own model marks."""
        counts = {
            name: LesionCounts(predictions, name, steps_decided(predictions, name))
            for name in self._task.lesions
        }
        return self._told(
            {name: of.figures() for name, of in counts.items()},
            {name: of.samples(bootstrap) for name, of in counts.items()},
        )

    def differences(self, run: ComparedRun, first: ComparedRun) -> dict[str, Any]:
        """Return the differences of all measures by bootstrap."""
        resamples = self._task.experiment.evaluation.bootstrap_resamples
        bootstrap = PatientBootstrap(first.predictions["cluster"], resamples=resamples)
        values, samples = {}, {}
        for name in self._task.lesions:
            theirs, ours = (
                LesionCounts(each.predictions, name, steps_decided(each.predictions, name))
                for each in (run, first)
            )
            values[name] = _minus(theirs.figures(), ours.figures())
            samples[name] = _minus(theirs.samples(bootstrap), ours.samples(bootstrap))
        return self._told(values, samples)

    def _told(
        self, values: Mapping[str, Mapping[str, Any]], samples: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Return {value, low, high} of every measure of the figures of each lesion."""
        means, of_each = estimates(values, samples)
        found = {key: means[key] for key in _KEYS}
        for name, figures in of_each.items():
            found |= {f"{key}_{name}": figures[key] for key in _KEYS}
        return {key: figure.to_dict() for key, figure in found.items()}

    def draw(self, runs: Sequence[ComparedRun], result: Mapping[str, Any]) -> list[ReportFigure]:
        """Return nothing: the engine's figure of differences says it all."""
        return []


def _minus(theirs: Mapping[str, Any], ours: Mapping[str, Any]) -> dict[str, Any]:
    return {key: theirs[key] - ours[key] for key in theirs}
