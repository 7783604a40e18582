"""Slices between their neighbours: one picture, whether built, predicted, explained or served."""

import dataclasses
import json
import os
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.build_examples import accounting, planning
from beam_jobs.explain import units
from dr_tfx.config import specs
from dr_tfx.dataset import records
from dr_tfx.inference import photographs
from dr_tfx.preprocessing import recipes
from dr_tfx.sources import find_source, given
from tests.helpers.builds import SPEC, build, contents
from tests.helpers.drawn import encode
from tests.helpers.slices import dicom_slice
from tests.helpers.slices import units as drawn

pytest.importorskip("pydicom")
RECIPE = specs.Recipe(name="ct_neighbours", size=24, quality_gate="off", windows=((50, 100),))
BESIDE = dataclasses.replace(
    SPEC, recipe=RECIPE, patient_column="PatientID", patient_pattern="", max_reject_rate=0.2
)
PATIENTS, SLICES = 4, 5
UNLABELLED, BROKEN = "P1/1_2", "P2/2_4"


def path_of(patient: int, number: int) -> str:
    """A file whose name tells nothing of its place in the series."""
    return f"P{patient}/{patient}_{(number * 2) % SLICES}"


@pytest.fixture(scope="module")
def series(tmp_path_factory) -> Path:
    """A series a patient, one slice of which has no label, and one that is cut off."""
    folder, lines = tmp_path_factory.mktemp("series"), ["image,level"]
    for patient in range(PATIENTS):
        (folder / f"P{patient}").mkdir()
        for number in range(SLICES):
            # All slices of the last patient look alike, as thin ones do.
            values, path = drawn(100 * patient + number), path_of(patient, number)
            if patient == PATIENTS - 1:
                values = drawn(100 * patient) + (values % 3)
            data = dicom_slice(values, f"1.{patient}", height=5 * number, PatientID=f"N{patient}")
            cut = len(data) - 999 * (path == BROKEN)
            (folder / f"{path}.dcm").write_bytes(data[:cut])
            if path != UNLABELLED:
                lines.append(f"{path}.dcm,{patient % 3}")
    (folder / "picture.png").write_bytes(encode(drawn(1).astype(np.uint8), ".png"))
    (folder / "labels.csv").write_text("\n".join([*lines, "picture.png,0"]) + "\n")
    return folder


def pixels(folder: Path) -> dict[str, np.ndarray]:
    """The pictures of a data set by their ids."""
    return {
        name: rgb
        for path in sorted(folder.glob("*.tfrecord-*"))
        for name, rgb in records.read_images(path.open("rb"), RECIPE.size)
    }


@pytest.fixture(scope="module")
def beside(series, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("data")
    build(series, folder, spec=BESIDE)
    return folder


def test_a_build_shows_the_slices_below_and_above_each_slice(series, beside):
    made, found = json.loads((beside / "dataset.json").read_text()), pixels(beside)
    assert (made["written"], made["rejected"]) == (PATIENTS * SLICES - 1, {"unreadable": 1})
    # Both ends of each series, what is beside the broken slice, and the picture.
    assert made["substituted"] == 2 * PATIENTS + 2 + 1
    assert made["near_twins"] == [] and made["shared_patients"] == 0
    names = [[path_of(patient, number) for number in range(SLICES)] for patient in range(PATIENTS)]
    alone = {}
    for name in (name for of_patient in names for name in of_patient if name != BROKEN):
        data = (series / f"{name}.dcm").read_bytes()
        alone[name] = recipes.apply_recipe(data, RECIPE).rgb[..., 0].astype(int)
    for of_patient in names:
        for i, name in enumerate(of_patient):
            if name in (UNLABELLED, BROKEN):
                continue
            at = (max(i - 1, 0), i, min(i + 1, SLICES - 1))
            before, own, after = (alone.get(of_patient[k], alone[name]) for k in at)
            # Heads lie at one place in all slices, which alone are cut as they are together; and
            # what the recipe makes smaller is no mean of pixels, but of areas of them.
            expected = np.stack([own, own, (before + after + 1) // 2], axis=-1)
            assert np.abs(found[Path(name).name] - expected).max() <= 1
            np.testing.assert_array_equal(found[Path(name).name][..., :2], expected[..., :2])


def test_predicting_and_explaining_make_the_same_pictures(series, beside):
    built, source = pixels(beside), find_source.open_source(str(series))
    named = given.photographs([str(series / f"P{i}") for i in reversed(range(PATIENTS))])
    read = photographs.in_batches([*named, series / "picture.png"], RECIPE, 4, work=list)
    predicted = {Path(one.name).stem: one.picture for one, _ in read if one.picture}
    parts, _ = units.parts_of_source(source, BESIDE, labels="", by_name=False)
    inputs = units.PhotographInputs(source, RECIPE, threads=2)
    items = [one for part in parts for one in inputs.pictures(part)]
    explained = {one.item.id: one.picture for one in items if isinstance(one, units.PreparedItem)}
    unlabelled = Path(UNLABELLED).name
    assert set(predicted) == set(explained) == {*built, unlabelled}
    for name, picture in predicted.items():
        np.testing.assert_array_equal(explained[name].rgb, picture.rgb)
        if name != unlabelled:
            np.testing.assert_array_equal(built[name], picture.rgb)


def test_a_neighbour_that_was_changed_is_seen_though_it_has_no_label(
    series, beside, tmp_path, monkeypatch, caplog
):
    """And threads write the same bytes."""
    caplog.set_level("INFO")
    raw, out = Path(shutil.copytree(series, tmp_path / "raw")), tmp_path / "out"
    changed = raw / f"{UNLABELLED}.dcm"
    other = dicom_slice(drawn(999), "1.1", height=5, PatientID="N1")
    assert len(other) == changed.stat().st_size
    changed.write_bytes(other)
    with monkeypatch.context() as killed:
        killed.setattr(accounting, "finish", lambda *_: None)
        build(raw, out, spec=BESIDE)
    shards = len(list(out.glob("*.tfrecord-*")))
    shutil.copy2(series / f"{UNLABELLED}.dcm", changed)
    threads = ["--direct_running_mode=multi_threading", "--direct_num_workers=3"]
    build(raw, out, spec=BESIDE, options=PipelineOptions(threads))
    # The two slices that show it have one label, and may lie in one shard.
    assert f"{shards - 1} of {shards} shards" in caplog.text or f"{shards - 2} of" in caplog.text
    made, expected = contents(out), contents(beside)
    assert made.pop("rejects.csv") != expected.pop("rejects.csv")  # They name the place of a file.
    assert made == expected
    os.utime(changed, (time.time() + 60,) * 2)
    with pytest.raises(ValueError, match=f"{UNLABELLED}.dcm was changed after"):
        build(raw, out, spec=BESIDE)
    changed.unlink()
    with pytest.raises(ValueError, match="the slices before and after the photographs are not"):
        build(raw, out, spec=BESIDE)


def test_a_split_that_parts_neighbours_is_told(series, caplog):
    leaking = dataclasses.replace(BESIDE, patient_column="", split=specs.Split(validation=0.4))
    source, labels = find_source.open_source(str(series)), str(series / "labels.csv")
    for spec, is_told in ((BESIDE, False), (leaking, True)):
        caplog.clear()
        planning.make_plan(spec, labels=labels, source=source)
        assert ("slices show a neighbour that is in another split" in caplog.text) == is_told
