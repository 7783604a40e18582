"""The mean of several models of classes without an order."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dr_tfx.config import specs
from dr_tfx.statistics import multiclass
from dr_tfx.tasks import averaging

if TYPE_CHECKING:
    from dr_tfx.tasks.classes.kind import Classes


class ClassesAveraging(averaging.Averaging):
    """One softmax a model, its logits divided by the temperature."""

    def __init__(self, task: "Classes"):
        self._task = task

    def settings(self) -> specs.Experiment:
        return self._task.experiment

    def layers(
        self, kernel: np.ndarray, bias: np.ndarray, fitted: Any
    ) -> list[averaging.DenseLayer]:
        t = fitted.temperature
        return [averaging.DenseLayer(kernel / t, bias / t, "softmax")]

    def columns(self, table: pd.DataFrame, fitted: Any) -> Mapping[str, np.ndarray]:
        told = multiclass.apply_temperature(self._task.scores.of_table(table), fitted.temperature)
        return type(self._task)(self.settings()).scores.columns(told[:, np.newaxis])
