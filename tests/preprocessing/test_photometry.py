"""Windows by the standard's formula, and CLAHE that converts no more than is read."""

import cv2
import numpy as np
import pytest

from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding, photometry
from tests.helpers.dicom_files import HEAD_CT, dicom
from tests.helpers.drawn import draw

RECIPE = specs.Recipe(clip_limit=3.0, tiles=4)


def test_one_window_is_grey_and_three_are_the_channels():
    """PS3.3 C.11.2.1.2.1, as the standard writes it."""
    values = np.arange(-200, 201, dtype=np.int16)[None]
    scan = decoding.decode(dicom(values + np.int16(1024), **HEAD_CT))

    def standard(x: float, center: float, width: float) -> float:
        if x <= center - 0.5 - (width - 1) / 2:
            return 0
        if x > center - 0.5 + (width - 1) / 2:
            return 255
        return ((x - (center - 0.5)) / (width - 1) + 0.5) * 255

    wanted = ((40, 80), (80, 200), (-20, 31))
    expected = np.array([[standard(x, *window) for x in values[0]] for window in wanted])
    brain = photometry.windows(scan, specs.Recipe(windows=wanted[:1]))
    assert brain.dtype == np.uint8
    for channel in range(3):
        np.testing.assert_allclose(brain[0, :, channel], expected[0], atol=0.51)
    bgr = photometry.windows(scan, specs.Recipe(windows=wanted))
    np.testing.assert_allclose(bgr[0, :, ::-1].T, expected, atol=0.51)


@pytest.mark.parametrize("height, width", [(120, 160), (97, 31)])
def test_clahe_is_right_wherever_it_is_read(height, width):
    image = draw(3, width=width, height=height)
    lab = cv2.cvtColor(image[..., ::-1], cv2.COLOR_RGB2LAB)
    equalised = cv2.createCLAHE(3.0, (4, 4)).apply(lab[..., 0].copy())
    rgb = cv2.cvtColor(np.dstack([equalised, lab[..., 1:]]), cv2.COLOR_LAB2RGB)
    np.testing.assert_array_equal(photometry.clahe(image.copy(), RECIPE)[..., ::-1], rgb)
    reads = np.array([0, 5, 6, height - 1]), np.array([2, 3, 17, width - 1])
    made = photometry.clahe(image.copy(), RECIPE, reads)
    np.testing.assert_array_equal(made[np.ix_(*reads)], rgb[..., ::-1][np.ix_(*reads)])
