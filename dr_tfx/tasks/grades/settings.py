"""The settings of a task of ordered grades."""

import dataclasses
from typing import Annotated, Literal

from dr_tfx.config import specs, typed
from dr_tfx.tasks import labels, thresholds

Head = Literal["cumulative", "softmax", "regression"]


@dataclasses.dataclass(frozen=True)
class GradesTask(labels.LabelTask):
    """Grades from low to high, and the layer that tells them.

    `cumulative` gives P(grade > k | grade >= k) for each k but the last, whose products P(grade >
    k) cannot rise with k (CORN: Shi, Cao and Raschka 2023, Pattern Analysis and Applications 26).
    `softmax` gives a probability for each grade, as if they had no order. `regression` gives a
    number on the scale of grades, blurred by a logistic error of fixed width.
    """

    # The probabilities of each grade or above, of each grade by itself, or one number.
    head: Head = "cumulative"
    # The lowest grade that is referred to an ophthalmologist: of the international scale, moderate.
    refer_from: Annotated[int, typed.Rule(lambda k: k > 0, "more than 0")] = 2
    # Share that a grade's target gives to its neighbours, and again to theirs, before all shares
    # are divided by their sum; 0: one grade alone.
    smoothing: typed.FractionOrZero = 0.0


@dataclasses.dataclass(frozen=True)
class GradesEvaluation(thresholds.ThresholdEvaluation):
    """The decision for a grade, and the choice of thresholds for every cut of the scale."""

    # The most probable grade; the expected grade, rounded; or the expected grade by cut-points of
    # the highest kappa on validation.
    decide: Literal["most_probable", "expected", "cut_points"] = "expected"


GradesExperiment = specs.Experiment[GradesTask, GradesEvaluation]
