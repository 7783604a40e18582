"""The settings of a task of two classes, and the rules that they have to follow."""

import dataclasses
from typing import Literal

from dr_tfx.config import specs


@dataclasses.dataclass(frozen=True)
class BinaryTask(specs.Task):
    """Two classes, and which of them each label belongs to."""

    class_names: tuple[str, ...] = ("negative", "positive")
    label_map: tuple[int, ...] = (0, 1)  # Label -> class.


@dataclasses.dataclass(frozen=True)
class BinaryEvaluation(specs.Evaluation):
    """How scores of several views are combined, and which thresholds are chosen."""

    combine: Literal["probability", "logit"] = "probability"  # What is averaged over the views.
    # The operating point that decides; `min_*` is the one with the first bound of that setting.
    threshold_rule: Literal["accuracy", "youden", "min_sensitivity", "min_specificity"] = "youden"
    threshold_grid: tuple[float, float, float] = (0.01, 0.99, 0.01)  # First, last, step; for
    # `accuracy` and the sweep. The other rules choose among the midpoints between all scores.
    # Further points, reported beside it: the highest specificity at a sensitivity of at least so
    # much, and the reverse. The defaults are what IDx-DR was cleared with (Abramoff et al. 2018).
    min_sensitivity: tuple[float, ...] = (0.872,)
    min_specificity: tuple[float, ...] = (0.907,)


BinaryExperiment = specs.Experiment[BinaryTask, BinaryEvaluation]


def check_task(task: BinaryTask, dataset: specs.DatasetSpec) -> None:
    """Refuse classes and labels that do not fit each other.

    Raises:
      ConfigError: the message names the dotted key.
    """
    classes = len(task.class_names)
    specs.require(classes == 2, f"config.task.kind 'binary' needs two class_names, not {classes}.")
    specs.require(
        len(task.label_map) == len(dataset.label_names),
        f"config.task.label_map has {len(task.label_map)} values for "
        f"{len(dataset.label_names)} labels in config.dataset.label_names.",
    )
    specs.require(
        set(task.label_map) == set(range(classes)),
        f"config.task.label_map is {task.label_map}; expected each class of 0 to {classes - 1}.",
    )


def check_evaluation(evaluation: BinaryEvaluation) -> None:
    """Refuse thresholds and bounds that are out of range.

    Raises:
      ConfigError: the message names the dotted key.
    """
    first, last, step = evaluation.threshold_grid
    specs.require(
        0 < first <= last < 1 and step > 0,
        "config.evaluation.threshold_grid is (first, last, step) with 0 < first <= last < 1.",
    )
    for name in ("min_sensitivity", "min_specificity"):
        bounds = getattr(evaluation, name)
        specs.require(
            all(0 < bound <= 1 for bound in bounds) and len(set(bounds)) == len(bounds),
            f"config.evaluation.{name} is {bounds}; expected shares in (0, 1], each once.",
        )
        specs.require(
            bool(bounds) or evaluation.threshold_rule != name,
            f"config.evaluation.threshold_rule is {name!r}, but config.evaluation.{name} is empty.",
        )
