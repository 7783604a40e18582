"""The kind `binary`: two classes, of which the model gives the probability of the second."""

import dataclasses
import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

from dr_tfx.config import specs
from dr_tfx.tasks import kind, labels
from dr_tfx.tasks.binary import settings

if TYPE_CHECKING:
    from dr_tfx.tasks.binary.averaging import BinaryAveraging
    from dr_tfx.tasks.binary.judgement import BinaryJudgement
    from dr_tfx.tasks.binary.model import BinaryModel
    from dr_tfx.tasks.binary.scores import BinaryScores

_ADDONS_FOCAL = "SigmoidFocalCrossEntropy"


class Binary(kind.Kind):
    """Two classes, and the probability of the second one."""

    NAME = "binary"
    TASK = settings.BinaryTask
    EVALUATION = settings.BinaryEvaluation
    LOSSES = ("focal", "cross_entropy")
    METRICS = ("kappa",)
    MONITORS: ClassVar = {"val_auc": "max", "val_accuracy": "max", "val_loss": "min"}

    @classmethod
    def derived(cls, experiment: settings.BinaryExperiment) -> settings.BinaryExperiment:
        return dataclasses.replace(
            experiment, task=settings.with_label_map(experiment.task, experiment.dataset)
        )

    @functools.cached_property
    def data(self) -> labels.LabelData:
        task = self.experiment.task
        return labels.LabelData(
            self.experiment.dataset, names=task.class_names, classes=task.label_map
        )

    @functools.cached_property
    def model(self) -> "BinaryModel":
        from dr_tfx.tasks.binary.model import BinaryModel  # Loads TensorFlow.

        return BinaryModel(self.experiment)

    @functools.cached_property
    def scores(self) -> "BinaryScores":
        from dr_tfx.tasks.binary.scores import BinaryScores  # Loads SciPy.

        return BinaryScores(self.experiment)

    @functools.cached_property
    def judgement(self) -> "BinaryJudgement":
        from dr_tfx.tasks.binary.judgement import BinaryJudgement  # Loads scikit-learn.

        return BinaryJudgement(self.experiment)

    @functools.cached_property
    def averaging(self) -> "BinaryAveraging":
        from dr_tfx.tasks.binary.averaging import BinaryAveraging  # Loads SciPy.

        return BinaryAveraging(self.experiment)

    def check(self) -> None:
        settings.check_task(self.experiment.task, self.experiment.dataset)
        super().check()

    def undefined(self, images: Mapping[str, int]) -> Sequence[str]:
        return () if all(images.values()) else ("val_auc",)

    def loss_correction(self) -> str:
        """Name `focal_alpha` where the loss weighs class 1 otherwise than class 0."""
        training, alpha = self.experiment.training, 0.5
        if training.loss == "focal":
            alpha = training.focal_alpha
        elif training.loss == specs.ADDONS + _ADDONS_FOCAL:
            alpha = training.arguments.get(_ADDONS_FOCAL, {}).get("alpha", 0.25)
        return "focal_alpha" if alpha != 0.5 else ""
