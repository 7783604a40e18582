"""How well a backbone that has seen no label tells photographs apart.

These are the keys of metrics.json that the kind `contrastive` gives, sorted; the module
`dr_tfx.evaluation.evaluate` lists those of every kind. An interval is {value, low, high}, 95 %;
each is null where it is undefined.

    alarms                 sentences; empty when nothing is wrong
    chance                 the share that guessing recognises
    counts                 per_class, {}
    dimensions             how many directions the points spread in
    likeness               mean cosine of the angle between points of different photographs
    recognised             share of the photographs that are nearest to themselves by another view
                           (interval)
    selection              dimensions
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import pandas as pd

from dr_tfx.config import typed
from dr_tfx.statistics import spread
from dr_tfx.statistics.intervals import PatientBootstrap, percentiles
from dr_tfx.tasks import judging
from dr_tfx.tasks.contrastive.scores import ONE, OTHER
from dr_tfx.tasks.judging import ComparedRun, Measure

if TYPE_CHECKING:
    from dr_tfx.reports.style import ReportFigure
    from dr_tfx.tasks.contrastive.kind import Contrastive

_ALIKE = 0.95
_FEW = 2.0


@dataclasses.dataclass(frozen=True)
class ContrastiveFitted:
    """Nothing is fitted; an evaluation of validation is remembered by its figure."""

    split: str
    dimensions: float

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        return dataclasses.asdict(self)


class ContrastiveJudgement(judging.JudgementSide):
    """Whether photographs are told apart, and whether the points have collapsed."""

    SCHEMA = 1
    TEMPLATES = Path(__file__).parent / "templates"
    CURVES: ClassVar = {
        "loss": "loss",
        "likeness": "likeness of different photographs",
        "dimensions": "directions in which they spread",
    }
    optimism: tuple[str, ...] = ()
    alarm_over: ClassVar = {"collapse": "Photographs are told apart again"}

    def __init__(self, task: "Contrastive"):
        self._task = task

    @property
    def comparison(self) -> "ContrastiveComparison":
        return ContrastiveComparison(self._task)

    def checked(self, predictions: pd.DataFrame) -> pd.DataFrame:
        for view in (ONE, OTHER):
            names = self._task.scores.names(view)
            if missing := [name for name in names if name not in predictions]:
                raise ValueError(f"the predictions have no column {missing[0]!r}")
            wrong = ~np.isfinite(predictions[names].to_numpy(np.float64)).all(axis=1)
            if wrong.any():
                raise ValueError(f"the point of {predictions['id'][wrong].iloc[0]!r} is not finite")
        return predictions

    def fit(self, predictions: pd.DataFrame, *, split: str) -> ContrastiveFitted:
        points = self._task.scores.points(predictions, ONE)
        return ContrastiveFitted(split, np.nan_to_num(spread.dimensions(points)))

    def fitted_from(self, content: Mapping[str, Any]) -> ContrastiveFitted:
        found: ContrastiveFitted = typed.record(ContrastiveFitted, content, "fitted")
        return found

    def chosen(self, fitted: Any) -> dict[str, Any]:
        return {"dimensions": fitted.dimensions}

    def summarise(
        self, predictions: pd.DataFrame, fitted: Any, *, patients_known: bool
    ) -> dict[str, Any]:
        one, other = (self._task.scores.points(predictions, view) for view in (ONE, OTHER))
        resamples = self._task.experiment.evaluation.bootstrap_resamples
        bootstrap = PatientBootstrap(predictions["cluster"], resamples=resamples)
        recognised, chance = bootstrap.mean(spread.recognised(one, other)), 1 / len(one)
        likeness, dimensions = spread.likeness(one), spread.dimensions(one)
        alarms = list(_collapsed(likeness, dimensions).values())
        if recognised.low <= 2 * chance:
            alarms.append(
                f"{100 * recognised.value:.1f} % of the photographs are recognised by another "
                f"view, which guessing does of {100 * chance:.1f} %."
            )
        return {
            "alarms": alarms,
            "chance": chance,
            "counts": {"per_class": {}},
            "dimensions": _finite(dimensions),
            "likeness": _finite(likeness),
            "recognised": recognised.to_dict(),
        }

    def gallery(self, summary: Mapping[str, Any]) -> list[str]:
        """Return nothing: there is no number that heat maps could explain."""
        return []

    def figures(
        self, predictions: pd.DataFrame, summary: Mapping[str, Any]
    ) -> "list[ReportFigure]":
        return []

    def wrong_with(self, row: Mapping[str, float], counts: Sequence[int]) -> dict[str, str]:
        nothing = float("nan")
        return _collapsed(row.get("val_likeness", nothing), row.get("val_dimensions", nothing))


def _collapsed(likeness: float, dimensions: float) -> dict[str, str]:
    """Return the alarm that points tell photographs no longer apart."""
    if likeness < _ALIKE and dimensions >= _FEW:
        return {}
    return {
        "collapse": f"The points of different photographs have a mean likeness of {likeness:.3f} "
        f"and spread in {dimensions:.1f} directions: the network has collapsed, and tells "
        "photographs no longer apart."
    }


def _finite(value: float) -> float | None:
    return value if np.isfinite(value) else None


class ContrastiveComparison(judging.ComparisonSide):
    """Which run recognises more photographs."""

    MEASURES: tuple[Measure, ...] = (Measure("recognised", "Recognised", "percent", decides=True),)
    TRUTH: ClassVar[Mapping[str, str]] = {}
    MAY_DIFFER = ("temperature",)

    def __init__(self, task: "Contrastive"):
        self._task = task

    @property
    def reads(self) -> Mapping[str, Any]:
        return {"recognised": judging.INTERVAL}

    @property
    def values(self) -> Mapping[str, Sequence[int] | Sequence[str]]:
        return {"decision": self._task.data.groups}

    def figures_of(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        return {"recognised": summary["recognised"]}

    def measured(self, predictions: pd.DataFrame, bootstrap: PatientBootstrap) -> dict[str, Any]:
        return {"recognised": bootstrap.mean(self._recognised(predictions)).to_dict()}

    def differences(self, run: ComparedRun, first: ComparedRun) -> dict[str, Any]:
        resamples = self._task.experiment.evaluation.bootstrap_resamples
        bootstrap = PatientBootstrap(first.predictions["cluster"], resamples=resamples)
        ours, theirs = (self._recognised(each.predictions) for each in (run, first))
        difference = ours.astype(float) - theirs
        total, images = bootstrap.sums(np.stack([difference, np.ones(len(ours))], axis=1))
        return {"recognised": percentiles(difference.mean(), total / images).to_dict()}

    def _recognised(self, predictions: pd.DataFrame) -> np.ndarray:
        scores = self._task.scores
        return spread.recognised(*(scores.points(predictions, view) for view in (ONE, OTHER)))

    def draw(self, runs: Sequence[ComparedRun], result: Mapping[str, Any]) -> "list[ReportFigure]":
        return []
