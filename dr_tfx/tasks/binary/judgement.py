"""What a binary model is worth: the side of a kind that fits, judges and reports."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from dr_tfx.tasks import kind
from dr_tfx.tasks.binary import collapse, fitting, settings


class BinaryJudgement(kind.JudgementSide):
    """Thresholds, a temperature, and what follows from them."""

    def __init__(self, experiment: settings.BinaryExperiment):
        self._experiment = experiment

    def fit(self, predictions: pd.DataFrame, *, split: str) -> fitting.Fitted:
        return fitting.fit(predictions, self._experiment.evaluation, split=split)

    def fitted_from(self, content: Mapping[str, Any]) -> fitting.Fitted:
        return fitting.from_dict(content)

    @property
    def alarm_over(self) -> Mapping[str, str]:
        return collapse.OVER

    def wrong_with(self, row: Mapping[str, float], counts: Sequence[int]) -> dict[str, str]:
        return collapse.wrong_with(row, counts, self._experiment.task.class_names)
