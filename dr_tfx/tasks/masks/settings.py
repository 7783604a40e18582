"""The settings of a task of lesion masks."""

import dataclasses
from typing import Annotated

from dr_tfx.config import specs, typed


@dataclasses.dataclass(frozen=True)
class MasksTask(specs.Task):
    """A decoder of the U-Net, the patches that it learns from, and the weight of each lesion.

    The lesions are those of `config.dataset.masks`. The decoder is that of Ronneberger et al., "U-
    Net", MICCAI 2015 (https://arxiv.org/abs/1505.04597), with BatchNorm.
    """

    # Channels of the decoder at the size of the picture; twice as many at half of it, and so on.
    width: Annotated[int, typed.Rule(lambda n: 1 <= n <= 256, "1 to 256")] = 16
    # Channels that it has at most, at any size.
    widest: Annotated[int, typed.Rule(lambda n: 1 <= n <= 1024, "1 to 1,024")] = 256
    # Side of the patches that training sees, in pixels; 0: it sees whole pictures.
    patch: Annotated[int, typed.Rule(lambda n: n >= 0, "0 or more")] = 0
    patches: typed.Count = 16  # Patches of a photograph in an epoch.
    lesion_share: typed.Share = 0.75  # Of them show a lesion, and the others none.
    # Side of the overlapping tiles in which a whole picture is marked; 0: that of the patches.
    tile: Annotated[int, typed.Rule(lambda n: n >= 0, "0 or more")] = 0
    # What a missed pixel weighs in the loss of overlap; a false one 1 minus this. Dice is .5.
    missed: typed.Fraction = 0.5
    # Weight of a second decoder's loss, which draws the photograph from the same backbone; 0: none.
    reconstruction: typed.NotNegative = 0.0
    # Weight of the losses of maps at a half and a quarter of the resolution, which the decoder
    # gives on its way; 0: there are none.
    deep_supervision: typed.NotNegative = 0.0
    lesion_weights: tuple[typed.Positive, ...] = ()  # Factor of each lesion's loss; (): 1.


@dataclasses.dataclass(frozen=True)
class MasksEvaluation(specs.Evaluation):
    """The scoring of the model, and a look at what contrast costs it."""

    # Clip limits of CLAHE that the pictures are given besides, to see how many false marks more
    # contrast costs; each takes one more pass over the split.
    clip_limits: Annotated[
        tuple[typed.Positive, ...],
        typed.Rule(lambda limits: list(limits) == sorted(set(limits)), "limits that rise"),
    ] = ()


MasksExperiment = specs.Experiment[MasksTask, MasksEvaluation]
