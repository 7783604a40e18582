"""The kind `contrastive`: its data, and the way to its other sides."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dr_tfx.config import typed
from dr_tfx.dataset import records
from dr_tfx.tasks import kind
from dr_tfx.tasks.contrastive import settings

if TYPE_CHECKING:
    from dr_tfx.tasks.contrastive.judgement import ContrastiveJudgement
    from dr_tfx.tasks.contrastive.model import ContrastiveModel
    from dr_tfx.tasks.contrastive.scores import ContrastiveScores

VIEWS = 2


class Contrastive(kind.Kind):
    """Two views of a photograph are alike, those of different ones are not.

    Chen et al., "A Simple Framework for Contrastive Learning of Visual Representations", ICML 2020,
    https://arxiv.org/abs/2002.05709.
    """

    NAME = "contrastive"
    TASK = settings.ContrastiveTask
    LOSSES = ("nt_xent",)
    MONITORS: ClassVar[Mapping[str, str]] = {"loss": "min", "val_loss": "min"}
    IS_PRETRAINING = True

    @functools.cached_property
    def data(self) -> "ContrastiveData":
        return ContrastiveData(len(self.experiment.dataset.label_names))

    @functools.cached_property
    def model(self) -> "ContrastiveModel":
        from dr_tfx.tasks.contrastive.model import ContrastiveModel  # Loads TensorFlow.

        return ContrastiveModel(self.experiment)

    @functools.cached_property
    def scores(self) -> "ContrastiveScores":
        from dr_tfx.tasks.contrastive.scores import ContrastiveScores  # Alike with other kinds.

        return ContrastiveScores(self.experiment)

    @functools.cached_property
    def judgement(self) -> "ContrastiveJudgement":
        from dr_tfx.tasks.contrastive.judgement import ContrastiveJudgement  # Loads SciPy.

        return ContrastiveJudgement(self)

    def check(self) -> None:
        experiment = self.experiment
        training, views = experiment.training, experiment.evaluation.views
        typed.require(
            training.batch_size % VIEWS == 0,
            f"config.training.batch_size is {training.batch_size}; expected an even number, as "
            "each photograph is in a batch twice.",
        )
        typed.require(
            len(views) == VIEWS,
            f"config.evaluation.views is {views}; expected two, which are to be alike, such as "
            "('identity', 'left_right').",
        )
        for name in ("mixup", "cutmix"):
            alpha = getattr(training.augmentation, name)
            typed.require(
                not alpha,
                f"config.training.augmentation.{name} is {alpha:g}; two photographs as one are a "
                "view of neither. Set it to 0.",
            )
        typed.require(
            training.balance == "none" and not training.label_weights,
            "config.training.balance and label_weights balance labels, which contrastive learning "
            "does not read; set config.training.balance='none' and label_weights=().",
        )
        super().check()


class ContrastiveData(kind.DataSide):
    """Photographs, each of them twice in a batch; no label is read."""

    @property
    def views(self) -> int:
        return VIEWS

    def __init__(self, labels: int):
        self._labels = labels

    @property
    def features(self) -> Mapping[str, records.Feature]:
        return {}

    @property
    def groups(self) -> tuple[str, ...]:
        return ("photograph",)

    @property
    def group_of(self) -> tuple[int, ...]:
        return (0,) * self._labels

    def truth(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {}
