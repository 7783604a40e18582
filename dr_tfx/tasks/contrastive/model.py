"""The points of contrastive learning, and what their distances are worth. Loads TensorFlow."""

from collections.abc import Mapping
from typing import Any, ClassVar

import keras
import numpy as np
import tensorflow as tf

from dr_tfx.config import specs
from dr_tfx.statistics import spread
from dr_tfx.tasks import kind

_ITSELF = 1e9  # Taken from the likeness of a point and itself, which then counts for nothing.


class ContrastiveModel(kind.ModelSide):
    """A point for each picture, of which only the direction counts."""

    watched: ClassVar[tuple[str, ...]] = ()
    shown: ClassVar[tuple[str, ...]] = ("loss", "val_likeness", "val_dimensions")

    def __init__(self, experiment: specs.Experiment):
        self._task = experiment.task

    @property
    def losses(self) -> Mapping[str, Any]:
        return {"nt_xent": lambda _: NTXent(self._task.temperature)}

    @property
    def metrics(self) -> Mapping[str, Any]:
        return {}

    @property
    def exact(self) -> Mapping[str, Any]:
        """Return how alike different photographs are, and how many directions they spread in."""
        return {
            "likeness": lambda _, points: spread.likeness(points),
            "dimensions": lambda _, points: spread.dimensions(points),
        }

    def outputs(self, features: Any) -> Any:
        dense = keras.layers.Dense(self._task.dimensions, dtype="float32", name="points")
        return dense(features)

    def encode(self, features: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Return which photograph each row is a view of (batch, 1), and ones.

        Where no photograph comes twice, as in validation, all are different ones.
        """
        count = tf.shape(features["image"])[0]
        of = features.get(kind.VIEW_OF, tf.range(count))
        return tf.cast(of, tf.float32)[:, tf.newaxis], tf.ones([count], tf.float32)

    def explained(self, logits: tf.Tensor) -> tf.Tensor:
        """Return the distance of each point from 0."""
        return tf.norm(logits, axis=1)

    def examples_of_sense(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        targets = np.array([[0], [0], [1], [1]], np.float32)
        ways = np.eye(2, self._task.dimensions, dtype=np.float32)
        return targets, ways[[0, 0, 1, 1]], ways[[0, 1, 0, 1]]


class NTXent(keras.losses.Loss):
    """The normalised cross-entropy of views of one photograph among all others of a batch.

    For each row the loss is that of naming the other views of its photograph, by the cosines of the
    angles between points, divided by the temperature. A row without another view has what all
    others weigh, which is low where points are far from each other.
    """

    def __init__(self, temperature: float):
        super().__init__(name="nt_xent")
        self._temperature = temperature

    def call(self, targets: tf.Tensor, points: tf.Tensor) -> tf.Tensor:
        """Return the loss of each row, float32 (batch,).

        Args:
          targets: float32 (batch, 1), the same number for views of the same photograph.
          points: float32 (batch, dimensions).
        """
        ways = tf.math.l2_normalize(tf.cast(points, tf.float32), axis=1)
        itself = tf.eye(tf.shape(ways)[0])
        alike = tf.matmul(ways, ways, transpose_b=True) / self._temperature - _ITSELF * itself
        others = tf.reduce_logsumexp(alike, axis=1)
        of = tf.reshape(tf.cast(targets, tf.float32), [-1, 1])
        twins = tf.cast(tf.equal(of, tf.transpose(of)), tf.float32) - itself
        count = tf.reduce_sum(twins, axis=1)
        own = tf.reduce_sum(twins * alike, axis=1) / tf.maximum(count, 1)
        alone = tf.equal(tf.shape(ways)[0], 1)  # There is nothing that it could be taken for.
        return tf.where(alone, tf.zeros_like(others), others - own)
