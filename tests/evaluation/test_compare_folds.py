"""Cross-validations side by side, against scikit-learn fold by fold; without a model."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from sklearn.metrics import recall_score, roc_auc_score

from dr_tfx.config import specs
from dr_tfx.evaluation import compare_folds
from tests.helpers import browsing, evaluated

COUNT = 3
DEALT = dataclasses.replace(evaluated.EXPERIMENT.dataset, split=specs.Split(folds=COUNT))
NOISE = {"plain": 0.0, "noisy": 3.0}


def part(noise: float, fold: int):
    """What the model of a fold says of its photographs, on a scale of its own."""
    table = evaluated.predictions(noise)
    table = table[table["patient"].astype(int) % COUNT == fold]
    score = table["score"] ** (0.5 + fold)
    return table.assign(score=score, **{"score/identity": score})


@pytest.fixture(scope="module")
def validations(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cvs")
    for name, noise in NOISE.items():
        for fold in range(COUNT):
            training = dataclasses.replace(
                evaluated.EXPERIMENT.training, fold=fold, learning_rate=0.01 if noise else 0.02
            )
            experiment = dataclasses.replace(evaluated.EXPERIMENT, dataset=DEALT, training=training)
            evaluated.run(folder / name / f"fold-{fold}", part(noise, fold), experiment=experiment)
    return [folder / name for name in NOISE]


@pytest.fixture(scope="module")
def page(validations):
    command = ["drtfx-compare", "plain", "noisy"]
    return compare_folds.compare_folds(validations, split="test", command=command)


def test_figures_are_means_of_what_scikit_learn_says_of_each_fold(page, validations):
    assert page == validations[0] / "comparison" / "test-noisy" / "compare.html"
    result = json.loads((page.parent / "compare.json").read_text())
    assert result["counts"]["images"] == 160 and result["counts"]["patients"] == 80
    by_fold = {name: [] for name in NOISE}
    for name, noise in NOISE.items():
        for fold in range(COUNT):
            table = part(noise, fold)
            found = recall_score(table["target"], table["score"] >= 0.5)
            by_fold[name].append((roc_auc_score(table["target"], table["score"]), found))
    [row] = result["differences"]
    assert row["name"] == "noisy"
    changes = np.array(by_fold["noisy"]) - np.array(by_fold["plain"])
    for at, key in enumerate(("auc", "sensitivity")):
        figures = [run[key]["value"] for run in result["runs"]]
        assert figures == pytest.approx([np.mean(by_fold[name], axis=0)[at] for name in NOISE])
        assert [fold[key]["value"] for fold in row["folds"]] == pytest.approx(changes[:, at])
        assert row[key]["value"] == pytest.approx(changes[:, at].mean())
        halves = [(fold[key]["high"] - fold[key]["low"]) / 2 for fold in row["folds"]]
        half = np.sqrt(np.square(halves).sum()) / COUNT
        ends = (row[key]["low"], row[key]["high"])
        assert ends == pytest.approx((row[key]["value"] - half, row[key]["value"] + half))
    assert row["auc"]["high"] < 0
    [setting] = [row for row in result["settings"] if row["name"].startswith("training")]
    assert setting == {"name": "training.learning_rate", "values": [0.02, 0.01]}


def test_cross_validations_and_single_runs_are_told_apart(validations):
    plain, noisy = validations
    assert compare_folds.are_crossvalidations(validations)
    assert not compare_folds.are_crossvalidations([plain / "fold-0", noisy / "fold-0"])
    with pytest.raises(ValueError, match=r"noisy.fold-0 is none. Compare cross-validations with"):
        compare_folds.are_crossvalidations([plain, noisy / "fold-0"])


def test_folds_that_are_missing_or_hold_other_photographs_are_refused(validations, tmp_path):
    def compared():
        return compare_folds.compare_folds(
            [validations[0], tmp_path / "cv"], split="test", output_dir=tmp_path / "x", command=[]
        )

    shutil.copytree(validations[1], tmp_path / "cv")
    (tmp_path / "cv" / "fold-2").rename(tmp_path / "kept")
    with pytest.raises(FileNotFoundError, match=r"cv is not finished: it lacks fold-2. Give the"):
        compared()
    shutil.copytree(tmp_path / "cv" / "fold-1", tmp_path / "cv" / "fold-2")
    with pytest.raises(ValueError, match=r"were evaluated on other images of 'test': \d+ only in"):
        compared()
    with pytest.raises(ValueError, match="got 1 run; expected two or more"):
        compare_folds.compare_folds(validations[:1], split="test", command=[])
    assert not (tmp_path / "x" / "compare.html").exists()


def test_the_page_looks_right_on_a_phone(page, browser):
    browsing.check_page(browser, page, pictures=1)
