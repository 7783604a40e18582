"""Tests of the synthetic head CT: its anatomy, its bleeds, and valid DICOM files."""

import csv
import dataclasses
import functools

import cv2
import numpy as np
import pytest

from dr_tfx.config import specs
from dr_tfx.preprocessing import recipes
from dr_tfx.synthetic import ct_series, data_set, head_ct

pydicom = pytest.importorskip("pydicom")
SIZE = 128
HEIGHTS = np.linspace(-0.5, 0.8, 8).round(3).tolist()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return data_set.synthesize(
        tmp_path_factory.mktemp("ct"), num_patients=5, condition="hemorrhage", seed=8, size=SIZE
    )


def rows_of(folder):
    with (folder / "labels.csv").open() as stream:
        return list(csv.DictReader(stream))


@functools.cache
def heads_with(kind: str, *, count: int = 6) -> list[head_ct.Head]:
    """Heads of this kind of bleed alone."""
    heads = (head_ct.draw_patient(seed=5, patient=patient) for patient in range(400))
    return [head for head in heads if [b.kind for b in head.bleeds] == [kind]][:count]


def widest(kind: str) -> list[tuple[head_ct.Head, head_ct.DrawnSlice]]:
    """The slice of each of these heads that shows most of its bleed."""
    found = []
    for head in heads_with(kind):
        slices = [head_ct.draw_slice(head, height=h, size=SIZE) for h in HEIGHTS[1:6]]
        found.append((head, max(slices, key=lambda made: made.masks.get(kind, np.zeros(1)).sum())))
    return found


def test_series_are_valid_and_a_folder_a_patient(folder):
    rows = rows_of(folder)
    assert len(rows) == 5 * ct_series.SLICES
    instances = set()
    for row in rows:
        header = pydicom.dcmread(folder / row["image"])
        assert header.PatientID == row["patient"] == row["image"].partition("/")[0]
        assert header.SOPClassUID.name == "CT Image Storage" and header.Modality == "CT"
        assert header.file_meta.MediaStorageSOPInstanceUID == header.SOPInstanceUID
        assert header.SOPInstanceUID.is_valid and header.StudyInstanceUID.is_valid
        instances.add(header.SOPInstanceUID)
        assert header.pixel_array.max() < 4096
    assert len(instances) == len(rows)
    series = [pydicom.dcmread(folder / row["image"]) for row in rows[: ct_series.SLICES]]
    assert len({each.SeriesInstanceUID for each in series}) == 1
    heights = [float(each.ImagePositionPatient[2]) for each in series]
    np.testing.assert_allclose(np.diff(heights), float(series[0].SliceThickness), atol=0.1)


def test_labels_are_those_of_the_masks(folder):
    seen = set()
    for row in rows_of(folder):
        name = row["image"].partition("/")[2].removesuffix(".dcm")
        shown = {
            kind for kind in head_ct.KINDS if (folder / "masks" / kind / f"{name}.png").is_file()
        }
        assert {kind for kind in head_ct.KINDS if row[kind] == "1"} == shown
        assert row["any"] == str(int(bool(shown)))
        seen |= shown
    assert seen == set(head_ct.KINDS)


@pytest.mark.parametrize("kind", head_ct.KINDS)
def test_masks_are_the_pixels_that_a_bleed_brightens(kind):
    for head, made in widest(kind):
        mask = made.masks[kind]
        values = made.units[cv2.erode(mask.astype(np.uint8), np.ones((3, 3))) > 0]
        assert not len(values) or 40 < np.median(values) < 85
        healthy = head_ct.draw_slice(
            dataclasses.replace(head, bleeds=()), height=HEIGHTS[0], size=SIZE
        )
        assert not healthy.masks
        assert 25 < np.median(healthy.units[(healthy.units > 0) & (healthy.units < 100)]) < 42


def test_shapes_are_those_of_their_kinds():
    """A lens is thick for its length, a crescent thin; blood in ventricles lies in the middle."""
    thickness = {}
    for kind in ("epidural", "subdural"):
        depths = []
        for _, made in widest(kind):
            mask = made.masks[kind].astype(np.uint8)
            (_, sides, _) = cv2.minAreaRect(cv2.findNonZero(mask))
            depths.append(2 * cv2.distanceTransform(mask, cv2.DIST_L2, 5).max() / max(sides))
        thickness[kind] = np.mean(depths)
    assert thickness["epidural"] > 2 * thickness["subdural"]
    for _, made in widest("intraventricular"):
        columns = np.nonzero(made.masks["intraventricular"])[1]
        assert abs(columns.mean() - SIZE / 2) < SIZE / 8
    fullness = {}
    for kind in ("subarachnoid", "intraparenchymal"):
        hulls = []
        for _, made in widest(kind):
            mask = made.masks[kind].astype(np.uint8)
            hull = cv2.convexHull(cv2.findNonZero(mask))
            hulls.append(mask.sum() / cv2.contourArea(hull))
        fullness[kind] = np.mean(hulls)
    assert fullness["subarachnoid"] < 0.6 and fullness["intraparenchymal"] > 0.85


def test_air_bone_and_noise_are_those_of_a_scanner():
    head = head_ct.draw_patient(seed=1, patient=3)
    made = head_ct.draw_slice(dataclasses.replace(head, bleeds=()), height=0.6, size=SIZE)
    assert np.median(made.units[:8, :8]) == pytest.approx(-1000, abs=15)
    assert np.percentile(made.units, 99.5) > 700
    middle = made.units[SIZE // 2 - 9 : SIZE // 2 - 4, SIZE // 2 + 4 : SIZE // 2 + 12]
    assert 1 < middle.std() < 9


def test_same_arguments_same_bytes(folder, tmp_path):
    again = data_set.synthesize(tmp_path, num_patients=5, condition="hemorrhage", seed=8, size=SIZE)
    for path in sorted(folder.rglob("*.*")):
        assert (again / path.relative_to(folder)).read_bytes() == path.read_bytes(), path


def test_the_recipe_shows_the_head(folder):
    recipe = specs.Recipe(name="ct_windows", size=64, quality_gate="off")
    path = folder / rows_of(folder)[3]["image"]
    made = recipes.apply_recipe(path.read_bytes(), recipe)
    bone = made.rgb[..., 2] > 110
    rows = np.flatnonzero(bone.any(axis=1))
    assert np.ptp(rows) >= 60 and 60 < np.median(made.rgb[28:36, 28:36, 0]) < 170
