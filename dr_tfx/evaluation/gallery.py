"""The worst mistakes as pictures: what the model saw, and what of it raised the score."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np

from dr_tfx.dataset import manifest, records
from dr_tfx.evaluation.report import Picture
from dr_tfx.explanation import gradcam
from dr_tfx.input_pipeline import shard_reader
from dr_tfx.models import bundles

_SIDE = 256  # Pixels of a picture on the page, at most.
_QUALITY = 82  # Of the JPEG: 40 pictures of a fundus are half a megabyte.


def reader(data_dir: Path, split: str) -> Callable[[np.ndarray], np.ndarray]:
    """A function: numbers of examples of a split, int64 (n,) -> uint8 RGB (n, size, size, 3).

    Examples are numbered over the split's shards, as `scoring.predict_split` has them. Nothing is
    read before the function is called.
    """

    def read(numbers: np.ndarray) -> np.ndarray:
        data = manifest.load(data_dir)
        recipe = data.dataset.recipe
        schema = records.Schema(recipe.size, recipe.encoding)
        shards = shard_reader.ShardReader(data_dir, data.shards_of(split), schema)
        batch = np.empty((len(numbers), recipe.size, recipe.size, 3), np.uint8)
        shards.read(numbers, np.zeros((len(numbers), 2), bool), {records.IMAGE: batch})
        return batch

    return read


def pictures(
    bundle: bundles.Bundle,
    images: Callable[[np.ndarray], np.ndarray],
    numbers: np.ndarray,
    ids: Sequence[str],
) -> list[Picture]:
    """Photographs as small JPEG files, each with its heat map laid over it.

    Args:
      bundle: the model, and the task whose score the maps explain.
      images: what `reader` returns, or the like.
      numbers: int64 (n,), which images.
      ids: their n names.
    """
    if not ids:
        return []
    batch, found = images(numbers), []
    explained = bundle.kind.model.explained
    heatmaps, _ = gradcam.HeatMaps(bundle.model, explained=explained)(batch)
    for name, rgb, heatmap in zip(ids, batch, heatmaps, strict=True):
        small = _small(rgb)
        overlay = _jpeg(gradcam.overlay(small, heatmap)) if heatmap.any() else None
        found.append(Picture(name, _jpeg(small), overlay, side=len(small)))
    return found


def _small(rgb: np.ndarray) -> np.ndarray:
    if len(rgb) <= _SIDE:
        return rgb
    return cv2.resize(rgb, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def _jpeg(rgb: np.ndarray) -> bytes:
    """A JPEG file, with full colour resolution: lesions are small and red."""
    settings = [
        cv2.IMWRITE_JPEG_QUALITY,
        _QUALITY,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR,
        cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444,
    ]
    done, data = cv2.imencode(".jpg", cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), settings)
    if not done:
        raise ValueError(f"OpenCV could not write an image of shape {rgb.shape} as JPEG.")
    return bytes(data)
