"""One label an image, and the class that it means: what several kinds of task share."""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import pandas as pd

from dr_tfx.config import specs, typed
from dr_tfx.dataset import records
from dr_tfx.tasks import kind


@dataclasses.dataclass(frozen=True)
class LabelTask(specs.Task):
    """Classes, and which of them each label belongs to; by default each label is a class."""

    class_names: tuple[str, ...] = ()  # Empty: the names of the labels.
    label_map: tuple[int, ...] = ()  # Label -> class; empty: the label itself.


def class_names(task: LabelTask, dataset: specs.DatasetSpec) -> tuple[str, ...]:
    """Return the names of the classes."""
    return task.class_names or dataset.label_names


def label_map(task: LabelTask, dataset: specs.DatasetSpec) -> tuple[int, ...]:
    """Return the class of each label."""
    return task.label_map or tuple(range(len(dataset.label_names)))


def check_label_map(
    names: tuple[str, ...], classes: tuple[int, ...], dataset: specs.DatasetSpec
) -> None:
    """Refuse classes and labels that do not fit each other.

    Args:
      names: of the classes.
      classes: the class of each label.
      dataset: names the labels.

    Raises:
      ConfigError: the message names the dotted key.
    """
    typed.require(
        len(classes) == len(dataset.label_names),
        f"config.task.label_map has {len(classes)} values; expected one for each of the "
        f"{len(dataset.label_names)} labels in config.dataset.label_names, "
        f"{', '.join(map(repr, dataset.label_names))}.",
    )
    typed.require(
        set(classes) == set(range(len(names))),
        f"config.task.label_map is {classes}; expected each class of 0 to {len(names) - 1}.",
    )
    typed.require(
        len(set(names)) == len(names),
        f"config.task.class_names is {names}; expected each name once.",
    )


class LabelData(kind.DataSide):
    """One label an image; the label map says which class it means."""

    def __init__(
        self, dataset: specs.DatasetSpec, *, names: tuple[str, ...], classes: tuple[int, ...]
    ):
        """Take names and map as checked.

        Args:
          dataset: names the column of the label.
          names: of the classes.
          classes: the class of each label.
        """
        self._names, self._classes = names, classes
        self._label = records.LABEL_PREFIX + dataset.label_column

    @property
    def features(self) -> Mapping[str, records.Feature]:
        return {self._label: records.Feature("int64")}

    @property
    def groups(self) -> tuple[str, ...]:
        return self._names

    @property
    def group_of(self) -> tuple[int, ...]:
        return self._classes

    def truth(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return `stratum`, the finest label, and `target`, its class, int64 (examples,)."""
        labels = features[self._label]
        return {"stratum": labels, "target": np.asarray(self._classes)[labels]}


def counts(predictions: pd.DataFrame, class_names: Sequence[str]) -> dict[str, Any]:
    """Return images and patients of each class, and which class most images are of."""
    per_class = {}
    for index, name in enumerate(class_names):
        rows = predictions[predictions["target"] == index]
        per_class[name] = {"images": len(rows), "patients": int(rows["patient"].nunique())}
    largest = max(class_names, key=lambda name: per_class[name]["images"])
    return {
        "majority_class": largest,
        "majority_rate": per_class[largest]["images"] / len(predictions),
        "per_class": per_class,
    }


def shape_of_counts(class_names: Sequence[str]) -> dict[str, Any]:
    """Return the shape, for `typed.check`, of what `counts` returned."""
    return {
        "majority_class": Literal[tuple(class_names)],
        "majority_rate": typed.Share,
        "per_class": {name: {"images": int} for name in class_names},
    }


def values(
    class_names: Sequence[str], dataset: specs.DatasetSpec
) -> dict[str, Sequence[int] | Sequence[str]]:
    """Return `ComparisonSide.values` for tables of labels, their classes, and decisions."""
    return {
        "stratum": range(len(dataset.label_names)),
        "target": range(len(class_names)),
        "decision": class_names,
    }
