"""How points that stand for photographs lie to each other: alike, or spread."""

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.floating[Any]]


def directions(points: FloatArray) -> FloatArray:
    """Return points at the distance 1 from 0, (n, dimensions); one at 0 stays there."""
    lengths = np.linalg.norm(points, axis=1, keepdims=True)
    return points / np.maximum(lengths, np.finfo(np.float32).tiny)


def likeness(points: FloatArray) -> float:
    """Return the mean cosine of the angle between two different points; NaN of fewer than two.

    It is 1 where all lie in one direction: the network has collapsed and tells nothing apart.
    """
    ways, count = directions(points).astype(np.float64), len(points)
    if count < 2:
        return float("nan")
    return float((np.square(ways.sum(axis=0)).sum() - np.square(ways).sum()) / count / (count - 1))


def dimensions(points: FloatArray) -> float:
    """Return how many directions the points spread in: the participation ratio of the variances.

    It is the square of the sum of the variances along the principal axes over the sum of their
    squares: k where points spread alike along k axes. NaN where they do not spread.
    """
    ways = directions(points).astype(np.float64)
    covariance = np.cov(ways, rowvar=False) if len(ways) > 1 else np.zeros((1, 1))
    squares = np.square(covariance).sum()  # The sum of the squares of the eigenvalues.
    return float(np.trace(covariance) ** 2 / squares) if squares > 0 else float("nan")


def recognised(one: FloatArray, other: FloatArray) -> npt.NDArray[np.bool_]:
    """Return which photographs are nearest to themselves by another view, bool (n,).

    Args:
      one: points of a view of each photograph, (n, dimensions).
      other: those of another view.
    """
    ways, others = directions(one), directions(other)
    found = np.empty(len(ways), bool)
    for start in range(0, len(ways), 1024):  # Not all pairs at once.
        alike = ways[start : start + 1024] @ others.T
        rows = np.arange(len(alike))
        found[start : start + 1024] = alike.argmax(axis=1) == start + rows
    return found
