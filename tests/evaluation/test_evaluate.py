"""What is written of scores, in which order, and what is fitted where; without a model."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dr_tfx.evaluation import drift, evaluate, gallery, scored
from dr_tfx.inference import scoring
from dr_tfx.models import bundles
from dr_tfx.statistics import operating_points
from dr_tfx.tasks.binary import report_figures
from tests.helpers import datasets, screening
from tests.helpers.screening import EXPERIMENT, MANIFEST


def test_the_folder_is_complete_and_the_numbers_survive_json(tmp_path):
    screening.history().to_csv(tmp_path / "history.csv", index=False)
    judged = screening.scored(screening.predictions(), workdir=tmp_path)
    summary = evaluate.metrics_of(judged)
    page = evaluate.write(judged, summary)
    assert page == tmp_path / "evaluation" / "validation" / "report.html"
    assert sorted(p.name for p in page.parent.iterdir()) == [
        "calibration.png",
        "confusion.png",
        "learning_curves.png",
        "metrics.json",
        "model_card.md",
        "precision_recall.png",
        "predictions.csv",
        "referral.png",
        "report.html",
        "roc.png",
        "strata.png",
        "threshold_sweep.png",
    ]
    assert json.loads((page.parent / "metrics.json").read_text()) == summary
    read = pd.read_csv(page.parent / "predictions.csv", dtype={"id": str, "patient": str})
    decided = np.where(judged.predictions["score"] >= 0.5, "abnormal", "normal")
    expected = judged.predictions.assign(decision=decided)
    pd.testing.assert_frame_equal(read, expected, check_dtype=False)


def test_a_failure_leaves_no_report_from_before(tmp_path, monkeypatch):
    judged = screening.scored(screening.predictions(), workdir=tmp_path)
    page = judged.folder / "report.html"
    page.parent.mkdir(parents=True)
    page.write_text("of an earlier evaluation")
    monkeypatch.setattr(report_figures, "draw_figures", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        evaluate.write(judged, evaluate.metrics_of(judged))
    assert not page.exists()


@pytest.fixture
def stand_in(monkeypatch):
    """A function that puts a bundle with a threshold in the place of the one in a folder."""
    stored = []

    def put(threshold, shared_patients=0, table=screening.predictions):
        bundle = screening.bundle(
            data=dataclasses.replace(MANIFEST, shared_patients=shared_patients),
            fitted=None if threshold is None else datasets.fitted(threshold),
        )
        monkeypatch.setattr(bundles, "load", lambda workdir: bundle)
        monkeypatch.setattr(bundles, "save_fitted", lambda workdir, fitted: stored.append(fitted))
        monkeypatch.setattr(gallery, "gallery_images", lambda *_: [])
        monkeypatch.setattr(drift, "keep", lambda _: None)
        monkeypatch.setattr(scoring, "predict_split", lambda *_, **__: table())
        return stored

    return put


def test_validation_fits_and_stores_what_it_fitted(tmp_path, stand_in, caplog):
    stored = stand_in(threshold=None)
    page = evaluate.evaluate(workdir=tmp_path, data_dir=Path("data"), split="validation")
    predictions = screening.predictions()
    settings = EXPERIMENT.evaluation
    chosen = operating_points.choose(predictions["target"], predictions["score"], settings)
    assert chosen[0].rule == settings.threshold_rule == "accuracy"
    assert [fitted.points for fitted in stored] == [chosen]
    written = json.loads((page.parent / "metrics.json").read_text())
    assert written["selection"]["threshold"] == chosen[0].threshold
    assert written["selection"]["optimistic"] is True
    assert "no history" in page.read_text()
    assert [r.getMessage() for r in caplog.records if r.levelname == "WARNING"] == [
        f"ALARM: {alarm}" for alarm in written["alarms"]
    ]


def test_another_split_uses_what_is_stored(tmp_path, stand_in):
    stored = stand_in(threshold=0.37)
    page = evaluate.evaluate(workdir=tmp_path, data_dir=Path("data"), split="test")
    written = json.loads((page.parent / "metrics.json").read_text())
    assert written["selection"]["threshold"] == 0.37
    assert written["selection"]["optimistic"] is False
    assert stored == []


def test_patients_in_two_splits_make_every_split_optimistic(tmp_path, stand_in):
    stand_in(threshold=0.37, shared_patients=12)
    page = evaluate.evaluate(workdir=tmp_path, data_dir=Path("data"), split="test")
    assert "12 patients have images in more than one split" in page.read_text()


def test_another_split_with_nothing_fitted_says_what_to_do(tmp_path, stand_in):
    stand_in(threshold=None)
    with pytest.raises(ValueError, match="Run drtfx-evaluate with --split=validation first"):
        evaluate.evaluate(workdir=tmp_path, data_dir=Path("data"), split="test")
    assert not list(tmp_path.iterdir())


def test_a_split_that_does_not_exist_is_said_before_the_order_of_splits(tmp_path, stand_in):
    stand_in(threshold=None)
    with pytest.raises(ValueError, match="in split 'val'; it has train, validation, test"):
        evaluate.evaluate(workdir=tmp_path, data_dir=Path("data"), split="val")


def test_images_of_the_same_name_are_refused(tmp_path, stand_in):
    stand_in(threshold=0.5, table=lambda: screening.predictions().assign(id="twin"))
    with pytest.raises(ValueError, match="399 image ids of data repeat, first 'twin'"):
        evaluate.evaluate(workdir=tmp_path, data_dir=Path("data"), split="test")


@pytest.mark.parametrize(
    ("name", "shared", "said"),
    [
        ("validation", 0, ["threshold, and every other", "The calibration was", "checkpoint"]),
        ("train", 0, ["say nothing about new patients"]),
        ("test", 0, []),
        ("another hospital", 0, []),
        ("test", 3, ["3 patients have images in more than one split"]),
    ],
)
def test_figures_that_a_choice_made_optimistic_are_called_so(name, shared, said):
    data = dataclasses.replace(MANIFEST, shared_patients=shared)
    judged = screening.scored(screening.predictions(20), name=name, data=data)
    chosen = evaluate.metrics_of(judged)["selection"]
    assert len(chosen["notes"]) == len(said)
    for words, note in zip(said, chosen["notes"], strict=True):
        assert words in note
    assert chosen["optimistic"] == bool(said)
    assert chosen["chosen_on"] == "validation" and chosen["checkpoint_rule"] == "val_auc"


def test_alarms_and_notices_from_elsewhere_come_first():
    elsewhere = evaluate.Elsewhere(["Alarm!"], ["Notice."], {"rows": 40})
    told = evaluate.metrics_of(screening.scored(screening.predictions(20), elsewhere=elsewhere))
    assert told["alarms"][0] == "Alarm!" and len(told["alarms"]) > 1
    assert told["notices"] == ["Notice."] and told["elsewhere"] == {"rows": 40}


def test_patients_who_share_photographs_are_drawn_as_one():
    """The twins join patients 0, 1 and 5, and 30 and 31; the last two groups join nobody."""
    groups = [
        ("0_left", "1_right"),
        ("1_left", "5_left"),
        ("30_left", "31_left"),
        ("7_left", "7_right"),
        ("gone", "3_left"),
    ]
    twins = tuple({"ids": list(ids), "labels": [0, 0], "splits": ["test"] * 2} for ids in groups)
    data = dataclasses.replace(MANIFEST, twins=twins)
    judged = screening.scored(screening.predictions(60), data=data)
    assert judged.counts == {
        "images": 120,
        "joined": [["0", "1", "5"], ["30", "31"]],
        "patients": 60,
        "patients_known": True,
    }
    table = judged.clustered
    assert table["cluster"].nunique() == 57
    by_hand = table["patient"].replace({"1": "0", "5": "0", "31": "30"})
    assert table.groupby("cluster")["patient"].nunique().max() == 3
    assert (table.groupby(by_hand)["cluster"].nunique() == 1).all()


def test_patients_that_are_not_known_are_noticed():
    assert scored.patients_known(MANIFEST) and not scored.notices(MANIFEST)
    alone = dataclasses.replace(MANIFEST, written=600)  # As many photographs as patients.
    assert not scored.patients_known(alone)
    (notice,) = scored.notices(alone)
    assert "set config.dataset.patient_pattern; otherwise the split may part" in notice
    by_column = dataclasses.replace(alone.dataset, patient_column="pid")
    told = dataclasses.replace(alone, dataset=by_column)  # One photograph of each patient.
    assert scored.patients_known(told) and not scored.notices(told)
    (notice,) = scored.notices(dataclasses.replace(told, unknown_patients=7))
    assert notice.startswith("The patients of 7 of 600 photographs are not known")
    assert not scored.patients_known(dataclasses.replace(told, unknown_patients=600))
    split = dataclasses.replace(alone.dataset.split, method="external")
    elsewhere = dataclasses.replace(alone, dataset=dataclasses.replace(alone.dataset, split=split))
    (notice,) = scored.notices(elsewhere)
    assert "set --patient_pattern; otherwise two eyes" in notice


def test_twins_with_contradicting_labels_are_named():
    twins = (
        {"ids": ["a", "b"], "labels": [1, 4], "splits": ["train", "train"]},
        {"ids": ["c", "d"], "labels": [2, 2], "splits": ["train", "train"]},
    )
    (notice,) = scored.notices(dataclasses.replace(MANIFEST, twins=twins))
    assert notice.endswith("wrong: a (mild), b (proliferative).")
