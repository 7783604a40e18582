"""The settings of a task of lesion masks."""

import dataclasses
from typing import Annotated

from dr_tfx.config import specs, typed


@dataclasses.dataclass(frozen=True)
class MasksTask(specs.Task):
    """A decoder of the U-Net, and the weight of each kind of lesion.

    The lesions are those of `config.dataset.masks`. The decoder is that of Ronneberger et al., "U-
    Net", MICCAI 2015 (https://arxiv.org/abs/1505.04597), with BatchNorm.
    """

    # Channels of the decoder at the size of the picture; twice as many at half of it, and so on.
    width: Annotated[int, typed.Rule(lambda n: 1 <= n <= 256, "1 to 256")] = 16
    # Channels that it has at most, at any size.
    widest: Annotated[int, typed.Rule(lambda n: 1 <= n <= 1024, "1 to 1,024")] = 256
    lesion_weights: tuple[typed.Positive, ...] = ()  # Factor of each lesion's loss; (): 1.


MasksExperiment = specs.Experiment[MasksTask, specs.Evaluation]
