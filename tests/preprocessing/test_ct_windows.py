"""Recipes of head CT against ten lines of NumPy, and the pictures of a CT that people have."""

import contextlib

import cv2
import numpy as np
import pytest

from dr_tfx.config import specs, typed
from dr_tfx.preprocessing import decoding, head, recipes
from tests.helpers.dicom_files import HEAD_CT, dicom
from tests.helpers.drawn import SHARED_DATA, encode

WINDOWS = ((40, 80), (80, 200), (600, 2800))


def slice_of_a_head(seed: int = 0, *, height: int = 200, width: int = 220) -> np.ndarray:
    """Hounsfield units, int16: air, a head 120 wide and 160 high with skull, brain and a bleed."""
    rng = np.random.default_rng(seed)
    units = np.full((height, width), -1000, np.int16)
    units[20:180, 60:180] = 800
    units[28:172, 68:172] = rng.integers(25, 45, (144, 104))
    units[60:80, 90:110] = 70
    units[:, 3] = 300  # A rod of the table, which is no head.
    return units


def through(units: np.ndarray, center: float, width: float) -> np.ndarray:
    """The greys of a window, PS3.3 C.11.2.1.2.1."""
    return np.clip(((units - (center - 0.5)) / (width - 1) + 0.5) * 255, 0, 255).round()


def ten_lines(shown: np.ndarray, size: int) -> np.ndarray:
    """The recipe in NumPy, for a head that is the only thing lit in all of 2 % of the rows."""
    lit = shown[:, 10:, 0] > 40
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0)) + 10
    found = shown[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1].astype(int)
    (height, width), side = found.shape[:2], max(found.shape)
    ahead = (side - height) // 2, (side - width) // 2
    square = np.pad(found, [(a, side - n - a) for a, n in zip(ahead, (height, width))] + [(0, 0)])  # noqa: B905
    parts = square.reshape(size, side // size, size, side // size, -1)
    return np.floor(parts.mean(axis=(1, 3)) + 0.5).astype(np.uint8)


@pytest.mark.parametrize("size", [160, 80])
@pytest.mark.parametrize(
    "dtype, bits, slope, intercept, meaning",
    [
        (np.int16, 16, 1, 0, "MONOCHROME2"),
        (np.int16, 12, 1, -1024, "MONOCHROME2"),
        (np.uint16, 16, 0.5, -1024, "MONOCHROME2"),
        (np.uint16, 12, 1, -1000, "MONOCHROME1"),
    ],
)
@pytest.mark.parametrize("windows", [WINDOWS, ((35, 100), (40, 400), (500, 3000))])
def test_it_is_bit_identical_to_ten_lines(size, dtype, bits, slope, intercept, meaning, windows):
    stored = np.rint((slice_of_a_head(size) - intercept) / slope).astype(dtype)
    data = dicom(
        stored,
        Modality="CT",
        RescaleSlope=slope,
        RescaleIntercept=intercept,
        BitsStored=bits,
        HighBit=bits - 1,
        PhotometricInterpretation=meaning,
        WindowCenter=3000,
        WindowWidth=2,
    )
    recipe = specs.Recipe(name="ct_windows", size=size, quality_gate="off", windows=windows)
    made = recipes.apply_recipe(data, recipe)
    units = stored.astype(float) * slope + intercept
    expected = ten_lines(np.stack([through(units, *each) for each in windows], axis=-1), size)
    np.testing.assert_array_equal(made.rgb, expected)
    assert made.box == (40 / 220, 20 / 200, 200 / 220, 180 / 200)


BESIDE = specs.Recipe(
    name="ct_neighbours", size=80, quality_gate="off", windows=((40, 80), (80, 200), (35, 90))
)


def beside(*files: bytes | None) -> list[np.ndarray | None]:
    """What the recipe is given of files of neighbouring slices."""
    return [
        None if file is None else recipes.neighbour(contextlib.nullcontext(file), BESIDE)
        for file in files
    ]


def test_a_slice_and_the_mean_of_its_neighbours_are_bit_identical_to_ten_lines():
    """The slice alone says where the head is, though its neighbours lie elsewhere."""
    slices = [np.roll(slice_of_a_head(seed), 7 * seed, axis=1) for seed in (1, 0, 2)]
    before, own, after = (dicom(s, **HEAD_CT | {"RescaleIntercept": 0}) for s in slices)
    made = recipes.apply_recipe(own, BESIDE, beside(before, after))
    channels = [through(slices[1], *each) for each in BESIDE.windows]
    third = [through(one, *BESIDE.windows[2]) for one in slices]
    mean = np.floor((third[0] + third[2]) / 2 + 0.5)
    expected = ten_lines(np.stack([*channels[:2], mean], axis=-1), 80)
    np.testing.assert_array_equal(made.rgb, expected)
    assert made.box == (40 / 220, 20 / 200, 200 / 220, 180 / 200) and made.substituted == 0
    alone = recipes.apply_recipe(own, BESIDE)
    np.testing.assert_array_equal(alone.rgb, ten_lines(np.stack(channels, axis=-1), 80))
    assert alone.substituted == 2 and alone.fingerprint == made.fingerprint


def test_a_slice_stands_in_for_a_neighbour_that_cannot_be_used():
    own, after = (dicom(slice_of_a_head(seed), **HEAD_CT) for seed in (0, 1))
    smaller = dicom(slice_of_a_head(2, height=180), **HEAD_CT)
    mr = dicom(slice_of_a_head(3), Modality="MR", WindowCenter=40, WindowWidth=80)
    expected = recipes.apply_recipe(own, BESIDE, beside(None, after))
    assert expected.substituted == 1
    for unusable in (b"", b"no image", after[:-900], mr, smaller):
        made = recipes.apply_recipe(own, BESIDE, beside(unusable, after))
        np.testing.assert_array_equal(made.rgb, expected.rgb)
        assert made.substituted == 1
    grey = recipes.apply_recipe(encode(picture(1), ".png"), BESIDE, beside(None, None))
    assert grey.substituted == 2 and np.ptp(grey.rgb, axis=2).max() == 0
    assert not recipes.takes_neighbours(RECIPE) and recipes.takes_neighbours(BESIDE)


RECIPE = specs.Recipe(name="ct_windows", size=80, quality_gate="off")


def picture(seed: int = 0) -> np.ndarray:
    """The same slice as a picture through the brain's window, grey (200, 220)."""
    units = slice_of_a_head(seed).astype(float)
    return np.clip(((units - 39.5) / 79 + 0.5) * 255, 0, 255).round().astype(np.uint8)


def with_frames(grey: np.ndarray) -> np.ndarray:
    """A screenshot: a black picture in a grey frame, in a white page."""
    framed = np.pad(np.pad(grey, 12, constant_values=90), 30, constant_values=252)
    framed[5:12, 40:90:3] = 60  # A line of text.
    return framed


@pytest.mark.parametrize(
    "make",
    [
        lambda grey: grey,
        lambda grey: np.dstack([grey] * 3),
        lambda grey: np.dstack([grey] * 3 + [np.full_like(grey, 255)]),
        lambda grey: np.pad(grey, ((40, 3), (90, 25))),
        with_frames,
        lambda grey: np.dstack([with_frames(grey)] * 3),
    ],
    ids=["grey", "RGB", "RGBA", "margins", "screenshot", "screenshot in colours"],
)
def test_pictures_of_one_head_become_one_picture(make):
    """Each channel is the window that the picture shows, cut to the head."""
    values = picture(1)
    expected = recipes.apply_recipe(encode(values, ".png"), RECIPE).rgb
    brain = recipes.apply_recipe(
        dicom(slice_of_a_head(1), **HEAD_CT | {"RescaleIntercept": 0}), RECIPE
    )
    made = recipes.apply_recipe(encode(make(values), ".png"), RECIPE)
    np.testing.assert_array_equal(made.rgb, expected)
    for channel in range(3):
        np.testing.assert_array_equal(made.rgb[..., channel], brain.rgb[..., 0])


def test_pictures_of_any_size_show_the_head():
    for scale in (0.5, 0.8, 2.5, 6):
        larger = cv2.resize(picture(2), None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
        made = recipes.apply_recipe(encode(larger, ".jpg"), RECIPE).rgb.astype(int)
        expected = recipes.apply_recipe(encode(picture(2), ".png"), RECIPE).rgb
        assert np.abs(made - expected).mean() < 8


def test_a_picture_without_a_head_is_kept_whole():
    for grey in (np.zeros((40, 60), np.uint8), np.full((40, 60), 200, np.uint8)):
        assert head.find(grey) == (0, 0, 60, 40)
    speck = np.zeros((100, 100), np.uint8)
    speck[50:55, 50:55] = 255
    assert head.find(speck) == (0, 0, 100, 100)


def test_values_without_a_unit_are_no_picture():
    byte = dicom(picture(3), Modality="OT")
    made = recipes.apply_recipe(byte, RECIPE).rgb
    np.testing.assert_array_equal(
        made, recipes.apply_recipe(encode(picture(3), ".png"), RECIPE).rgb
    )
    mr = dicom(slice_of_a_head(3), Modality="MR", WindowCenter=40, WindowWidth=80)
    with pytest.raises(decoding.RejectedImage) as caught:
        recipes.apply_recipe(mr, RECIPE)
    assert caught.value.reason == "no_hounsfield_units"


def test_windows_that_are_none_are_refused():
    for wrong in (((40, 80), (80, 200)), ((40, 1),), ()):
        with pytest.raises(typed.ConfigError, match="expected one window, or three"):
            specs.read_dataset({"recipe": {"windows": wrong}})


def test_the_head_of_real_slices_fills_the_square():
    paths = sorted((SHARED_DATA / "ct_dicom").glob("*.dcm"))
    if not paths:
        pytest.skip(f"no CT slices at {SHARED_DATA}")
    for path in paths:
        made = recipes.apply_recipe(path.read_bytes(), RECIPE)
        bone = made.rgb[..., 2] > 110  # Above 400 HU.
        rows, columns = (np.flatnonzero(bone.any(axis=axis)) for axis in (1, 0))
        assert max(np.ptp(rows), np.ptp(columns)) >= 60, path
