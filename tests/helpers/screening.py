"""A binary screening task with predictions that are drawn, and what judges them: no model."""

import dataclasses
import types
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.evaluation import evaluate
from dr_tfx.inference import plain_numbers
from dr_tfx.tasks.binary import fitting
from tests.helpers import datasets

NAMES = ("normal", "abnormal")
STRATA = ("none", "mild", "moderate", "severe", "proliferative")
VIEWS = ("identity", "left_right")


def experiment(names: Sequence[str] = NAMES, views: Sequence[str] = VIEWS) -> specs.Experiment:
    return tasks.from_config(
        {
            "dataset": {
                "name": "<eyes>",
                "label_names": STRATA,
                "split": {"strata": [0, 1, 1, 1, 1]},
            },
            "task": {"name": "screening", "class_names": names, "label_map": [0, 1, 1, 1, 1]},
            "model": {"weights": "/weights/mobile.h5", "hidden": [64], "dropout": [0.5, 0.3]},
            "training": {"seed": 3, "learning_rate": 5e-4, "augmentation": {"vertical_flip": True}},
            "evaluation": {
                "views": views,
                "threshold_rule": "accuracy",
                "threshold_grid": (0.30, 0.70, 0.01),
                "bootstrap_resamples": 200,
            },
        }
    )


EXPERIMENT = experiment()
MANIFEST = manifest.Manifest(
    dataset=EXPERIMENT.dataset,
    fingerprint="ab" * 32,
    libraries={"numpy": "2"},
    rows=1200,
    written=1200,
    rejected={},
    counts={split: dict.fromkeys(STRATA, 80) for split in ("train", "validation", "test")},
    patients={"train": 200, "validation": 200, "test": 200},
    shared_patients=0,
    twins=(),
    unlabelled=0,
    shards=tuple(
        manifest.Shard(f"{split}-0", split, 0, 400, 9, "ab" * 32)
        for split in ("train", "validation", "test")
    ),
)

ADDONS = tasks.from_config(
    {
        "training": {
            "loss": "tfa.SigmoidFocalCrossEntropy",
            "optimizer": "tfa.AdamW",
            "metrics": ["tfa.CohenKappa"],
            "arguments": {
                "SigmoidFocalCrossEntropy": {"alpha": 0.5},
                "AdamW": {"weight_decay": 1e-4, "exclude_from_weight_decay": ["bias", "gamma"]},
                "CohenKappa": {"num_classes": 2, "weightage": "quadratic", "regression": False},
            },
        }
    }
)
"""A run whose loss, optimizer and metric are those of tensorflow-addons."""


def predictions(patients: int = 200, views: Sequence[str] = VIEWS) -> pd.DataFrame:
    """Two photographs a patient, scored well."""
    rng = np.random.default_rng(7)
    stratum = np.repeat(rng.choice(5, patients, p=[0.7, 0.1, 0.1, 0.05, 0.05]), 2)
    logit = rng.normal(size=2 * patients) + stratum - 1
    frame = pd.DataFrame(
        {
            "id": [f"{i // 2}_{'left' if i % 2 else 'right'}" for i in range(2 * patients)],
            "patient": [str(i // 2) for i in range(2 * patients)],
            "stratum": stratum,
            "target": (stratum > 0).astype(int),
            "score": 0.0,
        }
    )
    for view in views:
        noise = 0.2 * rng.normal(size=2 * patients)
        frame[f"score/{view}"] = 1 / (1 + np.exp(-logit - noise))
    frame["score"] = frame[[f"score/{view}" for view in views]].mean(axis=1)
    for name in (*plain_numbers.OF_RECORDS, *plain_numbers.of_pixels(np.empty((0, 8, 8, 3)))):
        frame[name] = 1000
    return frame


def history() -> pd.DataFrame:
    return pd.DataFrame(
        {
            "epoch": [1, 2, 3],
            "loss": [0.3, 0.2, 0.1],
            "val_loss": [0.3, 0.25, 0.27],
            "auc": [0.6, 0.7, 0.8],
            "val_auc": [0.6, 0.7, 0.69],
            "seconds": [10, 9, 11],
            "input_wait": [0.03, 0.01, 0.02],
            "peak_memory_gb": [1.5, 2.25, 2.0],
        }
    )


def bundle(
    settings: specs.Experiment = EXPERIMENT,
    *,
    data: manifest.Manifest = MANIFEST,
    fitted: fitting.Fitted | None = None,
) -> types.SimpleNamespace:
    """What is read of a bundle when its predictions are judged."""
    made = types.SimpleNamespace(
        experiment=settings,
        kind=tasks.of(settings),
        manifest=data,
        fitted=fitted,
        best_epoch=2,
        libraries={"tensorflow": "2.99"},
        model=None,
        backbone=settings.model.backbone,
        precision="mixed_float16",
        members=(),
        config=None,
    )
    made.evaluated_with = lambda settings: made
    return made


def scored(
    table: pd.DataFrame,
    threshold: float = 0.5,
    *,
    settings: specs.Experiment = EXPERIMENT,
    data: manifest.Manifest = MANIFEST,
    workdir: Path = Path("run"),
    **changes,
) -> evaluate.Scored:
    """The predictions as scores of validation; `changes` are of further fields."""
    result = evaluate.Scored(
        bundle(settings, data=data),
        workdir,
        "validation",
        tasks.of(settings).judgement.checked(table),
        datasets.fitted(threshold),
        data=data,
        commands=[["drtfx-evaluate", "--workdir=a folder", "--split=validation"]],
        images=lambda numbers: {"image": np.zeros((len(numbers), 8, 8, 3), np.uint8)},
    )
    return dataclasses.replace(result, **changes)
