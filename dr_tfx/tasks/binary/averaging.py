"""The mean of several binary models."""

from collections.abc import Mapping

import numpy as np
import pandas as pd

from dr_tfx.tasks import averaging
from dr_tfx.tasks.binary import fitting, scores, settings


class BinaryAveraging(averaging.Averaging):
    """One sigmoid a model, whose logit is scaled by its calibration."""

    def __init__(self, experiment: settings.BinaryExperiment):
        self._experiment = experiment

    def settings(self) -> settings.BinaryExperiment:
        return self._experiment

    def layers(
        self, kernel: np.ndarray, bias: np.ndarray, fitted: fitting.Fitted
    ) -> list[averaging.DenseLayer]:
        slope, intercept = fitted.scaling
        return [averaging.DenseLayer(kernel * slope, bias * slope + intercept, "sigmoid")]

    def columns(self, table: pd.DataFrame, fitted: fitting.Fitted) -> Mapping[str, np.ndarray]:
        views = [scores.VIEW + view for view in self._experiment.evaluation.views]
        outputs = fitted.scaling(table[views].to_numpy())
        return scores.BinaryScores(self._experiment).columns(outputs[:, :, np.newaxis])
