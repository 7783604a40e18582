"""Photographs from elsewhere: prepared alike, judged by what validation fitted, accounted for."""

import dataclasses
import json
import re
import shutil
from html import unescape
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest

from beam_jobs.build_examples import label_table
from beam_jobs.external import evaluate_external, photographs_by_id
from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.dataset import identities, leakage, manifest
from dr_tfx.evaluation import lesions_beside
from dr_tfx.explanation import lesions
from dr_tfx.models import bundles, network
from dr_tfx.preprocessing import fingerprint, recipes
from dr_tfx.sources import refusals
from tests.helpers import backbones, datasets, marking
from tests.helpers.bundled import contents
from tests.helpers.drawn import draw, encode, eyepacs_like

THRESHOLD = 0.5
SEEN = ("10_left", "10_right", "11_left")  # Photographs of `raw` that elsewhere has, too.


def experiment():
    evaluation = {"bootstrap_resamples": 100, "views": ["identity", "rotate_90"]}
    return tasks.from_config(
        {
            "dataset": typed.to_dict(eyepacs_like()),
            "task": {"label_map": [0, 1, 1]},
            "model": {"backbone": backbones.GREEN, "output_stride": 16},
            "evaluation": evaluation,
        }
    )


@pytest.fixture(scope="module")
def workdir(built, tmp_path_factory):
    """A bundle whose score is a function of the green of a photograph."""
    folder = tmp_path_factory.mktemp("run")
    model = network.build(experiment(), load_weights=False)
    green = np.array([0, 0.05, 0], np.float32).reshape(1, 1, 3, 1)
    model.set_weights([green, np.zeros(1), np.ones((1, 1)), np.array([-3.0])])
    data = manifest.load(built)
    bundles.save(
        folder, model, experiment=experiment(), data=data, precision="float32", best_epoch=1
    )
    bundles.save_fitted(folder, datasets.fitted(THRESHOLD))
    return folder


@pytest.fixture(scope="module")
def elsewhere(raw, tmp_path_factory):
    """Three photographs of `raw` under other names, nine others, and labels with three flaws.

    One of the three is there as it is, one resized, one compressed anew.
    """
    folder = tmp_path_factory.mktemp("clinic")
    lines = ["file,site,grade"]
    for i, name in enumerate(SEEN):
        image = cv2.imread(str(raw / f"{name}.jpeg"))
        larger = cv2.resize(image, None, fx=1.7, fy=1.7, interpolation=cv2.INTER_CUBIC)
        coarse = cv2.imencode(".jpeg", image, [cv2.IMWRITE_JPEG_QUALITY, 60])[1].tobytes()
        data = ((raw / f"{name}.jpeg").read_bytes(), encode(larger), coarse)[i]
        (folder / f"seen{i}.jpeg").write_bytes(data)
        lines.append(f"seen{i}.jpeg,B,{i % 3}")
    for i in range(9):
        name = "12_left" if i == 0 else f"new{i}"  # A patient's name that `raw` has, too.
        (folder / f"{name}.png").write_bytes(encode(draw(1000 + i), ".png"))
        lines.append(f"{name}.png,B,{i % 3}")
    (folder / "torn.png").write_bytes(encode(draw(2000), ".png")[:300])
    lines += ["torn.png,B,1", "gone.png,B,1", "new1b.png,B,seven"]
    (folder / "grades.csv").write_text("\n".join(lines) + "\n")
    return folder


def photographs(folder, **changes):
    given = {"name": "clinic_b", "image_column": "file", "label_column": "grade", **changes}
    return evaluate_external.ExternalPhotographs(str(folder), str(folder / "grades.csv"), **given)


@pytest.fixture(scope="module")
def page(elsewhere, workdir, built):
    before = (workdir / "bundle.json").read_bytes()
    page = evaluate_external.run(photographs(elsewhere), workdir=workdir, data_dir=built)
    assert (workdir / "bundle.json").read_bytes() == before  # Nothing was fitted.
    return page


@pytest.fixture(scope="module")
def said(page):
    return json.loads((page.parent / "metrics.json").read_text())


def test_the_report_lies_under_its_name_and_says_where_the_photographs_are_from(
    page, said, workdir
):
    assert page == workdir / "evaluation" / "clinic_b" / "report.html"
    assert said["split"] == "clinic_b"
    assert said["selection"]["threshold"] == THRESHOLD
    assert said["selection"]["chosen_on"] == "validation"
    assert not any("chosen on this split" in note for note in said["selection"]["notes"])
    assert "from elsewhere (clinic_b)" in page.read_text()


def test_every_row_is_scored_or_rejected_with_a_reason(page, said, elsewhere):
    assert said["elsewhere"]["rows"] == 15
    assert said["elsewhere"]["written"] == said["counts"]["images"] == 12
    reasons = {"unknown_label": 1, "missing_image": 1, "unreadable": 1}
    assert said["elsewhere"]["rejected"] == reasons
    rejects = pd.read_csv(page.parent / "data" / "rejects.csv")
    assert set(rejects["id"]) == {"torn", "gone", "new1b"}
    alarm = "3 of the 15 rows of the CSV could not be scored (1 missing image, 1 un"
    assert any(alarm in found for found in said["alarms"])


def test_scores_are_those_of_the_recipe_and_the_model(page, elsewhere):
    rows = pd.read_csv(page.parent / "predictions.csv").set_index("id")
    assert len(rows) == 12
    recipe = experiment().dataset.recipe
    for name in ("seen0.jpeg", "new4.png"):
        rgb = recipes.apply_recipe((elsewhere / name).read_bytes(), recipe).rgb
        expected = 1 / (1 + np.exp(3 - 0.05 * rgb[..., 1].mean()))
        row = rows.loc[Path(name).stem]
        assert row["score"] == pytest.approx(expected, abs=1e-5)
        decision = ("negative", "positive")[int(expected >= THRESHOLD)]
        assert row["decision"] == decision


def test_photographs_and_patients_of_the_training_data_are_named(said, built):
    found = said["elsewhere"]
    assert found["compared"]
    pairs = {(f["id"], f["training_id"]): f["identical"] for f in found["copies"]}
    assert pairs == {(f"seen{i}", name): i == 0 for i, name in enumerate(SEEN)}
    known = identities.load(built, manifest.load(built))
    split_of = dict(zip(known.text("id"), known.text("split"), strict=True))
    splits = [split_of[name] for name in SEEN]
    assert [f["split"] for f in found["copies"]] == splits
    assert found["photographs"] == {s: splits.count(s) for s in ("train", "validation", "test")}
    # A photograph 12_left is there, too, but shows something else.
    assert [(f["patient"], f["alike"]) for f in found["patients"]] == [("12", True)]
    assert any(
        f"The model was trained on {splits.count('train')} of these photographs" in alarm
        and f"{SEEN[splits.index('train')]}" in alarm
        for alarm in said["alarms"]
    )
    assert split_of["12_left"] == "train"
    assert not any(alarm.startswith("Names of patients") for alarm in said["alarms"])
    (named,) = [notice for notice in said["notices"] if "photographs of these names" in notice]
    assert named.startswith("1 names of patients or photographs") and ": 12. Most" in named


def test_what_the_model_was_made_of_is_an_alarm_and_its_own_test_split_is_none():
    found = {
        "copies": [
            {"id": "a", "training_id": "x", "split": "train"},
            {"id": "a", "training_id": "y", "split": "train"},
            {"id": "b", "training_id": "z", "split": "validation"},
            {"id": "c", "training_id": "w", "split": "test"},
        ],
        "photographs": {"train": 1, "validation": 1, "test": 1},
        "patients": [
            {"patient": "p", "splits": ["test"], "alike": False},
            {"patient": "q", "splits": ["test", "train"], "alike": False},
            {"patient": "r", "splits": ["train"], "alike": True},
        ],
    }
    trained, chosen, names = leakage.training_alarms(found)
    assert trained.startswith("The model was trained on 1 of these photographs")
    assert "a = x, a = y." in trained
    assert chosen.startswith(
        "The model's checkpoint, threshold and calibration were chosen on 1 of"
    )
    assert "b = z." in chosen
    assert names.startswith("Names of patients") and "too (1): q (test, train). If" in names


def test_the_page_says_nothing_of_splits_that_these_photographs_have_not(page, elsewhere):
    text = " ".join(unescape(re.sub(r"<[^>]+>", " ", page.read_text())).split())
    for words in ("Images in test", "Split, ", "Split by", "Strata of the split", "Shared names"):
        assert words not in text, words
    assert f"Photographs {elsewhere} " in text
    assert "In the model's own data set, too the photograph or a copy of it:" in text
    assert "' here, " in text  # PPV and NPV hold at the share of the abnormal.


def test_the_same_call_again_prepares_nothing_and_without_the_data_says_so(
    page, elsewhere, workdir
):
    shards = sorted((page.parent / "data").glob("test-*"))
    before = [shard.stat().st_mtime_ns for shard in shards]
    assert len(shards) >= 3
    # Nothing is bright enough to be marked, but the photographs are found by their ids.
    beside = lesions_beside.LesionsBeside(
        lesions.LesionMarker(marking.ColourMarker(("HE",), lambda rgb: [rgb[..., 0] > 254])),
        photographs_by_id.find(str(elsewhere)),
        str(elsewhere),
        ["--lesions=LESIONS"],
    )
    evaluate_external.run(photographs(elsewhere), workdir=workdir, data_dir=None, beside=beside)
    assert [shard.stat().st_mtime_ns for shard in shards] == before
    marked = pd.read_csv(page.parent / "lesions.csv")
    wrong = json.loads((page.parent / "metrics.json").read_text())["most_wrong"]
    assert marked["id"].tolist() == [row["id"] for row in wrong]
    assert "--lesions=LESIONS" in page.read_text()
    said = json.loads((page.parent / "metrics.json").read_text())
    assert not said["elsewhere"]["compared"] and not said["elsewhere"]["copies"]
    assert any("give its data set with --data_dir" in notice for notice in said["notices"])


def test_other_photographs_of_the_same_name_are_refused(page, elsewhere, workdir, tmp_path):
    other = Path(shutil.copytree(elsewhere, tmp_path / "other"))
    with (other / "grades.csv").open("a") as stream:
        stream.write("new9.png,B,0\n")
    with pytest.raises(refusals.UnusableInput) as refused:
        evaluate_external.run(photographs(other), workdir=workdir, data_dir=None)
    told = refused.value.told(evaluate_external.FLAGS)
    assert "another --name, or pass --overwrite" in told and "output_dir" not in told


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "test"}, "--name=test is a split"),
        ({"name": "../x"}, "cannot be the name of a report"),
    ],
)
def test_a_name_that_cannot_be_is_refused(elsewhere, workdir, changes, message):
    with pytest.raises(ValueError, match=message):
        evaluate_external.run(photographs(elsewhere, **changes), workdir=workdir, data_dir=None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"label_column": "level"}, "no column 'level'; .* Set --label_column to the right one$"),
        ({"image_column": "name"}, "no column .name.; .* Set --image_column to the right one$"),
        ({"labels": "none.csv"}, "^none.csv does not exist; --labels names the CSV"),
        ({"image_dir": "none"}, "^none does not exist; --image_dir names a folder"),
    ],
)
def test_what_cannot_be_is_refused_in_the_words_of_the_flags(elsewhere, workdir, changes, message):
    given = dataclasses.replace(photographs(elsewhere, name="other"), **changes)
    with pytest.raises(refusals.UnusableInput) as refused:
        evaluate_external.run(given, workdir=workdir, data_dir=None)
    told = refused.value.told(evaluate_external.FLAGS)
    assert re.search(message, told) and "config." not in told
    assert isinstance(refused.value, FileNotFoundError) == ("does not exist" in told)


def test_nothing_is_written_among_the_photographs(elsewhere, workdir):
    """A report has figures, which would be taken for photographs of this folder afterwards."""
    before = contents(elsewhere)
    for folder in (elsewhere, elsewhere.parent):
        with pytest.raises(refusals.UnusableInput, match="holds the photograph .*choose another"):
            evaluate_external.run(
                photographs(elsewhere), workdir=workdir, data_dir=None, output_dir=folder
            )
    assert contents(elsewhere) == before


def test_their_labels_may_be_written_otherwise(elsewhere, workdir, tmp_path):
    (tmp_path / "their.csv").write_text("file,grade\na,gesund\nb,krank leicht\n")
    bundle = bundles.load(workdir)
    given = photographs(elsewhere, label_values=("gesund=0", "krank leicht=1"))
    spec = evaluate_external._spec(bundle, given, "clinic_b")
    rows = label_table.read(str(tmp_path / "their.csv"), spec, None).rows
    assert rows["label"].tolist() == [0, 1]
    words = evaluate_external._typed(("gesund=0", "krank, leicht=1"))
    assert words == 'gesund=0,"krank, leicht=1"'
    for flag, value in (("label_values", ("gesund=9",)), ("patient_pattern", "(")):
        with pytest.raises(ValueError, match=f"^--{flag} "):
            evaluate_external._spec(bundle, photographs(elsewhere, **{flag: value}), "clinic_b")


def test_without_threshold_or_of_arrays_a_model_is_refused(workdir, elsewhere, tmp_path):
    run = Path(shutil.copytree(workdir, tmp_path / "run"))
    bundle = json.loads((run / "bundle.json").read_text())
    (run / "bundle.json").write_text(json.dumps({**bundle, "fitted": None}))
    with pytest.raises(ValueError, match="--split=validation first"):
        evaluate_external.run(photographs(elsewhere), workdir=run, data_dir=None)
    bundle["manifest"]["prepared"] = manifest.ELSEWHERE
    (run / "bundle.json").write_text(json.dumps(bundle))
    with pytest.raises(ValueError, match="prepared outside of dr_tfx"):
        evaluate_external.run(photographs(elsewhere), workdir=run, data_dir=None)


def test_patients_and_twins_in_several_splits_are_alarms_with_names():
    names = [f"p{i}" for i in range(7)]
    twins = [
        {"ids": ["a", "b"], "labels": [0, 0], "splits": ["train", "validation"]},
        {"ids": ["c", "d"], "labels": [0, 1], "splits": ["train", "train"]},
    ]
    near = [{"ids": ["e", "f"], "labels": [0, 0], "splits": ["test", "train"]}]
    contract = {"shared_patients": 7, "shared_names": names, "twins": twins, "near_twins": near}
    found = leakage.within(contract)
    assert found == {
        "shared_patients": 7,
        "patients": names,
        "twins": twins[:1],
        "near_twins": near,
    }
    patients, identical, copies = leakage.alarms(found)
    assert "1 groups of copies of one photograph" in copies and "e (test) = f (train)" in copies
    assert patients.startswith("7 patients have photographs in more than one split: p0, p1, p2")
    assert "a (train) = b (validation)" in identical and "c (" not in identical
    clean = leakage.within(
        {**contract, "shared_patients": 0, "shared_names": [], "twins": [], "near_twins": []}
    )
    assert leakage.alarms(clean) == []


def test_a_split_by_image_names_the_patients_it_parts(raw, tmp_path):
    from tests.helpers.builds import build

    spec = dataclasses.replace(eyepacs_like(), split=specs.Split(method="image", validation=0.25))
    data = build(raw, tmp_path / "data", spec=spec)
    seen = {}
    known = identities.load(tmp_path / "data", data)
    for patient, split in zip(known.text("patient"), known.text("split"), strict=True):
        seen.setdefault(patient, set()).add(split)
    shared = sorted(patient for patient, splits in seen.items() if len(splits) > 1)
    assert shared and data.shared_patients == len(shared)
    assert list(data.shared_names) == shared[: manifest.NAMED_PATIENTS]


def test_names_are_no_alarm_where_the_photographs_are_others():
    marks = [fingerprint.of(draw(i)) for i in range(6)]

    def known(*rows):
        return identities.collect(
            identities.PhotographIdentity(i, patient, split, bytes([n] * 16), marks[n])
            for i, patient, split, n in rows
        )

    training = known(
        ("1_left", "1", "train", 0),
        ("2_left", "2", "train", 1),
        ("3_left", "3", "validation", 2),
        ("9_left", "9", "train", 5),  # Another one than here, where it is a copy of 3_left.
    )
    here = known(
        ("1_left", "1", "", 3),  # The name of another photograph.
        ("2_right", "2", "", 4),  # Perhaps the other eye of the same patient.
        ("9_left", "9", "", 2),  # The photograph of another name.
    )
    found = leakage.with_training(here, training)
    assert [(f["id"], f["training_id"]) for f in found["copies"]] == [("9_left", "3_left")]
    assert found["photographs"] == {"train": 0, "validation": 1, "test": 0}
    alike = {f["patient"]: f["alike"] for f in found["patients"]}
    assert alike == {"1": True, "2": False, "9": True}
    (chosen, names), (notice,) = leakage.training_alarms(found), leakage.training_notices(found)
    assert "chosen on 1 of these photographs" in chosen and "9_left = 3_left" in chosen
    assert "too (1): 2 (train)" in names
    assert notice.startswith("2 names") and "others: 1, 9." in notice
