"""Scores of a split or of arrays, with test-time augmentation, in one streaming pass."""

import dataclasses
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import tensorflow as tf
from tqdm import tqdm

from dr_tfx.dataset import manifest
from dr_tfx.input_pipeline import augmentation, loader
from dr_tfx.models import models

ZOOM = 1.1  # Of zoom_in and zoom_out.
TILT = 10.0  # Degrees, of rotate_10 and rotate_350.
_SURE = 2.0**-24  # As near to 0 and 1 as logits are told apart: float32 has nothing nearer to 1.


@dataclasses.dataclass(frozen=True)
class View:
    """One way to look at a photograph, and the way back.

    Attributes:
      apply: float32 pixels 0..255 (n, size, size, 3) -> the same shape.
      undo: float32 maps (n, h, w) of what `apply` gave, at any resolution -> the maps of the
        photograph as it is, h and w changed over by a quarter turn. Where the view did not show
        the photograph a map is 0. The same map where a view changes colours alone.
    """

    apply: Callable[[tf.Tensor], tf.Tensor]
    undo: Callable[[tf.Tensor], tf.Tensor] = lambda maps: maps


def _mirrored(*axes: int) -> View:
    def mirror(x: tf.Tensor) -> tf.Tensor:
        return tf.reverse(x, axes)

    return View(mirror, mirror)


def _turned(quarters: int) -> View:
    """Counter-clockwise, as numpy.rot90."""

    def turn(x: tf.Tensor, axis: int) -> tf.Tensor:
        x = tf.convert_to_tensor(x)
        return tf.reverse(tf.transpose(x, [0, 2, 1, *range(3, x.shape.rank)]), [axis])

    there, back = (1, 2) if quarters == 1 else (2, 1)
    return View(lambda x: turn(x, there), lambda maps: turn(maps, back))


def _resampled(*, degrees: float = 0.0, zoom: float = 1.0) -> View:
    """Turned counter-clockwise and enlarged about the centre, bilinear.

    What comes into view from beyond the border is the photograph's reflection, as in training.
    """
    angle = math.radians(degrees)

    def apply(x: tf.Tensor) -> tf.Tensor:
        return augmentation.rotate_and_zoom(x, tf.constant([angle]), tf.constant([1 / zoom]))

    def undo(maps: tf.Tensor) -> tf.Tensor:
        maps = tf.convert_to_tensor(maps)[..., tf.newaxis]
        turn, scale = tf.constant([-angle]), tf.constant([zoom])
        return augmentation.rotate_and_zoom(maps, turn, scale, "CONSTANT")[..., 0]

    return View(apply, undo)


# Each name of specs.VIEWS. The first five are those of the published recipe.
VIEWS: dict[str, View] = {
    "identity": View(lambda x: x),
    "left_right": _mirrored(2),
    "up_down": _mirrored(1),
    "left_right_up_down": _mirrored(1, 2),
    "brighter": View(lambda x: tf.minimum(x * 1.1, 255.0)),
    "rotate_90": _turned(1),
    "rotate_180": _mirrored(1, 2),
    "rotate_270": _turned(3),
    "rotate_10": _resampled(degrees=TILT),
    "rotate_350": _resampled(degrees=-TILT),
    "zoom_in": _resampled(zoom=ZOOM),
    "zoom_out": _resampled(zoom=1 / ZOOM),
}


def predict_split(
    bundle: models.Bundle, data_dir: Path, split: str, *, external: bool = False
) -> pd.DataFrame:
    """Scores every example of a split; only the scores are kept, never the images.

    Args:
      bundle: the model.
      data_dir: the data set that it was trained on; or, if `external`, one of other photographs
        that was built for it.
      split: which part of it.
      external: whether the photographs come from elsewhere.

    Returns:
      One row an example, in shard order: `id`, `patient`, `stratum` (the finest label), `target`
      (0 or 1), `score` (over all views, see `combine`) and `score/<view>` for every view.

    Raises:
      FileNotFoundError, ValueError: no data set, another contract, or no such split.
    """
    data = manifest.load(data_dir)
    where = str(data_dir)
    if external:
        manifest.check_same_recipe(bundle.manifest, data, where=where)
    else:
        manifest.check_same_contract(bundle.manifest, data, where=where)
    return stream(bundle, view_scorer(bundle), data_dir, data=data, split=split)


def stream(
    bundle: models.Bundle,
    score: Callable[[tf.Tensor], tf.Tensor],
    data_dir: Path,
    *,
    data: manifest.Manifest,
    split: str,
) -> pd.DataFrame:
    """One pass over a split with a compiled scorer: what `predict_split` returns, of any data.

    Raises:
      ValueError: no such split, or a shard is damaged.
    """
    settings = bundle.experiment.evaluation
    dataset = loader.evaluation_dataset(data_dir, data, split, batch_size=settings.batch_size)
    total = sum(shard.records for shard in data.shards_of(split))
    parts = []
    external = data.dataset.split.method == "external"  # Which is one split, whatever its name.
    title = f"score {data.dataset.name if external else split}"
    bar = tqdm(total=total, desc=title, unit="image")
    with bar, loader.damage_named(data_dir):
        for batch in dataset:
            scores = score(batch["image"]).numpy()
            parts.append(
                {
                    "id": [i.decode() for i in batch["id"].numpy()],
                    "patient": [p.decode() for p in batch["patient"].numpy()],
                    "stratum": batch["label"].numpy(),
                    "scores": scores,
                }
            )
            bar.update(len(scores))
    scores = np.concatenate([part["scores"] for part in parts])
    strata = np.concatenate([part["stratum"] for part in parts])
    frame = pd.DataFrame(
        {
            "id": [i for part in parts for i in part["id"]],
            "patient": [p for part in parts for p in part["patient"]],
            "stratum": strata,
            "target": np.asarray(bundle.experiment.task.label_map)[strata],
            "score": combine(scores, settings.combine),
        }
    )
    for i, view in enumerate(settings.views):
        frame[f"score/{view}"] = scores[:, i]
    return frame


def view_scorer(bundle: models.Bundle) -> Callable[[tf.Tensor], tf.Tensor]:
    """A compiled function: uint8 images (n, size, size, 3) -> float64 scores (n, views).

    The model is traced once for all views, and takes them one after the other, each made when its
    turn comes: so that a batch needs the memory of one view.
    """
    names = bundle.experiment.evaluation.views
    size = bundle.experiment.dataset.recipe.size

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), tf.float32)])
    def forward(pixels: tf.Tensor) -> tf.Tensor:
        return bundle.model(pixels, training=False)[:, 0]

    @tf.function(input_signature=[tf.TensorSpec((None, size, size, 3), tf.uint8)])
    def score(images: tf.Tensor) -> tf.Tensor:
        pixels = tf.cast(images, tf.float32)
        scores: list[tf.Tensor] = []
        for name in names:
            with tf.control_dependencies(scores[-1:]):
                scores.append(forward(VIEWS[name].apply(tf.identity(pixels))))
        return tf.cast(tf.stack(scores, axis=1), tf.float64)

    return score


def combine(scores: np.ndarray, how: str) -> np.ndarray:
    """One probability of those of all views.

    The mean of logits lets a sure view count for more than one in doubt; probabilities nearer to 0
    or 1 than 2**-24 count as that near.

    Args:
      scores: float64 (n, views), 0 to 1.
      how: 'probability', the mean; or 'logit', the probability of the mean logit.

    Returns:
      float64 (n,).
    """
    if how == "probability":
        return scores.mean(axis=1)
    scores = np.clip(scores, _SURE, 1 - _SURE)
    return 1 / (1 + np.exp(-np.log(scores / (1 - scores)).mean(axis=1)))
