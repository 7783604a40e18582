"""The outputs of a model of grades, its targets and losses."""

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from dr_tfx.config import specs
from dr_tfx.statistics import multiclass
from dr_tfx.tasks.classes import model as classes_model
from dr_tfx.tasks.grades import heads

if TYPE_CHECKING:
    from dr_tfx.tasks.grades.kind import Grades

_ACTIVATIONS = {"cumulative": "sigmoid", "softmax": "softmax", "regression": "linear"}
_EPSILON = 1e-7


class GradesModel(classes_model.ClassesModel):
    """One of three heads, each of which means a probability for every grade.

    Heat maps explain the expected grade.
    """

    shown = ("loss", "val_loss", "val_kappa", "val_auc", "val_mae")

    def __init__(self, task: "Grades"):
        super().__init__(task)
        self._head = task.experiment.task.head
        self._smoothing = task.experiment.task.smoothing

    @property
    def losses(self) -> Mapping[str, Callable[[specs.Training], keras.losses.Loss]]:
        def of(rule: Callable[[tf.Tensor, tf.Tensor], tf.Tensor]) -> Callable[[Any], Any]:
            return lambda _: classes_model.ProbabilityLoss(rule, self.probabilities)

        return {
            **super().losses,
            "cumulative": of(_cumulative),
            "squared_error": lambda _: classes_model.ProbabilityLoss(_squared, self._grade),
        }

    @property
    def exact(self) -> Mapping[str, Callable[[np.ndarray, np.ndarray], float]]:
        """Return those of classes, and kappa and MAE of the decided grades."""
        return {
            **super().exact,
            "kappa": self._of_decisions(multiclass.quadratic_kappa),
            "mae": self._of_decisions(multiclass.mean_distance),
        }

    def outputs(self, features: Any) -> Any:
        """Return what the head tells, float32 (batch, units); see `GradesTask`."""
        # A regression begins in the middle of the scale.
        middle = (self._classes - 1) / 2 if self._head == "regression" else 0.0
        dense = keras.layers.Dense(
            heads.units(self._head, self._classes),
            activation=_ACTIVATIONS[self._head],
            bias_initializer=keras.initializers.Constant(middle),
            dtype="float32",
            name="score",
        )
        return dense(features)

    def probabilities(self, outputs: tf.Tensor) -> tf.Tensor:
        if self._head == "softmax":
            return outputs
        if self._head == "cumulative":
            above = tf.math.cumprod(outputs, axis=1)
        else:
            places = tf.range(self._classes - 1, dtype=outputs.dtype)
            above = tf.sigmoid((outputs - places - 0.5) / heads.WIDTH)
        ones = tf.ones_like(above[:, :1])
        return tf.concat([ones, above], 1) - tf.concat([above, 0 * ones], 1)

    def targets(self) -> np.ndarray:
        """Return shares that fall by the factor `smoothing` with each grade of distance."""
        distance = np.sqrt(multiclass.costs(self._classes))
        shares = np.float64(self._smoothing) ** distance
        return (shares / shares.sum(axis=1, keepdims=True)).astype(np.float32)

    def explained(self, logits: tf.Tensor) -> tf.Tensor:
        activation = keras.activations.get(_ACTIVATIONS[self._head])
        return self._grade(activation(logits))

    def examples_of_sense(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        targets, good, _ = super().examples_of_sense()
        if self._head == "cumulative":
            above = multiclass.above(good)
            good = above / np.concatenate([np.ones_like(above[:, :1]), above[:, :-1]], axis=1)
        elif self._head == "regression":
            good = heads.expected(good)[:, np.newaxis]
        good = good.astype(np.float32)
        return targets, good, good[::-1].copy()

    def _grade(self, outputs: tf.Tensor) -> tf.Tensor:
        """Return the expected grade, (batch,), of outputs of the network."""
        if self._head == "regression":
            return outputs[:, 0]
        return _expected(self.probabilities(outputs))


def _expected(shares: tf.Tensor) -> tf.Tensor:
    return tf.linalg.matvec(shares, tf.range(shares.shape[1], dtype=shares.dtype))


def _squared(targets: tf.Tensor, grade: tf.Tensor) -> tf.Tensor:
    """Return the squared error of the expected grade, (batch,)."""
    return tf.square(_expected(targets) - grade)


def _cumulative(targets: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Return the sum over k of the cross entropy of P(grade > k), (batch,).

    It is the loss of CORAL (Cao, Mirjalili and Raschka 2020, Pattern Recognition Letters 140:325),
    in which an error costs the more, the farther it is.
    """
    wanted, given = (
        tf.cumsum(shares, axis=1, reverse=True)[:, 1:] for shares in (targets, probabilities)
    )
    given = tf.clip_by_value(given, _EPSILON, 1 - _EPSILON)
    likelihood = wanted * tf.math.log(given) + (1 - wanted) * tf.math.log(1 - given)
    return -tf.reduce_sum(likelihood, axis=1)
