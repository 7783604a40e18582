"""A bundle that scores, decides and explains: what every stage that shows heat maps uses."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from dr_tfx import gradcam, heads, models, predict

DEFAULT_THRESHOLD = 0.5  # Where no evaluation has chosen one yet.


class Explainer:
    """The compiled functions of one bundle, built once and used for batches of any size."""

    def __init__(self, bundle: models.Bundle, method: str = "gradcam"):
        """Prepares one method of `gradcam.METHODS`.

        Raises:
          ValueError: no such method, or a model without a convolution that can be reached.
        """
        self.bundle = bundle
        head = heads.make(bundle.experiment.task)
        self._heatmaps = gradcam.HeatMaps(bundle.model, explained=head.explained, method=method)
        self._other_views = _scorer_of_other_views(bundle)
        self.title = self._heatmaps.title  # How a figure calls the method.

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Explains a batch of uint8 RGB images (n, size, size, 3).

        Returns:
          Heat maps float32 (n, h, w), 0 to 1, of the images as they are, and scores float64 (n,),
          the mean probability over the views of test-time augmentation. The first view, the images
          as they are, takes no pass of its own.
        """
        maps, output = self._heatmaps(images)
        scores = output.astype(np.float64)
        if self._other_views:
            others = self._other_views(tf.convert_to_tensor(images)).numpy()
            scores = np.concatenate([scores, others], axis=1)
        return maps, scores.mean(axis=1)

    @property
    def threshold(self) -> float:
        """The score from which on the decision is the positive class."""
        chosen = self.bundle.threshold
        return DEFAULT_THRESHOLD if chosen is None else chosen

    def decide(self, score: float) -> str:
        """The name of the class that a score means."""
        return self.bundle.experiment.task.class_names[int(score >= self.threshold)]


def _scorer_of_other_views(
    bundle: models.Bundle,
) -> Callable[[tf.Tensor], tf.Tensor] | None:
    """`predict.view_scorer` of all views but the first, the identity; None if there is no other."""
    experiment = bundle.experiment
    others = experiment.evaluation.views[1:]
    if not others:
        return None
    evaluation = dataclasses.replace(experiment.evaluation, views=others)
    experiment = dataclasses.replace(experiment, evaluation=evaluation)
    return predict.view_scorer(dataclasses.replace(bundle, experiment=experiment))
