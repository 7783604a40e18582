"""What differs between tasks: the output layer and the encoding of its targets.

A head is a frozen record; the rest of the library never asks which task it serves. Its losses and
metrics are in `objectives`, by the head's name.
"""

import dataclasses
from collections.abc import Callable

import tensorflow as tf

from dr_tfx.config import specs


@dataclasses.dataclass(frozen=True)
class Head:
    """One kind of output.

    Attributes:
      units: width of the output layer.
      activation: Keras name of its activation, computed in float32.
      encode: int64 labels (batch,) -> float32 targets (batch, units).
      explained: float32 output in front of the activation (batch, units) -> float32 (batch,): the
        score that heat maps explain, larger where the finding is more certain.
    """

    units: int
    activation: str
    encode: Callable[[tf.Tensor], tf.Tensor]
    explained: Callable[[tf.Tensor], tf.Tensor]


def make(task: specs.Task) -> Head:
    """The head that a task's config names."""
    return HEADS[task.head](task)


def _sigmoid(task: specs.Task) -> Head:
    """Two classes: the probability of the second, of which heat maps explain the logit."""
    label_map = tf.constant(task.label_map, tf.float32)
    return Head(
        units=1,
        activation="sigmoid",
        encode=lambda labels: tf.gather(label_map, labels)[:, tf.newaxis],
        explained=lambda logits: logits[:, 0],
    )


HEADS: dict[str, Callable[[specs.Task], Head]] = {"sigmoid": _sigmoid}
