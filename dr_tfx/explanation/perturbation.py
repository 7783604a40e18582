"""Insertion and deletion, which tell whether the score depends on what a heat map marks.

Petsiuk et al., "RISE: Randomized Input Sampling for Explanation of Black-box Models", BMVC 2018,
https://arxiv.org/abs/1806.07421. Deletion takes the pixels away in the order of the map, highest
first, and watches the score: the lower the area under the curve, the better the map. Insertion
brings them back in that order: the higher, the better.

In both, the blurred photograph replaces the pixels that are taken away. Black pixels would be dark
spots on a retina and look like haemorrhages. Only the retina's pixels have an order: those of the
black surround change nothing, and would count against random maps alone.

The same is done with random maps. They have the heat map's own resolution, so that they take away
patches as large as its patches, and not single pixels.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import cv2
import numpy as np
from sklearn.metrics import auc

from dr_tfx.preprocessing import quality

STEPS = 10  # From the whole photograph to none of it.
RANDOM_MAPS = 3
_BLUR = 5 / 224  # The standard deviation as a share of the side, as in RISE.

Score = Callable[[np.ndarray], np.ndarray]
"""A function from uint8 RGB (n, size, size, 3) to scores (n,)."""


class Areas(NamedTuple):
    """Areas under the curve of the score against the share of the retina, 0 to 1 each."""

    insertion: float
    deletion: float


def measure(
    rgb: np.ndarray, heatmaps: Sequence[np.ndarray], score: Score, *, seed: int
) -> tuple[list[Areas], Areas]:
    """Return insertion and deletion of several heat maps of one picture, and of random maps.

    Args:
      rgb: the picture as the model sees it, uint8 (size, size, 3).
      heatmaps: float32 (h, w) each, of one size or of several.
      score: the model.
      seed: the seed of the random maps.

    Returns:
      The areas of each map, and the mean areas of RANDOM_MAPS random ones of the first's shape.
    """
    retina, rng = quality.lit_field(rgb[..., ::-1])[1], np.random.default_rng(seed)
    if not retina.any():
        retina = np.ones_like(retina)
    shape = heatmaps[0].shape
    random = [rng.random(shape, np.float32) for _ in range(RANDOM_MAPS)]
    blurred = _blur(rgb, retina)
    # A random map decides where a heat map is 0, because its order there would be reading order.
    orders = [_order(heatmap, retina, ties=random[0]) for heatmap in (*heatmaps, *random)]
    ends = score(np.stack([rgb, blurred]))
    areas = [_areas(rgb, blurred, order, score, ends) for order in orders]
    mean = Areas(*np.mean(areas[len(heatmaps) :], axis=0).tolist())
    return areas[: len(heatmaps)], mean


def _areas(
    rgb: np.ndarray, blurred: np.ndarray, order: np.ndarray, score: Score, ends: np.ndarray
) -> Areas:
    whole, empty = ends
    shares = np.linspace(0, 1, STEPS + 1)
    counts = np.round(shares[1:-1] * len(order)).astype(int)
    deleted, inserted = (
        np.stack([_mixed(base, other, order[:n]) for n in counts])
        for base, other in ((rgb, blurred), (blurred, rgb))
    )
    scores = score(np.concatenate([inserted, deleted]))
    half = len(counts)
    return Areas(
        insertion=float(auc(shares, [empty, *scores[:half], whole])),
        deletion=float(auc(shares, [whole, *scores[half:], empty])),
    )


def _mixed(base: np.ndarray, other: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return `base` with the pixels of `other` at flat indices."""
    result = base.copy()
    result.reshape(-1, 3)[places] = other.reshape(-1, 3)[places]
    return result


def _order(heatmap: np.ndarray, retina: np.ndarray, *, ties: np.ndarray) -> np.ndarray:
    """Return flat indices of the retina's pixels, the map's highest first."""
    size = (retina.shape[1], retina.shape[0])
    inside = np.flatnonzero(retina)
    values, other = (
        cv2.resize(m, size, interpolation=cv2.INTER_LINEAR).ravel()[inside] for m in (heatmap, ties)
    )
    return inside[np.lexsort((-other, -values))]


def _blur(rgb: np.ndarray, retina: np.ndarray) -> np.ndarray:
    """Return the blurred picture. The surround does not bleed into its edge."""
    weight = retina.astype(np.float32)[..., None]
    sigma = _BLUR * rgb.shape[0]
    sums, weights = (
        cv2.GaussianBlur(x, (0, 0), sigma) for x in (rgb * weight, np.repeat(weight, 3, axis=2))
    )
    blurred = np.round(sums / np.maximum(weights, 1e-6)).astype(np.uint8)
    return np.where(retina[..., None], blurred, rgb)
