"""The outputs of each head as probabilities of grades, with NumPy; `model` has them for TensorFlow.

However wrong the outputs are, the probabilities of an image are 0 or more and have the sum 1, so
that P(grade > k) never rises with k.
"""

import numpy as np
import numpy.typing as npt
from scipy.special import expit

from dr_tfx.tasks.grades.settings import Head

FloatArray = npt.NDArray[np.floating]

WIDTH = 0.25
"""Scale of the logistic error of `regression`, in grades: a standard deviation of .45."""


def units(head: Head, grades: int) -> int:
    """Return how many outputs a head has."""
    return {"cumulative": grades - 1, "softmax": grades, "regression": 1}[head]


def probabilities(outputs: npt.ArrayLike, head: Head, grades: int) -> FloatArray:
    """Return the probability of each grade, (n, grades), of outputs (n, units)."""
    values = np.asarray(outputs, np.float64)
    if head == "softmax":
        return values
    if head == "cumulative":
        return _of_higher(np.cumprod(values, axis=1))
    return _of_higher(expit((values - np.arange(grades - 1) - 0.5) / WIDTH))


def expected(probability: npt.ArrayLike) -> FloatArray:
    """Return the mean grade, (n,), of probabilities (n, grades)."""
    values = np.asarray(probability, np.float64)
    return values @ np.arange(values.shape[1], dtype=np.float64)


def _of_higher(above: FloatArray) -> FloatArray:
    """Return the probability of each grade, where `above` has P(grade > k), (n, grades - 1)."""
    ends = np.pad(above, ((0, 0), (1, 1)), constant_values=((0, 0), (1, 0)))
    return -np.diff(ends, axis=1)
