"""Where in a photograph a picture lies, and the way of masks and heat maps there and back."""

import cv2
import numpy as np
import pytest

from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding, geometry, recipes
from tests.helpers.drawn import draw, encode, with_orientation


@pytest.mark.parametrize("center", [(130, 100), (200, 140), (90, 90)])
def test_retina_box_is_the_disc(center):
    image = draw(2, width=320, height=240, center=center, radius=80)
    expected = (center[0] - 80, center[1] - 80, center[0] + 81, center[1] + 81)
    # Rows and columns with little of the disc in them are cut: at most a few pixels a side.
    np.testing.assert_allclose(geometry.retina_box(image), expected, atol=4)


def test_dust_and_captions_do_not_move_the_box():
    image = draw(2, width=320, height=240, radius=80)
    before = geometry.retina_box(image)
    image[5:7, 5:7] = 255
    image[230:233, 300:304] = 200
    assert geometry.retina_box(image) == before


def test_without_a_lit_field_fundus_keeps_the_whole_picture():
    image = np.zeros((120, 160, 3), np.uint8)
    image[50:70, 70:90] = 200
    assert geometry.retina_box(image) == (0, 0, 160, 120)


def test_a_thin_picture_whose_square_is_huge_is_refused():
    thin = np.full((48, 16_000, 3), (40, 90, 200), np.uint8)
    with pytest.raises(decoding.RejectedImage) as caught:
        recipes.apply_recipe(encode(thin), specs.Recipe(name="fundus"))
    assert caught.value.reason == "too_large"


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("radius", [150, 300])  # The larger is cut off above and below.
@pytest.mark.parametrize("name", ("reference", "fundus"))
def test_a_picture_tells_where_in_the_photograph_it_lies(name, radius, orientation):
    """A spot is found at the same place, also where the decode is reduced and rounds a side."""
    image = np.zeros((483, 645, 3), np.uint8)
    cv2.circle(image, (350, 240), radius, (30, 40, 200), -1)
    cv2.circle(image, (290, 180), 12, (30, 250, 30), -1)
    data = with_orientation(encode(image), orientation)

    def spot(bgr: np.ndarray) -> np.ndarray:
        """Its centre, x and y, in shares of the picture."""
        ys, xs = np.nonzero(bgr[..., 1] > 140)
        return np.array([(xs.mean() + 0.5) / bgr.shape[1], (ys.mean() + 0.5) / bgr.shape[0]])

    made = recipes.apply_recipe(data, specs.Recipe(name=name, size=100))
    left, top, right, bottom = made.box
    found = (left, top) + spot(made.rgb) * (right - left, bottom - top)
    np.testing.assert_allclose(found, spot(decoding.decode(data)), atol=0.004)


@pytest.mark.parametrize("shape", [(7, 7), (3, 5), (1, 1), (40, 40)])
def test_a_heat_map_is_resized_to_its_place(shape):
    heatmap = np.random.default_rng(0).random(shape, np.float32)
    whole = geometry.Box().to_photograph(heatmap, height=60, width=90)
    resized = cv2.resize(heatmap, (90, 60), interpolation=cv2.INTER_LINEAR)
    np.testing.assert_allclose(whole, resized, atol=1e-5)
    # A square of 80 pixels whose corner is 10 right of the photograph's and 10 above it.
    box = geometry.Box(10 / 120, -10 / 60, 90 / 120, 70 / 60)
    placed = box.to_photograph(heatmap, height=60, width=120)
    expected = np.zeros((60, 120))
    expected[:, 10:90] = cv2.resize(heatmap, (80, 80), interpolation=cv2.INTER_LINEAR)[10:70]
    np.testing.assert_allclose(placed, expected, atol=1e-5)


@pytest.mark.parametrize("size", [160, 40, 27])  # Twice the square's pixels, half of them, a third.
def test_what_is_marked_has_the_pixels_of_the_photograph_whose_centres_lie_in_it(size):
    mask = np.random.default_rng(1).random((size, size)) > 0.7
    # A square of 80 pixels whose corner is 10 right of the photograph's and 10 above it.
    box = geometry.Box(10 / 120, -10 / 60, 90 / 120, 70 / 60)
    rows, columns = np.indices((60, 120)) + 0.5  # The middle of a pixel is half a pixel from both.
    expected = np.zeros((60, 120), bool)
    for y, x in np.argwhere(mask):
        top, left = -10 + y * 80 / size, 10 + x * 80 / size
        inside = (rows >= top) & (rows < top + 80 / size)
        expected |= inside & (columns >= left) & (columns < left + 80 / size)
    np.testing.assert_array_equal(box.marked(mask, height=60, width=120), expected)


def test_a_mask_goes_through_the_steps_of_the_image():
    """A rectangle of whole pixels of the square covers them, and half of their neighbours."""
    mask = np.zeros((60, 120), bool)
    mask[20:30, 40:63] = True
    box = geometry.Box(10 / 120, -10 / 60, 90 / 120, 70 / 60)  # A square of 80 pixels.
    square = box.to_square(mask, 40)
    expected = np.zeros((40, 40))
    expected[15:20, 15:26] = 1
    expected[15:20, 26] = 0.5
    np.testing.assert_allclose(square, expected, atol=1e-6)
    grown = box.to_square(mask, 160)
    np.testing.assert_array_equal(grown, np.kron(box.to_square(mask, 80), np.ones((2, 2))))
    # A mask of another resolution than the photograph lies at the same place.
    halved = box.to_square(mask[::2, ::2], 40)
    np.testing.assert_allclose(halved[:, :26], expected[:, :26], atol=1e-6)


def test_a_lesion_smaller_than_a_pixel_is_not_lost():
    mask = np.zeros((2848, 4288), bool)
    mask[1000, 2000] = True
    square = geometry.Box().to_square(mask, 200)
    assert square.sum() == pytest.approx(200 * 200 / mask.size, rel=1e-3)


def middle(weights: np.ndarray) -> np.ndarray:
    """The centre of mass, x and y, in pixels from the corner of the array."""
    weights = weights.astype(float)
    y, x = np.indices(weights.shape) + 0.5
    return np.array([(x * weights).sum(), (y * weights).sum()]) / weights.sum()


@pytest.mark.parametrize("extension", [".png", ".jpeg"])
@pytest.mark.parametrize("name, radius", [("reference", 200), ("fundus", 200), ("fundus", 400)])
@pytest.mark.parametrize("size", [56, 224, 700])
@pytest.mark.parametrize("place", [(400, 300), (260, 222), (531, 387)])
def test_a_mask_stays_on_its_lesion_there_and_back(name, radius, size, place, extension):
    """To half a pixel: on the square beside the picture, and on the photograph after both ways."""
    image = np.zeros((600, 800, 3), np.uint8)
    cv2.circle(image, (400, 300), radius, (30, 40, 200), -1)
    lesion = cv2.circle(np.zeros((600, 800), np.uint8), place, 20, 1, -1) > 0
    image[lesion] = 30, 250, 30
    recipe = specs.Recipe(name=name, size=size, clip_limit=1e-3)
    picture = recipes.apply_recipe(encode(image, extension), recipe)
    mask = picture.box.to_square(lesion, size)
    seen = picture.rgb[..., 1] > picture.rgb[..., 0] + 60.0  # Far greener than red.
    assert np.abs(middle(seen) - middle(mask)).max() < 0.5, middle(seen) - middle(mask)
    back = picture.box.to_photograph(mask, height=600, width=800)
    assert np.abs(middle(back) - middle(lesion)).max() < 0.5
    overlap = ((back > 0.5) & lesion).sum() / ((back > 0.5) | lesion).sum()
    assert overlap > (0.9 if size > 56 else 0.7)
