"""A bundle that scores, decides and explains: every stage that shows heat maps uses it."""

import dataclasses
from collections.abc import Callable

import numpy as np
import pandas as pd
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.explanation import gradcam
from dr_tfx.inference import scoring, views
from dr_tfx.models import bundles

OWN = "own map"  # The method of a model that gives maps.
PIXELS = 16 * 224**2  # Of the pictures that pass the network at once: bounds the memory.


class Explainer:
    """The compiled functions of one bundle, built once and used for batches of any size.

    A model that gives maps is explained by these: the highest of all kinds at each place.

    Attributes:
      bundle: the model.
      experiment: the settings of its run.
      manifest: the manifest of the data set that it was trained on.
      name: of the method, in tables.
      title: the name of the maps in a figure.
      at_once: most images that pass the network at a time.
    """

    def __init__(
        self, bundle: bundles.Bundle, method: str = specs.METHODS[0], *, average_views: bool = False
    ):
        """Prepare the maps and the scores of a bundle.

        Args:
          bundle: the model.
          method: of the heat maps, a name in `gradcam.METHODS`.
          average_views: whether maps are means over the views of test-time augmentation, as the
            scores are, rather than of the image as it is. A model's own maps always are.

        Raises:
          ValueError: no such method, one for a model that gives maps itself, or a model without a
            convolution that can be reached.
        """
        self.bundle, self._average_views = bundle, average_views
        self.experiment, self.manifest = bundle.experiment, bundle.manifest
        self._kind = bundle.kind
        self._kind.scores.check_explained(where=bundle.folder)
        size, batch = bundle.experiment.dataset.recipe.size, bundle.experiment.evaluation.batch_size
        self.at_once = min(batch, max(1, PIXELS // size**2))
        if self._kind.scores.gives_maps:
            self.name, self.title = OWN, "The model's own map"
            if method != specs.METHODS[0]:
                raise ValueError(
                    f"the model of {bundle.folder} gives maps itself, which {method} cannot "
                    "explain: leave the method out"
                )
            self._score = scoring.view_scorer(bundle)
            return
        explained = self._kind.model.explained
        self._heatmaps = gradcam.HeatMaps(bundle.model, explained=explained, method=method)
        self._other_outputs = _scorer_of_other_views(bundle)
        count = len(bundle.experiment.evaluation.views)
        over = f", mean of {count} views" if average_views and count > 1 else ""
        self.name, self.title = method, self._heatmaps.title + over

    def __call__(self, images: np.ndarray) -> tuple[np.ndarray, pd.DataFrame]:
        """Explain a batch of uint8 RGB images (n, size, size, 3).

        Returns:
          Heat maps float32 (n, h, w), 0 to 1, and a table of n rows with the columns of the kind's
          `ScoreSide.columns`. A view that has a map takes no second pass for its score.

        Raises:
          ValueError: a score or a heat map is not finite.
        """
        if self._kind.scores.gives_maps:
            return self._own(images)
        maps, table, _ = self._explained(images)
        return maps, table

    def _own(self, images: np.ndarray) -> tuple[np.ndarray, pd.DataFrame]:
        """Return the highest probability of all kinds at each place, and the table."""
        maps, tables = [], []
        for i in range(0, len(images), self.at_once):
            outputs = self._score(tf.convert_to_tensor(images[i : i + self.at_once])).numpy()
            tables.append(pd.DataFrame(self.bundle.columns(outputs)))
            maps.append(outputs.max(axis=-1))
        return np.concatenate(maps), pd.concat(tables, ignore_index=True)

    def _explained(self, images: np.ndarray) -> tuple[np.ndarray, pd.DataFrame, np.ndarray]:
        """Return what a call returns, and the features of the images as they are, (n, channels)."""
        explain = self._over_views if self._average_views else self._as_they_are
        pieces = [
            explain(images[i : i + self.at_once]) for i in range(0, len(images), self.at_once)
        ]
        maps, outputs, seen = map(np.concatenate, zip(*pieces, strict=True))
        if not np.isfinite(maps).all():  # A score may be finite where the features are not.
            raise ValueError(
                f"The model of {self.bundle.folder} gives heat maps that are not finite: its "
                "training diverged. Lower config.training.learning_rate and train again."
            )
        return maps, pd.DataFrame(self.bundle.columns(outputs.astype(np.float64))), seen

    def explain(self, rgb: np.ndarray) -> list[tuple[tasks.Reading, np.ndarray]]:
        """Return what the model says of pictures, uint8 RGB (n, size, size, 3), and their maps.

        It is for models that give a number: `scoring.BundleReader.mark` says what others mark.
        """
        maps, table, seen = self._explained(rgb)
        return list(zip(tasks.with_features(self.read(table), seen), maps, strict=True))

    def read(self, table: pd.DataFrame) -> list[tasks.Reading]:
        """Return what the model says of each row of a table of scores."""
        return self._kind.scores.read(table, self.bundle.fitted)

    def _as_they_are(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return maps of the first view, the identity, outputs (n, views, ...), and features."""
        maps, output, seen = self._heatmaps.seen(images)
        outputs = output[:, np.newaxis]
        if self._other_outputs:
            others = self._other_outputs(tf.convert_to_tensor(images)).numpy()
            outputs = np.concatenate([outputs, others], axis=1)
        return maps, outputs, seen

    def _over_views(self, images: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return the mean of all views' maps, turned back, outputs (n, views, ...), and features.

        The features are those of the first view.
        """
        pixels = tf.cast(images, tf.float32)
        total, outputs, features = 0.0, [], []
        for name in self.bundle.experiment.evaluation.views:
            view = views.VIEWS[name]
            maps, output, seen = self._heatmaps.seen(view.apply({"image": pixels})["image"])
            features.append(seen)
            total = total + view.undo(maps)
            outputs.append(output)
        highest = tf.reduce_max(total, axis=(1, 2), keepdims=True)
        averaged = tf.math.divide_no_nan(total, highest).numpy()
        return averaged, np.stack(outputs, axis=1), features[0]


def _scorer_of_other_views(
    bundle: bundles.Bundle,
) -> Callable[[tf.Tensor], tf.Tensor] | None:
    """Return a scorer of all views but the first, the identity; None if there is no other."""
    experiment = bundle.experiment
    others = experiment.evaluation.views[1:]
    if not others:
        return None
    evaluation = dataclasses.replace(experiment.evaluation, views=others)
    experiment = dataclasses.replace(experiment, evaluation=evaluation)
    return scoring.view_scorer(dataclasses.replace(bundle, experiment=experiment))
