"""Runs side by side: figures against scikit-learn and by hand, refusals, and the page."""

import dataclasses
import json
import re
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from dr_tfx.evaluation import compare
from tests.helpers import browsing, evaluated

EXPERIMENT = evaluated.EXPERIMENT


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    """The same images: scored well, scored with much noise, and the first again but shuffled."""
    folder = tmp_path_factory.mktemp("runs")
    training = dataclasses.replace(EXPERIMENT.training, seed=9, learning_rate=0.0123)
    other = dataclasses.replace(EXPERIMENT, training=training)
    good, noisy = evaluated.predictions(0.0), evaluated.predictions(4.0)
    return [
        evaluated.run(folder / "good", good),
        evaluated.run(folder / "noisy", noisy, experiment=other, threshold=0.6),
        evaluated.run(folder / "again", good.sample(frac=1, random_state=1), threshold=0.45),
    ]


@pytest.fixture(scope="module")
def page(runs, tmp_path_factory) -> Path:
    output = tmp_path_factory.mktemp("output") / "new"
    command = ["drtfx-compare", "good", "noisy", "again", "--split=test"]
    return compare.compare(runs, split="test", output_dir=output, command=command)


def test_figures_and_differences_are_those_of_scikit_learn(page):
    result = json.loads((page.parent / "compare.json").read_text())
    scored = {"good": (0.0, 0.5), "noisy": (4.0, 0.6), "again": (0.0, 0.45)}
    expected = {}
    for name, (noise, threshold) in scored.items():
        p = evaluated.predictions(noise)
        decision = p["score"] >= threshold
        expected[name] = {
            "auc": roc_auc_score(p["target"], p["score"]),
            "sensitivity": recall_score(p["target"], decision),
            "specificity": recall_score(p["target"], decision, pos_label=0),
        }
    assert [run["name"] for run in result["runs"]] == list(scored)
    for run in result["runs"]:
        assert run["threshold"] == scored[run["name"]][1]
        for measure, value in expected[run["name"]].items():
            assert run[measure]["value"] == pytest.approx(value, abs=1e-9)
    assert [row["name"] for row in result["differences"]] == ["noisy", "again"]
    for row in result["differences"]:
        for measure, value in expected[row["name"]].items():
            difference = value - expected["good"][measure]
            assert row[measure]["value"] == pytest.approx(difference, abs=1e-9), measure
            assert row[measure]["low"] <= difference + 1e-9
            assert row[measure]["high"] >= difference - 1e-9
    noisy, again = result["differences"]
    assert noisy["auc"]["high"] < 0 and noisy["auc"]["p"] < 0.05
    # The order of rows is not the images' order: paired by id, the same scores do not differ.
    assert again["auc"] == {"value": 0, "low": 0, "high": 0, "p": 1}


def test_what_differs_in_the_settings_is_listed_and_nothing_else(page):
    result = json.loads((page.parent / "compare.json").read_text())
    seed = EXPERIMENT.training.seed
    rate = EXPERIMENT.training.learning_rate
    assert result["settings"] == [
        {"name": "training.learning_rate", "values": [rate, 0.0123, rate]},
        {"name": "training.seed", "values": [seed, 9, seed]},
    ]


def test_the_table_has_the_same_figures(page):
    table = pd.read_csv(page.parent / "compare.csv", index_col=["run", "measure"])
    result = json.loads((page.parent / "compare.json").read_text())
    for run in result["runs"]:
        row = table.loc[(run["name"], "sensitivity")]
        expected = [run["sensitivity"][end] for end in ("value", "low", "high")]
        assert [row["value"], row["low"], row["high"]] == pytest.approx(expected, rel=1e-12)
    row = table.loc[("noisy", "auc")]
    assert row["difference_p"] == pytest.approx(result["differences"][0]["auc"]["p"], rel=1e-12)
    assert table.loc["good"].filter(like="difference").isna().all(axis=None)


def test_the_page_says_what_is_better_and_shows_the_majority_rate(page):
    text = re.sub(r"\s+", " ", re.sub(r"<[^>]+>", " ", page.read_text()))
    assert re.search(r"noisy against good is worse: AUC −0\.\d+ \(−0\.\d+ to −0\.\d+\)", text)
    assert re.search(r"again against good is .*not clearly different: AUC 0\.000", text)
    share = evaluated.predictions(0.0)["target"].mean()
    assert f"accuracy {100 * max(share, 1 - share):.1f} %" in text
    assert "<ill>" not in page.read_text() and "&lt;ill&gt;" in page.read_text()
    assert "optimistic" not in text
    assert "drtfx-compare good noisy again --split=test" in text


def test_the_page_in_a_browser(browser, page):
    assert {p.name for p in page.parent.iterdir()} == {
        "compare.csv",
        "compare.html",
        "compare.json",
        "differences.png",
        "roc.png",
    }
    browsing.check_page(browser, page, pictures=2)


def test_patients_who_share_photographs_are_one_in_every_difference(tmp_path):
    first, second = evaluated.predictions(0.0), evaluated.predictions(4.0)
    twins = [["00_l", "01_r"], ["01_l", "09_l"]]
    joined = [
        evaluated.run(tmp_path / name, table, twins=twins)
        for name, table in (("a", first), ("b", second))
    ]
    by_hand = [
        evaluated.run(
            tmp_path / "hand" / name, table.replace({"patient": {"01": "00", "09": "00"}})
        )
        for name, table in (("a", first), ("b", second))
    ]
    page, expected = (
        compare.compare(pair, split="test", output_dir=pair[0], command=["drtfx-compare"])
        for pair in (joined, by_hand)
    )
    found, wanted = (
        json.loads((p.parent / "compare.json").read_text())["differences"] for p in (page, expected)
    )
    assert found == wanted
    text = " ".join(page.read_text().split())
    words = "3 patients share photographs or copies of them and are resampled together, as 1."
    assert words in text
    assert "resampled together" not in expected.read_text()


def test_by_default_the_page_is_with_the_first_run(tmp_path):
    first = evaluated.run(tmp_path / "a" / "run", evaluated.predictions(0.0), split="validation")
    second = evaluated.run(tmp_path / "b" / "run", evaluated.predictions(1.0), split="validation")
    page = compare.compare([first, second], split="validation", command=["drtfx-compare"])
    assert page == first / "comparison" / "validation-b_run" / "compare.html"
    assert "optimistic" in page.read_text()


def test_files_that_no_comparison_made_are_left_as_they_are(runs, tmp_path):
    (tmp_path / "compare.csv").write_text("mine")
    with pytest.raises(FileExistsError, match="holds compare.csv, which this command did not"):
        compare.compare(runs, split="test", output_dir=tmp_path, command=["drtfx-compare"])
    assert (tmp_path / "compare.csv").read_text() == "mine"


def test_one_run_or_the_same_twice_is_refused(runs, tmp_path):
    with pytest.raises(ValueError, match="got 1 run; expected two or more"):
        compare.load_runs(runs[:1], "test")
    (tmp_path / "link").symlink_to(runs[0])
    with pytest.raises(ValueError, match="link is given twice"):
        compare.load_runs([runs[0], tmp_path / "link"], "test")


def test_a_run_that_is_not_evaluated_is_told_with_the_command(runs, tmp_path):
    with pytest.raises(FileNotFoundError, match="bundle.json does not exist"):
        compare.load_runs([runs[0], tmp_path], "test")
    for split, given in (
        ("validation", "--data_dir=DATA_DIR --split=validation"),
        ("clinic_b", "--image_dir=PHOTOS --labels=PHOTOS/labels.csv --name=clinic_b"),
    ):
        with pytest.raises(FileNotFoundError) as refusal:
            compare.load_runs(runs[:2], split)
        for run in runs[:2]:
            assert f"drtfx-evaluate --workdir={run} {given}" in str(refusal.value)


def test_figures_of_an_earlier_version_are_refused(runs, tmp_path):
    old = evaluated.run(tmp_path / "old", evaluated.predictions(1.0))
    path = old / "evaluation" / "test" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 1}))
    with pytest.raises(ValueError, match="schema 1; this version reads 7.*drtfx-evaluate"):
        compare.load_runs([runs[0], old], "test")


def _relabelled(predictions: pd.DataFrame) -> pd.DataFrame:
    return predictions.assign(stratum=predictions["stratum"].replace({2: 1}))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p.iloc[3:], r"3 only in good \(00_l, 00_r, 01_l\)\. "),
        (
            lambda p: p.assign(id="x" + p["id"]),
            r"160 only in good \(.*, \.\.\.\); 160 only in other \(x00_l, ",
        ),
        (_relabelled, r"\d+ with another label \("),
        (lambda p: p.assign(patient=p["id"]), r"160 with another patient \(00_l, "),
    ],
)
def test_other_images_are_refused_and_named(runs, tmp_path, change, message):
    other = evaluated.run(tmp_path / "other", change(evaluated.predictions(1.0)))
    with pytest.raises(ValueError, match="other images of 'test'.*" + message):
        compare.check_comparable(compare.load_runs([runs[0], other], "test"), "test")


def test_another_task_is_refused(runs, tmp_path):
    task = dataclasses.replace(EXPERIMENT.task, label_map=(0, 0, 1))
    experiment = dataclasses.replace(EXPERIMENT, task=task)
    other = evaluated.run(tmp_path / "other", evaluated.predictions(1.0), experiment=experiment)
    with pytest.raises(ValueError, match=r"another task: task.label_map is \[0, 1, 1\] in good"):
        compare.check_comparable(compare.load_runs([runs[0], other], "test"), "test")


def _told(runs: list[Path], path: Path, text: str) -> str:
    """What is said of a run, one of whose files has another text."""
    intact = path.read_text()
    path.write_text(text)
    with pytest.raises(ValueError) as refusal:
        compare.load_runs(runs, "test")
    path.write_text(intact)
    assert "\n" not in str(refusal.value)
    assert str(refusal.value).startswith(f"{path} is damaged: ")
    assert str(refusal.value).endswith("Evaluate again: " + _AGAIN.format(path.parents[2]))
    return str(refusal.value)


_AGAIN = "drtfx-evaluate --workdir={} --data_dir=DATA_DIR --split=test"


@pytest.mark.parametrize(
    ("keys", "value", "message"),
    [
        (["counts"], {}, "metrics.counts lacks images, joined, patients, patients_known"),
        (["selection", "threshold"], None, "metrics.selection.threshold is None; expected float"),
        (["selection", "threshold"], 1.5, "metrics.selection.threshold is 1.5; expected 0 to 1"),
        (["scores", "tta", "auc", "low"], "0.5", "scores.tta.auc.low is '0.5'; expected float"),
        (["counts", "joined"], [["a", 1]], r"metrics.counts.joined\[0\]\[1\] is 1; expected str"),
        (["counts", "majority_class"], "x", "counts.majority_class is 'x'; expected one of"),
        (["alarms"], "none", "metrics.alarms is 'none'; expected a list"),
    ],
)
def test_tampered_figures_are_refused_with_the_file_and_the_key(runs, keys, value, message):
    path = runs[1] / "evaluation" / "test" / "metrics.json"
    content = json.loads(path.read_text())
    group = content
    for key in keys[:-1]:
        group = group[key]
    group[keys[-1]] = value
    assert re.search(message, _told(runs, path, json.dumps(content)))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda text: text.replace("decision", "decided"), "it lacks ['decision']"),
        (lambda text: text.replace("00_l", "00_r", 1), "several rows of the image '00_r'"),
        (lambda text: text[: text.rindex("\n", 0, -1) + 1], "159 rows, and metrics.json says 160"),
        (lambda text: text.replace("<ill>", "ill", 1), "is 'ill'; expected one of well, <ill>"),
        (
            lambda text: text.replace("00_l", "00\x1b[2J_l", 1),
            "control characters in the column id",
        ),
        (lambda text: text.replace(",0.", ",-0."), "are not within [0, 1]"),
        (lambda text: "", "Empty CSV file"),
    ],
)
def test_tampered_predictions_are_refused_with_the_file_and_the_image(runs, change, message):
    path = runs[1] / "evaluation" / "test" / "predictions.csv"
    assert message in _told(runs, path, change(path.read_text()))


def test_classes_whose_names_are_numbers_or_formulas_are_told_apart(tmp_path):
    """A table reads 0 as a number, and has an apostrophe before what a spreadsheet would run."""
    task = dataclasses.replace(EXPERIMENT.task, class_names=("0", "+1"))
    numbered = dataclasses.replace(EXPERIMENT, task=task)
    folder = evaluated.run(tmp_path / "run", evaluated.predictions(0.0), experiment=numbered)
    run = compare.load_run(folder, "run", "test")
    score = run.predictions["score"]
    assert (run.predictions["decision"] == np.where(score >= 0.5, "+1", "0")).all()
