"""The mean of several models of grades, whichever heads they have.

A mean of what `cumulative` or `regression` give means nothing. So each model is taken to the
probabilities of its grades, and the mean is read like a softmax. With z the outputs of the head in
front of its activation, both heads have logarithms of these probabilities that are sums of

    -softplus(-z) = log of sigmoid(z)    and    -softplus(z) = log of 1 - sigmoid(z)

so that two dense layers give them: one with softplus, and one that adds up and divides by the
temperature, whose softmax are the calibrated probabilities.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from dr_tfx.config import specs
from dr_tfx.tasks import averaging
from dr_tfx.tasks.classes.averaging import ClassesAveraging
from dr_tfx.tasks.grades import heads

if TYPE_CHECKING:
    from dr_tfx.tasks.grades.kind import Grades

FloatArray = npt.NDArray[np.floating]


class GradesAveraging(ClassesAveraging):
    """The probability of each grade, calibrated, from any head."""

    def __init__(self, task: "Grades"):
        super().__init__(task)
        self._head, self._grades = task.experiment.task.head, len(task.class_names)

    def settings(self) -> specs.Experiment:
        experiment = self._task.experiment
        return dataclasses.replace(
            experiment, task=dataclasses.replace(experiment.task, head="softmax")
        )

    def layers(
        self, kernel: np.ndarray, bias: np.ndarray, fitted: Any
    ) -> list[averaging.DenseLayer]:
        if self._head == "softmax":
            return super().layers(kernel, bias, fitted)
        if self._head == "cumulative":
            adds = _of_conditionals(self._grades)
            constant = np.zeros(self._grades)
        else:  # The logit of P(grade > k) is (output - k - .5) / WIDTH.
            kernel = np.repeat(kernel, self._grades - 1, axis=1) / heads.WIDTH
            bias = (bias - np.arange(self._grades - 1) - 0.5) / heads.WIDTH
            adds = _of_cumulatives(self._grades)
            # P(k) = P(> k - 1) (1 - P(> k)) (1 - exp(-1 / WIDTH)), but for the grades at both ends.
            inner = np.arange(self._grades) % (self._grades - 1) > 0
            constant = np.where(inner, np.log1p(-np.exp(-1 / heads.WIDTH)), 0.0)
        t = fitted.temperature
        both = averaging.DenseLayer(
            np.concatenate([-kernel, kernel], axis=1), np.concatenate([-bias, bias]), "softplus"
        )
        return [both, averaging.DenseLayer(-adds / t, constant / t, "softmax")]


def _of_conditionals(grades: int) -> FloatArray:
    """Return which logarithms make that of each grade's probability, (2 (grades - 1), grades).

    The first half are those of P(grade > k | grade >= k), the second those of its opposite.
    """
    cut, grade = np.mgrid[: grades - 1, :grades]
    return np.concatenate([cut < grade, cut == grade]).astype(np.float64)


def _of_cumulatives(grades: int) -> FloatArray:
    """Return the same where the first half are the logarithms of P(grade > k)."""
    cut, grade = np.mgrid[: grades - 1, :grades]
    return np.concatenate([cut == grade - 1, cut == grade]).astype(np.float64)
