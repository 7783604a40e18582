"""What differs between tasks: the output layer, target encoding, loss and metrics.

A head is a frozen record; the rest of the library never asks which task it serves.
"""

import dataclasses
from collections.abc import Callable

import keras
import tensorflow as tf

from dr_tfx import specs


@dataclasses.dataclass(frozen=True)
class Head:
    """One kind of output.

    Attributes:
      units: width of the output layer.
      activation: Keras name of its activation, computed in float32.
      encode: int64 labels (batch,) -> float32 targets (batch, units).
      loss: () -> a Keras loss that reloads without custom code.
      metrics: () -> fresh Keras metrics, the first ones named `auc` and `accuracy`.
    """

    units: int
    activation: str
    encode: Callable[[tf.Tensor], tf.Tensor]
    loss: Callable[[], keras.losses.Loss]
    metrics: Callable[[], list[keras.metrics.Metric]]


def make(task: specs.Task, training: specs.Training) -> Head:
    """The head that a task's config names."""
    return HEADS[task.head](task, training)


def _sigmoid(task: specs.Task, training: specs.Training) -> Head:
    """Two classes: the probability of the second."""
    label_map = tf.constant(task.label_map, tf.float32)

    def loss() -> keras.losses.Loss:
        if training.loss == "cross_entropy":
            return keras.losses.BinaryCrossentropy()
        # Lin et al. 2017, with the balancing factor alpha on the positive class.
        return keras.losses.BinaryFocalCrossentropy(
            apply_class_balancing=True, alpha=training.focal_alpha, gamma=training.focal_gamma
        )

    return Head(
        units=1,
        activation="sigmoid",
        encode=lambda labels: tf.gather(label_map, labels)[:, tf.newaxis],
        loss=loss,
        metrics=lambda: [
            keras.metrics.AUC(num_thresholds=1000, name="auc"),
            keras.metrics.BinaryAccuracy(name="accuracy"),
        ],
    )


HEADS: dict[str, Callable[[specs.Task, specs.Training], Head]] = {"sigmoid": _sigmoid}
