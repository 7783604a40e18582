"""Copies of one photograph are found whatever was done to them, and no others are."""

import io

import cv2
import numpy as np
import pytest
from PIL import Image

from dr_tfx.dataset import copies
from dr_tfx.preprocessing import decoding, fingerprint
from dr_tfx.synthetic import fundus
from tests.helpers.drawn import SHARED_DATA, draw

EYES = [(patient, eye) for patient in range(6) for eye in ("left", "right")]


@pytest.fixture(scope="module")
def photographs() -> list[np.ndarray]:
    """Both eyes of six patients, uint8 BGR (480, 640, 3)."""
    return [
        fundus.photograph(seed=1, patient=p, eye=eye, level=p % 5, size=640).image[..., ::-1]
        for p, eye in EYES
    ]


def prints(images) -> np.ndarray:
    marks = [fingerprint.of(np.ascontiguousarray(image)) for image in images]
    return np.frombuffer(b"".join(marks), np.uint8).reshape(-1, fingerprint.BYTES)


def resized(image, factor):
    size = (round(image.shape[1] * factor), round(image.shape[0] * factor))
    rgb = Image.fromarray(image[..., ::-1].copy()).resize(size, Image.Resampling.LANCZOS)
    return np.asarray(rgb)[..., ::-1]


def compressed(image, quality):
    stream = io.BytesIO()
    Image.fromarray(image[..., ::-1].copy()).save(stream, "JPEG", quality=quality)
    return cv2.imdecode(np.frombuffer(stream.getvalue(), np.uint8), cv2.IMREAD_COLOR)


def without_border(image, share):
    """Without a share of the dark columns and rows around the field."""
    lit = image.max(axis=2) > 25
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    height, width = lit.shape
    top, bottom = round(share * rows[0]), height - round(share * (height - 1 - rows[-1]))
    left, right = round(share * columns[0]), width - round(share * (width - 1 - columns[-1]))
    return image[top:bottom, left:right]


def in_square(image):
    height, width = image.shape[:2]
    beside = (width - height) // 2
    return cv2.copyMakeBorder(image, beside, beside, 0, 0, cv2.BORDER_CONSTANT)


CHANGES = {
    "half the size": lambda image: resized(image, 0.5),
    "twice the size": lambda image: resized(image, 2),
    "a third of the size, compressed": lambda image: compressed(resized(image, 1 / 3), 80),
    "compressed": lambda image: compressed(image, 50),
    "half of the border": lambda image: without_border(image, 0.5),
    "no border": lambda image: without_border(image, 1),
    "no border, compressed": lambda image: compressed(without_border(image, 1), 75),
    "a square": in_square,
    "darker": lambda image: (image * 0.7).astype(np.uint8),
    "stretched to a square": lambda image: cv2.resize(image, (224, 224), cv2.INTER_AREA),
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_copy_is_known_and_nothing_else(photographs, change):
    found = copies.matches(prints(map(CHANGES[change], photographs)), prints(photographs))
    assert found.tolist() == [[i, i] for i in range(len(EYES))]


def test_both_eyes_and_drawn_spots_are_far_from_copies(photographs):
    details = copies.details(prints(photographs))
    others = (details @ details.T)[np.triu_indices(len(EYES), 1)]
    assert others.max() < copies.OTHER
    drawn = copies.details(prints(draw(i, width=320, height=240) for i in range(40)))
    assert (drawn @ drawn.T)[np.triu_indices(40, 1)].max() < copies.SAME


def test_neighbouring_slices_of_a_scan_are_no_copies():
    folder = SHARED_DATA / "ct_dicom"
    pytest.importorskip("pydicom")
    if not folder.is_dir():
        pytest.skip(f"no scan at {folder}")
    slices = [decoding.decode(path.read_bytes()) for path in sorted(folder.glob("*.dcm"))]
    details = copies.details(prints(map(decoding.displayed, slices)))
    assert (details @ details.T)[np.triu_indices(len(slices), 1)].max() < copies.OTHER


def test_flat_photographs_have_no_copies():
    flat = np.full((100, 140, 3), 90, np.uint8)
    disc = cv2.circle(np.zeros((100, 140, 3), np.uint8), (70, 50), 45, (40, 90, 200), -1)
    marks = prints([flat, flat, disc, disc, np.zeros_like(flat)])
    assert copies.groups(marks) == []
    assert not len(copies.matches(marks, marks))
    assert np.isnan(copies.correlations(marks, marks)).all()


def test_details_are_what_the_text_says(photographs):
    """The same by OpenCV's own blur and erosion."""
    (levels,) = prints(photographs[:1])
    image = levels.reshape(fingerprint.SIDE, fingerprint.SIDE).astype(np.float32)
    lit = (image > max(12, 0.1 * np.sort(levels)[int(0.95 * levels.size)])).astype(np.float32)
    blur = {"ksize": (0, 0), "sigmaX": 2, "borderType": cv2.BORDER_CONSTANT}
    field = cv2.erode(lit, np.ones((3, 3)), borderType=cv2.BORDER_CONSTANT, borderValue=0)
    share = cv2.GaussianBlur(field, **blur).clip(1e-3)
    blurred = cv2.GaussianBlur(image * field, **blur) / share
    weight = (2 * share - 1).clip(0, 1)
    detail = ((image - blurred) * weight).ravel()
    detail = np.clip(detail / np.sqrt((detail**2).sum() / (weight > 0).sum()), -2, 2)
    expected = detail / np.linalg.norm(detail)
    assert copies.details(levels[None])[0] @ expected > 0.999


def test_groups_are_those_of_all_pairs():
    rng = np.random.default_rng(5)
    marks = [rng.integers(30, 220, fingerprint.BYTES) for _ in range(300)]
    for place in (7, 7, 100, 250):  # A third and a fourth of 7, a second of 100 and of 250.
        marks.append(np.clip(marks[place] + rng.normal(0, 9, fingerprint.BYTES), 0, 255))
    marks = np.array(marks).astype(np.uint8)
    correlations = copies.details(marks) @ copies.details(marks).T
    assert (
        copies.SAME < correlations[7, 300] < 0.995
        and np.sort(correlations[:300, :300])[:, -2].max() < 0.5
    )
    found = [group.tolist() for group in copies.groups(marks)]
    assert found == [[7, 300, 301], [100, 302], [250, 303]]


def test_hundreds_of_copies_are_one_group_without_all_of_their_pairs(monkeypatch):
    compared = []
    correlations = copies._correlations
    monkeypatch.setattr(
        copies, "_correlations", lambda a, b: compared.append(len(a)) or correlations(a, b)
    )
    one = np.random.default_rng(6).integers(30, 220, (1, fingerprint.BYTES)).astype(np.uint8)
    (group,) = copies.groups(np.repeat(one, 400, axis=0))
    assert len(group) == 400
    assert sum(compared) <= 64 * 9 * 400  # All pairs, in every band, would be 22 times as many.
