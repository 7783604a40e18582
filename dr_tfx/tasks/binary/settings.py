"""The settings of a task of two classes, and the rules that they have to follow."""

import dataclasses
from typing import Literal

from dr_tfx.config import specs, typed
from dr_tfx.tasks import labels, patients


@dataclasses.dataclass(frozen=True)
class BinaryTask(specs.Task):
    """Two classes, and which of them each label belongs to."""

    class_names: tuple[str, ...] = ("negative", "positive")  # Of the two classes, healthy first.
    # Label -> class; empty: the first label is the first class, all others are the second.
    label_map: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class BinaryEvaluation(patients.PatientEvaluation):
    """The combination of the views' scores, and the choice of thresholds."""

    combine: Literal["probability", "logit"] = "probability"  # What is averaged over the views.


BinaryExperiment = specs.Experiment[BinaryTask, BinaryEvaluation]


def with_label_map(task: BinaryTask, dataset: specs.DatasetSpec) -> BinaryTask:
    """Return the task with the class of each label, also where nobody gave it."""
    ill = len(dataset.label_names) - 1
    return task if task.label_map else dataclasses.replace(task, label_map=(0, *[1] * ill))


def check_task(task: BinaryTask, dataset: specs.DatasetSpec) -> None:
    """Refuse classes and labels that do not fit each other.

    Raises:
      ConfigError: the message names the dotted key.
    """
    classes = len(task.class_names)
    typed.require(
        classes == 2,
        f"config.task.class_names has {classes} names; the kind 'binary' expects two.",
    )
    labels.check_label_map(task.class_names, task.label_map, dataset)
