"""Maps of large pictures, tile by tile: memory is that of a tile, and of the maps themselves.

Tiles overlap. Where several show a pixel, its value is their mean, weighted by a Gaussian of its
distance from the middle of each, as in nnU-Net (Isensee et al. 2021,
https://doi.org/10.1038/s41592-020-01008-z): a network knows least at the edge of what it sees. The
outermost pixels of a tile weigh nothing, but at the edge of the picture.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

OVERLAP = 0.25  # The share of its side that a tile has in common with the next, at least.
_MARGIN = 3 / 32  # The share of its side that weighs nothing, at each end.
_SIGMA = 1 / 8  # Of the Gaussian, in sides of a tile.
_STEP = 32  # Tiles begin at multiples of it, so that the places of features stay where they are.


def tiled(
    forward: Callable[[np.ndarray], np.ndarray], *, tile: int, size: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Return a function that gives maps of whole pictures by a function that gives those of tiles.

    Args:
      forward: pixels (n, tile, tile, 3) -> float32 maps (n, tile, tile, k).
      tile: height and width of a tile, a multiple of 32 from 64 to `size`.
      size: height and width of a picture, a multiple of 32.

    Returns:
      A function: pixels (n, size, size, 3) -> float32 maps (n, size, size, k).
    """
    if tile == size:
        return forward
    starts = _starts(tile, size)
    weights = _weights(starts, tile, size)

    def maps(pixels: np.ndarray) -> np.ndarray:
        total: npt.NDArray[np.float32] | None = None
        for top, rows in zip(starts, weights, strict=True):
            for left, columns in zip(starts, weights, strict=True):
                part = pixels[:, top : top + tile, left : left + tile]
                weight = (rows[:, np.newaxis] * columns)[..., np.newaxis]
                found = forward(part) * weight
                if total is None:
                    total = np.zeros((len(found), size, size, found.shape[-1]), np.float32)
                total[:, top : top + tile, left : left + tile] += found
        assert total is not None
        return total

    return maps


def _starts(tile: int, size: int) -> list[int]:
    """Return where tiles begin along a side, in pixels, as evenly as multiples of _STEP allow.

    A mirrored picture has the mirrored tiles.
    """
    most, last = int(tile * (1 - OVERLAP)) // _STEP, (size - tile) // _STEP  # In steps.
    count = 1 + -(-last // most)
    count += count % 2 * last % 2  # The middle one of an odd number begins in the middle.
    first = np.rint(np.linspace(0, last, count)).astype(int)[: -(-count // 2)]
    return (_STEP * np.append(first, last - first[: count // 2][::-1])).tolist()


def _weights(starts: list[int], tile: int, size: int) -> list[npt.NDArray[np.float32]]:
    """Return what each pixel along the side of each tile weighs, (tile,); a pixel's sum is 1."""
    middle, margin = (tile - 1) / 2, round(_MARGIN * tile)
    gaussian = np.exp(-(((np.arange(tile) - middle) / (_SIGMA * tile)) ** 2) / 2)
    found, total = [], np.zeros(size)
    for start in starts:
        weight = gaussian.copy()
        if start > 0:
            weight[:margin] = 0
        if start + tile < size:
            weight[tile - margin :] = 0
        found.append(weight)
        total[start : start + tile] += weight
    pairs = zip(found, starts, strict=True)
    return [(weight / total[at : at + tile]).astype(np.float32) for weight, at in pairs]
