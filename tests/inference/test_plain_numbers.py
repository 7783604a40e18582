"""Numbers of prepared pictures, against NumPy."""

import numpy as np

from dr_tfx.inference import plain_numbers


def test_brightness_contrast_and_sharpness_are_those_of_the_grey_picture():
    images = np.random.default_rng(5).integers(0, 256, (3, 24, 24, 3), np.uint8)
    images[1] = 77
    grey = np.rint(images @ [0.299, 0.587, 0.114])  # ITU-R BT.601.
    grown = np.pad(grey, ((0, 0), (1, 1), (1, 1)), mode="reflect")
    around = grown[:, :-2, 1:-1] + grown[:, 2:, 1:-1] + grown[:, 1:-1, :-2] + grown[:, 1:-1, 2:]
    found = plain_numbers.of_pixels(images)
    for name, expected in (
        ("pixels/brightness", grey.mean(axis=(1, 2))),
        ("pixels/contrast", grey.std(axis=(1, 2))),
        ("pixels/sharpness", (around - 4 * grey).var(axis=(1, 2))),
    ):
        np.testing.assert_allclose(found[name], expected, rtol=1e-3)
