"""The output of a model of several labels, its targets, losses and metrics."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from dr_tfx.config import specs
from dr_tfx.dataset import records
from dr_tfx.statistics import multilabel
from dr_tfx.tasks import kind

if TYPE_CHECKING:
    from dr_tfx.tasks.multilabel.kind import Multilabel

_EPSILON = 1e-7  # Probabilities nearer to 0 or 1 are taken as that near, as Keras does.


class MultilabelModel(kind.ModelSide):
    """A sigmoid for each label; heat maps explain the highest logit."""

    watched = ("predicted",)
    shown = ("loss", "val_loss", "val_auc", "val_log_loss")

    def __init__(self, task: "Multilabel"):
        experiment = task.experiment
        self._count, self._weights = len(task.columns), task.weights
        self._label = records.LABEL_PREFIX + experiment.dataset.label_column
        self._group_of = task.data.group_of
        self._factors = experiment.training.class_weights or (1.0, 1.0)

    @property
    def losses(self) -> Mapping[str, Callable[[specs.Training], keras.losses.Loss]]:
        return {
            "cross_entropy": lambda _: ColumnLoss(self._weights, gamma=0.0),
            "focal": lambda training: ColumnLoss(self._weights, gamma=training.focal_gamma),
        }

    @property
    def metrics(self) -> Mapping[str, Callable[[], keras.metrics.Metric]]:
        return {"predicted": lambda: keras.metrics.MeanMetricWrapper(_predicted, "predicted")}

    @property
    def exact(self) -> Mapping[str, Callable[[np.ndarray, np.ndarray], float]]:
        """Return the mean AUC of the labels, and the weighted log loss."""
        return {
            "auc": lambda targets, outputs: multilabel.mean_auc(targets, outputs),
            "log_loss": lambda targets, outputs: float(
                multilabel.log_losses(targets, outputs, self._weights).mean()
            ),
        }

    def outputs(self, features: Any) -> Any:
        """Return the probabilities of the labels, float32 (batch, labels)."""
        dense = keras.layers.Dense(self._count, activation="sigmoid", dtype="float32", name="score")
        return dense(features)

    def encode(self, features: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Return 0 or 1 for each label, float32 (batch, labels), and the group's weight."""
        sets = tf.cast(features[self._label], tf.int32)
        bits = tf.bitwise.right_shift(sets[:, None], tf.range(self._count)[None]) & 1
        factors = tf.constant([self._factors[group] for group in self._group_of], tf.float32)
        return tf.cast(bits, tf.float32), tf.gather(factors, sets)

    def explained(self, logits: tf.Tensor) -> tf.Tensor:
        return tf.reduce_max(logits, axis=1)

    def examples_of_sense(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        targets = np.eye(2, self._count, dtype=np.float32)
        good, bad = (np.abs(targets - error) for error in (np.float32(0.1), np.float32(0.9)))
        return targets, good, bad


class ColumnLoss(keras.losses.Loss):
    """The mean over the labels of the cross entropy, weighted; with gamma, of the focal loss."""

    def __init__(self, weights: np.ndarray, *, gamma: float):
        """Set the weights (labels,), with the sum 1, and gamma of Lin et al. 2017."""
        super().__init__(name="column_loss")
        self._weights, self._gamma = weights.astype(np.float32), gamma

    def call(self, y_true: tf.Tensor, y_pred: tf.Tensor) -> tf.Tensor:
        # A target between 0 and 1 is of two examples that are mixed, and has the loss of both.
        targets = tf.cast(y_true, tf.float32)
        given = tf.clip_by_value(tf.cast(y_pred, tf.float32), _EPSILON, 1 - _EPSILON)
        losses = targets * self._of(given) + (1 - targets) * self._of(1 - given)
        return tf.reduce_sum(losses * self._weights, axis=1)

    def _of(self, right: tf.Tensor) -> tf.Tensor:
        return -tf.math.log(right) * tf.pow(1 - right, self._gamma)


def _predicted(targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
    """Return the share of labels above .5."""
    del targets
    return tf.reduce_mean(tf.cast(outputs > 0.5, tf.float32), axis=1)
