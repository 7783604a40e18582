"""Thresholds, at which a score becomes a decision, and rules to choose one.

Class 1 is the positive class, and a decision is positive when `score >= threshold`. Thresholds are
chosen on `validation` alone.
"""

import dataclasses
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

FloatArray = npt.NDArray[np.float64]

ONE_ANSWER = 2.0**-20
"""Scores that differ by no more than this fraction of the higher one are one answer.

That is 16 times the spacing of float32. Whatever else is in its batch changes a photograph's score
by less, because matrix products are then summed in another order.
"""

RuleName = Literal["accuracy", "youden", "min_sensitivity", "min_specificity"]
_DESCRIPTIONS: dict[RuleName, str] = {
    "accuracy": "highest accuracy on the grid",
    "youden": "highest sensitivity + specificity",
    "min_sensitivity": "highest specificity at a sensitivity of at least {}",
    "min_specificity": "highest sensitivity at a specificity of at least {}",
}


class Rules(Protocol):
    """The settings by which thresholds are chosen."""

    @property
    def threshold_rule(self) -> str:
        """The rule whose point decides."""

    @property
    def threshold_grid(self) -> tuple[float, float, float]:
        """First, last and step of the thresholds that the rule `accuracy` tries."""

    @property
    def min_sensitivity(self) -> tuple[float, ...]:
        """Bounds of the rule `min_sensitivity`."""

    @property
    def min_specificity(self) -> tuple[float, ...]:
        """Bounds of the rule `min_specificity`."""


@dataclasses.dataclass(frozen=True)
class OperatingPoint:
    """A threshold and the rule that chose it."""

    rule: RuleName
    bound: float | None  # None for the first two rules.
    threshold: float

    @property
    def name(self) -> str:
        """A short name, unique within a run, such as 'youden' or 'sensitivity 0.872'."""
        if self.bound is None:
            return self.rule
        return f"{self.rule.removeprefix('min_')} {self.bound:g}"

    @property
    def description(self) -> str:
        """The rule in words."""
        return _DESCRIPTIONS[self.rule].format(f"{self.bound}")


def choose(
    target: npt.ArrayLike, score: npt.ArrayLike, settings: Rules
) -> tuple[OperatingPoint, ...]:
    """Return one threshold for every rule and bound, that of `settings.threshold_rule` first.

    * accuracy: the highest accuracy on `settings.threshold_grid`.
    * youden: the highest sensitivity + specificity - 1 (Youden 1950, Cancer 3:32).
    * min_sensitivity, min_specificity: the highest of the other rate where this one is at least the
      bound. A bound can always be reached, by calling everybody or nobody positive.

    All rules but accuracy look at every threshold that decides differently, because a grid may not
    reach the scores of a rare class. Of equals, the highest sensitivity wins, then the highest
    specificity, then the lowest threshold. No threshold is so near to a score that rounding decides
    (`clear_of`).

    Raises:
      ValueError: only one class is present.
    """
    require_both_classes(np.asarray(target))
    wide = threshold_table(target, score, candidates(score))
    grid = threshold_table(target, score, clear_of(score, grid_values(settings.threshold_grid)))
    rules: list[tuple[RuleName, float | None]] = [("accuracy", None), ("youden", None)]
    rules += [("min_sensitivity", bound) for bound in settings.min_sensitivity]
    rules += [("min_specificity", bound) for bound in settings.min_specificity]
    points = []
    for rule, bound in rules:
        table = grid if rule == "accuracy" else wide
        goal = {"accuracy": "accuracy", "youden": "balanced_accuracy"}.get(rule)
        if bound is not None:
            held, goal = ("sensitivity", "specificity")[:: 1 if rule == "min_sensitivity" else -1]
            table = table[table[held] >= bound]
        by = [str(goal), "sensitivity", "specificity"]
        best = table.sort_values(by, ascending=False, kind="stable")["threshold"].iloc[0]
        points.append(OperatingPoint(rule, bound, float(best)))
    return tuple(sorted(points, key=lambda point: point.rule != settings.threshold_rule))


def candidates(score: npt.ArrayLike) -> FloatArray:
    """Return thresholds below, between and above all answers: every way to decide.

    Scores of which each is `ONE_ANSWER` with the next are one answer, with no threshold among them.
    """
    lowest, highest = _answers(score)
    above = max((highest[-1] + 1) / 2, highest[-1] * (1 + 2 * ONE_ANSWER))
    return np.concatenate([[lowest[0] / 2], (lowest[1:] + highest[:-1]) / 2, [above]])


def clear_of(score: npt.ArrayLike, thresholds: npt.ArrayLike) -> FloatArray:
    """Return the thresholds, those that rounding could carry to the other side of a score lowered.

    They come to lie in the middle below the answer that is too near, which stays or becomes
    positive.
    """
    values = np.asarray(thresholds, np.float64)
    lowest, highest = _answers(score)
    place = np.searchsorted(highest, values * (1 - ONE_ANSWER), "left")  # The first not far below.
    near = np.append(lowest, np.inf)[place] <= values * (1 + ONE_ANSWER)
    below = candidates(score)[np.minimum(place, len(lowest) - 1)]
    return np.where(near, below, values)


def _answers(score: npt.ArrayLike) -> tuple[FloatArray, FloatArray]:
    """Return the lowest and the highest score of each answer, in order."""
    distinct = np.unique(np.asarray(score, np.float64))
    apart = np.diff(distinct) > ONE_ANSWER * distinct[1:]
    starts, ends = np.append(True, apart), np.append(apart, True)
    return distinct[starts], distinct[ends]


def grid_values(grid: tuple[float, float, float]) -> FloatArray:
    """Return the thresholds of (first, last, step), both ends included, without summed errors."""
    first, last, step = grid
    if not (0 <= first <= last <= 1 and step > 0):
        raise ValueError(f"expected 0 <= first <= last <= 1 and step > 0, got {grid}")
    return np.round(first + step * np.arange(round((last - first) / step) + 1), 10)


def threshold_table(
    target: npt.ArrayLike, score: npt.ArrayLike, thresholds: npt.ArrayLike
) -> pd.DataFrame:
    """Return accuracy, balanced_accuracy, sensitivity and specificity of every threshold.

    The rate of a class without examples is NaN, and so is the balanced accuracy.
    """
    target, score = np.asarray(target), np.asarray(score, np.float64)
    positives, negatives = np.sort(score[target == 1]), np.sort(score[target == 0])
    found = len(positives) - np.searchsorted(positives, thresholds, "left")
    cleared = np.searchsorted(negatives, thresholds, "left")
    with np.errstate(invalid="ignore"):
        sensitivity, specificity = found / len(positives), cleared / len(negatives)
    return pd.DataFrame(
        {
            "threshold": np.asarray(thresholds, np.float64),
            "accuracy": (found + cleared) / len(target),
            "balanced_accuracy": (sensitivity + specificity) / 2,
            "sensitivity": sensitivity,
            "specificity": specificity,
        }
    )


def require_both_classes(target: npt.NDArray[Any]) -> None:
    """Raise a ValueError unless there are examples of class 0 and of class 1, and no others."""
    present = np.unique(target).tolist()
    if present != [0, 1]:
        raise ValueError(
            f"expected examples of class 0 and of class 1, got classes {present}: how well a model "
            "tells two classes apart is not seen on one"
        )
