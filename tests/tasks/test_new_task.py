"""A task of a kind that is there is one config file: nothing else has to know it."""

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest

from dr_tfx import tasks
from dr_tfx.config import config_files
from dr_tfx.dataset import manifest
from dr_tfx.evaluation import evaluate
from dr_tfx.training.train import train
from tests.helpers import (
    backbones,  # noqa: F401  `small`
    configs,
)

CONFIG = r'''"""Moderate retinopathy against none and mild, on the photographs that tests draw."""

from dr_tfx.config import config_files


def get_config():
    config = config_files.load_beside(__file__, "base.py")
    dataset = config.dataset
    dataset.name, dataset.label_names = "drawn", ("no DR", "mild", "moderate")
    dataset.patient_pattern = r"^(.+)_(?:left|right)$"
    dataset.recipe.size, dataset.recipe.quality_gate = 32, "reject"
    dataset.split.validation, dataset.shard_examples = 0.25, 4
    config.task.name = "moderate"
    config.task.class_names, config.task.label_map = ("below", "moderate"), (0, 0, 1)
    config.model.backbone, config.model.weights = "small", "none"
    config.model.output_stride = 16
    config.training.epochs, config.training.batch_size = 1, 8
    config.evaluation.bootstrap_resamples = 100
    return config
'''


@pytest.fixture
def experiment(tmp_path):
    shutil.copy(configs.FOLDER / "base.py", tmp_path)
    path = Path(tmp_path) / "moderate.py"
    path.write_text(CONFIG)
    return tasks.from_config(config_files.load(path))


def test_a_task_on_another_label_map_is_trained_and_evaluated(experiment, built, tmp_path):
    workdir = train(experiment, data_dir=built, workdir=tmp_path / "run")
    page = evaluate.evaluate(workdir=workdir, data_dir=built, split="validation")
    told = json.loads((page.parent / "metrics.json").read_text())
    images = Counter()
    for shard in manifest.load(built).shards_of("validation"):
        images["moderate" if shard.label == 2 else "below"] += shard.records
    per_class = told["counts"]["per_class"]
    assert {name: counts["images"] for name, counts in per_class.items()} == images
    assert {row["name"]: row["class"] for row in told["strata"]} == {
        "no DR": "below",
        "mild": "below",
        "moderate": "moderate",
    }
    assert "moderate on validation of drawn: evaluation" in page.read_text()
