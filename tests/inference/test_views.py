"""Views of test-time augmentation: what they show, and the way back for maps and masks."""

import math

import cv2
import numpy as np
import pytest
import tensorflow as tf

from dr_tfx.config import specs
from dr_tfx.inference import views
from tests.helpers import datasets

QUARTERS = {"rotate_90": 1, "rotate_180": 2, "rotate_270": 3}
RESAMPLED = ("rotate_10", "rotate_350", "zoom_in", "zoom_out")


def pictures(seed=2, size=8):
    return np.random.default_rng(seed).uniform(0, 255, (2, size, size, 3)).astype(np.float32)


def shown(name, pixels):
    return views.VIEWS[name].apply({"image": tf.constant(pixels)})["image"]


def smooth(size=64):
    noise = np.random.default_rng(0).uniform(0, 255, (size, size, 3)).astype(np.float32)
    return cv2.GaussianBlur(noise, (0, 0), 4)


def test_the_first_five_views_are_the_published_ones():
    x = pictures()
    expected = {
        "identity": x,
        "left_right": x[:, :, ::-1],
        "up_down": x[:, ::-1],
        "left_right_up_down": x[:, ::-1, ::-1],
        "brighter": np.clip(x / 255 * 1.1, 0, 1) * 255,
    }
    assert list(views.VIEWS)[:5] == list(expected)
    for name, picture in expected.items():
        assert np.allclose(shown(name, x), picture, atol=1e-3), name


def test_every_view_that_a_config_may_name_is_there():
    assert tuple(views.VIEWS) == specs.VIEWS


@pytest.mark.parametrize("name", QUARTERS)
def test_quarter_turns_are_numpys(name):
    x = pictures()
    expected = np.rot90(x, QUARTERS[name], axes=(1, 2))
    assert np.array_equal(shown(name, x), expected)


@pytest.mark.parametrize(
    ("name", "degrees", "zoom"),
    [("rotate_10", 10, 1), ("rotate_350", -10, 1), ("zoom_in", 0, 1.1), ("zoom_out", 0, 1 / 1.1)],
)
def test_small_turns_and_zooms_are_opencvs(name, degrees, zoom):
    x = smooth()
    found = shown(name, x[np.newaxis]).numpy()[0]
    matrix = cv2.getRotationMatrix2D((31.5, 31.5), degrees, zoom)  # Counter-clockwise.
    expected = cv2.warpAffine(x, matrix, (64, 64), flags=cv2.INTER_LINEAR)
    assert np.abs(found - expected)[10:54, 10:54].mean() < 0.1
    assert np.abs(found - x)[10:54, 10:54].mean() > 0.5  # Not the picture as it was.


@pytest.mark.parametrize("name", [n for n in views.VIEWS if n not in RESAMPLED])
@pytest.mark.parametrize("shape", [(2, 7, 7), (3, 5, 8)])
def test_maps_come_back_exactly_at_any_resolution(name, shape):
    view = views.VIEWS[name]
    maps = np.random.default_rng(3).random(shape).astype(np.float32)
    back = np.asarray(view.undo(view.geometry(tf.constant(maps[..., np.newaxis]))[..., 0]))
    assert back.dtype == np.float32 and np.array_equal(back, maps)


@pytest.mark.parametrize("name", RESAMPLED)
@pytest.mark.parametrize("shape", [(96, 96), (80, 120)])
def test_a_mark_comes_back_to_its_place_after_resampling(name, shape):
    maps = np.zeros((1, *shape, 1), np.float32)
    row, column = shape[0] // 2 - 12, shape[1] // 2 + 20
    maps[0, row, column] = 1
    maps[0] = cv2.GaussianBlur(maps[0, ..., 0], (0, 0), 2)[..., np.newaxis]
    view = views.VIEWS[name]
    seen = np.asarray(view.geometry(tf.constant(maps)))
    moved = math.dist(np.unravel_index(seen[0, ..., 0].argmax(), shape), (row, column))
    back = np.asarray(view.undo(seen[..., 0]))
    assert moved > 1.5
    place = np.unravel_index(back[0].argmax(), shape)
    assert math.dist(place, (row, column)) <= 1
    assert np.abs(back - maps[..., 0]).max() < 0.15 * maps.max()


def test_what_a_view_did_not_show_has_no_heat():
    back = np.asarray(views.VIEWS["zoom_in"].undo(np.ones((1, 32, 32), np.float32)))
    assert back[0, 16, 16] == 1 and back[0, 0].max() == 0 and back[0, :, 0].max() == 0
    whole = np.asarray(views.VIEWS["zoom_out"].undo(np.ones((1, 32, 32), np.float32)))
    assert np.allclose(whole, 1, atol=1e-6)


@pytest.mark.parametrize("name", views.VIEWS)
@pytest.mark.parametrize("place", [(30, 52), (61.5, 40.25)])
def test_a_mask_stays_on_its_lesion_and_comes_back(name, place):
    mask = datasets.disc(*place, size=96)
    batch = {
        "image": datasets.with_lesion(mask)[np.newaxis].astype(np.float32),
        "mask/lesion": mask[np.newaxis],
        "label/level": np.array([2]),
    }
    view = views.VIEWS[name]
    found = view.apply({key: tf.constant(value) for key, value in batch.items()})
    assert found.keys() == batch.keys() and found["label/level"].numpy() == [2]
    moved = found["mask/lesion"]
    assert moved.dtype == tf.uint8 and set(np.unique(moved)) == {0, 255}
    seen = datasets.lesion_seen(found["image"].numpy()[0])
    assert np.abs(datasets.centre(moved[0]) - datasets.centre(seen)).max() <= 0.5
    # A mask, and a map of the network such as a probability, come back to where the lesion is.
    back = view.undo(moved[..., 0]).numpy()
    assert back.dtype == np.uint8 and back.shape == (1, 96, 96)
    assert np.abs(datasets.centre(back) - datasets.centre(mask)).max() <= 0.5
    probability = view.undo(tf.cast(seen, tf.float32)[tf.newaxis]).numpy()
    assert np.abs(datasets.centre(probability > 0.5) - datasets.centre(mask)).max() <= 0.5


def test_only_the_image_is_recoloured():
    mask = datasets.disc(20, 30, size=64)
    pixels = datasets.with_lesion(mask)[np.newaxis].astype(np.float32)
    batch = {"image": tf.constant(pixels), "mask/lesion": tf.constant(mask[np.newaxis])}
    found = views.VIEWS["brighter"].apply(batch)
    assert np.array_equal(found["mask/lesion"][0], mask)
    assert np.allclose(found["image"], np.minimum(pixels * 1.1, 255))
