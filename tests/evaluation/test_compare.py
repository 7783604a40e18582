"""Runs side by side: figures against scikit-learn and by hand, refusals, and the page."""

import dataclasses
import json
import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.evaluation import compare, evaluate
from dr_tfx.tasks.binary import fitting
from tests.helpers import browsing, screening

EXPERIMENT = tasks.from_config(
    {
        "dataset": {"label_names": ["none", "mild", "severe"]},
        "task": {"name": "screening", "class_names": ["well", "<ill>"], "label_map": [0, 1, 1]},
        "evaluation": {"bootstrap_resamples": 100},
    }
)


def _predictions(noise: float) -> pd.DataFrame:
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


def _run(
    folder: Path,
    predictions: pd.DataFrame,
    *,
    experiment: specs.Experiment = EXPERIMENT,
    split: str = "test",
    threshold: float = 0.5,
    twins: Sequence[Sequence[str]] = (),
) -> Path:
    """A folder as training and evaluation leave it, but for the model and what is not read."""
    fitted = fitting.fit(predictions, experiment.evaluation, split="validation")
    decides = dataclasses.replace(fitted.points[0], threshold=threshold)
    fitted = dataclasses.replace(fitted, points=(decides, *fitted.points[1:]))
    names = experiment.task.class_names
    data = dataclasses.replace(
        screening.MANIFEST,
        dataset=experiment.dataset,
        twins=tuple(
            {"ids": list(ids), "labels": [0] * len(ids), "splits": [split] * len(ids)}
            for ids in twins
        ),
    )
    scored = screening.scored(
        predictions, settings=experiment, data=data, fitted=fitted, name=split
    )
    bundle = {
        "best_epoch": 3,
        "experiment": typed.to_dict(experiment),
        "files": {},
        "fitted": fitted.to_dict(),
        "format": 2,
        "libraries": {"keras": "3"},
        "manifest": {"fingerprint": "ab" * 32},
        "precision": "float32",
    }
    where = folder / "evaluation" / split
    where.mkdir(parents=True)
    (folder / "bundle.json").write_text(json.dumps(bundle))
    (where / "metrics.json").write_text(json.dumps(evaluate.metrics_of(scored), sort_keys=True))
    decision = np.where(predictions["score"] >= threshold, names[1], names[0])
    predictions.assign(decision=decision).to_csv(where / "predictions.csv", index=False)
    (where / "report.html").touch()
    return folder


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> list[Path]:
    """The same images: scored well, scored with much noise, and the first again but shuffled."""
    folder = tmp_path_factory.mktemp("runs")
    training = dataclasses.replace(EXPERIMENT.training, seed=9, learning_rate=0.0123)
    other = dataclasses.replace(EXPERIMENT, training=training)
    good, noisy = _predictions(0.0), _predictions(4.0)
    return [
        _run(folder / "good", good),
        _run(folder / "noisy", noisy, experiment=other, threshold=0.6),
        _run(folder / "again", good.sample(frac=1, random_state=1), threshold=0.45),
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
        p = _predictions(noise)
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
    share = _predictions(0.0)["target"].mean()
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
    first, second = _predictions(0.0), _predictions(4.0)
    twins = [["00_l", "01_r"], ["01_l", "09_l"]]
    joined = [
        _run(tmp_path / name, table, twins=twins) for name, table in (("a", first), ("b", second))
    ]
    by_hand = [
        _run(tmp_path / "hand" / name, table.replace({"patient": {"01": "00", "09": "00"}}))
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
    first = _run(tmp_path / "a" / "run", _predictions(0.0), split="validation")
    second = _run(tmp_path / "b" / "run", _predictions(1.0), split="validation")
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
        ("clinic_b", "--external_dir=PHOTOS --labels=PHOTOS/labels.csv --name=clinic_b"),
    ):
        with pytest.raises(FileNotFoundError) as refusal:
            compare.load_runs(runs[:2], split)
        for run in runs[:2]:
            assert f"drtfx-evaluate --workdir={run} {given}" in str(refusal.value)


def test_figures_of_an_earlier_version_are_refused(runs, tmp_path):
    old = _run(tmp_path / "old", _predictions(1.0))
    path = old / "evaluation" / "test" / "metrics.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"schema": 1}))
    with pytest.raises(ValueError, match="schema 1; this version reads 4.*drtfx-evaluate"):
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
    other = _run(tmp_path / "other", change(_predictions(1.0)))
    with pytest.raises(ValueError, match="other images of 'test'.*" + message):
        compare.check_comparable(compare.load_runs([runs[0], other], "test"), "test")


def test_another_task_is_refused(runs, tmp_path):
    task = dataclasses.replace(EXPERIMENT.task, label_map=(0, 0, 1))
    experiment = dataclasses.replace(EXPERIMENT, task=task)
    other = _run(tmp_path / "other", _predictions(1.0), experiment=experiment)
    with pytest.raises(ValueError, match=r"another task: task.label_map is \[0, 1, 1\] in good"):
        compare.check_comparable(compare.load_runs([runs[0], other], "test"), "test")
