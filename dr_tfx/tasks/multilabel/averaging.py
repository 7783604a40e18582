"""The mean of several models of several labels."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dr_tfx.config import specs
from dr_tfx.tasks import averaging

if TYPE_CHECKING:
    from dr_tfx.tasks.multilabel.kind import Multilabel


class MultilabelAveraging(averaging.Averaging):
    """A sigmoid for each label. The kind fits no calibration, so that none is applied."""

    def __init__(self, task: "Multilabel"):
        self._task = task

    def settings(self) -> specs.Experiment:
        return self._task.experiment

    def layers(
        self, kernel: np.ndarray, bias: np.ndarray, fitted: Any
    ) -> list[averaging.DenseLayer]:
        return [averaging.DenseLayer(kernel, bias, "sigmoid")]

    def columns(self, table: pd.DataFrame, fitted: Any) -> Mapping[str, np.ndarray]:
        """Return nothing: the columns stay."""
        return {}
