"""A bundle that scores, decides and explains: what every stage that shows heat maps uses."""

import numpy as np
import tensorflow as tf

from dr_tfx import gradcam, models, predict

DEFAULT_THRESHOLD = 0.5  # Where no evaluation has chosen one yet.


class Explainer:
    """The compiled functions of one bundle, built once and used for batches of any size."""

    def __init__(self, bundle: models.Bundle):
        self.bundle = bundle
        self._heatmaps = gradcam.GradCam(bundle.model)
        self._view_scores = predict.view_scorer(bundle)

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Explains a batch of uint8 RGB images (n, size, size, 3).

        Returns:
          Heat maps float32 (n, h, w), 0 to 1, of the images as they are, and scores float64 (n,),
          one probability of those of all views of test-time augmentation.
        """
        views = self._view_scores(tf.convert_to_tensor(images)).numpy()
        scores = predict.combine(views, self.bundle.experiment.evaluation.combine)
        return self._heatmaps(images), scores

    @property
    def threshold(self) -> float:
        """The score from which on the decision is the positive class."""
        chosen = self.bundle.threshold
        return DEFAULT_THRESHOLD if chosen is None else chosen

    def decide(self, score: float) -> str:
        """The name of the class that a score means."""
        return self.bundle.experiment.task.class_names[int(score >= self.threshold)]
