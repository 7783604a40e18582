"""The place of the optic disc on a photograph of the retina, found by image analysis.

The disc is the bright round spot of known size that large vessels cross from top to bottom. Both
are looked for at once, because each alone is misled: brightness by exudates and nerve fibres, the
vessels by the arcades. The centre lay on the disc in all of IDRiD's 54 photographs with a mask of
it, on which the two constants below were chosen, by a median of .07 disc radii from its centre.
"""

import cv2
import numpy as np

from dr_tfx.preprocessing import quality

_DIAMETER = 256  # Of the field, in pixels, as it is looked at.
_RADIUS = 0.14 * _DIAMETER / 2  # Of a disc on a photograph of 45 or 50 degrees.
_VESSELS = 0.6  # Weight of the vessels beside the brightness.
_AROUND = 32  # Standard deviation, in pixels, of the surroundings that brightness is compared with.
_CALIBRES = (5, 9)  # The widths of a large vessel lie below these, in pixels.

MASKS = ("OD", "OC")
"""What masks of the optic disc and of its cup are called."""
RATIO = "cup_to_disc"
"""The name of what `cup_to_disc` returns, in tables."""


def find(field: np.ndarray) -> tuple[float, float]:
    """Return the centre of the optic disc, (x, y) in pixels.

    Args:
      field: the lit field of a photograph without its dark surround, uint8 BGR (height, width, 3),
        of any size.

    Returns:
      The best place, also where there is no disc. The middle, if nothing is lit.
    """
    height, width = field.shape[:2]
    scale = _DIAMETER / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    small = cv2.resize(field, size, interpolation=cv2.INTER_AREA)
    lit = quality.lit_field(small)[1].astype(np.uint8)
    inside = _eroded(lit, cv2.MORPH_ELLIPSE, 9) > 0
    if not inside.any():
        return width / 2, height / 2
    likely = _standardised(_bright_spots(small, lit), inside)
    likely += _VESSELS * _standardised(_upright_vessels(small[..., 1], inside), inside)
    likely[~inside] = -np.inf
    row, column = np.unravel_index(likely.argmax(), likely.shape)
    return float((column + 0.5) * width / size[0]), float((row + 0.5) * height / size[1])


def cup_to_disc(disc: np.ndarray, cup: np.ndarray) -> float:
    """Return the vertical cup-to-disc ratio, the height of the cup over that of the disc.

    Args:
      disc: bool (height, width), where the disc is; with its cup or without it, as in a mask that
        has one number for the rim and another for the cup.
      cup: likewise, where the cup is.

    Returns:
      0 without a cup, and NaN without a disc.
    """
    if not disc.any():
        return float("nan")
    across = (np.flatnonzero(mask.any(axis=1)) for mask in (cup, disc | cup))
    cup_height, disc_height = (rows[-1] - rows[0] + 1 if len(rows) else 0 for rows in across)
    return float(cup_height / disc_height)


def _bright_spots(bgr: np.ndarray, lit: np.ndarray) -> np.ndarray:
    """Return by how much a disc around each pixel is brighter than a ring around this disc."""
    # Blue is left out, as the lens of the eye absorbs it.
    brightness = sum(_against_surroundings(bgr[..., channel], lit) for channel in (1, 2)) / 2
    brightness = np.clip(brightness, -2, 2.5)  # A reflex counts no more than a disc.
    reach = int(np.ceil(2.2 * _RADIUS))
    distance = np.hypot(*np.mgrid[-reach : reach + 1, -reach : reach + 1])
    disc = (distance <= _RADIUS).astype(np.float32)
    ring = ((distance > 1.25 * _RADIUS) & (distance <= 2 * _RADIUS)).astype(np.float32)
    return cv2.filter2D(brightness, -1, disc / disc.sum() - ring / ring.sum())


def _against_surroundings(channel: np.ndarray, lit: np.ndarray) -> np.ndarray:
    """Return a channel in standard deviations from the mean of what is lit around each pixel."""
    field = lit.astype(np.float32)
    values = cv2.GaussianBlur(channel, (0, 0), 1).astype(np.float32)
    share = cv2.GaussianBlur(field, (0, 0), _AROUND) + 1e-3
    mean = cv2.GaussianBlur(values * field, (0, 0), _AROUND) / share
    variance = cv2.GaussianBlur((values - mean) ** 2 * field, (0, 0), _AROUND) / share
    return (values - mean) / np.sqrt(variance + 9) * field  # Noise of three grey levels is none.


def _upright_vessels(green: np.ndarray, inside: np.ndarray) -> np.ndarray:
    """Return how densely an upright ellipse around each pixel is filled with upright vessels."""
    rows = [cv2.getStructuringElement(cv2.MORPH_RECT, (calibre, 1)) for calibre in _CALIBRES]
    dark = np.maximum(*[cv2.morphologyEx(green, cv2.MORPH_BLACKHAT, row) for row in rows])
    dark = dark * (_eroded(inside.astype(np.uint8), cv2.MORPH_RECT, 9) > 0)
    vessels = np.minimum(dark / (np.percentile(dark[inside], 98) + 1e-3), 1).astype(np.float32)
    y, x = np.mgrid[-30:31, -30:31]
    ellipse = (np.hypot(x / (0.9 * _RADIUS), y / (1.6 * _RADIUS)) <= 1).astype(np.float32)
    return cv2.filter2D(vessels, -1, ellipse / ellipse.sum())


def _standardised(values: np.ndarray, inside: np.ndarray) -> np.ndarray:
    of_field = values[inside]
    return (values - of_field.mean()) / (of_field.std() + 1e-6)


def _eroded(mask: np.ndarray, shape: int, side: int) -> np.ndarray:
    """Return a mask, uint8, without its rim and without what touches the edge of the image."""
    element = cv2.getStructuringElement(shape, (side, side))
    return cv2.erode(mask, element, borderType=cv2.BORDER_CONSTANT, borderValue=0)
