"""The kind `masks`: its data, and the way to its other sides."""

import functools
from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar

import numpy as np

from dr_tfx.config import specs, typed
from dr_tfx.dataset import records
from dr_tfx.dataset.patches import Patches
from dr_tfx.preprocessing import mask_files
from dr_tfx.tasks import kind
from dr_tfx.tasks.masks import settings

if TYPE_CHECKING:
    from dr_tfx.tasks.masks.averaging import MasksAveraging
    from dr_tfx.tasks.masks.judgement import MasksJudgement
    from dr_tfx.tasks.masks.model import MasksModel
    from dr_tfx.tasks.masks.scores import MasksScores

COVER = "cover"  # The column that tells how many pixels each lesion covers.


class Masks(kind.Kind):
    """Kinds of lesions that may overlap, and the probability of each at each pixel."""

    NAME = "masks"
    TASK = settings.MasksTask
    EVALUATION = settings.MasksEvaluation
    LOSSES = ("dice_cross_entropy", "dice_focal")
    MONITORS: ClassVar[Mapping[str, str]] = {"val_aupr": "max", "val_loss": "min"}
    CHANGES_NO_SCORE = (*kind.Kind.CHANGES_NO_SCORE, "clip_limits")

    @property
    def lesions(self) -> tuple[str, ...]:
        """The names of the lesions."""
        return self.experiment.dataset.masks

    @functools.cached_property
    def data(self) -> "MasksData":
        return MasksData(self.experiment.dataset, self.experiment.task)

    @functools.cached_property
    def model(self) -> "MasksModel":
        from dr_tfx.tasks.masks.model import MasksModel  # Loads TensorFlow.

        return MasksModel(self)

    @functools.cached_property
    def scores(self) -> "MasksScores":
        from dr_tfx.tasks.masks.scores import MasksScores  # Kept alike with the other kinds.

        return MasksScores(self)

    @functools.cached_property
    def judgement(self) -> "MasksJudgement":
        from dr_tfx.tasks.masks.judgement import MasksJudgement  # Loads SciPy.

        return MasksJudgement(self)

    @functools.cached_property
    def averaging(self) -> "MasksAveraging":
        from dr_tfx.tasks.masks.averaging import MasksAveraging  # Kept alike with the other kinds.

        return MasksAveraging(self.experiment)

    def check(self) -> None:
        experiment = self.experiment
        lesions, weights = len(self.lesions), experiment.task.lesion_weights
        typed.require(
            lesions > 0,
            "config.dataset.masks is (); expected the names of the lesions, each a folder of "
            "--masks_dir, such as ('MA', 'HE', 'EX', 'SE').",
        )
        typed.require(
            len(weights) in (0, lesions),
            f"config.task.lesion_weights has {len(weights)} values; expected one for each of the "
            f"{lesions} lesions in config.dataset.masks, or () for 1.",
        )
        typed.require(
            not experiment.model.hidden,
            f"config.model.hidden is {experiment.model.hidden}, dense layers that maps have no "
            "place for; set it to (), and config.model.dropout to one value.",
        )
        for name in ("mixup", "cutmix"):
            alpha = getattr(experiment.training.augmentation, name)
            typed.require(
                not alpha,
                f"config.training.augmentation.{name} is {alpha:g}; where two pictures are mixed, "
                "the lesions are those of neither. Set it to 0.",
            )
        typed.require(
            not experiment.model.finer_features,
            f"config.model.finer_features is {experiment.model.finer_features}; maps have the "
            "features of every size already, so set it to ().",
        )
        typed.require(
            not experiment.training.class_weights,
            "config.training.class_weights weigh classes, which photographs do not have here; set "
            "it to (), and config.task.lesion_weights.",
        )
        _check_patches(experiment.task, experiment.dataset.recipe.size)
        super().check()


def _check_patches(task: settings.MasksTask, size: int) -> None:
    """Refuse patches and tiles that do not fit the picture or the network."""
    typed.require(
        bool(task.patch or not task.tile),
        f"config.task.tile is {task.tile}, but config.task.patch is 0, so that pictures are marked "
        "whole; set it to 0, or config.task.patch to the side of patches.",
    )
    for name, side in (("patch", task.patch), ("tile", task.tile)):
        typed.require(
            side == 0 or (side % 32 == 0 and 64 <= side <= size),
            f"config.task.{name} is {side}; expected a multiple of 32 from 64 to {size}, "
            "config.dataset.recipe.size, or 0.",
        )
    if task.patch:
        typed.require(
            size % task.patch == 0 and size <= 16 * task.patch,
            f"config.dataset.recipe.size is {size}, which patches of config.task.patch="
            f"{task.patch} do not cover side by side; expected a multiple of it, up to 16 times.",
        )


class MasksData(kind.DataSide):
    """A mask for each lesion, and a label, by which `label_weights` may draw photographs.

    The labels are no targets, and a split may lack one: all photographs are one group.
    """

    def __init__(self, dataset: specs.DatasetSpec, task: settings.MasksTask):
        self._dataset, self._task = dataset, task
        self._label = records.LABEL_PREFIX + dataset.label_column

    @property
    def features(self) -> Mapping[str, records.Feature]:
        mask = records.Feature("uint8", is_mask=True)
        names = (records.MASK_PREFIX + lesion for lesion in self._dataset.masks)
        return {self._label: records.Feature("int64"), **dict.fromkeys(names, mask)}

    @property
    def patches(self) -> Patches | None:
        task = self._task
        if not task.patch:
            return None
        return Patches(
            side=task.patch,
            tile=task.tile or task.patch,
            each=task.patches,
            share=task.lesion_share,
            unknown=mask_files.UNKNOWN,
        )

    @property
    def groups(self) -> tuple[str, ...]:
        return ("photograph",)

    @property
    def group_of(self) -> tuple[int, ...]:
        return (0,) * len(self._dataset.label_names)

    def truth(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return `stratum`, the label, and `cover`, pixels of each lesion: `MA 3.5 HE ?`."""
        words = []
        for lesion in self._dataset.masks:
            share, known = shares(features[records.MASK_PREFIX + lesion])
            pairs = zip(share, known, strict=True)
            words.append(
                [f"{lesion} {s[k].sum():.1f}" if k.any() else f"{lesion} ?" for s, k in pairs]
            )
        cover = [" ".join(parts) for parts in zip(*words, strict=True)]
        return {"stratum": features[self._label], COVER: np.array(cover, object)}


def shares(mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the share of each pixel that a lesion covers, float64, and whether it is known.

    Args:
      mask: uint8, as `mask_files.stored` gives it, any shape.
    """
    known = mask != mask_files.UNKNOWN
    return np.where(known, mask, 0) / mask_files.COVERED, known
