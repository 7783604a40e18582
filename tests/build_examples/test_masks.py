"""Masks in a data set: what its records hold, and what is refused."""

import csv
import dataclasses

import cv2
import numpy as np
import pytest

from dr_tfx.dataset import manifest, records
from dr_tfx.sources import refusals
from tests.helpers.drawn import draw, encode, with_orientation
from tests.helpers.masked import MASKED, PLAIN, build, draw_masked, lesion

FEATURES = ["mask/MA", "mask/EX"]


@pytest.fixture
def masked(tmp_path):
    return draw_masked(tmp_path / "raw")


def examples(folder) -> dict[str, dict[str, np.ndarray]]:
    data = folder.parent / "data"
    found = {}
    for shard in manifest.load(data).shards:
        with (data / shard.name).open("rb") as stream:
            found |= records.read_pictures(stream, MASKED.recipe.size, FEATURES)
    return found


def small(mask: np.ndarray) -> np.ndarray:
    """What a record holds of a mask that `plain` stretches to 32 x 32 pixels."""
    share = cv2.resize(mask.astype(np.float64), (32, 32), interpolation=cv2.INTER_AREA)
    return np.rint(254 * share)


@pytest.mark.parametrize(("absent", "value"), [("empty", 0), ("unknown", 255)])
def test_records_hold_the_share_of_each_pixel(masked, absent, value):
    made = build(masked, dataclasses.replace(MASKED, absent_masks=absent))
    assert made.written == 12
    found = examples(masked)
    for i in range(12):
        one = found[f"eye{i}"]
        expected = small(lesion(i)) if i < 6 else np.full((32, 32), value)
        np.testing.assert_allclose(one["mask/EX"][..., 0], expected, atol=1)
        expected = small(lesion(100 + i)) if i % 3 == 0 else np.full((32, 32), value)
        np.testing.assert_allclose(one["mask/MA"][..., 0], expected, atol=1)


def test_the_label_may_be_whether_there_is_a_mask(masked):
    made = build(masked)
    counts = {
        name: sum(part[name] for part in made.counts.values()) for name in ("without", "with")
    }
    assert counts == {"without": 4, "with": 8}  # Of 12, 0 to 5, 6 and 9 have one.


def test_only_labels_that_somebody_wrote_are_asked_about(masked, caplog):
    for i in range(6, 12):
        (masked / f"eye{i}.png").unlink()
    (masked / "labels.csv").write_text(
        "".join(["image,level\n", *(f"eye{i},1\n" for i in range(6))])
    )
    for labels, is_asked in (("masks", False), ("none", False), (str(masked / "labels.csv"), True)):
        caplog.clear()
        build(masked, labels=labels, overwrite=True)
        assert ("no photograph has the label" in caplog.text) is is_asked


def test_one_file_a_photograph_tells_all_kinds_and_the_label(masked):
    """The same lesions as in folders, by number: 1 is MA, and 2 EX, which hides a MA below it.

    The last photograph, which has neither, has no file, and nobody knows of it.
    """
    folder = masked.parent / "coded"
    folder.mkdir()
    for i in range(11):
        numbers = lesion(100 + i) if i % 3 == 0 else np.zeros((120, 160), np.uint8)
        numbers[(lesion(i) if i < 6 else np.zeros_like(numbers)) > 0] = 2
        (folder / f"eye{i}.png").write_bytes(encode(numbers, ".png"))
    spec = dataclasses.replace(MASKED, absent_masks="unknown")
    made = build(masked, spec, masks_dir=str(folder))
    counts = {
        name: sum(part[name] for part in made.counts.values()) for name in ("without", "with")
    }
    assert counts == {"without": 4, "with": 8}
    found = examples(masked)
    unknown = found.pop("eye11")
    assert all((unknown[name] == 255).all() for name in FEATURES)
    for i, one in ((int(name[3:]), one) for name, one in found.items()):
        exudates = lesion(i) if i < 6 else np.zeros((120, 160), np.uint8)
        red = (lesion(100 + i) if i % 3 == 0 else 0 * exudates) * (1 - exudates)
        np.testing.assert_allclose(one["mask/EX"][..., 0], small(exudates), atol=1)
        np.testing.assert_allclose(one["mask/MA"][..., 0], small(red), atol=1)


def test_a_mask_lies_where_the_photograph_shows_it(masked):
    """The orientation of the photograph counts, and so does the box of the retina."""
    picture = cv2.imdecode(np.frombuffer((masked / "eye0.png").read_bytes(), np.uint8), 1)
    picture[:] = 0
    cv2.circle(picture, (70, 60), 55, (40, 90, 200), -1)
    spot = np.zeros((120, 160), np.uint8)
    cv2.circle(picture, (90, 40), 8, (255, 255, 255), -1)
    cv2.circle(spot, (90, 40), 8, 255, -1)
    stored = np.ascontiguousarray(cv2.rotate(picture, cv2.ROTATE_90_COUNTERCLOCKWISE))
    (masked / "eye0.png").unlink()
    data = with_orientation(encode(stored, ".jpeg"), 6)
    (masked / "eye0.jpeg").write_bytes(data)
    (masked / "masks" / "MA" / "eye0.png").write_bytes(encode(spot, ".png"))
    build(masked, dataclasses.replace(MASKED, recipe=dataclasses.replace(PLAIN, name="fundus")))
    one = examples(masked)["eye0"]
    bright, mask = one["image"].min(axis=2) > 150, one["mask/MA"][..., 0] > 127
    centre, of_mask = (np.argwhere(area).mean(axis=0) for area in (bright, mask))
    np.testing.assert_allclose(centre, of_mask, atol=0.5)


def test_masks_that_do_not_fit_are_rejects_with_their_reason(masked):
    (masked / "masks" / "EX" / "eye1_EX.tif").write_bytes(b"no picture")
    (masked / "masks" / "MA" / "eye3.png").write_bytes(
        encode(np.ones((120, 120), np.uint8), ".png")
    )
    made = build(masked, dataclasses.replace(MASKED, max_reject_rate=0.5))
    assert made.rejected == {"mask": 2} and made.written == 10
    with (masked.parent / "data" / "rejects.csv").open() as stream:
        told = {row["id"]: row["detail"] for row in csv.DictReader(stream)}
    assert "eye1_EX.tif cannot be read as a picture" in told["eye1"]
    assert "has 120x120 pixels; the photograph has 160x120" in told["eye3"]


def test_other_masks_are_another_data_set(masked):
    build(masked)
    assert build(masked).written == 12  # Nothing to do.
    (masked / "masks" / "MA" / "eye1.png").write_bytes(encode(lesion(0), ".png"))
    with pytest.raises(refusals.UnusableInput, match="the masks \\(names or sizes\\) are not the"):
        build(masked)


def test_what_cannot_be_meant_is_refused(masked, tmp_path):
    with pytest.raises(refusals.UnusableInput, match="give the folder of these masks as --masks_d"):
        build(masked, masks_dir="")
    with pytest.raises(refusals.UnusableInput, match=r"config\.dataset\.masks names none"):
        build(masked, dataclasses.replace(MASKED, masks=()))
    with pytest.raises(refusals.UnusableInput, match="--masks_dir: .* has no folder HE; it has EX"):
        build(masked, dataclasses.replace(MASKED, masks=("HE",)))
    for kind in ("MA", "EX"):
        (tmp_path / "others" / kind).mkdir(parents=True)
    with pytest.raises(refusals.UnusableInput, match="has no mask of any of the 12 photographs"):
        build(masked, masks_dir=str(tmp_path / "others"))
    (masked / "more").mkdir()
    (masked / "more" / "eye1.png").write_bytes(encode(draw(77), ".png"))
    with pytest.raises(refusals.UnusableInput, match="two photographs are called eye1"):
        build(masked)


def test_the_contact_sheet_shows_outlines(masked):
    """Of the same photographs with empty masks, nothing else differs."""
    rows = [f"eye{i},{int(i < 6)}\n" for i in range(12)]
    (masked / "labels.csv").write_text("".join(["image,level\n", *rows]))
    sheets = []
    for _ in range(2):
        build(masked, labels=str(masked / "labels.csv"), overwrite=True)
        sheet = cv2.imread(str(masked.parent / "data" / "contact_sheet.png"))[..., ::-1]
        sheets.append(sheet.astype(int))
        for mask in (masked / "masks").glob("*/*"):
            mask.write_bytes(encode(np.zeros((120, 160), np.uint8), mask.suffix))
    red, _, blue = np.moveaxis(sheets[0] - sheets[1], -1, 0)
    orange, sky_blue = red - blue > 40, blue - red > 40
    assert orange.sum() > 50 and sky_blue.sum() > 50
    assert 0.0005 < (sheets[0] != sheets[1]).any(axis=-1).mean() < 0.01
