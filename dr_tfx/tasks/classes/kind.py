"""The kind `classes`: its data, and the way to its other sides."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from dr_tfx.config import typed
from dr_tfx.tasks import kind, labels

if TYPE_CHECKING:
    from dr_tfx.tasks.classes.averaging import ClassesAveraging
    from dr_tfx.tasks.classes.judgement import ClassesJudgement
    from dr_tfx.tasks.classes.model import ClassesModel
    from dr_tfx.tasks.classes.scores import ClassesScores

NEUTRAL_ALPHA = 0.5


class Classes(kind.Kind):
    """Several classes without an order, and the probability of each."""

    NAME = "classes"
    TASK = labels.LabelTask
    LOSSES: ClassVar[tuple[str, ...]] = ("focal", "cross_entropy")
    MONITORS: ClassVar[Mapping[str, str]] = {
        "val_auc": "max",
        "val_balanced_accuracy": "max",
        "val_accuracy": "max",
        "val_loss": "min",
    }

    @property
    def class_names(self) -> tuple[str, ...]:
        """The names of the classes."""
        return labels.class_names(self.experiment.task, self.experiment.dataset)

    @property
    def label_map(self) -> tuple[int, ...]:
        """The class of each label."""
        return labels.label_map(self.experiment.task, self.experiment.dataset)

    @functools.cached_property
    def data(self) -> labels.LabelData:
        return labels.LabelData(
            self.experiment.dataset, names=self.class_names, classes=self.label_map
        )

    @functools.cached_property
    def model(self) -> "ClassesModel":
        from dr_tfx.tasks.classes.model import ClassesModel  # Loads TensorFlow.

        return ClassesModel(self)

    @functools.cached_property
    def scores(self) -> "ClassesScores":
        from dr_tfx.tasks.classes.scores import ClassesScores  # Loads SciPy.

        return ClassesScores(self)

    @functools.cached_property
    def judgement(self) -> "ClassesJudgement":
        from dr_tfx.tasks.classes.judgement import ClassesJudgement  # Loads scikit-learn.

        return ClassesJudgement(self)

    @functools.cached_property
    def averaging(self) -> "ClassesAveraging":
        from dr_tfx.tasks.classes.averaging import ClassesAveraging  # Loads SciPy.

        return ClassesAveraging(self)

    def check(self) -> None:
        labels.check_label_map(self.class_names, self.label_map, self.experiment.dataset)
        training = self.experiment.training
        typed.require(
            training.focal_alpha == NEUTRAL_ALPHA,
            f"config.training.focal_alpha is {training.focal_alpha}, a weight of the second of two "
            f"classes, which the kind {self.NAME!r} does not have; leave it at {NEUTRAL_ALPHA} and "
            "set config.training.class_weights.",
        )
        super().check()

    def undefined(self, images: Mapping[str, int]) -> Sequence[str]:
        return () if sum(map(bool, images.values())) > 1 else ("val_auc",)
