"""A softmax over the classes."""

from collections.abc import Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dr_tfx.config import specs
from dr_tfx.dataset import records
from dr_tfx.tasks import kind


class ToyModel(kind.ModelSide):
    watched = ("accuracy",)
    shown = ("loss", "val_loss", "val_accuracy")

    def __init__(self, experiment: specs.Experiment):
        self._classes = len(experiment.dataset.label_names)
        self._label = records.LABEL_PREFIX + experiment.dataset.label_column

    @property
    def losses(self) -> Mapping[str, Any]:
        return {"categorical": lambda _: keras.losses.CategoricalCrossentropy()}

    @property
    def metrics(self) -> Mapping[str, Any]:
        return {"accuracy": lambda: keras.metrics.CategoricalAccuracy(name="accuracy")}

    def outputs(self, features: Any) -> Any:
        dense = keras.layers.Dense(
            self._classes, activation="softmax", dtype="float32", name="classes"
        )
        return dense(features)

    def encode(self, features: Mapping[str, tf.Tensor]) -> tuple[tf.Tensor, tf.Tensor]:
        labels = features[self._label]
        return tf.one_hot(labels, self._classes), tf.ones_like(labels, tf.float32)

    def explained(self, logits: tf.Tensor) -> tf.Tensor:
        return tf.reduce_max(logits, axis=1)

    def examples_of_sense(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        targets = np.eye(self._classes, dtype=np.float32)
        return targets, 0.9 * targets + 0.05, 0.9 * np.roll(targets, 1, axis=1) + 0.05
