"""Overlays against the published recipe's and against arithmetic by hand."""

import keras
import matplotlib as mpl
import numpy as np
import pytest

from dr_tfx.explanation import overlays


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def test_upsampling_keeps_range_and_place():
    heatmap = np.zeros((3, 3), np.float32)
    heatmap[0, 2] = 1
    large = overlays.upsample(heatmap, 30, 60)
    assert large.shape == (30, 60) and large.min() == 0 and large.max() == 1
    assert large[:10, 40:].mean() > 0.5 and not large[20:].any()


def test_overlay_in_jet_is_the_tutorials(rng):
    rgb = rng.integers(0, 256, (24, 24, 3)).astype(np.uint8)
    heatmap = rng.random((24, 24)).astype(np.float32)
    mixed = 0.4 * overlays.colorize(heatmap, "jet") + rgb
    expected = np.asarray(keras.utils.array_to_img(mixed))
    np.testing.assert_allclose(overlays.overlay(rgb, heatmap, "jet").astype(int), expected, atol=1)
    black = np.zeros((24, 24, 3), np.uint8)
    assert overlays.overlay(black, np.zeros((3, 3), np.float32), "jet").shape == (24, 24, 3)
    red, blue = overlays.colorize(np.array([[1.0, 0.0]]), "jet")[0]
    assert red[0] > red[2] and blue[2] > blue[0]


def test_overlay_is_as_opaque_as_the_map_is_high(rng):
    rgb = rng.integers(0, 256, (24, 24, 3)).astype(np.uint8)
    heatmap = np.zeros((24, 24), np.float32)
    heatmap[12:], heatmap[18:] = 0.5, 1
    mixed = overlays.overlay(rgb, heatmap)
    assert np.array_equal(mixed[:12], rgb[:12])
    for rows, height in ((slice(12, 18), 0.5), (slice(18, 24), 1.0)):
        colour = np.array(mpl.colormaps["viridis"](int(255 * height), bytes=True)[:3])
        expected = (1 - 0.6 * height) * rgb[rows] + 0.6 * height * colour
        np.testing.assert_allclose(mixed[rows], expected, atol=1)
