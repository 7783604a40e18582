"""The worst mistakes as pictures: what the model saw, and what of it raised the score."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np

from dr_tfx import gradcam, manifest, report, shard_reader

_SIDE = 256  # Pixels of a picture on the page, at most.
_QUALITY = 82  # Of the JPEG: 40 pictures of a fundus are half a megabyte.
_AT_ONCE = 16

Heatmaps = Callable[[np.ndarray], np.ndarray]
"""uint8 RGB (n, size, size, 3) -> float32 (n, height, width), 0 to 1, as `gradcam.GradCam`."""


def of_split(
    heatmaps: Heatmaps,
    data_dir: Path,
    data: manifest.Manifest,
    split: str,
    *,
    numbers: Mapping[str, int],
) -> list[report.Picture]:
    """The pictures of some examples of a split, read by their place in it.

    Args:
      heatmaps: of the model.
      data_dir: where the shards are.
      data: the data set.
      split: which part of it.
      numbers: id -> place in the split, counted over its shards.

    Raises:
      ValueError: a shard is damaged; names the file.
    """
    if not numbers:
        return []
    recipe = data.dataset.recipe
    reader = shard_reader.ShardReader(data_dir, data.shards_of(split), recipe)
    as_they_are = np.zeros((len(numbers), 2), bool)
    images = reader.read(np.array(list(numbers.values()), np.int64), as_they_are)
    return pictures(heatmaps, images, list(numbers))


def pictures(heatmaps: Heatmaps, images: np.ndarray, ids: Sequence[str]) -> list[report.Picture]:
    """Photographs as JPEG files, each beside its heat map laid over it.

    Args:
      heatmaps: of the model.
      images: uint8 RGB (n, size, size, 3), as the model sees them.
      ids: their n names.
    """
    return list(_pictures(heatmaps, images, ids))


def _pictures(
    heatmaps: Heatmaps, images: np.ndarray, ids: Sequence[str]
) -> Iterator[report.Picture]:
    for start in range(0, len(ids), _AT_ONCE):
        batch = images[start : start + _AT_ONCE]
        for name, rgb, heatmap in zip(ids[start:], batch, heatmaps(batch), strict=False):
            small = _small(rgb)
            yield report.Picture(
                id=name,
                photograph=_jpeg(small),
                overlay=_jpeg(gradcam.overlay(small, heatmap)) if heatmap.any() else None,
                side=len(small),
            )


def _small(rgb: np.ndarray) -> np.ndarray:
    if len(rgb) <= _SIDE:
        return rgb
    return cv2.resize(rgb, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)


def _jpeg(rgb: np.ndarray) -> bytes:
    bgr = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)
    done, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, _QUALITY])
    if not done:
        raise ValueError(f"OpenCV could not write an image of shape {rgb.shape} as JPEG.")
    return data.tobytes()
