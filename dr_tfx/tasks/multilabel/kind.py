"""The kind `multilabel`: its data, and the way to its other sides."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dr_tfx.config import label_sets, typed
from dr_tfx.tasks import kind, labels
from dr_tfx.tasks.multilabel import settings

if TYPE_CHECKING:
    from dr_tfx.tasks.multilabel.averaging import MultilabelAveraging
    from dr_tfx.tasks.multilabel.judgement import MultilabelJudgement
    from dr_tfx.tasks.multilabel.model import MultilabelModel
    from dr_tfx.tasks.multilabel.scores import MultilabelScores

TRUTH = "truth/"  # The prefix of the columns of single labels in a table of predictions.


class Multilabel(kind.Kind):
    """Several labels, and the probability of each by itself."""

    NAME = "multilabel"
    TASK = settings.MultilabelTask
    EVALUATION = settings.MultilabelEvaluation
    LOSSES: ClassVar[tuple[str, ...]] = ("cross_entropy", "focal")
    MONITORS: ClassVar[Mapping[str, str]] = {
        "val_auc": "max",
        "val_log_loss": "min",
        "val_loss": "min",
    }

    @property
    def columns(self) -> tuple[str, ...]:
        """The names of the labels."""
        dataset = self.experiment.dataset
        return label_sets.columns_of(dataset.label_column, dataset.label_names)

    @property
    def weights(self) -> np.ndarray:
        """The weight of each label, float64 (labels,), with the sum 1."""
        weights = np.array(self.experiment.task.column_weights or (1.0,) * len(self.columns))
        return weights / weights.sum()

    @functools.cached_property
    def data(self) -> "MultilabelData":
        return MultilabelData(self)

    @functools.cached_property
    def model(self) -> "MultilabelModel":
        from dr_tfx.tasks.multilabel.model import MultilabelModel  # Loads TensorFlow.

        return MultilabelModel(self)

    @functools.cached_property
    def scores(self) -> "MultilabelScores":
        from dr_tfx.tasks.multilabel.scores import MultilabelScores

        return MultilabelScores(self)

    @functools.cached_property
    def judgement(self) -> "MultilabelJudgement":
        from dr_tfx.tasks.multilabel.judgement import MultilabelJudgement  # Loads scikit-learn.

        return MultilabelJudgement(self)

    @functools.cached_property
    def averaging(self) -> "MultilabelAveraging":
        from dr_tfx.tasks.multilabel.averaging import MultilabelAveraging

        return MultilabelAveraging(self)

    def check(self) -> None:
        settings.check_task(self.experiment.task, self.experiment.dataset)
        training = self.experiment.training
        typed.require(
            training.focal_alpha == 0.5,
            f"config.training.focal_alpha is {training.focal_alpha}, a weight of the second of two "
            "classes, which the kind 'multilabel' does not have; leave it at 0.5.",
        )
        super().check()

    def undefined(self, images: Mapping[str, int]) -> Sequence[str]:
        return () if all(images.values()) else ("val_auc",)


def held(label_set: np.ndarray, count: int) -> np.ndarray:
    """Return which labels are in each set, int64 (n, count), of sets (n,)."""
    return np.asarray(label_set, np.int64)[:, None] >> np.arange(count) & 1


class MultilabelData(labels.LabelData):
    """One set of labels an image."""

    def __init__(self, task: Multilabel):
        sets = len(task.experiment.dataset.label_names)
        super().__init__(
            task.experiment.dataset,
            names=task.experiment.task.class_names,
            classes=(0,) + (1,) * (sets - 1),
        )
        self._columns = task.columns

    def truth(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return `stratum`, the set; `target`, its group; and 0 or 1 of each label."""
        found = super().truth(features)
        columns = held(found["stratum"], len(self._columns)).T
        names = [TRUTH + name for name in self._columns]
        return found | dict(zip(names, columns, strict=True))
