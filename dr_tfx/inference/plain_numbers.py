"""Numbers of a photograph for which no model is needed, and which may tell its label all the same.

A set whose ill eyes came from another camera can be told apart by the size of a file. Whoever
reports what a model is worth compares it with these (`evaluation.one_numbers`).
"""

import cv2
import numpy as np

from dr_tfx.dataset import records

BRIGHTNESS, CONTRAST, SHARPNESS = "pixels/brightness", "pixels/contrast", "pixels/sharpness"
OF_RECORDS = dict.fromkeys(
    (records.PHOTOGRAPH_BYTES, records.PHOTOGRAPH_WIDTH, records.PHOTOGRAPH_HEIGHT),
    records.Feature("int64"),
)
"""Features of a record that are such numbers: those of the file, before any recipe."""


def of_pixels(images: np.ndarray) -> dict[str, np.ndarray]:
    """Return the numbers of prepared pictures, each float64 (n,), by the names of their columns.

    They are of the grey picture: its mean, its standard deviation, and the variance of its
    Laplacian as the measure of sharpness (Pech-Pacheco et al. 2000).

    Args:
      images: uint8 RGB (n, size, size, 3).
    """
    found = np.empty((len(images), 3))
    for row, image in zip(found, images, strict=True):
        grey = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
        mean, deviation = cv2.meanStdDev(grey)
        edges = cv2.meanStdDev(cv2.Laplacian(grey, cv2.CV_16S))[1]
        row[:] = mean[0, 0], deviation[0, 0], edges[0, 0] ** 2
    return dict(zip((BRIGHTNESS, CONTRAST, SHARPNESS), found.T, strict=True))
