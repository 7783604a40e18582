"""Accuracy and macro recall, with intervals, and a table of confusion."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from sklearn.metrics import accuracy_score, confusion_matrix, recall_score

from dr_tfx.statistics.intervals import PatientBootstrap, percentiles
from dr_tfx.tasks import judging
from dr_tfx.tasks.judging import ComparedRun, Measure


@dataclasses.dataclass(frozen=True)
class ToyFitted:
    split: str
    commonest: str

    def to_dict(self) -> dict[str, Any]:
        return dataclasses.asdict(self)


class ToyJudgement(judging.JudgementSide):
    SCHEMA = 7
    TEMPLATES = Path(__file__).parent / "templates"
    CURVES: ClassVar = {"loss": "loss", "accuracy": "accuracy"}
    optimism = ("The commonest class was found on this split: optimistic.",)
    alarm_over: ClassVar = {"one": "The accuracy is no longer below a third"}

    def __init__(self, kind):
        self._kind, self._names = kind, kind.data.groups

    @property
    def comparison(self) -> judging.ComparisonSide:
        return ToyComparison(self._names, self._kind.experiment.evaluation.bootstrap_resamples)

    def checked(self, predictions: pd.DataFrame) -> pd.DataFrame:
        if predictions["sureness"].isna().any():
            raise ValueError("a sureness is not a number")
        return predictions

    def fit(self, predictions: pd.DataFrame, *, split: str) -> ToyFitted:
        return ToyFitted(split, self._names[predictions["class"].mode()[0]])

    def fitted_from(self, content: Mapping[str, Any]) -> ToyFitted:
        return ToyFitted(**content)

    def chosen(self, fitted: ToyFitted) -> dict[str, Any]:
        return {"commonest": fitted.commonest}

    def summarise(
        self, predictions: pd.DataFrame, fitted: ToyFitted, *, patients_known: bool
    ) -> dict[str, Any]:
        truth = predictions["class"].to_numpy()
        readings = self._kind.scores.read(predictions, fitted)
        decided = np.array([self._names.index(reading.decision) for reading in readings])
        resamples = self._kind.experiment.evaluation.bootstrap_resamples
        bootstrap = PatientBootstrap(predictions["cluster"], resamples=resamples)
        samples = _samples(truth, decided, bootstrap)
        accuracy = percentiles(accuracy_score(truth, decided), samples["accuracy"])
        recall = percentiles(recall_score(truth, decided, average="macro"), samples["recall"])
        images = np.bincount(truth, minlength=len(self._names)).tolist()
        return {
            "accuracy": accuracy.to_dict(),
            "alarms": [] if accuracy.low > 0.9 else ["The toy is broken."],
            "confusion": confusion_matrix(truth, decided, labels=range(len(self._names))).tolist(),
            "counts": {"per_class": dict(zip(self._names, images, strict=True))},
            "recall": recall.to_dict(),
            "wrong": predictions["id"][decided != truth].tolist(),
        }

    def gallery(self, summary: Mapping[str, Any]) -> list[str]:
        return summary["wrong"][:2]

    def figures(self, predictions: pd.DataFrame, summary: Mapping[str, Any]) -> list:
        return []

    def wrong_with(self, row: Mapping[str, float], counts: Sequence[int]) -> dict[str, str]:
        return {"one": "The accuracy is below a third."} if row["val_accuracy"] < 1 / 3 else {}


def _samples(truth: np.ndarray, decided: np.ndarray, bootstrap) -> dict[str, np.ndarray]:
    right = truth == decided
    members = truth[:, None] == np.unique(truth)
    images = bootstrap.sums(members)
    found = bootstrap.sums(members & right[:, None])
    with np.errstate(invalid="ignore"):
        recall = (found / images).mean(axis=0)
    return {"accuracy": found.sum(axis=0) / images.sum(axis=0), "recall": recall}


class ToyComparison(judging.ComparisonSide):
    MEASURES = (
        Measure("accuracy", "Accuracy", "percent", decides=True),
        Measure("recall", "Macro recall", "percent", decides=True),
    )
    TRUTH: ClassVar = {"class": "class"}

    def __init__(self, names: Sequence[str], resamples: int):
        self._names, self._resamples = names, resamples

    @property
    def reads(self) -> Mapping[str, Any]:
        return dict.fromkeys(("accuracy", "recall"), judging.INTERVAL)

    @property
    def values(self) -> Mapping[str, Sequence[int] | Sequence[str]]:
        return {"class": range(len(self._names)), "decision": self._names}

    def figures_of(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        return {measure.key: summary[measure.key] for measure in self.MEASURES}

    def measured(self, predictions: pd.DataFrame, bootstrap: PatientBootstrap) -> dict[str, Any]:
        truth = predictions["class"].to_numpy()
        decided = np.array([self._names.index(name) for name in predictions["decision"]])
        samples = _samples(truth, decided, bootstrap)
        values = {
            "accuracy": accuracy_score(truth, decided),
            "recall": recall_score(truth, decided, average="macro"),
        }
        return {key: percentiles(values[key], samples[key]).to_dict() for key in values}

    def differences(self, run: ComparedRun, first: ComparedRun) -> dict[str, Any]:
        truth = first.predictions["class"].to_numpy()
        bootstrap = PatientBootstrap(first.predictions["cluster"], resamples=self._resamples)
        mine, theirs = (_samples(truth, self._decided(each), bootstrap) for each in (run, first))
        return {
            key: percentiles(
                run.summary[key]["value"] - first.summary[key]["value"], mine[key] - theirs[key]
            ).to_dict()
            for key in ("accuracy", "recall")
        }

    def _decided(self, run: ComparedRun) -> np.ndarray:
        return np.array([self._names.index(name) for name in run.predictions["decision"]])

    def draw(self, runs: Sequence[ComparedRun], result: Mapping[str, Any]) -> list:
        return []
