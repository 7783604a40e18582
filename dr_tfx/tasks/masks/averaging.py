"""The mean of several models of lesions: of their maps, pixel by pixel."""

import dataclasses
from collections.abc import Mapping

import numpy as np
import pandas as pd

from dr_tfx.tasks import averaging
from dr_tfx.tasks.masks import fitting, settings


class MasksAveraging(averaging.Averaging):
    """The maps are probabilities without a calibration, and are averaged as they are."""

    maps = "score"

    def __init__(self, experiment: settings.MasksExperiment):
        self._experiment = experiment

    def settings(self) -> settings.MasksExperiment:
        """Return the settings without what members learn from besides their maps."""
        task = dataclasses.replace(self._experiment.task, reconstruction=0.0, deep_supervision=0.0)
        return dataclasses.replace(self._experiment, task=task)

    def columns(self, table: pd.DataFrame, fitted: fitting.MasksFitted) -> Mapping[str, np.ndarray]:
        """Return no columns: those of the model stay."""
        return {}
