"""Recipes against independent OpenCV code, and the gate that belongs to each."""

import typing

import cv2
import numpy as np
import pytest

from dr_tfx.config import specs, typed
from dr_tfx.preprocessing import decoding, jpeg, recipes
from tests.helpers.dicom_files import HEAD_CT, dicom
from tests.helpers.drawn import SHARED_DATA, draw, encode

REFERENCE = specs.Recipe(name="reference", size=96)
ORIGINALS = SHARED_DATA / "idrid" / "originals"


def published_preprocessing(path, size: int = 96) -> np.ndarray:
    """R1's table, written down without the library."""
    image = cv2.imread(str(path))
    lab = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), cv2.COLOR_RGB2LAB)
    lightness, a, b = cv2.split(lab)
    lightness = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(lightness)
    rgb = cv2.cvtColor(cv2.merge((lightness, a, b)), cv2.COLOR_LAB2RGB)
    return cv2.resize(rgb, (size, size))


@pytest.mark.parametrize("extension", [".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp"])
@pytest.mark.parametrize("width, height", [(160, 120), (97, 211)])
def test_reference_is_bit_identical_to_the_published_recipe(tmp_path, extension, width, height):
    path = tmp_path / f"a{extension}"
    path.write_bytes(encode(draw(1, width=width, height=height), extension))
    made = recipes.apply_recipe(path.read_bytes(), REFERENCE).rgb
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, published_preprocessing(path))


@pytest.mark.parametrize(
    "width, height, size",
    [
        (192, 192, 96),  # Half: OpenCV averages.
        (288, 288, 96),
        (192, 301, 96),
        (96, 96, 96),
        (1000, 777, 96),
        (50, 31, 224),  # Upwards.
        (1, 1, 16),
        (2, 900, 33),
        (1023, 1025, 512),
    ],
)
def test_reference_is_bit_identical_at_any_scale(tmp_path, width, height, size):
    path = tmp_path / "noise.png"
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3)).astype(np.uint8)
    path.write_bytes(encode(noise, ".png"))
    recipe = specs.Recipe(name="reference", size=size)
    made = recipes.apply_recipe(path.read_bytes(), recipe).rgb
    np.testing.assert_array_equal(made, published_preprocessing(path, size))


def test_reference_is_bit_identical_on_real_photographs():
    paths = sorted(ORIGINALS.glob("*.jpg"))[::14]
    if not paths:
        pytest.skip(f"no real photographs at {ORIGINALS}")
    for path in paths:
        made = recipes.apply_recipe(path.read_bytes(), REFERENCE).rgb
        np.testing.assert_array_equal(made, published_preprocessing(path))


@pytest.mark.parametrize("size", [32, 64, 300])
def test_fundus_has_the_size_asked_for_and_the_disc_fills_it(size):
    data = encode(draw(3, width=320, height=240, center=(200, 130), radius=70))
    made = recipes.apply_recipe(data, specs.Recipe(size=size)).rgb
    assert (made.shape, made.dtype) == ((size, size, 3), np.uint8)
    middle = made[size // 2].max(axis=1)
    assert middle[size // 16] > 60 and middle[-1 - size // 16] > 60
    assert made[: size // 16, : size // 16].max() < 60  # Outside the disc.
    assert made[..., 0].mean() > made[..., 2].mean()  # RGB: the drawn disc is red.


def test_fundus_pads_what_is_cut_off_above_and_below():
    image = draw(4, width=320, height=200, radius=150)  # The camera cuts top and bottom.
    made = recipes.apply_recipe(encode(image), specs.Recipe(size=60)).rgb
    assert made[0].max() < 40 and made[-1].max() < 40 and made[30, 30].max() > 60


@pytest.mark.parametrize(
    "shape, size, heights",
    # 60 or 120 pixels are too few for the fingerprint.
    [((480, 640), 64, [120, 240]), ((480, 640), 60, [60, 240]), ((240, 320), 240, [240])],
)
def test_fundus_decodes_no_more_than_it_needs(monkeypatch, shape, size, heights):
    decoded = []
    decode = jpeg.decode
    monkeypatch.setattr(
        jpeg, "decode", lambda *a, **b: decoded.append(decode(*a, **b)) or decoded[-1]
    )
    data = encode(draw(5, width=shape[1], height=shape[0]))
    recipes.apply_recipe(data, specs.Recipe(name="fundus", size=size))
    recipes.apply_recipe(data, specs.Recipe(name="reference", size=size))
    assert [image.shape[0] for image in decoded] == [*heights, shape[0]]


def steps_of(name: str, image: np.ndarray, box: tuple[int, int, int, int], size: int) -> np.ndarray:
    """The steps of `fundus` or `retina` in NumPy and OpenCV, on RGB, from a box that is known."""
    left, top, right, bottom = box
    side = max(right - left, bottom - top)
    square = np.zeros((side, side, 3), np.uint8)
    y, x = (side - (bottom - top)) // 2, (side - (right - left)) // 2
    square[y : y + bottom - top, x : x + right - left] = image[top:bottom, left:right, ::-1]
    rgb = square
    if name == "fundus":
        lab = cv2.cvtColor(square, cv2.COLOR_RGB2LAB)
        equalised = cv2.createCLAHE(clipLimit=3.0, tileGridSize=(4, 4)).apply(lab[..., 0].copy())
        rgb = cv2.cvtColor(np.dstack([equalised, lab[..., 1:]]), cv2.COLOR_LAB2RGB)
    how = cv2.INTER_AREA if side >= size else cv2.INTER_CUBIC
    return cv2.resize(rgb, (size, size), interpolation=how)


@pytest.mark.parametrize("name", ["fundus", "retina"])
@pytest.mark.parametrize("size", [64, 128, 300])
def test_fundus_and_retina_are_bit_identical_to_their_steps(name, size):
    """The field is a wide rectangle, so that its box is known; what lies beside it is not shown."""
    image = np.zeros((240, 320, 3), np.uint8)
    field = np.random.default_rng(0).integers(40, 256, (100, 212, 3))
    image[60:160, 50:262] = field
    image[30:34, 150:154] = 255  # Dust beside the field, within the square around it.
    recipe = specs.Recipe(name=name, size=size, clip_limit=3.0, tiles=4, quality_gate="off")
    made = recipes.apply_recipe(encode(image, ".png"), recipe)
    np.testing.assert_array_equal(made.rgb, steps_of(name, image, (50, 60, 262, 160), size))
    np.testing.assert_allclose(made.box, (50 / 320, 4 / 240, 262 / 320, 216 / 240), atol=1e-9)


@pytest.mark.parametrize("gate, kept", [("off", True), ("count", True), ("reject", False)])
@pytest.mark.parametrize("name", ["reference", "fundus"])
def test_the_gate_keeps_or_rejects_and_never_changes_pixels(name, gate, kept):
    nearly = np.full((120, 160, 3), 40, np.uint8)
    nearly[50:70, 70:90] = 200
    recipe = specs.Recipe(name=name, size=64, quality_gate=gate)
    for image, why in ((nearly * 0, "black"), (nearly, "no_retina"), (draw(3), "")):
        if kept or not why:
            made = recipes.apply_recipe(encode(image), recipe)
            assert made.ungradable == ("" if gate == "off" else why)
            other = specs.Recipe(name=name, size=64, quality_gate="off")
            np.testing.assert_array_equal(made.rgb, recipes.apply_recipe(encode(image), other).rgb)
            continue
        with pytest.raises(decoding.RejectedImage) as caught:
            recipes.apply_recipe(encode(image), recipe)
        assert caught.value.reason == f"ungradable:{why}" and "brightness" in caught.value.detail


@pytest.mark.parametrize("name", ["reference", "fundus"])
def test_recipes_take_dicom_as_they_take_png(name):
    recipe = specs.Recipe(name=name, size=100)  # Not reduced: 160x120 pixels.
    made = recipes.apply_recipe(dicom(draw(6)[..., ::-1]), recipe).rgb
    np.testing.assert_array_equal(made, recipes.apply_recipe(encode(draw(6), ".png"), recipe).rgb)


def units(seed: int, *, height: int = 60, width: int = 80) -> np.ndarray:
    """Hounsfield units from air to bone, int16."""
    return np.random.default_rng(seed).integers(-1024, 3000, (height, width)).astype(np.int16)


def head_ct(values: np.ndarray, **elements) -> bytes:
    """A CT file of these Hounsfield units, with a window of its own that shows next to nothing."""
    return dicom(
        values + np.int16(1024), **HEAD_CT, **{"WindowCenter": 3000, "WindowWidth": 2, **elements}
    )


CT = specs.Recipe(name="ct", size=40, quality_gate="off")


def test_ct_shows_three_windows_of_hounsfield_units():
    """Written down again: window, black above and below to a square, area average of 2x2."""
    values = units(0)
    square = np.full((80, 80), -10_000.0)
    square[10:70] = values
    for channel, (center, width) in enumerate(((40, 80), (80, 200), (600, 2800))):
        low, high = center - 0.5 - (width - 1) / 2, center - 0.5 + (width - 1) / 2
        shown = np.rint(np.clip((square - low) / (high - low), 0, 1) * 255)
        expected = shown.reshape(40, 2, 40, 2).mean(axis=(1, 3))
        made = recipes.apply_recipe(head_ct(values), CT)
        np.testing.assert_allclose(made.rgb[..., channel], expected, atol=0.51)
        assert made.box == (0, -10 / 60, 1, 70 / 60)


def test_ct_does_not_depend_on_how_the_file_is_to_be_displayed():
    """Neither on its window, nor on MONOCHROME1, nor on how it stores its values."""
    expected = recipes.apply_recipe(head_ct(units(1)), CT).rgb
    stored = (units(1) + 2000).astype(np.uint16)
    others = [
        head_ct(units(1), WindowCenter=40, WindowWidth=400),
        head_ct(units(1), PhotometricInterpretation="MONOCHROME1"),
        dicom(stored, Modality="CT", RescaleSlope=1, RescaleIntercept=-2000),
        dicom(stored * 2, RescaleType="HU", RescaleSlope=0.5, RescaleIntercept=-2000),
    ]
    for data in others:
        np.testing.assert_array_equal(recipes.apply_recipe(data, CT).rgb, expected)


@pytest.mark.parametrize(
    "make",
    [
        lambda: encode(draw(1)),
        lambda: dicom(draw(1)),
        lambda: dicom(units(1)),
        lambda: dicom(units(1), Modality="CT"),
        lambda: dicom(units(1), Modality="MR", RescaleSlope=1, RescaleIntercept=0),
        lambda: dicom(units(1), **HEAD_CT, RescaleType="US"),
    ],
    ids=["JPEG", "DICOM colours", "no CT", "no slope", "slope, no CT", "unspecified unit"],
)
def test_ct_refuses_what_has_no_hounsfield_units(make):
    with pytest.raises(decoding.RejectedImage) as caught:
        recipes.apply_recipe(make(), CT)
    assert caught.value.reason == "no_hounsfield_units"


def test_no_fundus_gate_is_asked_about_a_ct(monkeypatch):
    white = head_ct(np.full((60, 80), 2999, np.int16))
    fundus = specs.Recipe(name="fundus", size=40)
    shown = head_ct(np.full((60, 80), 2999, np.int16), WindowCenter=0, WindowWidth=10)
    assert recipes.apply_recipe(shown, fundus).ungradable == "blown_out"
    monkeypatch.setattr("dr_tfx.preprocessing.quality.assess", lambda _: pytest.fail("was asked"))
    assert recipes.apply_recipe(white, CT).ungradable == ""


@pytest.mark.parametrize("name", recipes.RECIPES)
@pytest.mark.parametrize("gate", ["off", "count", "reject"])
def test_settings_accept_a_gate_only_where_the_recipe_has_one(name, gate):
    settings = {"recipe": {"name": name, "quality_gate": gate}}
    if recipes.RECIPES[name].gate or gate == "off":
        assert specs.read_dataset(settings).recipe.name == name
        return
    with pytest.raises(typed.ConfigError, match="has no gate.*set it to 'off'"):
        specs.read_dataset(settings)


def test_the_settings_know_every_recipe():
    assert set(recipes.RECIPES) == set(typing.get_args(typing.get_type_hints(specs.Recipe)["name"]))


def test_ct_shows_another_window_of_real_slices_than_their_own():
    paths = sorted((SHARED_DATA / "ct_dicom").glob("*.dcm"))
    if not paths:
        pytest.skip(f"no CT slices at {SHARED_DATA}")
    for path in paths:
        brain, subdural, bone = np.moveaxis(
            recipes.apply_recipe(path.read_bytes(), specs.Recipe(name="ct", size=256)).rgb, 2, 0
        )
        head = bone > 150  # The skull, which is white in the two narrow windows.
        assert head.mean() > 0.02 and brain[head].mean() > 250 and subdural[head].mean() > 250
        inside = (brain > 60) & (brain < 200)  # Brain and fluid, which bone's window hardly tells.
        assert inside.mean() > 0.05 and np.ptp(np.percentile(bone[inside], [5, 95])) < 40


def test_show_is_the_file_as_people_see_it():
    image = draw(2, width=320, height=240)
    np.testing.assert_array_equal(recipes.show(encode(image, ".png")), image[..., ::-1])
    assert recipes.show(encode(image), at_least=100).shape == (120, 160, 3)
    scan = dicom(np.array([[0, 40, 80]], np.int16), WindowCenter=40.5, WindowWidth=81)
    np.testing.assert_array_equal(recipes.show(scan)[0, :, 0], [0, 128, 255])
