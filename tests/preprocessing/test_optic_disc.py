"""The optic disc is found on drawn and on real photographs, and the recipe `disc` shows it."""

import cv2
import numpy as np
import pytest

from dr_tfx.config import specs
from dr_tfx.preprocessing import optic_disc, recipes
from dr_tfx.synthetic import fundus
from tests.helpers.drawn import SHARED_DATA, encode

RECIPE = specs.Recipe(name="disc", size=96)
LESIONS = SHARED_DATA / "idrid" / "lesions"


def holds(box, disc: np.ndarray) -> bool:
    """Whether all of a mask, bool (height, width), lies in a recipe's box."""
    (rows, columns), (height, width) = np.nonzero(disc), disc.shape
    left, top, right, bottom = np.multiply(box, (width, height, width, height))
    return bool(
        left <= columns.min() + 0.5
        and columns.max() + 0.5 <= right
        and top <= rows.min() + 0.5
        and rows.max() + 0.5 <= bottom
    )


def test_the_crop_holds_the_disc_of_drawn_eyes():
    """Of all grades: among exudates, which are as bright, and new vessels."""
    held = 0
    for patient in range(40):
        eye, level = fundus.EYES[patient % 2], patient % 5
        drawn = fundus.photograph(seed=5, patient=patient, eye=eye, level=level, size=480)
        made = recipes.apply_recipe(encode(drawn.image[..., ::-1]), RECIPE)
        assert made.rgb.shape == (96, 96, 3)
        held += holds(made.box, drawn.disc)
    assert held >= 38


def test_the_crop_holds_the_disc_of_real_eyes():
    """On every third of IDRiD's photographs with a mask of the disc; all 54 hold by hand."""
    masks = sorted((LESIONS / "masks" / "OD").glob("*.png"))[::3]
    if not masks:
        pytest.skip(f"no real photographs at {LESIONS}")
    for path in masks:
        photograph = LESIONS / "images" / f"{path.stem}.jpg"
        made = recipes.apply_recipe(photograph.read_bytes(), RECIPE)
        assert holds(made.box, cv2.imread(str(path), 0) > 0), path.name


def test_the_crop_is_two_discs_wide_and_shows_what_lies_there():
    drawn = fundus.photograph(seed=5, patient=2, eye="right", level=0, size=640)
    made = recipes.apply_recipe(encode(drawn.image[..., ::-1], ".png"), RECIPE)
    share = made.box.to_square(drawn.disc, 96).mean()
    assert 0.1 < share < 0.3  # Of a disc half as wide as the square, it is pi / 16.
    green, disc = made.rgb[..., 1].astype(float), made.box.to_square(drawn.disc, 96)
    assert green[disc > 0.9].mean() > green[disc < 0.1].mean() + 20


def test_the_cup_to_disc_ratio_is_that_of_the_heights():
    rows, columns = np.mgrid[:100, :100]
    disc = ((rows - 50) / 40) ** 2 + ((columns - 50) / 30) ** 2 <= 1  # 81 rows.
    cup = abs(rows - 45) + abs(columns - 50) <= 13  # 27 rows.
    assert optic_disc.cup_to_disc(disc, cup) == pytest.approx(27 / 81)
    assert optic_disc.cup_to_disc(disc, cup & False) == 0
    low = np.roll(cup, 32, axis=0)  # It ends at the lower edge of the disc.
    for mask in (disc, disc & ~low):  # With the cup, and its rim alone.
        assert optic_disc.cup_to_disc(mask, low) == pytest.approx(27 / 81)
    assert np.isnan(optic_disc.cup_to_disc(disc & False, cup))


@pytest.mark.parametrize("shape", [(200, 200, 3), (160, 200, 3)])
def test_a_picture_that_is_a_crop_already_is_kept_whole(shape):
    """Also one that was cut out at the edge of the field, two of whose corners are dark."""
    drawn = fundus.photograph(seed=5, patient=2, eye="right", level=0, size=640)
    rows, columns = np.nonzero(drawn.disc)
    y, x = int(rows.mean()), int(columns.mean())
    crop = drawn.image[y - 60 : y + 60, x - 60 : x + 60, ::-1]
    crop = cv2.resize(crop, shape[1::-1])
    crop[:, -25:] = 0
    made = recipes.apply_recipe(encode(crop, ".png"), RECIPE)
    left, top, right, bottom = made.box
    assert left <= 0 and top <= 0 and bottom >= 1 and right >= 0.85


@pytest.mark.parametrize("grey", [0, 127, 255])
def test_where_nothing_is_lit_or_all_is_the_same_there_is_an_answer(grey):
    x, y = optic_disc.find(np.full((80, 120, 3), grey, np.uint8))
    assert 0 <= x <= 120 and 0 <= y <= 80


def test_the_plain_recipe_only_resizes(tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (61, 83, 3)).astype(np.uint8)
    recipe = specs.Recipe(name="plain", size=64, quality_gate="off")
    made = recipes.apply_recipe(encode(noise, ".png"), recipe).rgb
    np.testing.assert_array_equal(made, cv2.resize(noise[..., ::-1], (64, 64)))
