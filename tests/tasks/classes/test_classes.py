"""The kind `classes` goes the whole way; its labels may be joined by a label map."""

import json

import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.metrics import balanced_accuracy_score, classification_report, roc_auc_score

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.evaluation import evaluate
from dr_tfx.models import bundles
from dr_tfx.tasks.classes import summary
from dr_tfx.training.train import train
from tests.helpers import backbones
from tests.helpers.builds import SPEC

NAMES = SPEC.label_names


def experiment(*, task=None, **training) -> specs.Experiment:
    return tasks.from_config(
        {
            "dataset": typed.to_dict(SPEC),
            "task": {"kind": "classes", "name": "unordered", **(task or {})},
            "model": {"backbone": backbones.TINY, "output_stride": 16, "weights": "none"},
            "training": {"epochs": 1, "batch_size": 8, **training},
            "evaluation": {"bootstrap_resamples": 100, "views": ["identity", "left_right"]},
        }
    )


@pytest.fixture(scope="module")
def run(built, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "a"
    train(experiment(), data_dir=built, workdir=folder)
    evaluate.evaluate(workdir=folder, data_dir=built, split="validation")
    return folder


def test_figures_are_those_of_the_predictions(run):
    where = run / "evaluation" / "validation"
    told = json.loads((where / "metrics.json").read_text())
    table = pd.read_csv(where / "predictions.csv")
    probability = table[[f"probability/{name}" for name in NAMES]].to_numpy()
    truth = table["target"].to_numpy()
    decided = [NAMES.index(name) for name in table["decision"]]
    assert decided == probability.argmax(axis=1).tolist()
    assert table["sureness"].to_numpy() == pytest.approx(probability.max(axis=1))
    figures = {name: figure["value"] for name, figure in told["figures"].items()}
    assert figures["balanced_accuracy"] == pytest.approx(balanced_accuracy_score(truth, decided))
    auc = roc_auc_score(truth, probability, multi_class="ovr")
    assert figures["auc"] == pytest.approx(auc, abs=1e-6)
    report = classification_report(
        truth, decided, labels=range(3), target_names=NAMES, output_dict=True, zero_division=0
    )
    for row in told["classes"]:
        expected = report[row["name"]]
        assert row["recall"]["value"] == pytest.approx(expected["recall"])
        assert row["precision"] == pytest.approx(expected["precision"])
    assert np.sum(told["confusion"]) == len(table)
    assert told["selection"]["temperature"] == bundles.load(run).fitted.temperature
    page = (where / "report.html").read_text()
    assert "Balanced accuracy" in page and "threshold" not in page


def test_a_label_map_joins_labels():
    task = {"class_names": ("fine", "ill"), "label_map": (0, 1, 1)}
    kind = tasks.of(experiment(task=task))
    assert kind.data.groups == ("fine", "ill")
    targets, _ = kind.model.encode({"label/level": tf.constant([0, 1, 2], tf.int64)})
    assert targets.numpy().tolist() == [[1, 0], [0, 1], [0, 1]]
    known = kind.data.truth({"label/level": np.array([0, 2])})
    assert known["stratum"].tolist() == [0, 2] and known["target"].tolist() == [0, 1]


@pytest.mark.parametrize(
    ("task", "training", "words"),
    [
        ({"label_map": (0, 1)}, {}, "config.task.label_map has 2 values"),
        ({"label_map": (0, 0, 1)}, {}, "config.task.label_map is"),
        ({"class_names": ("a", "a", "b")}, {}, "expected each name once"),
        ({}, {"focal_alpha": 0.75}, "config.training.focal_alpha is 0.75"),
        ({}, {"select_by": "val_kappa"}, "config.training.select_by is 'val_kappa'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(task, training, words):
    with pytest.raises(typed.ConfigError, match=words):
        experiment(task=task, **training)


def test_wrongness_is_above_0_where_the_decision_is_wrong():
    kind = tasks.of(experiment())
    shares = np.array([[0.7, 0.2, 0.1], [0.2, 0.5, 0.3], [0.0, 0.1, 0.9]])
    table = pd.DataFrame(shares, columns=[f"probability/{name}" for name in NAMES])
    wrongness = kind.scores.wrongness(table, np.array([0, 2, 0]), None)
    assert wrongness == pytest.approx([-0.5, 0.2, 0.9])


def test_probabilities_that_are_none_are_refused():
    columns = [f"probability/{name}" for name in NAMES]
    table = pd.DataFrame([[0.5, 0.5, 0.0], [0.5, 0.5, 0.2]], columns=columns)
    table = table.assign(id=["a", "b"], patient="p", stratum=0, target=0)
    with pytest.raises(ValueError, match="1 images .* of image 'b'"):
        summary.checked(table, NAMES)
    with pytest.raises(ValueError, match="lack the columns"):
        summary.checked(table.drop(columns=columns[0]), NAMES)


def test_a_model_that_learns_nothing_is_noticed():
    wrong_with = tasks.of(experiment()).judgement.wrong_with
    images = [60, 30, 10]
    collapsed = {"val_accuracy": 0.6, "val_largest_share": 1.0, "val_balanced_accuracy": 1 / 3}
    assert set(wrong_with(collapsed, images)) == {"one_answer", "majority", "chance"}
    good = {"val_accuracy": 0.8, "val_largest_share": 0.6, "val_balanced_accuracy": 0.7}
    assert wrong_with(good, images) == {}
    assert set(tasks.of(experiment()).judgement.alarm_over) == {"one_answer", "majority", "chance"}
