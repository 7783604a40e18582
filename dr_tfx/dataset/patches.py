"""Patches of pictures, for training on what is small in a large picture.

Where a patch lies is a pure function of five numbers of chance and of the picture's masks. Of each
mask a grid of `GRID` x `GRID` cells is kept, a bit a cell, which tells whether there is any of it.
"""

import dataclasses
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

GRID = 32  # Cells a side of a picture. Another value is other patches for every run.
DRAWS = 5  # Whether it has a lesion, which mask, which cell, and the place, down and across.
CELL_BYTES = GRID**2 // 8  # Of the cells of a mask.


@dataclasses.dataclass(frozen=True)
class Patches:
    """The parts of pictures that training sees.

    Attributes:
      side: height and width of a patch, in pixels; a 16th of the picture's at least.
      tile: height and width of the overlapping parts in which a whole picture is predicted.
      each: how many patches of a picture an epoch has.
      share: the share of patches that are drawn to show some of a mask. The others show none.
      unknown: the value of a mask's pixel of which nothing is known.
    """

    side: int
    tile: int
    each: int
    share: float
    unknown: int


def cells(mask: np.ndarray, *, unknown: int) -> npt.NDArray[np.uint8]:
    """Return which cells of a mask have anything, as bits, uint8 (CELL_BYTES,).

    Args:
      mask: uint8 (size, size, 1), 0 where there is nothing.
      unknown: the value of a pixel of which nothing is known, which counts as nothing.
    """
    there = (mask[..., 0] > 0) & (mask[..., 0] != unknown)
    edges = _edges(len(mask))[:-1]
    rows = np.logical_or.reduceat(there, edges, axis=0)
    return np.packbits(np.logical_or.reduceat(rows, edges, axis=1))


def corner(
    draws: np.ndarray, masks: Sequence[np.ndarray], *, size: int, spec: Patches
) -> tuple[int, int]:
    """Return the top and the left of a patch of a picture.

    A patch with a lesion has all of one cell: the mask is chosen among those that have any, and
    the cell among its cells, each as likely. A patch without one has no cell of any mask. Where a
    picture has no patch of the one sort, it gives one of the other, or any.

    Args:
      draws: float (DRAWS,), uniform in [0, 1).
      masks: what `cells` returned of each mask.
      size: height and width of the picture.
      spec: what patches to draw.
    """
    grids = [np.unpackbits(mask).reshape(GRID, GRID).astype(bool) for mask in masks]
    grids = [grid for grid in grids if grid.any()]
    edges, side = _edges(size), spec.side
    if grids and draws[0] < spec.share:
        cell = _chosen(np.argwhere(_chosen(grids, draws[1])), draws[2])
        room = side - (edges[cell + 1] - edges[cell])  # What the patch has beside the cell.
        place = edges[cell] - np.floor(draws[3:5] * (room + 1)).astype(int)
    elif len(free := _without(np.logical_or.reduce(grids), edges, side) if grids else ()):
        place = edges[_chosen(free, draws[2])]
    else:
        place = np.floor(draws[3:5] * (size - side + 1)).astype(int)
    top, left = np.clip(place, 0, size - side).tolist()
    return top, left


def _edges(size: int) -> npt.NDArray[np.int64]:
    """Return where cells begin, and the last one ends, in pixels."""
    return size * np.arange(GRID + 1) // GRID


def _chosen(things: Sequence[np.ndarray] | np.ndarray, draw: float) -> np.ndarray:
    return things[int(draw * len(things))]


def _without(grid: np.ndarray, edges: np.ndarray, side: int) -> np.ndarray:
    """Return the cells, int (n, 2), at whose corner a patch begins that has no marked cell."""
    starts = np.flatnonzero(edges[:-1] + side <= edges[-1])
    ends = np.searchsorted(edges, edges[starts] + side)
    sums = np.pad(np.cumsum(np.cumsum(grid, axis=0), axis=1), ((1, 0), (1, 0)))
    marked = (
        sums[np.ix_(ends, ends)]
        - sums[np.ix_(starts, ends)]
        - sums[np.ix_(ends, starts)]
        + sums[np.ix_(starts, starts)]
    )
    return np.argwhere(marked == 0)
