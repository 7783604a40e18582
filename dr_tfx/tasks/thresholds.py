"""The settings by which operating points are chosen: what several kinds of task share."""

import dataclasses
from typing import Annotated, Literal

from dr_tfx.config import specs, typed

Bounds = Annotated[
    tuple[
        Annotated[float, typed.Rule(lambda x: 0 < x <= 1, "more than 0, and 1 at most")],
        ...,
    ],
    typed.Rule(lambda bounds: len(set(bounds)) == len(bounds), "each bound once"),
]
Grid = Annotated[
    tuple[float, float, float],
    typed.Rule(
        lambda grid: 0 < grid[0] <= grid[1] < 1 and grid[2] > 0,
        "(first, last, step) with 0 < first <= last < 1 and a step above 0",
    ),
]


@dataclasses.dataclass(frozen=True)
class ThresholdEvaluation(specs.Evaluation):
    """The choice of thresholds."""

    # The rule of the operating point that decides; `min_*` takes the first bound of that setting.
    threshold_rule: Literal["accuracy", "youden", "min_sensitivity", "min_specificity"] = "youden"
    # First, last and step of the thresholds that `accuracy` and the sweep of the report try. The
    # other rules choose among the midpoints between all scores.
    threshold_grid: Grid = (0.01, 0.99, 0.01)
    # Further operating points that are reported: the highest specificity at a sensitivity of at
    # least each bound. The defaults of both are those with which IDx-DR was cleared (Abramoff et
    # al. 2018).
    min_sensitivity: Bounds = (0.872,)
    # The reverse: the highest sensitivity at a specificity of at least each bound.
    min_specificity: Bounds = (0.907,)

    def check(self) -> None:
        """Refuse a rule whose bound is missing."""
        for name in ("min_sensitivity", "min_specificity"):
            typed.require(
                self.threshold_rule != name or bool(getattr(self, name)),
                f"config.evaluation.threshold_rule is {name!r}, but config.evaluation.{name} is "
                "empty; give it a bound, such as (0.9,).",
            )
