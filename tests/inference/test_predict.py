"""Views of test-time augmentation: what they show, the way back, and one probability of all."""

import math
import types

import cv2
import numpy as np
import pytest
import tensorflow as tf
from scipy import special

from dr_tfx.config import specs
from dr_tfx.inference import scoring, views
from dr_tfx.tasks.binary import scores

QUARTERS = {"rotate_90": 1, "rotate_180": 2, "rotate_270": 3}
RESAMPLED = ("rotate_10", "rotate_350", "zoom_in", "zoom_out")


def pictures(seed=2, size=8):
    return np.random.default_rng(seed).uniform(0, 255, (2, size, size, 3)).astype(np.float32)


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
        assert np.allclose(views.VIEWS[name].apply(tf.constant(x)), picture, atol=1e-3), name


def test_every_view_that_a_config_may_name_is_there():
    assert tuple(views.VIEWS) == specs.VIEWS


@pytest.mark.parametrize("name", QUARTERS)
def test_quarter_turns_are_numpys(name):
    x = pictures()
    expected = np.rot90(x, QUARTERS[name], axes=(1, 2))
    assert np.array_equal(views.VIEWS[name].apply(tf.constant(x)), expected)


@pytest.mark.parametrize(
    ("name", "degrees", "zoom"),
    [("rotate_10", 10, 1), ("rotate_350", -10, 1), ("zoom_in", 0, 1.1), ("zoom_out", 0, 1 / 1.1)],
)
def test_small_turns_and_zooms_are_opencvs(name, degrees, zoom):
    x = smooth()
    found = views.VIEWS[name].apply(tf.constant(x[np.newaxis])).numpy()[0]
    matrix = cv2.getRotationMatrix2D((31.5, 31.5), degrees, zoom)  # Counter-clockwise.
    expected = cv2.warpAffine(x, matrix, (64, 64), flags=cv2.INTER_LINEAR)
    assert np.abs(found - expected)[10:54, 10:54].mean() < 0.1
    assert np.abs(found - x)[10:54, 10:54].mean() > 0.5  # Not the picture as it was.


@pytest.mark.parametrize("name", [n for n in views.VIEWS if n not in RESAMPLED])
@pytest.mark.parametrize("shape", [(2, 7, 7), (3, 5, 8)])
def test_maps_come_back_exactly_at_any_resolution(name, shape):
    view = views.VIEWS[name]
    maps = np.random.default_rng(3).random(shape).astype(np.float32)
    shown = maps if name == "brighter" else view.apply(tf.constant(maps[..., np.newaxis]))[..., 0]
    back = np.asarray(view.undo(shown))
    assert back.dtype == np.float32 and np.array_equal(back, maps)


@pytest.mark.parametrize("name", RESAMPLED)
@pytest.mark.parametrize("shape", [(96, 96), (80, 120)])
def test_a_mark_comes_back_to_its_place_after_resampling(name, shape):
    maps = np.zeros((1, *shape, 1), np.float32)
    row, column = shape[0] // 2 - 12, shape[1] // 2 + 20
    maps[0, row, column] = 1
    maps[0] = cv2.GaussianBlur(maps[0, ..., 0], (0, 0), 2)[..., np.newaxis]
    view = views.VIEWS[name]
    shown = np.asarray(view.apply(tf.constant(maps)))
    moved = math.dist(np.unravel_index(shown[0, ..., 0].argmax(), shape), (row, column))
    back = np.asarray(view.undo(shown[..., 0]))
    assert moved > 1.5
    place = np.unravel_index(back[0].argmax(), shape)
    assert math.dist(place, (row, column)) <= 1
    assert np.abs(back - maps[..., 0]).max() < 0.15 * maps.max()


def test_what_a_view_did_not_show_has_no_heat():
    back = np.asarray(views.VIEWS["zoom_in"].undo(np.ones((1, 32, 32), np.float32)))
    assert back[0, 16, 16] == 1 and back[0, 0].max() == 0 and back[0, :, 0].max() == 0
    whole = np.asarray(views.VIEWS["zoom_out"].undo(np.ones((1, 32, 32), np.float32)))
    assert np.allclose(whole, 1, atol=1e-6)


@pytest.mark.parametrize("how", ["probability", "logit"])
def test_views_are_combined_as_scipy_does(how):
    scores = np.random.default_rng(4).beta(0.3, 0.3, (50, 5)).clip(1e-6, 1 - 1e-6)
    expected = {
        "probability": scores.mean(axis=1),
        "logit": special.expit(special.logit(scores).mean(axis=1)),
    }
    assert np.allclose(scores.combine(scores, how), expected[how], atol=1e-12)


def test_certain_views_give_a_probability_all_the_same():
    assert scores.combine(np.array([[0.0, 1.0]]), "logit") == pytest.approx(0.5)
    certain = scores.combine(np.array([[1.0, 1.0], [0.0, 0.0]]), "logit")
    assert np.isfinite(certain).all() and certain[0] > 1 - 1e-6 and certain[1] < 1e-6


def test_the_scorer_shows_the_model_every_view_in_turn():
    names = ("identity", "rotate_90", "brighter")
    evaluation = specs.Evaluation(views=names)
    recipe = types.SimpleNamespace(recipe=types.SimpleNamespace(size=8))

    def corner(pixels, training):
        assert training is False
        return pixels[:, 0, :1, 0] / 255

    bundle = types.SimpleNamespace(
        model=corner, experiment=types.SimpleNamespace(evaluation=evaluation, dataset=recipe)
    )
    images = pictures().astype(np.uint8)
    scores = scoring.view_scorer(bundle)(tf.constant(images)).numpy()
    first = images[:, :, :, 0].astype(np.float64)
    expected = [first[:, 0, 0], first[:, 0, -1], np.minimum(first[:, 0, 0] * 1.1, 255)]
    assert scores.dtype == np.float64
    assert np.allclose(scores, np.stack(expected, axis=1) / 255, atol=1e-6)
