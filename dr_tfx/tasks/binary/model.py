"""The output of a binary model, its targets, losses and metrics."""

from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from dr_tfx.config import specs
from dr_tfx.dataset import records
from dr_tfx.statistics import operating_points
from dr_tfx.tasks import kind
from dr_tfx.tasks.binary import settings

_CLEARLY = 0.5 * (1 + operating_points.ONE_ANSWER)  # The least score that is more than a half.


class BinaryModel(kind.ModelSide):
    """One sigmoid: the probability of class 1, of which heat maps explain the logit."""

    watched = ("auc", "accuracy", "predicted_positive")
    shown = ("loss", "auc", "val_loss", "val_auc", "val_accuracy")

    def __init__(self, experiment: settings.BinaryExperiment):
        self._task = experiment.task
        self._label = records.LABEL_PREFIX + experiment.dataset.label_column
        self._factors = experiment.training.class_weights or (1.0, 1.0)

    @property
    def losses(self) -> Mapping[str, Callable[[specs.Training], keras.losses.Loss]]:
        return {"focal": _focal, "cross_entropy": lambda _: keras.losses.BinaryCrossentropy()}

    @property
    def metrics(self) -> Mapping[str, Callable[[], keras.metrics.Metric]]:
        return {
            "auc": lambda: Auc(num_thresholds=1000, name="auc"),
            "accuracy": lambda: Accuracy(name="accuracy"),
            "predicted_positive": PredictedPositive,
            "kappa": Kappa,
        }

    @property
    def exact(self) -> Mapping[str, Callable[[np.ndarray, np.ndarray], float]]:
        return {"auc": _auc}

    def outputs(self, features: Any) -> Any:
        """Return the probability of class 1, float32 (batch, 1)."""
        return keras.layers.Dense(1, activation="sigmoid", dtype="float32", name="score")(features)

    def encode(self, features: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the class of each label, float32 (batch, 1), and the class's weight (batch,)."""
        labels = features[self._label]
        label_map = self._task.label_map
        factors = [self._factors[group] for group in label_map]
        targets = tf.gather(tf.constant(label_map, tf.float32), labels)[:, tf.newaxis]
        return targets, tf.gather(tf.constant(factors, tf.float32), labels)

    def explained(self, logits: tf.Tensor) -> tf.Tensor:
        return tf.squeeze(logits, axis=1)

    def examples_of_sense(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        targets = np.array([[0], [1]], np.float32)
        good, bad = (np.abs(targets - error) for error in (np.float32(0.1), np.float32(0.9)))
        return targets, good, bad


def _auc(targets: np.ndarray, outputs: np.ndarray) -> float:
    """Return the area under the ROC curve; NaN if all targets are the same."""
    if len(np.unique(targets)) < 2:
        return float("nan")
    return float(roc_auc_score(targets[:, 0], outputs[:, 0]))


def _focal(training: specs.Training) -> keras.losses.Loss:
    """Return the focal loss of Lin et al. 2017, with the factor alpha on the positive class."""
    return keras.losses.BinaryFocalCrossentropy(
        apply_class_balancing=True, alpha=training.focal_alpha, gamma=training.focal_gamma
    )


@keras.saving.register_keras_serializable(package="dr_tfx")
class Auc(keras.metrics.AUC):
    """Keras' area under the ROC curve, where an example that is mixed of two counts as the larger.

    Keras would take every target that is not 0 for the second class.
    """

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return super().update_state(tf.round(y_true), y_pred, sample_weight)


@keras.saving.register_keras_serializable(package="dr_tfx")
class Accuracy(keras.metrics.BinaryAccuracy):
    """Keras' share of scores on their target's side of .5, with targets as for `Auc`."""

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        return super().update_state(tf.round(y_true), y_pred, sample_weight)


@keras.saving.register_keras_serializable(package="dr_tfx")
class Kappa(keras.metrics.Metric):
    """Cohen's kappa with quadratic weights (Cohen 1968), over all examples since the last reset.

    Targets are class numbers, (n,) or (n, 1), rounded if two examples are mixed. Predictions are
    the probability of class 1 (n, 1), which is the decision when above .5, or the scores of all
    classes (n, classes), of which the highest decides. 0 while chance agreement is perfect: no
    example, or one class alone.
    """

    def __init__(self, classes: int = 2, name: str = "kappa", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.classes = classes
        # float32 whatever the policy: float16 cannot count beyond 2048.
        self.confusion = self.add_weight(
            name="confusion", shape=(classes, classes), initializer="zeros", dtype="float32"
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        scores = tf.convert_to_tensor(y_pred)
        if scores.shape[-1] == 1 or scores.shape.rank == 1:
            decided = tf.cast(tf.reshape(scores, [-1]) > 0.5, tf.int64)
        else:
            decided = tf.argmax(scores, axis=-1)
        weights = None
        if sample_weight is not None:
            weights = tf.reshape(tf.cast(sample_weight, tf.float32), [-1])
        counts = tf.math.confusion_matrix(
            tf.reshape(tf.cast(tf.round(y_true), tf.int64), [-1]),
            decided,
            num_classes=self.classes,
            weights=weights,
            dtype=tf.float32,
        )
        self.confusion.assign_add(counts)

    def result(self) -> tf.Tensor:
        """The kappa so far, a float32 scalar."""
        counts = tf.convert_to_tensor(self.confusion)
        shares = tf.math.divide_no_nan(counts, tf.reduce_sum(counts))
        by_chance = tf.reduce_sum(shares, axis=1)[:, None] * tf.reduce_sum(shares, axis=0)[None]
        number = tf.range(self.classes, dtype=tf.float32)
        cost = tf.square(number[:, None] - number[None])
        expected = tf.reduce_sum(cost * by_chance)
        observed = tf.reduce_sum(cost * shares)
        return tf.where(expected > 0, 1 - tf.math.divide_no_nan(observed, expected), 0.0)

    def reset_state(self) -> None:
        # Keras 2's own assigns a scalar.
        self.confusion.assign(tf.zeros((self.classes, self.classes)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "classes": self.classes}


@keras.saving.register_keras_serializable(package="dr_tfx")
class PredictedPositive(keras.metrics.Mean):
    """Share of scores that mean the second class at .5; near 0 or 1 the model has collapsed.

    A score above .5 by no more than rounding does not count: a model whose scores are .5 but for
    that says one thing.
    """

    def __init__(self, name: str = "predicted_positive", dtype: Any = "float32"):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        del y_true, sample_weight  # A share of images, whatever each of them counts.
        return super().update_state(tf.cast(tf.reshape(y_pred, [-1]) > _CLEARLY, tf.float32))
