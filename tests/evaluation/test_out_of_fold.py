"""The report over all photographs of a cross-validation, against scikit-learn; without a model."""

import copy
import dataclasses
import json
import re

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import (
    average_precision_score,
    cohen_kappa_score,
    recall_score,
    roc_auc_score,
)

from dr_tfx import tasks
from dr_tfx.evaluation import compare, out_of_fold
from dr_tfx.words import languages
from tests.helpers import browsing, evaluated, screening
from tests.helpers.evaluated import EXPERIMENT

THRESHOLDS = (0.3, 0.5, 0.7)
DATA = dataclasses.replace(
    screening.MANIFEST, dataset=EXPERIMENT.dataset, rows=160, written=160, patients={"fold-0": 80}
)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """Three folds of whole patients, whose models have other scales and thresholds."""
    folder, table = tmp_path_factory.mktemp("cv"), evaluated.predictions(1.0)
    fold = table["patient"].astype(int) % 3
    made = []
    for k, threshold in enumerate(THRESHOLDS):
        part = table[fold == k].sample(frac=1, random_state=k)
        part["score"] = part["score/identity"] = part["score"] ** (0.5 + k)
        run = evaluated.run(folder / f"fold-{k}", part, threshold=threshold)
        made.append(compare.load_run(run, f"fold-{k}", "test"))
    return made


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("out_of_fold")
    return out_of_fold.write(runs, EXPERIMENT, DATA, folder=folder, commands=[["drtfx-x", "--y"]])


def test_the_pooled_figures_are_scikit_learns_with_each_fold_at_its_own_threshold(page):
    table = pd.read_csv(page.parent / "predictions.csv", dtype={"patient": str})
    measures = json.loads((page.parent / "metrics.json").read_text())["measures"]
    assert len(table) == 160 and table["id"].is_monotonic_increasing
    target, score = table["target"], table["score"]
    positive = score >= np.array(THRESHOLDS)[table["fold"]]
    expected = {
        "sensitivity": recall_score(target, positive),
        "specificity": recall_score(target, positive, pos_label=0),
    }
    assert {key: measures[key]["pooled"]["value"] for key in expected} == pytest.approx(expected)
    for key, figure in {"auc": roc_auc_score, "average_precision": average_precision_score}.items():
        of_folds = pd.Series(
            [figure(part["target"], part["score"]) for _, part in table.groupby("fold")]
        )
        found = measures[key]
        assert (found["mean"], found["sd"]) == pytest.approx((of_folds.mean(), of_folds.std()))
        assert found["pooled"]["value"] == found["mean"]  # Scores of other models are others.
    folds = json.loads((page.parent / "metrics.json").read_text())["folds"]
    errors = [(fold["auc"]["high"] - fold["auc"]["low"]) / 3.92 for fold in folds]
    error = np.sqrt(np.square(errors).sum()) / 3  # Of the mean of independent folds.
    auc = measures["auc"]
    expected = (auc["mean"] - 1.96 * error, min(auc["mean"] + 1.96 * error, 1))
    assert (auc["pooled"]["low"], auc["pooled"]["high"]) == pytest.approx(expected)
    assert roc_auc_score(target, score) < auc["mean"] - 0.01  # What it would be, pooled.


def test_a_fold_without_a_figure_leaves_its_mean_undefined(runs):
    last = dataclasses.replace(runs[2], summary=copy.deepcopy(runs[2].summary))
    last.summary["scores"]["tta"]["auc"] |= {"value": None, "low": None, "high": None}
    given = [*runs[:2], last]
    result = out_of_fold.result_of(given, out_of_fold.pooled(runs, DATA), EXPERIMENT, DATA)
    found = result["measures"]["auc"]
    assert found["pooled"] == {"value": None, "low": None, "high": None} and found["mean"] is None


def test_the_interval_of_a_mean_may_begin_below_zero_where_those_of_folds_do():
    folds = [
        {"value": 0.05, "low": -0.15, "high": 0.25},
        {"value": -0.05, "low": -0.35, "high": 0.25},
    ]
    mean = out_of_fold.mean_of_folds(folds)
    half = np.hypot(0.4, 0.6) / 2 / 2  # Of the mean of two.
    assert mean["value"] == pytest.approx(0.0)
    assert (mean["low"], mean["high"]) == pytest.approx((-half, half))
    folds = [{"value": 0.96, "low": 0.7, "high": 1.0}, {"value": 1.0, "low": 0.8, "high": 1.0}]
    assert out_of_fold.mean_of_folds(folds)["high"] == 1


def test_alarms_name_their_folds_and_thresholds_stand_beside_each_other(runs, page):
    first = dataclasses.replace(runs[0], summary=runs[0].summary | {"alarms": ["It broke."]})
    last = dataclasses.replace(runs[2], summary=runs[2].summary | {"alarms": ["It broke."]})
    given = [first, dataclasses.replace(runs[1], summary=runs[1].summary | {"alarms": []}), last]
    result = out_of_fold.result_of(given, out_of_fold.pooled(runs, DATA), EXPERIMENT, DATA)
    assert result["alarms"] == ["fold-0, fold-2: It broke."]
    assert [fold["chosen"]["threshold"] for fold in result["folds"]] == list(THRESHOLDS)
    text = page.read_text()
    assert "scores of different models are not on one scale, so that none is compared" in text
    assert all(f'<td class="n">{threshold:.3f}</td>' in text for threshold in THRESHOLDS)


def test_an_auc_that_is_no_better_than_guessing_over_all_folds_is_an_alarm(runs):
    """Each fold alone may be too small to tell, and all of them together tell."""
    given = []
    for run, value in zip(runs, (0.45, 0.55, 0.62), strict=True):
        other = dataclasses.replace(run, summary=copy.deepcopy(run.summary))
        other.summary["scores"]["tta"]["auc"] |= {
            "value": value,
            "low": value - 0.12,
            "high": value + 0.12,
        }
        given.append(other)
    result = out_of_fold.result_of(given, out_of_fold.pooled(given, DATA), EXPERIMENT, DATA)
    # Half of the interval of the mean of three: .12 times the root of 3, over 3.
    assert result["alarms"][0] == (
        "The AUC over all folds, 0.540 (0.471–0.609), is compatible with guessing, 0.5."
    )
    before = out_of_fold.result_of(runs, out_of_fold.pooled(runs, DATA), EXPERIMENT, DATA)
    assert not any("over all folds" in alarm for alarm in before["alarms"])


GRADES = tasks.from_config(
    {
        "dataset": {"label_names": ["no", "mild", "moderate", "severe"]},
        "task": {"name": "graded", "kind": "grades"},
        "evaluation": {"bootstrap_resamples": 400},
    }
)


def graded(folder, seen):
    """Three folds, and all their predictions: `seen` makes a number on the scale of the grades."""
    rng = np.random.default_rng(3)
    number, truth = np.arange(240), rng.integers(0, 4, 120).repeat(2)
    fold = number // 2 % 3
    grade = seen(truth, fold) + rng.normal(scale=0.1, size=240)
    weight = np.exp(-((grade[:, None] - np.arange(4)) ** 2) * 3)
    told = weight / weight.sum(axis=1, keepdims=True)
    table = pd.DataFrame(told, columns=[f"probability/{n}" for n in GRADES.dataset.label_names])
    named = {"id": [f"{n:03}" for n in number], "patient": [f"p{n // 2:03}" for n in number]}
    table = table.assign(**named, stratum=truth, target=truth, grade=told @ np.arange(4))
    made = []
    for k in range(3):
        run = evaluated.run(folder / f"fold-{k}", table[fold == k], experiment=GRADES)
        made.append(compare.load_run(run, f"fold-{k}", "test"))
    data = dataclasses.replace(DATA, dataset=GRADES.dataset, rows=240, written=240)
    result = out_of_fold.result_of(made, out_of_fold.pooled(made, data), GRADES, data)
    decided = np.floor(table["grade"] + 0.5).astype(int)
    return result, table.assign(fold=fold, decided=decided)


def test_grades_have_kappa_and_the_auc_of_each_cut_over_all_folds(tmp_path):
    """The third model is wrong about everybody: what it adds to an interval is known."""
    result, table = graded(tmp_path, lambda truth, fold: (truth + 2 * (fold == 2)) % 4)
    measures = result["measures"]
    truth, decided = table["target"].to_numpy(), table["decided"].to_numpy()
    found = measures["kappa"]["pooled"]["value"]
    assert found == pytest.approx(cohen_kappa_score(truth, decided, weights="quadratic"))
    for key, grade in (("any_auc", 1), ("referred_auc", 2)):
        told = table.filter(like="probability/").to_numpy()[:, grade:].sum(axis=1)
        areas = [
            roc_auc_score(truth[mine] >= grade, told[mine])
            for mine in (table["fold"] == k for k in range(3))
        ]
        assert [fold[key]["value"] for fold in result["folds"]] == pytest.approx(areas)
        assert measures[key]["pooled"]["value"] == pytest.approx(np.mean(areas))
    # Patients are drawn within their folds: a third of each resample is the third model's.
    rng = np.random.default_rng(8)
    deals = {True: [np.arange(k, 120, 3) for k in range(3)], False: [np.arange(120)]}
    widths = {}
    for within, groups in deals.items():
        drawn = []
        for _ in range(400):
            patients = np.concatenate([rng.choice(group, len(group)) for group in groups])
            rows = np.concatenate([2 * patients, 2 * patients + 1])
            right = decided[rows] == truth[rows]
            drawn.append(np.mean([right[truth[rows] == k].mean() for k in range(4)]))
        widths[within] = np.ptp(np.quantile(drawn, [0.025, 0.975]))
    pooled = measures["balanced_accuracy"]["pooled"]
    assert pooled["high"] - pooled["low"] == pytest.approx(widths[True], rel=0.2)
    assert widths[False] > 1.3 * widths[True]


def test_grades_that_are_guessed_over_all_folds_are_alarms_in_each_language(tmp_path):
    guesses = np.random.default_rng(4).integers(0, 4, 240)
    result, _ = graded(tmp_path, lambda truth, fold: guesses)
    said = [alarm for alarm in result["alarms"] if "over all folds" in alarm]
    names = ["quadratic weighted kappa", "AUC of referred grades", "AUC above the lowest grade"]
    for alarm, name, chance in zip(said, [*names, "AUC"], (0, 0.5, 0.5, 0.5), strict=True):
        assert alarm.startswith(f"The {name} over all folds, ")
        assert alarm.endswith(f"is compatible with guessing, {chance}.")
        assert not re.search("guessing|over all|grade", languages.of("ko").said(alarm))


def test_files_that_no_cross_validation_made_are_left_as_they_are(runs, tmp_path):
    (tmp_path / "predictions.csv").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds predictions.csv, which this command did not"):
        out_of_fold.write(runs, EXPERIMENT, DATA, folder=tmp_path, commands=[])
    assert (tmp_path / "predictions.csv").read_text() == "mine"


def test_photographs_that_are_missing_or_twice_there_are_refused(runs):
    for given in (runs[:2], [*runs, runs[0]]):
        with pytest.raises(ValueError, match=r"in \d+ rows; the data set has 160"):
            out_of_fold.pooled(given, DATA)


def test_the_page_looks_right_on_a_phone(page, browser):
    browsing.check_page(browser, page, pictures=1)
