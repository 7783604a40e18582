"""The settings of contrastive learning."""

import dataclasses
from typing import Annotated

from dr_tfx.config import specs, typed


@dataclasses.dataclass(frozen=True)
class ContrastiveTask(specs.Task):
    """What is compared: points behind the features, which two views of a photograph share.

    The layers between the features and the points are `config.model.hidden`.
    """

    # Of the vectors in which pictures are compared.
    dimensions: Annotated[int, typed.Rule(lambda n: 2 <= n <= 512, "2 to 512")] = 64
    temperature: typed.Positive = 0.2  # The lower, the more the nearest others count.
