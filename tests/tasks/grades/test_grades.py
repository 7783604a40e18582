"""The kind `grades` goes the whole way, on pictures that know nothing of their grade."""

import json
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    balanced_accuracy_score,
    cohen_kappa_score,
    mean_absolute_error,
    recall_score,
    roc_auc_score,
    roc_curve,
)

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import records
from dr_tfx.evaluation import compare, evaluate
from dr_tfx.models import bundles
from dr_tfx.statistics.intervals import PatientBootstrap
from dr_tfx.tasks.grades import fitting
from dr_tfx.training.train import train
from tests.helpers import backbones, bundled, datasets

NAMES = ("no DR", "mild", "moderate", "severe")
COUNTS = {
    "train": (40, 40, 40, 40),
    "validation": (100, 100, 100, 100),
    "test": (12, 8, 8, 4),
}
SIZE = 16


def experiment(*, training=None, task=None, **evaluation) -> specs.Experiment:
    return tasks.from_config(
        {
            "dataset": {"label_names": NAMES, "recipe": {"size": SIZE}},
            "task": {"kind": "grades", "name": "graded", **(task or {})},
            "model": {"backbone": backbones.TINY, "output_stride": 8, "weights": "none"},
            "training": {
                "epochs": 4,
                "loss": "cumulative",
                "select_by": "val_kappa",
                "early_stopping_monitor": "val_kappa",
                **(training or {}),
            },
            "evaluation": {"bootstrap_resamples": 100, **evaluation},
        }
    )


def noise(number: int) -> dict:
    rng = np.random.default_rng(number)
    return {records.IMAGE_ENCODED: rng.integers(0, 256, (SIZE, SIZE, 3), np.uint8)}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    """Two pictures of noise a patient, of four grades: as if the labels had been permuted."""
    folder = tmp_path_factory.mktemp("data")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(datasets, "COUNTS", COUNTS)
        datasets.write(folder, experiment().dataset, shard_examples=50, features=noise)
    return folder


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    """A run that was trained and evaluated on validation, and its metrics and predictions."""
    settings = experiment(decide="cut_points")
    folder = train(settings, data_dir=data_dir, workdir=tmp_path_factory.mktemp("run") / "a")
    evaluate.evaluate(workdir=folder, data_dir=data_dir, split="validation")
    return folder, *outcome(folder)


def outcome(folder, split="validation"):
    where = folder / "evaluation" / split
    told = json.loads((where / "metrics.json").read_text())
    return told, pd.read_csv(where / "predictions.csv", dtype={"id": str})


def probabilities(table: pd.DataFrame) -> np.ndarray:
    return table[[f"probability/{name}" for name in NAMES]].to_numpy()


def test_labels_that_mean_nothing_give_a_kappa_near_nothing_and_an_alarm(run):
    folder, told, _ = run
    rounded = next(row for row in told["rules"] if row["name"] == "expected")
    assert abs(rounded["kappa"]["value"]) < 0.15
    assert any("is compatible with guessing" in alarm for alarm in told["alarms"])
    history = pd.read_csv(folder / "history.csv")
    assert history["alarms"].iloc[-1] >= 1


def test_the_history_is_exact_and_so_is_the_report(run):
    folder, told, table = run
    history = pd.read_csv(folder / "history.csv")
    best = history.iloc[bundles.load(folder).best_epoch - 1]
    assert best["val_kappa"] == history["val_kappa"].max()
    truth, grade = table["target"], table["grade"]
    rounded = np.floor(grade + 0.5).astype(int)
    kappa = cohen_kappa_score(truth, rounded, weights="quadratic")
    assert best["val_kappa"] == pytest.approx(kappa, abs=1e-9)
    balanced = balanced_accuracy_score(truth, rounded)
    assert best["val_balanced_accuracy"] == pytest.approx(balanced, abs=1e-9)
    assert best["val_mae"] == pytest.approx(mean_absolute_error(truth, rounded), abs=1e-6)
    auc = roc_auc_score(truth, probabilities(table), multi_class="ovr")
    assert best["val_auc"] == pytest.approx(auc, abs=1e-6)
    assert told["figures"]["auc"]["value"] == pytest.approx(auc, abs=1e-6)
    decided = [NAMES.index(name) for name in table["decision"]]
    kappa = cohen_kappa_score(truth, decided, weights="quadratic")
    assert told["figures"]["kappa"]["value"] == pytest.approx(kappa, abs=1e-9)
    mae = mean_absolute_error(truth, decided)
    assert told["figures"]["mae"]["value"] == pytest.approx(mae, abs=1e-9)
    recalls = [row["recall"]["value"] for row in told["classes"]]
    assert recalls == pytest.approx(recall_score(truth, decided, average=None))
    assert told["costs"][0] == [0, 1, 4, 9]
    # As a cross-validation reads it off the predictions of several models.
    comparison = tasks.of(experiment(decide="cut_points")).judgement.comparison
    bootstrap = PatientBootstrap(table["patient"], resamples=100)
    expected = told["figures"] | dict(
        zip(("any_auc", "referred_auc"), (cut["auc"] for cut in told["cuts"]), strict=False)
    )
    for key, measured in comparison.measured(table, bootstrap).items():
        near = 1e-6 if key in told["figures"] else 1e-3  # As of cuts below.
        assert measured["value"] == pytest.approx(expected[key]["value"], abs=near)
    assert table["grade"].to_numpy() == pytest.approx(probabilities(table) @ np.arange(4))


def test_the_ranked_probability_score_and_the_calibration_of_every_cut_are_those_by_hand(run):
    _, told, table = run
    heat = probabilities(table) ** (1 / told["calibration"]["temperature"])
    after = heat / heat.sum(axis=1, keepdims=True)
    for side, probability in (("before", probabilities(table)), ("after", after)):
        errors = []
        for k, cut in enumerate(told["calibration"]["cuts"], start=1):
            above, target = probability[:, k:].sum(axis=1), (table["target"] >= k).to_numpy()
            errors.append((above - target) ** 2)
            bins = np.array_split(np.argsort(above), 10)
            off = [abs((above - target)[members].sum()) for members in bins]
            assert cut[side] == pytest.approx(sum(off) / len(table), abs=1e-5)
        found = told["calibration"][side]["rps"]["value"]
        assert found == pytest.approx(np.mean(errors), abs=1e-6)
        assert found == told["figures"]["rps"]["value"] or side == "after"


def test_another_split_is_judged_by_what_validation_fitted(run, data_dir):
    folder, _, _ = run
    bundle = bundles.load(folder)
    evaluate.evaluate(workdir=folder, data_dir=data_dir, split="test")
    told, table = outcome(folder, "test")
    fitted, refitted = bundle.fitted, bundle.kind.judgement.fit(table, split="test")
    assert told["selection"]["cut_points"] == list(fitted.cut_points)
    assert fitted.cut_points != refitted.cut_points
    for cut in told["cuts"]:
        frozen, other = (each.points[str(cut["grade"])] for each in (fitted, refitted))
        assert [point["threshold"] for point in cut["points"]] == [x.threshold for x in frozen]
        assert frozen != other
    decided = (table["grade"].to_numpy()[:, None] >= fitted.cut_points).sum(axis=1)
    assert [NAMES[k] for k in decided] == table["decision"].tolist()


def test_what_validation_fitted_is_in_the_bundle_and_is_used(run):
    folder, told, table = run
    fitted = bundles.load(folder).fitted
    assert told["selection"]["cut_points"] == list(fitted.cut_points)
    decided = (table["grade"].to_numpy()[:, None] >= fitted.cut_points).sum(axis=1)
    assert [NAMES[k] for k in decided] == table["decision"].tolist()
    for cut in told["cuts"]:
        above = probabilities(table)[:, cut["grade"] :].sum(axis=1)
        target = table["target"] >= cut["grade"]
        # Sums in another order rank pictures that are all but alike in another order.
        assert cut["auc"]["value"] == pytest.approx(roc_auc_score(target, above), abs=1e-3)
        names = [point["name"] for point in cut["points"]]
        assert names == ["youden", "accuracy", "sensitivity 0.872", "specificity 0.907"]
        for point, frozen in zip(cut["points"], fitted.points[str(cut["grade"])], strict=True):
            assert point["threshold"] == frozen.threshold
            assert np.sum(point["confusion"]) == len(table)
        assert cut["points"][2]["rates"]["sensitivity"]["value"] >= 0.872
        assert cut["points"][3]["rates"]["specificity"]["value"] >= 0.907
    assert [cut["name"] for cut in told["cuts"] if cut["referred"]] == ["moderate or above"]


def test_both_eyes_are_rows_with_paired_differences(run):
    folder, told, table = run
    alone, highest, fused = told["eyes"]["rows"]
    assert told["eyes"]["images"] == 400 and told["eyes"]["patients"] == 200
    assert fused["name"] == "own and other eye"
    decided = pd.Series([NAMES.index(name) for name in table["decision"]])
    top = decided.groupby(table["patient"]).transform("max")
    kappas = [
        cohen_kappa_score(table["target"], grades, weights="quadratic") for grades in (decided, top)
    ]
    assert [alone["kappa"]["value"], highest["kappa"]["value"]] == pytest.approx(kappas, abs=1e-9)
    difference = highest["difference"]["kappa"]
    assert difference["value"] == pytest.approx(kappas[1] - kappas[0], abs=1e-9)
    assert difference["low"] <= difference["value"] <= difference["high"]
    # The fusion by hand: a linear model of both eyes, that of the part that the patient is in.
    fusion = bundles.load(folder).fitted.eyes
    other = table.groupby("patient")["grade"].transform("sum") - table["grade"]
    own = zip(fitting.part(table["patient"]), table["grade"], other, strict=True)
    both = [
        sum(np.dot(fusion.weights[k], (grade, beside, 1)) >= np.array(fusion.cut_points[k]))
        for k, grade, beside in own
    ]
    kappas[1] = cohen_kappa_score(table["target"], both, weights="quadratic")
    assert fused["kappa"]["value"] == pytest.approx(kappas[1], abs=1e-9)
    difference = fused["difference"]["kappa"]
    assert difference["value"] == pytest.approx(kappas[1] - kappas[0], abs=1e-9)
    assert difference["low"] <= difference["value"] <= difference["high"]


def test_the_report_says_all_of_it(run):
    folder, told, _ = run
    page = (folder / "evaluation" / "validation" / "report.html").read_text()
    assert "<p>No linear probe stands beside the model: the model began without pre" in page
    for title in ("Every cut of the scale", "Both eyes of a patient", "Ways to decide"):
        assert title in page
    assert f"{told['figures']['kappa']['value']:.3f}".replace("-", "−") in page
    assert "chosen on this split" in page and "moderate or above (referred)" in page
    assert "severe or above" not in page  # There is nothing above the last grade.
    assert re.search(r"--config=base:grades", page)


def test_the_page_tells_the_values_of_the_curve_of_every_cut(run):
    folder, told, table = run
    page = (folder / "evaluation" / "validation" / "report.html").read_text()
    for k, cut in enumerate(told["cuts"], start=1):
        positive, score = table["target"] >= k, probabilities(table)[:, k:].sum(axis=1)
        tips = re.findall(rf'data-tip="{cut["name"]}: (.*?) on"', page)
        false_alarms, found, limits = roc_curve(positive, score)
        points = zip(found, 1 - false_alarms, limits, strict=True)
        said = "sensitivity {:.3f}, specificity {:.3f} from a probability of {:.3g}"
        drawn = {said.format(*point) for point in [*points][1:]}
        # Sums in another order part a few equal probabilities.
        assert len(tips) > 20 and len({*tips} - drawn) <= 0.1 * len(tips)
        curve = np.interp(cut["band"]["at"], false_alarms, found)
        inside = (curve >= cut["band"]["low"]) & (curve <= cut["band"]["high"])
        assert inside.mean() > 0.9 and len(curve) == 101


HEADS = ("cumulative", "softmax", "regression")


@pytest.mark.parametrize("head", HEADS)
def test_runs_of_other_heads_are_compared(run, data_dir, tmp_path, head):
    folder, told, _ = run
    data = bundles.load(folder).manifest
    other = bundled.make_bundle(tmp_path / "b", experiment(task={"head": head}), data)
    evaluate.evaluate(workdir=other, data_dir=data_dir, split="validation")
    theirs, table = outcome(other)
    assert probabilities(table).sum(axis=1) == pytest.approx(1, abs=1e-5)
    words = ["drtfx-compare"]
    compare.compare([folder, other], split="validation", output_dir=tmp_path / "c", command=words)
    result = json.loads((tmp_path / "c" / "compare.json").read_text())
    expected = theirs["figures"]["kappa"]["value"] - told["figures"]["kappa"]["value"]
    [difference] = result["differences"]
    assert difference["kappa"]["value"] == pytest.approx(expected)
    theirs, ours = (one["cuts"][1]["auc"]["value"] for one in (theirs, told))
    assert difference["referred_auc"]["value"] == pytest.approx(theirs - ours, abs=1e-3)
