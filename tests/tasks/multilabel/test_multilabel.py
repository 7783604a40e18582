"""The kind `multilabel` goes the whole way, from labels in RSNA's long form to the report."""

import dataclasses
import json
import shutil

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss, roc_auc_score

from beam_jobs.build_examples import job
from dr_tfx import tasks
from dr_tfx.config import label_sets, specs, typed
from dr_tfx.evaluation import compare, evaluate
from dr_tfx.models import bundles
from dr_tfx.statistics import multilabel
from dr_tfx.tasks.multilabel import summary
from dr_tfx.training.train import train
from tests.helpers import backbones
from tests.helpers.builds import SPEC

COLUMNS = ("any", "left", "odd")
SETS = dataclasses.replace(SPEC, label_column="any,left,odd", label_names=label_sets.names(COLUMNS))
SETS = dataclasses.replace(SETS, split=specs.Split(validation=0.3, strata=(0, *[1] * 7)))


def experiment(*, task=None, **training) -> specs.Experiment:
    return tasks.from_config(
        {
            "dataset": typed.to_dict(SETS),
            "task": {
                "kind": "multilabel",
                "name": "sets",
                "decided_by": "any",
                "column_weights": (2, 1, 1),
                **(task or {}),
            },
            "model": {"backbone": backbones.TINY, "output_stride": 16, "weights": "none"},
            "training": {"epochs": 1, "batch_size": 8, "loss": "cross_entropy", **training},
            "evaluation": {"bootstrap_resamples": 100, "views": ["identity", "left_right"]},
        }
    )


def truth_of(name: str) -> dict[str, int]:
    """The labels of a photograph of the fixture `raw`, by its name."""
    patient, _, eye = name.partition("_")
    left, odd = int(eye == "left" and int(patient) % 3 > 0), int(int(patient) % 4 == 1)
    return {"any": left | odd, "left": left, "odd": odd}


@pytest.fixture(scope="module")
def data(raw, tmp_path_factory):
    """The data set of a table in the long form, whose rows are in no order."""
    folder = tmp_path_factory.mktemp("data")
    names = sorted(path.stem for path in raw.glob("*.jpeg"))
    lines = [f"{n}_{label},{v}" for n in names for label, v in truth_of(n).items()]
    np.random.default_rng(0).shuffle(lines)
    (folder / "long.csv").write_text("\n".join(["ID,Label", *lines, lines[0]]) + "\n")
    job.build(
        SETS, image_dir=str(raw), labels=str(folder / "long.csv"), output_dir=str(folder / "data")
    )
    return folder / "data"


@pytest.fixture(scope="module")
def run(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "a"
    train(experiment(), data_dir=data, workdir=folder)
    evaluate.evaluate(workdir=folder, data_dir=data, split="validation")
    return folder


def test_figures_are_those_of_the_predictions(run):
    where = run / "evaluation" / "validation"
    told = json.loads((where / "metrics.json").read_text())
    table = pd.read_csv(where / "predictions.csv")
    for row in table.to_dict("records"):
        assert {name: row[f"truth/{name}"] for name in COLUMNS} == truth_of(row["id"])
        assert row["target"] == truth_of(row["id"])["any"]
    losses, areas = [], []
    for row, weight in zip(told["labels"], (2, 1, 1), strict=True):
        name = row["name"]
        truth, score = table[f"truth/{name}"], table[f"probability/{name}"]
        losses.append(weight * log_loss(truth, score))
        areas.append(roc_auc_score(truth, score))
        assert row["log_loss"] == pytest.approx(losses[-1] / weight, abs=1e-6)
        assert row["auc"]["value"] == pytest.approx(areas[-1])
        assert row["images"] == truth.sum()
        found = (score >= row["threshold"])[truth == 1].mean()
        assert row["sensitivity"]["value"] == pytest.approx(found)
    assert told["figures"]["log_loss"]["value"] == pytest.approx(sum(losses) / 4, abs=1e-6)
    assert told["figures"]["auc"]["value"] == pytest.approx(np.mean(areas), abs=1e-6)
    assert told["decision"]["auc"]["value"] == pytest.approx(areas[0])
    limit = bundles.load(run).fitted.thresholds["any"]
    decided = np.where(table["probability/any"] >= limit, "any", "none")
    assert table["decision"].tolist() == decided.tolist()
    highest = table.groupby("patient")["probability/any"].max()
    ill = table.groupby("patient")["target"].max()
    expected = roc_auc_score(ill[highest.index], highest)
    assert told["patients"]["max"]["auc"]["value"] == pytest.approx(expected)
    history = pd.read_csv(run / "history.csv")
    assert {"val_auc", "val_log_loss", "val_loss"} <= set(history)
    page = (where / "report.html").read_text()
    assert "Per label" in page and "mean of the highest 3" in page


def test_what_was_chosen_is_read_again(run):
    judgement = tasks.of(experiment()).judgement
    fitted = bundles.load(run).fitted
    assert judgement.fitted_from(json.loads(json.dumps(fitted.to_dict()))) == fitted
    with pytest.raises(typed.ConfigError, match="fitted.thresholds is of"):
        judgement.fitted_from({**fitted.to_dict(), "thresholds": {"any": 0.5}})


def test_runs_are_compared(run, tmp_path):
    shutil.copytree(run, tmp_path / "b")
    pair, out = [run, tmp_path / "b"], tmp_path / "out"
    page = compare.compare(pair, split="validation", output_dir=out, command=["x"])
    result = json.loads((out / "compare.json").read_text())
    (difference,) = result["differences"]
    assert difference["auc"]["value"] == difference["decision_auc"]["value"] == 0
    assert "Log loss, weighted" in page.read_text()


def test_the_loss_is_the_weighted_log_loss():
    kind = tasks.of(experiment())
    rng = np.random.default_rng(0)
    told = rng.uniform(0.05, 0.95, (6, 3)).astype(np.float32)
    features = {"label/any,left,odd": tf.constant([0, 1, 3, 5, 7, 0], tf.int64)}
    targets, weights = kind.model.encode(features)
    assert targets.numpy().tolist() == [
        [0, 0, 0], [1, 0, 0], [1, 1, 0], [1, 0, 1], [1, 1, 1], [0, 0, 0]
    ]  # fmt: skip
    assert weights.numpy().tolist() == [1] * 6
    by_hand = sum(
        w * log_loss(targets[:, k], told[:, k], labels=[0, 1]) for k, w in enumerate((2, 1, 1))
    )
    loss = kind.model.losses["cross_entropy"](experiment().training)
    assert float(loss(targets, told)) == pytest.approx(by_hand / 4, abs=1e-6)
    found = multilabel.log_losses(targets, told, kind.weights).mean()
    assert found == pytest.approx(by_hand / 4, abs=1e-6)
    focal = kind.model.losses["focal"](dataclasses.replace(experiment().training, focal_gamma=2.0))
    right = np.where(targets.numpy() > 0, told, 1 - told)
    expected = (-np.log(right) * (1 - right) ** 2 @ kind.weights).mean()
    assert float(focal(targets, told)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize(
    ("task", "training", "words"),
    [
        ({"decided_by": "none"}, {}, "config.task.decided_by is 'none'; expected one of any"),
        ({"column_weights": (1, 2)}, {}, "config.task.column_weights has 2 values"),
        ({}, {"focal_alpha": 0.75}, "config.training.focal_alpha is 0.75"),
        ({}, {"select_by": "val_kappa"}, "config.training.select_by is 'val_kappa'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(task, training, words):
    with pytest.raises(typed.ConfigError, match=words):
        experiment(task=task, **training)


def test_labels_that_are_no_sets_are_refused():
    with pytest.raises(typed.ConfigError, match="expects 2 to 8 columns"):
        tasks.from_config({"task": {"kind": "multilabel"}, "training": {"loss": "focal"}})


def test_answers_name_the_labels():
    scores = tasks.of(experiment()).scores
    table = pd.DataFrame(
        [[0.7, 0.2, 0.6, 0.7], [0.4, 0.9, 0.1, 0.9]],
        columns=[*(f"probability/{name}" for name in COLUMNS), "highest"],
    )
    first, second = scores.read(table, None)
    assert first.answer["labels"] == "any+odd" and first.decision == "any"
    assert second.answer["labels"] == "left" and second.decision == "none"
    assert (first.is_suspected, second.is_suspected) == (True, False)
    assert first.probabilities == dict(zip(COLUMNS, (0.7, 0.2, 0.6), strict=True))
    assert scores.wrongness(table, np.array([0, 0]), None) == pytest.approx([0.2, -0.1])
    anyone = tasks.of(experiment(task={"decided_by": ""})).scores
    assert [reading.decision for reading in anyone.read(table, None)] == ["any", "any"]


def test_probabilities_that_are_none_are_refused():
    kind = tasks.of(experiment())
    columns = [f"probability/{name}" for name in COLUMNS]
    table = pd.DataFrame([[0.5, 0.5, 0.0], [0.5, 1.5, 0.2]], columns=columns)
    table = table.assign(id=["a", "b"], patient="p", stratum=0, target=0)
    table = table.assign(**{f"truth/{name}": 0 for name in COLUMNS})
    with pytest.raises(ValueError, match="1 values of 'probability/left' .* of image 'b'"):
        summary.checked(table, kind)
    with pytest.raises(ValueError, match="lack the columns"):
        summary.checked(table.drop(columns=columns[0]), kind)
