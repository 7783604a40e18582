"""The kind `toy`: its data, its scores, and the way to its other sides."""

import functools
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
import pandas as pd

from dr_tfx.config import specs
from dr_tfx.dataset import records
from dr_tfx.tasks import averaging, kind

PROBABILITY = "probability/"  # Prefix of the columns of single classes.
UNSURE = 0.4  # Below it, the class that is commonest on validation is decided.


class Toy(kind.Kind):
    NAME = "toy"
    LOSSES = ("categorical",)
    MONITORS: ClassVar = {"val_accuracy": "max", "val_loss": "min"}

    @functools.cached_property
    def data(self) -> kind.DataSide:
        return ToyData(self.experiment)

    @functools.cached_property
    def model(self) -> kind.ModelSide:
        from tests.tasks.toy.model import ToyModel

        return ToyModel(self.experiment)

    @functools.cached_property
    def scores(self) -> kind.ScoreSide:
        return ToyScores(self.experiment)

    @functools.cached_property
    def judgement(self):
        from tests.tasks.toy.judgement import ToyJudgement

        return ToyJudgement(self)

    @functools.cached_property
    def averaging(self) -> averaging.Averaging:
        return ToyAveraging(self)


class ToyAveraging(averaging.Averaging):
    def __init__(self, task: Toy):
        self._experiment = task.experiment

    def settings(self) -> specs.Experiment:
        return self._experiment

    def layers(self, kernel: np.ndarray, bias: np.ndarray, fitted: Any) -> list:
        return [averaging.DenseLayer(kernel, bias, "softmax")]

    def columns(self, table: pd.DataFrame, fitted: Any) -> Mapping[str, np.ndarray]:
        return {}


class ToyData(kind.DataSide):
    def __init__(self, experiment: specs.Experiment):
        self._dataset = experiment.dataset
        self._label = records.LABEL_PREFIX + experiment.dataset.label_column

    @property
    def features(self) -> Mapping[str, records.Feature]:
        return {self._label: records.Feature("int64")}

    @property
    def groups(self) -> tuple[str, ...]:
        return self._dataset.label_names

    @property
    def group_of(self) -> tuple[int, ...]:
        return tuple(range(len(self.groups)))

    def truth(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        return {"class": features[self._label]}


class ToyScores(kind.ScoreSide):
    explained = "sureness"
    answer_names = ("class", "sureness")

    def __init__(self, experiment: specs.Experiment):
        self._names = experiment.dataset.label_names
        self._columns = [PROBABILITY + name for name in self._names]

    def columns(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        mean = outputs.mean(axis=1)
        return {"sureness": mean.max(axis=1), **dict(zip(self._columns, mean.T, strict=True))}

    def read(self, table: pd.DataFrame, fitted: Any) -> list[kind.Reading]:
        found = []
        best = table[self._columns].to_numpy().argmax(axis=1)
        for place, sureness in zip(best, table["sureness"].tolist(), strict=True):
            name = self._names[place]
            if fitted is not None and sureness < UNSURE:
                name = fitted.commonest
            words = f"{name}   sureness {sureness:.3f}"
            found.append(kind.Reading(sureness, name, words, {"class": name, "sureness": sureness}))
        return found

    def rule(self, fitted: Any) -> str:
        return "The decision is the class of the highest probability."

    def wrongness(self, table: pd.DataFrame, groups: np.ndarray, fitted: Any) -> np.ndarray:
        decided = [self._names.index(reading.decision) for reading in self.read(table, fitted)]
        return np.where(np.array(decided) == groups, -1, 1) * table["sureness"].to_numpy()
