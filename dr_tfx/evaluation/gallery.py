"""Photographs of a report: what the model saw, and what raised its score.

That is a heat map; or, of a model that gives maps itself, the outlines of the truth on the one side
and of what is marked on the other. Of a large picture the part is shown where most is wrong, for
small lesions cannot be seen on the whole of it.
"""

import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import tensorflow as tf

from dr_tfx.dataset import manifest, records
from dr_tfx.evaluation.lesions_beside import ShownLesions
from dr_tfx.explanation import gradcam, overlays
from dr_tfx.inference import scoring
from dr_tfx.input_pipeline import shard_reader
from dr_tfx.models import bundles
from dr_tfx.preprocessing import outlines
from dr_tfx.reports.style import data_uri

_SIDE = 256  # Pixels of an image on the page, at most.
_OUTLINED = 400  # Pixels of one with outlines, which are a pixel wide.
_STRIDE = 50  # Pixels between the parts that are looked at.


@dataclasses.dataclass(frozen=True)
class GalleryImage:
    """A photograph and its heat map or outlines, as JPEG files of `side` x `side` pixels."""

    id: str
    photograph: bytes
    overlay: bytes | None  # The heat map on the photograph; None where nothing raises the score.
    side: int
    lesions: ShownLesions | None = None  # As another model marks them; None where none has.

    @property
    def photograph_uri(self) -> str:
        """The photograph as a `data:` address, which holds its own content."""
        return data_uri(self.photograph, "image/jpeg")

    @property
    def overlay_uri(self) -> str | None:
        """The photograph with its heat map, as a `data:` address."""
        return None if self.overlay is None else data_uri(self.overlay, "image/jpeg")


def reader(
    data_dir: Path, data: manifest.Manifest, split: str
) -> Callable[[np.ndarray], dict[str, np.ndarray]]:
    """Return a function: numbers of examples, int64 (n,) -> image and masks by name.

    These are IMAGE, uint8 RGB (n, size, size, 3), and masks uint8 (n, size, size, 1).

    Examples are numbered over the split's shards, in the order of `scoring.predict_split`. Nothing
    is read before the function is called.

    Args:
      data_dir: the folder of the data set.
      data: its manifest.
      split: which part of it.
    """

    def read(numbers: np.ndarray) -> dict[str, np.ndarray]:
        recipe, mask = data.dataset.recipe, records.Feature("uint8", is_mask=True)
        masks = {records.MASK_PREFIX + kind: mask for kind in data.dataset.masks}
        schema = records.Schema(recipe.size, recipe.encoding, masks)
        return shard_reader.ShardReader(data_dir, data.shards_of(split), schema).batch(numbers)

    return read


def gallery_images(
    bundle: bundles.Bundle,
    images: Callable[[np.ndarray], dict[str, np.ndarray]],
    numbers: np.ndarray,
    ids: Sequence[str],
    fitted: Any = None,
) -> list[GalleryImage]:
    """Return photographs as small JPEG files, each also with its heat map laid over it.

    Of a model that gives maps, the files show outlines: the truth's, and those of what is marked.

    Args:
      bundle: the model; its kind of task says which number the heat maps explain.
      images: a function such as `reader` returns.
      numbers: int64 (n,), the numbers of the images.
      ids: the n names of the images.
      fitted: what was fitted on validation.
    """
    if not ids:
        return []
    read, found = images(numbers), []
    if bundle.kind.scores.gives_maps:
        return list(_outlined(bundle, read, ids, fitted))
    batch = read[records.IMAGE]
    explained = bundle.kind.model.explained
    heatmaps, _ = gradcam.HeatMaps(bundle.model, explained=explained)(batch)
    for name, rgb, heatmap in zip(ids, batch, heatmaps, strict=True):
        small = _small(rgb)
        overlay = overlays.jpeg(overlays.overlay(small, heatmap)) if heatmap.any() else None
        found.append(GalleryImage(name, overlays.jpeg(small), overlay, side=len(small)))
    return found


def _outlined(
    bundle: bundles.Bundle, read: Mapping[str, np.ndarray], ids: Sequence[str], fitted: Any
) -> Iterator[GalleryImage]:
    """Yield photographs, or parts, with the outlines of the truth, and of what is marked."""
    score, scores = scoring.view_scorer(bundle), bundle.kind.scores
    for i, name in enumerate(ids):
        one = {key: value[i : i + 1] for key, value in read.items()}
        outputs = score(tf.convert_to_tensor(one[records.IMAGE])).numpy()
        rgb, sides = one[records.IMAGE][0], [x[0] for x in scores.outlined(one, outputs, fitted)]
        rows, columns = _part((sides[0] != sides[1]).any(axis=0))
        truth, marked = (
            outlines.draw(rgb[rows, columns], list(side[:, rows, columns]), side=_OUTLINED)
            for side in sides
        )
        yield GalleryImage(name, overlays.jpeg(truth), overlays.jpeg(marked), side=_OUTLINED)


def _part(wrong: np.ndarray) -> tuple[slice, slice]:
    """Return the rows and columns of a picture to be shown, bool (height, width) its errors.

    That is all of it, unless it is more than twice as large as what is shown.
    """
    if min(wrong.shape) <= 2 * _OUTLINED:
        return slice(None), slice(None)
    sums = cv2.integral(wrong.astype(np.uint8))[:, ::_STRIDE][::_STRIDE]
    side = _OUTLINED // _STRIDE
    errors = sums[side:, side:] - sums[:-side, side:] - sums[side:, :-side] + sums[:-side, :-side]
    top, left = _STRIDE * np.array(np.unravel_index(errors.argmax(), errors.shape))
    return slice(top, top + _OUTLINED), slice(left, left + _OUTLINED)


def _small(rgb: np.ndarray) -> np.ndarray:
    if len(rgb) <= _SIDE:
        return rgb
    return cv2.resize(rgb, (_SIDE, _SIDE), interpolation=cv2.INTER_AREA)
