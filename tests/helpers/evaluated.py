"""Folders of runs that were evaluated, of predictions that are drawn: no model."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.dataset import manifest
from dr_tfx.evaluation import evaluate
from dr_tfx.models import bundle_file
from dr_tfx.storage import tables
from tests.helpers import screening

EXPERIMENT = tasks.from_config(
    {
        "dataset": {"label_names": ["none", "mild", "severe"]},
        "task": {"name": "screening", "class_names": ["well", "<ill>"], "label_map": [0, 1, 1]},
        "evaluation": {"bootstrap_resamples": 100},
    }
)


def predictions(noise: float) -> pd.DataFrame:
    """80 patients with two images; the noise is the run's own."""
    rng = np.random.default_rng(5)
    stratum = np.repeat(rng.choice(3, 80, p=[0.5, 0.3, 0.2]), 2)
    logit = 2.0 * stratum - 1.5 + rng.normal(size=160)
    logit += noise * np.random.default_rng(6).normal(size=160)
    frame = pd.DataFrame(
        {
            "id": [f"0{i // 2}_{'lr'[i % 2]}" for i in range(160)],
            "patient": [f"0{i // 2}" for i in range(160)],
            "stratum": stratum,
            "target": (stratum > 0).astype(int),
            "score": 1 / (1 + np.exp(-logit)),
        }
    )
    return frame.assign(**{"score/identity": frame["score"]})


def run(
    folder: Path,
    predictions: pd.DataFrame,
    *,
    experiment: specs.Experiment = EXPERIMENT,
    split: str = "test",
    threshold: float = 0.5,
    twins: Sequence[Sequence[str]] = (),
    fitted_on: pd.DataFrame | None = None,
) -> Path:
    """A folder as training and evaluation leave it, but for the model and what is not read."""
    kind = tasks.of(experiment)
    predictions = kind.judgement.checked(predictions)
    validation = predictions if fitted_on is None else fitted_on
    fitted = kind.judgement.fit(validation, split="validation")
    if experiment.task.kind == "binary":
        decides = dataclasses.replace(fitted.points[0], threshold=threshold)
        fitted = dataclasses.replace(fitted, points=(decides, *fitted.points[1:]))
    copies = tuple(
        {"ids": list(ids), "labels": [0] * len(ids), "splits": [split] * len(ids)} for ids in twins
    )
    data = dataclasses.replace(_manifest(experiment), twins=copies)
    scored = screening.scored(
        predictions, settings=experiment, data=data, fitted=fitted, name=split
    )
    bundle = bundle_file.BundleFile(
        experiment=typed.to_dict(experiment),
        manifest=_manifest(experiment).to_dict(),
        precision="float32",
        best_epoch=3,
        libraries={"keras": "3"},
        files={},
        fitted=fitted.to_dict(),
    )
    where = folder / "evaluation" / split
    where.mkdir(parents=True)
    bundle_file.write(folder, bundle)
    (where / "metrics.json").write_text(json.dumps(evaluate.metrics_of(scored), sort_keys=True))
    decision = [reading.decision for reading in kind.scores.read(predictions, fitted)]
    (where / "predictions.csv").write_text(tables.csv_text(predictions.assign(decision=decision)))
    (where / "report.html").touch()
    return folder


def _manifest(experiment: specs.Experiment) -> manifest.Manifest:
    """A manifest of as many photographs of each label."""
    names = experiment.dataset.label_names
    counts = dict.fromkeys(names, 80)
    return dataclasses.replace(
        screening.MANIFEST,
        dataset=experiment.dataset,
        fold=experiment.training.fold,
        counts=dict.fromkeys(screening.MANIFEST.counts, counts),
        rows=240 * len(names),
        written=240 * len(names),
        shards=tuple(
            manifest.Shard(f"{split}-{label}", split, label, 80, 9_000, "ab" * 32)
            for split in screening.MANIFEST.counts
            for label in range(len(names))
        ),
    )
