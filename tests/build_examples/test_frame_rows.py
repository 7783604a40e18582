"""Data sets of DICOM files with several frames: what single slices would give, and their labels."""

import dataclasses
import json
import os
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from beam_jobs.build_examples import accounting, planning
from beam_jobs.explain import units
from dr_tfx.config import specs
from dr_tfx.dataset import records
from dr_tfx.inference import photographs
from dr_tfx.sources import find_source, given
from tests.helpers.builds import SPEC, build, contents
from tests.helpers.enhanced import Frame, enhanced_ct
from tests.helpers.slices import dicom_slice
from tests.helpers.slices import units as drawn

pytest.importorskip("pydicom")
RECIPE = specs.Recipe(name="ct_neighbours", size=24, quality_gate="off", windows=((50, 100),))
BESIDE = dataclasses.replace(
    SPEC, recipe=RECIPE, patient_column="PatientID", patient_pattern="", max_reject_rate=0.2
)
PATIENTS, SLICES = 4, 5
CUT_OFF = "P3/3.dcm/frame_0005"  # The file of the last patient ends before its last frame.


def height(frame: int) -> float:
    """Frames are not in the order of the head."""
    return 5.0 * (frame * 2 % SLICES)


def label(patient: int, frame: int) -> int:
    """A file has the label of its patient, but for two frames with a row of their own."""
    return 2 if (patient, frame) in ((0, 1), (1, 0)) else patient % 2


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """A file a patient, with a row of the file and rows of two frames."""
    folder = tmp_path_factory.mktemp("whole")
    lines = ["image,level", "P0/0.dcm/frame_0002,2", "1.dcm/frame_0001,2"]
    for patient in range(PATIENTS):
        (folder / f"P{patient}").mkdir()
        slices = [
            Frame((drawn(100 * patient + frame) + 1024).astype(np.uint16), height(frame))
            for frame in range(SLICES)
        ]
        data = enhanced_ct(slices, f"1.{patient}", PatientID=f"N{patient}")
        cut = len(data) - (slices[0].stored.nbytes - 9) * (patient == PATIENTS - 1)
        (folder / f"P{patient}" / f"{patient}.dcm").write_bytes(data[:cut])
        # With folder and ending, or the stem alone.
        lines.append(f"P{patient}/{patient}.dcm,{patient % 2}" if patient else "0,0")
    (folder / "labels.csv").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def built(whole, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    build(whole, folder, spec=BESIDE)
    return folder


def pictures(folder: Path) -> dict[str, np.ndarray]:
    return {
        name: rgb
        for path in sorted(folder.glob("*.tfrecord-*"))
        for name, rgb in records.read_images(path.open("rb"), RECIPE.size)
    }


def test_frames_give_the_examples_that_single_files_of_them_give(whole, built, tmp_path):
    lines = ["image,level"]
    for patient in range(PATIENTS):
        for frame in range(SLICES):
            values, where = drawn(100 * patient + frame), height(frame)
            data = dicom_slice(values, f"1.{patient}", height=where, PatientID=f"N{patient}")
            is_cut = f"P{patient}/{patient}.dcm/frame_000{frame + 1}" == CUT_OFF
            name = f"{patient}_{frame + 1}"
            (tmp_path / f"{name}.dcm").write_bytes(data[: len(data) - 999 * is_cut])
            lines.append(f"{name},{label(patient, frame)}")
    (tmp_path / "labels.csv").write_text("\n".join(lines) + "\n")
    build(tmp_path, tmp_path / "out", spec=BESIDE)
    made, alone = (json.loads((f / "dataset.json").read_text()) for f in (built, tmp_path / "out"))
    for key in ("written", "rejected", "substituted", "patients", "shared_patients", "near_twins"):
        assert made[key] == alone[key], key
    assert (made["written"], made["rejected"]) == (PATIENTS * SLICES - 1, {"unreadable": 1})
    found, expected = pictures(built), pictures(tmp_path / "out")
    assert len(found) == len(expected)
    for name, rgb in expected.items():
        patient, number = name.split("_")
        np.testing.assert_array_equal(found[f"{patient}.dcm/frame_000{number}"], rgb)
    rejects = pd.read_csv(built / "rejects.csv")
    assert rejects["id"].tolist() == ["3.dcm/frame_0005"]
    assert rejects["path"].iloc[0].endswith(CUT_OFF)


def test_a_row_of_a_file_is_one_of_each_frame_but_those_with_their_own(whole, caplog):
    caplog.set_level("INFO")
    source = find_source.open_photographs(str(whole), RECIPE)
    plan = planning.make_plan(BESIDE, labels=str(whole / "labels.csv"), source=source)
    assert plan.csv_rows == len(plan.rows) == PATIENTS * SLICES and plan.rejects.empty
    assert "4 rows name DICOM files of several frames and count for 18 frames" in caplog.text
    found = dict(zip(plan.rows["name"], plan.rows["label"], strict=True))
    assert found == {
        f"P{patient}/{patient}.dcm/frame_000{frame + 1}": label(patient, frame)
        for patient in range(PATIENTS)
        for frame in range(SLICES)
    }


@pytest.mark.parametrize(
    "rows, expected, rejected",
    [
        (["0,0", "P0/0.dcm,0", "1,1"], 10, {"duplicate_id": 5}),  # Two rows say the same.
        (["0,0", "P0/0.dcm,1", "1,1"], 5, {"duplicate_id": 10}),  # They contradict each other.
        (["0,0", "0.dcm/frame_0003,9", "1,1"], 9, {"label_out_of_range": 1}),
        (["0.dcm/frame_0001,0", "0.dcm/frame_0009,1"], 1, {"missing_image": 1}),
        (["0,0", "7,1"], 5, {"missing_image": 1}),
    ],
)
def test_rows_are_counted_as_frames(whole, tmp_path, rows, expected, rejected):
    csv = tmp_path / "labels.csv"
    csv.write_text("\n".join(["image,level", *rows]) + "\n")
    source = find_source.open_photographs(str(whole), RECIPE)
    alone = specs.Split(method="external")
    plain = dataclasses.replace(BESIDE, patient_column="", split=alone)
    plan = planning.make_plan(plain, labels=str(csv), source=source)
    assert plan.rejects["reason"].value_counts().to_dict() == rejected
    assert len(plan.rows) == expected and plan.csv_rows == expected + sum(rejected.values())
    # Without a tag, the frames of a file are one patient's, though nothing tells whose.
    assert plan.rows["patient"].nunique() == plan.rows["name"].str[:2].nunique()
    assert not plan.rows["is_told"].any()


def test_predicting_and_explaining_make_the_same_pictures(whole, built):
    expected, source = pictures(built), find_source.open_photographs(str(whole), RECIPE)
    found = given.photographs([str(whole)], RECIPE)
    by_path = sorted(whole.rglob("*.dcm"), reverse=True)
    for photos in (found, by_path):
        read = photographs.in_batches(photos, RECIPE, 4, work=list)
        predicted = {Path(one.name).parts[-2:]: one.picture for one, _ in read}
        assert len(predicted) == PATIENTS * SLICES
        for name, rgb in expected.items():
            np.testing.assert_array_equal(predicted[tuple(name.split("/"))].rgb, rgb)
    csv = str(whole / "labels.csv")
    parts, _ = units.parts_of_source(source, BESIDE, labels=csv, by_name=False)
    inputs = units.PhotographInputs(source, RECIPE, threads=2)
    items = [one for part in parts for one in inputs.pictures(part)]
    for one in items:
        patient, frame = int(one.item.id[0]), int(one.item.id[-1]) - 1
        assert (one.item.label, one.item.patient) == (label(patient, frame), str(patient))
        if isinstance(one, units.PreparedItem):
            np.testing.assert_array_equal(one.picture.rgb, expected[one.item.id])
            assert inputs.whole(one).shape == (48, 48, 3)


def test_a_build_goes_on_and_sees_a_file_that_was_changed(whole, built, tmp_path, monkeypatch):
    with monkeypatch.context() as killed:
        killed.setattr(accounting, "finish", lambda *_: None)
        build(whole, tmp_path, spec=BESIDE)
    shard = next(tmp_path.glob("*.tfrecord-*"))
    (tmp_path / "_progress" / f"{shard.name}.shard.json").unlink()
    shard.unlink()
    build(whole, tmp_path, spec=BESIDE)
    assert contents(tmp_path) == contents(built)
    changed = whole / "P2" / "2.dcm"
    before = changed.stat()
    os.utime(changed, (time.time() + 60,) * 2)
    with pytest.raises(ValueError, match=r"2\.dcm.* was changed after"):
        build(whole, tmp_path, spec=BESIDE)
    os.utime(changed, ns=(before.st_atime_ns, before.st_mtime_ns))
