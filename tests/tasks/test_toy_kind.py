"""A kind of task in one folder, `tests/tasks/toy`, goes the whole way; no other file knows it.

Three unordered classes, a softmax, no threshold, no score: whatever the engine assumes of a task
beyond the contract of `dr_tfx.tasks.kind` fails here.
"""

import csv
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from absl import flags
from ml_collections import config_flags
from sklearn.metrics import accuracy_score, recall_score

from beam_jobs.explain import job, plan
from beam_jobs.runners import beam_flags
from dr_tfx import tasks
from dr_tfx.config import config_files, specs, typed
from dr_tfx.dataset import manifest
from dr_tfx.evaluation import compare, evaluate, reproduce
from dr_tfx.models import bundles
from dr_tfx.training.train import train
from tests.helpers import (
    backbones,  # noqa: F401  `small`
)
from tests.helpers.builds import SPEC
from tests.tasks.toy.kind import Toy

NAMES = SPEC.label_names


def experiment(**training) -> specs.Experiment:
    return tasks.from_config(
        {
            "dataset": typed.to_dict(SPEC),
            "task": {"kind": "toy", "name": "three_classes"},
            "model": {"backbone": "small", "output_stride": 16, "weights": "none"},
            "training": {
                "epochs": 1,
                "batch_size": 8,
                "loss": "categorical",
                "select_by": "val_accuracy",
                "early_stopping_monitor": "val_accuracy",
                **training,
            },
            "evaluation": {"bootstrap_resamples": 100, "views": ["identity", "left_right"]},
        }
    )


@pytest.fixture(scope="module")
def known():
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(tasks.KINDS, "toy", Toy)
        yield


@pytest.fixture(scope="module")
def runs(known, built, tmp_path_factory) -> list[Path]:
    """Two runs of other seeds, each trained and evaluated on validation."""
    folder = tmp_path_factory.mktemp("runs")
    found = []
    for seed in (0, 1):
        run = train(experiment(seed=seed), data_dir=built, workdir=folder / f"run{seed}")
        evaluate.evaluate(workdir=run, data_dir=built, split="validation")
        found.append(run)
    return found


def test_settings_that_the_kind_does_not_have_are_refused(known):
    with pytest.raises(typed.ConfigError, match=r"config\.training\.loss is 'focal'"):
        experiment(loss="focal")
    with pytest.raises(typed.ConfigError, match="select_by is 'val_auc'"):
        experiment(select_by="val_auc")
    with pytest.raises(typed.ConfigError, match="config.task has no setting 'label_map'"):
        tasks.from_config({"task": {"kind": "toy", "label_map": [0, 1]}})


def test_the_commands_of_its_report_give_its_settings(known):
    build, words, *_ = reproduce.commands(
        experiment(seed=3), workdir=Path("w"), data_dir=Path("d"), split="validation"
    )
    assert build[1] == words[1] == "--config=base:toy"
    typed = [words[0], f"--config={config_files.find('base:toy')}"]
    typed += {word: 0 for word in (*build, *words) if word.startswith("--config.")}
    holder = flags.FlagValues()
    config_flags.DEFINE_config_file("config", flag_values=holder, sys_argv=typed)
    holder(typed)
    assert tasks.from_config(holder.config) == experiment(seed=3)


def test_the_history_has_the_kinds_metrics(runs):
    history = pd.read_csv(runs[0] / "history.csv")
    assert {"loss", "val_loss", "accuracy", "val_accuracy", "alarms"} <= set(history)
    assert "val_auc" not in history


def test_the_figures_are_those_of_the_predictions(runs, built):
    where = runs[0] / "evaluation" / "validation"
    told = json.loads((where / "metrics.json").read_text())
    with (where / "predictions.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    shards = manifest.load(built).shards_of("validation")
    assert len(rows) == sum(shard.records for shard in shards) == told["counts"]["images"]
    truth = [NAMES[int(row["class"])] for row in rows]
    decided = [row["decision"] for row in rows]
    assert told["accuracy"]["value"] == pytest.approx(accuracy_score(truth, decided))
    recall = recall_score(truth, decided, average="macro", zero_division=0)
    assert told["recall"]["value"] == pytest.approx(recall)
    assert np.sum(told["confusion"]) == len(rows)
    for row in rows:
        shares = [float(row[f"probability/{name}"]) for name in NAMES]
        assert sum(shares) == pytest.approx(1, abs=1e-5)
        assert float(row["sureness"]) == max(shares)
    assert told["schema"] == 7 and told["views"] == ["identity", "left_right"]
    assert told["task"] == "three_classes" and told["alarms"] == ["The toy is broken."]


def test_what_validation_fitted_is_in_the_bundle(runs):
    told = json.loads((runs[0] / "evaluation" / "validation" / "metrics.json").read_text())
    fitted = bundles.load(runs[0]).fitted
    assert told["selection"]["commonest"] == fitted.commonest in NAMES
    assert (
        told["selection"]["notes"][0] == "The commonest class was found on this split: optimistic."
    )


def test_the_report_has_the_kinds_sections_in_the_shell_of_all_kinds(runs):
    where = runs[0] / "evaluation" / "validation"
    told = json.loads((where / "metrics.json").read_text())
    html = (where / "report.html").read_text()
    table = re.search(r'<table id="toy">.*?</table>', html, re.S)[0]
    shown = [int(n) for n in re.findall(r"<td>(\d+)</td>", table)]
    assert shown == np.ravel(told["confusion"]).tolist()
    for name in told["wrong"][:2]:
        assert f'alt="Photograph {name}, a toy"' in html
    assert "best epoch 1, validation accuracy" in html
    assert "--config=base:toy" in html
    for word in ("sensitivity", "AUC", "threshold"):
        assert word not in html


def test_runs_are_compared_by_the_kinds_measures(runs, tmp_path):
    page = compare.compare(runs, split="validation", output_dir=tmp_path, command=["drtfx-compare"])
    result = json.loads((tmp_path / "compare.json").read_text())
    told = [
        json.loads((run / "evaluation" / "validation" / "metrics.json").read_text()) for run in runs
    ]
    (difference,) = result["differences"]
    for key in ("accuracy", "recall"):
        expected = told[1][key]["value"] - told[0][key]["value"]
        assert difference[key]["value"] == pytest.approx(expected)
        assert difference[key]["low"] <= expected + 1e-9 <= difference[key]["high"] + 2e-9
    assert result["settings"] == [{"name": "training.seed", "values": [0, 1]}]
    html = page.read_text()
    assert "Macro recall" in html and "AUC" not in html


def test_its_split_is_explained(runs, built, tmp_path):
    request = plan.ExplainRequest(workdir=runs[0], output_dir=tmp_path, data_dir=built)
    folder = job.explain(request, beam_flags.options([]))
    index = pd.read_csv(folder / "index.csv", dtype={"id": str}).set_index("id")
    where = runs[0] / "evaluation" / "validation" / "predictions.csv"
    scored = pd.read_csv(where, dtype={"id": str}).set_index("id").loc[index.index]
    assert len(index) == len(scored)
    np.testing.assert_allclose(index["sureness"], scored["sureness"], atol=1e-5)
    assert index["decision"].tolist() == scored["decision"].tolist()
    assert index["target"].tolist() == scored["class"].tolist()
    assert (folder / "gradcam_2.png").is_file()
    html = (folder / "index.html").read_text()
    assert "The decision is the class of the highest probability." in html
    assert "sureness" in html and "threshold" not in html
