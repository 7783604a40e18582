"""Tests of dr_tfx.synthetic.data_set and of its binary."""

import csv
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from dr_tfx.synthetic import data_set, fundus
from tests.helpers import ready

ROOT = Path(__file__).resolve().parents[2]
SIZE = 240  # Small photographs keep these tests fast.
EVERY_GRADE = (0.2, 0.2, 0.2, 0.2, 0.2)
KINDS = {
    0: set(),
    1: {"MA"},
    2: {"MA", "HE", "EX"},
    3: {"MA", "HE", "EX", "SE"},
    4: {"MA", "HE", "EX", "SE", "NV"},
}


def _photograph(level, *, seed=0, patient=10, eye="left", size=SIZE):
    return fundus.photograph(seed=seed, patient=patient, eye=eye, level=level, size=size)


def _files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def _components(mask):
    """Return the number of separate spots in a mask, and their centres [spots, 2] (x, y)."""
    _, _, _, centres = cv2.connectedComponentsWithStats(mask.astype(np.uint8))
    return len(centres) - 1, centres[1:]


def _disc_side(image):
    """Return +1 if the brightest patch (the disc) lies right of the middle, else -1."""
    smooth = cv2.GaussianBlur(image[..., 1], (0, 0), image.shape[1] / 60)
    return 1 if smooth.max(axis=0).argmax() > image.shape[1] / 2 else -1


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    return data_set.synthesize(
        tmp_path_factory.mktemp("set"),
        num_patients=12,
        seed=1,
        size=SIZE,
        grade_probabilities=EVERY_GRADE,
    )


def test_files_are_named_as_kaggles(dataset):
    lines = (dataset / "labels.csv").read_text().splitlines()
    assert lines[0] == "image,level"
    names = [line.split(",")[0] for line in lines[1:]]
    assert names == [f"{patient}_{eye}" for patient in range(10, 22) for eye in ("left", "right")]
    assert {path.name for path in dataset.glob("*.jpeg")} == {f"{name}.jpeg" for name in names}
    assert {line.split(",")[1] for line in lines[1:]} == set("01234")
    assert not list(dataset.rglob("*.tmp"))


def test_mask_files_are_exactly_those_of_the_grade(dataset):
    with open(dataset / "labels.csv", newline="") as file:
        for row in csv.DictReader(file):
            photo = cv2.imread(str(dataset / f"{row['image']}.jpeg"))
            found = set()
            for path in dataset.glob(f"masks/*/{row['image']}.png"):
                found.add(path.parent.name)
                mask = cv2.imread(str(path), cv2.IMREAD_UNCHANGED)
                assert mask.shape == photo.shape[:2]
                assert set(np.unique(mask)) == {0, 255}
            assert found == KINDS[int(row["level"])], row


@pytest.mark.parametrize("level", [1, 2, 3, 4])
@pytest.mark.parametrize("eye", ["left", "right"])
def test_masks_are_the_pixels_that_lesions_change(level, eye):
    for patient in range(10, 16):
        healthy = _photograph(0, patient=patient, eye=eye)
        ill = _photograph(level, patient=patient, eye=eye)
        changed = (healthy.image != ill.image).any(axis=2)
        lesions = np.any(list(ill.masks.values()), axis=0)
        assert not (changed & ~lesions).any(), "something besides lesions depends on the grade"
        assert changed[lesions].mean() > 0.998
        assert not (lesions & ~ill.field).any()
        assert healthy.jpeg_quality == ill.jpeg_quality


def test_dark_lesions_are_darker_and_bright_ones_brighter():
    for patient in range(10, 16):
        healthy, ill = _photograph(0, patient=patient), _photograph(3, patient=patient)
        difference = ill.image[..., 1].astype(float) - healthy.image[..., 1]
        masks = ill.masks
        dark = masks["HE"] | masks["MA"]
        bright = masks["EX"] | masks["SE"]
        assert difference[dark & ~bright].mean() < -15
        assert difference[bright & ~dark].mean() > 15


def test_more_lesions_with_each_grade():
    for patient in range(10, 16):
        few, more = _photograph(1, patient=patient), _photograph(2, patient=patient)
        many = _photograph(3, patient=patient)
        assert 3 <= _components(few.masks["MA"])[0] <= 9
        assert few.masks["MA"].sum() < more.masks["MA"].sum()
        assert more.masks["HE"].sum() < many.masks["HE"].sum()
        rows, columns = np.nonzero(many.field)
        relative = _components(many.masks["HE"])[1] - [columns.mean(), rows.mean()]
        quadrants = Counter(map(tuple, relative > 0))
        assert len(quadrants) == 4
        assert min(quadrants.values()) >= 2


def test_microaneurysms_have_the_promised_size():
    ill = _photograph(1, size=640)
    columns = np.nonzero(ill.field.any(axis=0))[0]
    diameter = columns[-1] - columns[0] + 1
    _, _, boxes, _ = cv2.connectedComponentsWithStats(ill.masks["MA"].astype(np.uint8))
    for box in boxes[1:]:
        width = max(box[cv2.CC_STAT_WIDTH], box[cv2.CC_STAT_HEIGHT]) / diameter
        assert 1 / 90 < width < 1 / 30


def test_disc_is_on_the_nasal_side():
    for patient in range(10, 20):
        assert _disc_side(_photograph(0, patient=patient, eye="right").image) == 1
        assert _disc_side(_photograph(0, patient=patient, eye="left").image) == -1


def test_eyes_of_a_patient_look_alike_but_are_not_the_same():
    def colour(patient, eye):
        made = _photograph(0, patient=patient, eye=eye)
        mean = made.image[made.field].mean(axis=0)
        return mean / mean.sum()

    left = np.array([colour(patient, "left") for patient in range(10, 22)])
    right = np.array([colour(patient, "right") for patient in range(10, 22)])
    within = np.linalg.norm(left - right, axis=1).mean()
    between = np.linalg.norm(left - np.roll(right, 1, axis=0), axis=1).mean()
    assert within < between / 2
    mirrored = _photograph(0, eye="right").image[:, ::-1]
    assert (mirrored != _photograph(0, eye="left").image).mean() > 0.3


def test_photographs_vary_and_are_wider_than_high():
    made = [_photograph(0, patient=patient) for patient in range(10, 40)]
    shapes = {photo.image.shape for photo in made}
    assert len(shapes) == 2
    assert all(height < width == SIZE for height, width, _ in shapes)
    cut_off = [bool(photo.field[0].any()) for photo in made]
    assert True in cut_off
    assert False in cut_off
    corners = [photo.image[:4, :4].mean() for photo in made]
    assert max(corners) < 5


def test_grades_are_distributed_as_asked():
    pairs = np.array([data_set.patient_levels(seed=0, patient=i) for i in range(4000)])
    for eye in (0, 1):
        shares = np.bincount(pairs[:, eye], minlength=5) / len(pairs)
        np.testing.assert_allclose(shares, data_set.EYEPACS_PROBABILITIES, atol=0.02)
    apart = np.abs(pairs[:, 0] - pairs[:, 1])
    assert apart.max() == 1
    assert 0.02 < (apart == 1).mean() < 0.2
    right_worse = (pairs[:, 1] > pairs[:, 0]).sum() / apart.sum()
    assert 0.35 < right_worse < 0.65


def test_a_grade_without_probability_is_never_drawn():
    odds = (0.5, 0, 0.25, 0.25, 0)
    pairs = [
        data_set.patient_levels(seed=0, patient=i, grade_probabilities=odds) for i in range(300)
    ]
    assert {level for pair in pairs for level in pair} == {0, 2, 3}


def test_same_seed_same_bytes_whatever_the_processes(dataset, tmp_path):
    again = data_set.synthesize(
        tmp_path / "again",
        num_patients=12,
        seed=1,
        size=SIZE,
        grade_probabilities=EVERY_GRADE,
        processes=2,
    )
    assert _files(again) == _files(dataset)


def test_another_seed_other_photographs():
    assert not np.array_equal(_photograph(0, seed=1).image, _photograph(0, seed=2).image)
    assert not np.array_equal(_photograph(0, patient=11).image, _photograph(0, patient=12).image)


def test_a_patient_does_not_depend_on_how_many_there_are(tmp_path):
    few = data_set.synthesize(tmp_path / "few", num_patients=1, size=SIZE)
    more = data_set.synthesize(tmp_path / "more", num_patients=2, size=SIZE)
    assert (few / "10_left.jpeg").read_bytes() == (more / "10_left.jpeg").read_bytes()


def test_seeds_do_not_depend_on_pythons_hash():
    code = (
        "from dr_tfx.synthetic import fundus; import zlib;"
        f"p = fundus.photograph(seed=0, patient=10, eye='left', level=4, size={SIZE});"
        "print(zlib.crc32(p.image.tobytes()))"
    )
    sums = {
        subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    }
    assert len(sums) == 1


def test_an_interrupted_run_can_be_repeated(tmp_path, monkeypatch):
    def arguments(n):
        return {"output_dir": tmp_path / "set", "num_patients": n, "size": SIZE}

    write, written = data_set._Photograph.write, []

    def fail_at_third(task):
        written.append(task)
        if len(written) == 3:
            raise OSError("disk full")
        write(task)

    monkeypatch.setattr(data_set._Photograph, "write", fail_at_third)
    with pytest.raises(OSError, match="disk full"):
        data_set.synthesize(**arguments(2))
    assert (tmp_path / "set" / "10_left.jpeg").exists()
    assert not (tmp_path / "set" / "labels.csv").exists()

    monkeypatch.undo()
    with pytest.raises(ValueError, match="other arguments"):
        data_set.synthesize(**arguments(3))
    data_set.synthesize(**arguments(2))
    before = _files(tmp_path / "set")
    assert "labels.csv" in before
    (tmp_path / "set" / "masks" / "NV" / "10_left.png").write_bytes(b"stale")
    data_set.synthesize(**arguments(2))
    assert _files(tmp_path / "set") == before

    written.clear()
    monkeypatch.setattr(data_set._Photograph, "write", fail_at_third)
    with pytest.raises(OSError, match="disk full"):
        data_set.synthesize(**arguments(2))
    assert not (tmp_path / "set" / "labels.csv").exists()


def test_a_folder_of_someone_else_is_left_alone(tmp_path):
    (tmp_path / "10_left.jpeg").write_bytes(b"a patient")
    with pytest.raises(ValueError, match="not empty"):
        data_set.synthesize(tmp_path, num_patients=1, size=SIZE)
    assert _files(tmp_path) == {"10_left.jpeg": b"a patient"}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"num_patients": 0}, "num_patients is 0, expected at least 1"),
        ({"size": 20}, "size is 20"),
        ({"processes": 0}, "processes is 0"),
        ({"grade_probabilities": (0.5, 0.5)}, "five numbers"),
        ({"grade_probabilities": (0.5, 0.5, 0.5, 0, 0)}, "sum 1"),
        ({"grade_probabilities": (1.5, -0.5, 0, 0, 0)}, ">= 0"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_is_written(tmp_path, wrong, message):
    with pytest.raises(ValueError, match=message):
        data_set.synthesize(tmp_path / "set", **{"num_patients": 1, "size": SIZE, **wrong})
    assert not (tmp_path / "set").exists()


@pytest.mark.parametrize("wrong", [{"eye": "middle"}, {"level": 5}, {"size": 20}])
def test_a_photograph_with_wrong_arguments_is_refused(wrong):
    with pytest.raises(ValueError, match=next(iter(wrong))):
        fundus.photograph(**{"seed": 0, "patient": 1, "eye": "left", "level": 0, **wrong})


def _run(*flags):
    return ready.run([sys.executable, "-m", "dr_tfx.cli.synthesize", *flags])


def test_binary_explains_itself():
    done = _run("--help")
    for word in ("drtfx-synthesize --output_dir", "--num_patients", "labels.csv", "ICDR"):
        assert word in done.stdout


def test_binary_makes_the_set_and_prints_its_folder(tmp_path):
    target = tmp_path / "set"
    done = _run(
        f"--output_dir={target}",
        "--num_patients=1",
        "--seed=7",
        "--grade_probabilities=0,0,0,0,1",
        "--processes=1",
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == str(target)
    assert (target / "labels.csv").read_text() == "image,level\n10_left,4\n10_right,4\n"
    expected = fundus.photograph(seed=7, patient=10, eye="left", level=4)
    photo = cv2.imread(str(target / "10_left.jpeg"))[..., ::-1]
    assert np.abs(photo.astype(float) - expected.image).mean() < 4


@pytest.mark.parametrize(
    ("flag", "message"),
    [
        ("--num_patients=0", "expected at least 1"),
        ("--grade_probabilities=a,b", "could not convert"),
        ("stray", "expected flags only"),
    ],
)
def test_binary_refuses_bad_flags_without_a_traceback(tmp_path, flag, message):
    done = _run(f"--output_dir={tmp_path / 'set'}", "--num_patients=1", flag)
    assert done.returncode != 0
    assert message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "set").exists()


def test_glaucoma_is_told_by_the_cup_and_by_nothing_else(tmp_path):
    folder = data_set.synthesize(tmp_path, num_patients=24, condition="glaucoma", size=SIZE)
    with open(folder / "labels.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == ["image", "glaucoma", "cup_to_disc"] and len(rows) == 48
    assert {path.parent.name for path in folder.glob("masks/*/*.png")} == {"OD", "OC"}
    ratios: dict[str, list[float]] = {"0": [], "1": []}
    for row in rows:
        disc, cup = (
            cv2.imread(str(folder / "masks" / kind / f"{row['image']}.png"), 0) > 0
            for kind in ("OD", "OC")
        )
        assert not (cup & ~disc).any()
        height = [np.count_nonzero(mask.any(axis=1)) for mask in (cup, disc)]
        assert height[0] / height[1] == pytest.approx(float(row["cup_to_disc"]), abs=0.08)
        ratios[row["glaucoma"]].append(float(row["cup_to_disc"]))
    assert np.mean(ratios["0"]) < 0.5 < 0.65 < np.mean(ratios["1"])
    small, large = (
        fundus.photograph(seed=0, patient=10, eye="left", level=0, size=SIZE, cup_to_disc=ratio)
        for ratio in (0.3, 0.8)
    )
    changed = (small.image != large.image).any(axis=2)
    around = cv2.dilate(small.disc.astype(np.uint8), np.ones((9, 9))) > 0
    assert changed.any() and not (changed & ~around).any()
