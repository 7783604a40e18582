"""The kind `binary`: two classes, of which the model gives the probability of the second."""

import functools
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dr_tfx.config import specs
from dr_tfx.dataset import records
from dr_tfx.tasks import kind
from dr_tfx.tasks.binary import settings

if TYPE_CHECKING:
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

    @functools.cached_property
    def data(self) -> "BinaryData":
        return BinaryData(self.experiment)

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


class BinaryData(kind.DataSide):
    """One label an image; the label map says which class it means."""

    def __init__(self, experiment: settings.BinaryExperiment):
        self._task = experiment.task
        self._label = records.LABEL_PREFIX + experiment.dataset.label_column

    @property
    def features(self) -> Mapping[str, records.Feature]:
        return {self._label: records.Feature("int64")}

    @property
    def groups(self) -> tuple[str, ...]:
        return self._task.class_names

    @property
    def group_of(self) -> tuple[int, ...]:
        return self._task.label_map

    def truth(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return `stratum`, the finest label, and `target`, its class, int64 (examples,)."""
        labels = features[self._label]
        return {"stratum": labels, "target": np.asarray(self._task.label_map)[labels]}
