"""The output of a model of several classes, its targets, losses and metrics."""

import functools
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
import tensorflow as tf

from dr_tfx.config import specs
from dr_tfx.dataset import records
from dr_tfx.statistics import multiclass
from dr_tfx.tasks import kind

if TYPE_CHECKING:
    from dr_tfx.tasks.classes.kind import Classes

_EPSILON = 1e-7  # Probabilities nearer to 0 or 1 are taken as that near, as Keras does.


class ClassesModel(kind.ModelSide):
    """A softmax over the classes; heat maps explain the logit of the most probable one."""

    watched = ("accuracy",)
    shown: tuple[str, ...] = ("loss", "val_loss", "val_auc", "val_balanced_accuracy")

    def __init__(self, task: "Classes"):
        experiment = task.experiment
        self._task, self._classes = task, len(task.class_names)
        self._label = records.LABEL_PREFIX + experiment.dataset.label_column
        self._factors = experiment.training.class_weights or (1.0,) * self._classes

    @property
    def losses(self) -> Mapping[str, Callable[[specs.Training], keras.losses.Loss]]:
        return {
            "focal": lambda training: ProbabilityLoss(
                functools.partial(focal, gamma=training.focal_gamma), self.probabilities
            ),
            "cross_entropy": lambda _: ProbabilityLoss(cross_entropy, self.probabilities),
        }

    @property
    def metrics(self) -> Mapping[str, Callable[[], keras.metrics.Metric]]:
        return {"accuracy": lambda: keras.metrics.MeanMetricWrapper(self._is_right, "accuracy")}

    @property
    def exact(self) -> Mapping[str, Callable[[np.ndarray, np.ndarray], float]]:
        """Return macro AUC, accuracies, and the share of the class that is decided most often."""
        return {
            "auc": lambda targets, outputs: multiclass.macro_auc(
                targets.argmax(axis=1), self._task.scores.probabilities(outputs)
            ),
            "accuracy": self._of_decisions(multiclass.accuracy),
            "balanced_accuracy": self._of_decisions(multiclass.balanced_accuracy),
            "largest_share": self._of_decisions(lambda n: n.sum(axis=0).max() / n.sum()),
        }

    def outputs(self, features: Any) -> Any:
        """Return the probabilities of the classes, float32 (batch, classes)."""
        dense = keras.layers.Dense(
            self._classes, activation="softmax", dtype="float32", name="score"
        )
        return dense(features)

    def probabilities(self, outputs: tf.Tensor) -> tf.Tensor:
        """Return the probabilities (batch, classes) that the network's outputs mean."""
        return outputs

    def encode(self, features: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the class of each label, one-hot (batch, classes), and its weight (batch,)."""
        classes = tf.gather(tf.constant(self._task.label_map), features[self._label])
        factors = tf.gather(tf.constant(self._factors, tf.float32), classes)
        return tf.gather(tf.constant(self.targets()), classes), factors

    def targets(self) -> np.ndarray:
        """Return the target of each class, float32 (classes, classes); its own share is highest."""
        return np.eye(self._classes, dtype=np.float32)

    def explained(self, logits: tf.Tensor) -> tf.Tensor:
        return tf.reduce_max(logits, axis=1)

    def examples_of_sense(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        targets = np.eye(self._classes, dtype=np.float32)
        off = np.float32(0.1 / (self._classes - 1))
        good = np.where(targets > 0, np.float32(0.9), off)
        return targets, good, np.roll(good, 1, axis=1)

    def _of_decisions(
        self, figure: Callable[[np.ndarray], Any]
    ) -> Callable[[np.ndarray, np.ndarray], float]:
        """Return a figure of the table of confusion as a function of targets and outputs."""
        scores, classes = self._task.scores, self._classes

        def judged(targets: np.ndarray, outputs: np.ndarray) -> float:
            decided = scores.decided(scores.probabilities(outputs))
            return float(figure(multiclass.confusion(targets.argmax(axis=1), decided, classes)))

        return judged

    def _is_right(self, targets: tf.Tensor, outputs: tf.Tensor) -> tf.Tensor:
        decided = tf.argmax(self.probabilities(outputs), axis=1)
        return tf.cast(tf.equal(tf.argmax(targets, axis=1), decided), tf.float32)


class ProbabilityLoss(keras.losses.Loss):
    """A loss of the probabilities that the network's outputs mean."""

    def __init__(
        self,
        rule: Callable[[tf.Tensor, tf.Tensor], tf.Tensor],
        probabilities: Callable[[tf.Tensor], tf.Tensor],
    ):
        """Set the parts of the loss.

        Args:
          rule: targets and probabilities (batch, classes) -> losses (batch,).
          probabilities: outputs of the network -> probabilities (batch, classes).
        """
        super().__init__(name="probability_loss")
        self._rule, self._probabilities = rule, probabilities

    def call(self, y_true: Any, y_pred: Any) -> tf.Tensor:
        outputs = tf.convert_to_tensor(y_pred)
        return self._rule(tf.cast(y_true, outputs.dtype), self._probabilities(outputs))


def cross_entropy(targets: tf.Tensor, probabilities: tf.Tensor) -> tf.Tensor:
    """Return the negative log-likelihood of each example, (batch,)."""
    return -tf.reduce_sum(targets * tf.math.log(_inside(probabilities)), axis=1)


def focal(targets: tf.Tensor, probabilities: tf.Tensor, *, gamma: float) -> tf.Tensor:
    """Return the focal loss of each example, (batch,): Lin et al. 2017, for several classes."""
    p = _inside(probabilities)
    return -tf.reduce_sum(targets * tf.pow(1.0 - p, gamma) * tf.math.log(p), axis=1)


def _inside(probabilities: tf.Tensor) -> tf.Tensor:
    return tf.clip_by_value(probabilities, _EPSILON, 1.0 - _EPSILON)
