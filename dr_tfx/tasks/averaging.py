"""The contract of a kind whose models can be averaged: how a mean of several is made and read.

An ensemble is the mean of its members' calibrated probabilities, or of maps of probabilities as
they are. The engine joins the networks (`dr_tfx.models.ensembles`); what a calibrated probability
is, only the kind of task knows.
"""

import abc
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt
import pandas as pd

from dr_tfx.config import specs


class DenseLayer(NamedTuple):
    """A fully connected layer as numbers.

    Attributes:
      kernel: float (inputs, units).
      bias: float (units,).
      activation: the name that Keras has for it.
    """

    kernel: npt.NDArray[np.floating]
    bias: npt.NDArray[np.floating]
    activation: str


class Averaging(abc.ABC):
    """The side of a kind that averages models. Loads no TensorFlow.

    Class attributes:
      maps: the layer of a network whose output are maps that are averaged as they are, for a kind
        that gives some; "" for one whose models have `layers`.
    """

    maps: ClassVar[str] = ""

    @abc.abstractmethod
    def settings(self) -> specs.Experiment:
        """Return the settings of the run with those by which a mean is read."""

    def layers(self, kernel: np.ndarray, bias: np.ndarray, fitted: Any) -> Sequence[DenseLayer]:
        """Return the layers that give calibrated probabilities in place of a model's output layer.

        Args:
          kernel: of the output layer, float (inputs, units).
          bias: of the output layer, float (units,).
          fitted: what `JudgementSide.fit` gave for the model.

        Returns:
          One layer or more. The activation of the last one gives outputs that may be averaged, and
          what it is given may be averaged for heat maps.

        Raises:
          NotImplementedError: the kind averages `maps`, and has no such layers.
        """
        raise NotImplementedError

    @abc.abstractmethod
    def columns(self, table: pd.DataFrame, fitted: Any) -> Mapping[str, np.ndarray]:
        """Return the columns of a table of predictions as the calibrated model would tell them.

        Args:
          table: one row an image, with the columns of `ScoreSide.columns`.
          fitted: what `JudgementSide.fit` gave for the model.
        """
