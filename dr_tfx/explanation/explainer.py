"""A bundle that scores, decides and explains: what every stage that shows heat maps uses."""

import dataclasses
from collections.abc import Callable

import numpy as np
import tensorflow as tf

from dr_tfx.config import specs
from dr_tfx.explanation import gradcam
from dr_tfx.inference import predict
from dr_tfx.models import models
from dr_tfx.tasks.binary import heads

DEFAULT_THRESHOLD = 0.5  # Where no evaluation has chosen one yet.
PIXELS = 16 * 224**2  # Of the pictures that pass the network at once: bounds the memory.


class Explainer:
    """The compiled functions of one bundle, built once and used for batches of any size."""

    def __init__(
        self, bundle: models.Bundle, method: str = specs.METHODS[0], *, average_views: bool = False
    ):
        """Prepares the maps and the scores of a bundle.

        Args:
          bundle: the model.
          method: of the heat maps, a name in `gradcam.METHODS`.
          average_views: whether maps are means over the views of test-time augmentation, as the
            scores are, rather than of the image as it is.

        Raises:
          ValueError: no such method, or a model without a convolution that can be reached.
        """
        self.bundle, self._average_views = bundle, average_views
        head = heads.make(bundle.experiment.task)
        self._heatmaps = gradcam.HeatMaps(bundle.model, explained=head.explained, method=method)
        self._other_scores = _scorer_of_other_views(bundle)
        views = len(bundle.experiment.evaluation.views)
        over = f", mean of {views} views" if average_views and views > 1 else ""
        self.title = self._heatmaps.title + over  # How a figure calls the maps.
        size, batch = bundle.experiment.dataset.recipe.size, bundle.experiment.evaluation.batch_size
        self.at_once = min(batch, max(1, PIXELS // size**2))  # Images that pass the network.

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Explains a batch of uint8 RGB images (n, size, size, 3).

        Returns:
          Heat maps float32 (n, h, w), 0 to 1, and scores float64 (n,), one probability of those of
          all views. A view that has a map takes no second pass for its score.
        """
        explain = self._over_views if self._average_views else self._as_they_are
        pieces = [
            explain(images[i : i + self.at_once]) for i in range(0, len(images), self.at_once)
        ]
        maps, scores = map(np.concatenate, zip(*pieces, strict=True))
        how = self.bundle.experiment.evaluation.combine
        return maps, predict.combine(scores.astype(np.float64), how)

    def _as_they_are(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maps of the first view, the identity; scores (n, views)."""
        maps, scores = self._heatmaps(images)
        if self._other_scores:
            others = self._other_scores(tf.convert_to_tensor(images)).numpy()
            scores = np.concatenate([scores, others], axis=1)
        return maps, scores

    def _over_views(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Maps of all views, each turned back, averaged and scaled anew; scores (n, views)."""
        pixels = tf.cast(images, tf.float32)
        total, scores = 0.0, []
        for name in self.bundle.experiment.evaluation.views:
            view = predict.VIEWS[name]
            maps, output = self._heatmaps(view.apply(pixels))
            total = total + view.undo(maps)
            scores.append(output)
        highest = tf.reduce_max(total, axis=(1, 2), keepdims=True)
        return tf.math.divide_no_nan(total, highest).numpy(), np.concatenate(scores, axis=1)

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
