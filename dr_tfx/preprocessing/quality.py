"""The gate of the fundus recipes: photographs that are too dark, blown out, or of no retina.

It finds files that tell a model nothing and does not grade quality: a blurred or hazy retina
passes. The thresholds lie in wide gaps. On the 413 photographs of IDRiD's grading set, on its
untouched originals and on synthetic photographs of all grades, the figures are

    figure      real and synthetic   damaged or something else
    brightness  106 to 255           10 at a sixteenth of the exposure, 34 at a fifth
    blown       0 to .03             .6 under a flash, .7 at six times the exposure, 1 if white
    box, fill   above .61, .78       below .03 under a lens cap; .05 for bright text on black
    corners     1                    0 for landscapes, documents, noise, plain grey
    warm        above .84            below .17 for the same
"""

from typing import NamedTuple

import cv2
import numpy as np

MIN_BRIGHTNESS = 20.0
SATURATED, MAX_BLOWN = 240, 0.5
MIN_BOX, MIN_FILL = 0.1, 0.5
MIN_CORNERS, MIN_WARM = 0.5, 0.5
_ROUND = 0.75  # Of the corners of a field's box that are dark, from which on the field is round.
WARMTH = 20  # Grey levels by which red leads blue, lest tinted grey be taken for a retina.
_SIDE = 256  # At most so many pixels along the longer side are looked at: enough for shares.


class Assessment(NamedTuple):
    """The verdict on a photograph and the figures it rests on.

    Attributes:
      ungradable: "", "black", "blown_out" or "no_retina".
      brightness: the 95th percentile of the brightest channel, 0 to 255.
      blown: the share of the lit field in which green is saturated. Red often is saturated on a
        good photograph.
      box: the share of the photograph that the box around the lit field takes.
      fill: the share of this box that is lit. A disc fills .79 of its box.
      corners: the share of the photograph's four corners that is dark.
      warm: the share of the lit field with red >= green >= blue, the colours that blood and pigment
        give to a retina.
    """

    ungradable: str
    brightness: float
    blown: float = 0.0
    box: float = 0.0
    fill: float = 0.0
    corners: float = 0.0
    warm: float = 0.0

    def __str__(self) -> str:
        return (
            f"brightness {self.brightness:.0f}, blown out {self.blown:.0%}, box {self.box:.0%}, "
            f"lit {self.fill:.0%} of it, dark corners {self.corners:.0%}, warm {self.warm:.0%}"
        )


def assess(bgr: np.ndarray) -> Assessment:
    """Judge a decoded photograph, uint8 BGR (height, width, 3), of any size.

    A photograph is `black` if its bright end is below MIN_BRIGHTNESS; `blown_out` if more than
    MAX_BLOWN of the lit field is saturated; `no_retina` if the lit field is small or no filled
    shape, or if it has neither a dark surround nor the colours of a retina. One of these two is
    enough: a retina may fill the frame, and red-free photographs and angiograms have no colours.
    """
    step = -(-max(bgr.shape[:2]) // _SIDE)
    small = np.ascontiguousarray(bgr[::step, ::step])
    brightness, lit = lit_field(small)
    if brightness < MIN_BRIGHTNESS:
        return Assessment("black", brightness)
    left, top, right, bottom = lit_box(lit)
    if left == right or top == bottom:
        return Assessment("no_retina", brightness)
    blue, green, red = small[lit].astype(np.int16).T
    found = Assessment(
        "",
        brightness,
        blown=float((green >= SATURATED).mean()),
        box=(right - left) * (bottom - top) / lit.size,
        fill=float(lit[top:bottom, left:right].mean()),
        corners=_dark_corners(lit),
        warm=float(((red >= green) & (green >= blue) & (red - blue > WARMTH)).mean()),
    )
    if found.blown > MAX_BLOWN:
        return found._replace(ungradable="blown_out")
    is_field = found.box >= MIN_BOX and found.fill >= MIN_FILL
    if not is_field or (found.corners < MIN_CORNERS and found.warm < MIN_WARM):
        return found._replace(ungradable="no_retina")
    return found


def lit_field(bgr: np.ndarray) -> tuple[float, np.ndarray]:
    """Return the bright end of a photograph, 0 to 255, and its lit pixels, bool (height, width).

    The bright end is the 95th percentile of the brightest channel; a pixel is lit if it is brighter
    than a tenth of it.
    """
    blue, green, red = cv2.split(bgr)
    brightest = cv2.max(cv2.max(blue, green), red)
    brightness = float(np.percentile(brightest, 95))
    return brightness, cv2.medianBlur(brightest, 5) > max(12.0, 0.1 * brightness)


def lit_box(lit: np.ndarray) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of a field, bool (height, width), or zeros if it is empty.

    Rows and columns of which less than 2 % is lit (dust, captions) are left out.
    """
    columns = np.flatnonzero(lit.mean(axis=0) > 0.02)
    rows = np.flatnonzero(lit.mean(axis=1) > 0.02)
    if not len(columns) or not len(rows):
        return 0, 0, 0, 0
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def is_round(field: np.ndarray) -> bool:
    """Tell whether the corners of a lit field's box, uint8 BGR, are dark, as a round field's are.

    A camera may cut the field off at the top and at the bottom, which leaves the corners dark; a
    square that was cut out of a photograph has two dark corners at most.
    """
    step = -(-max(field.shape[:2]) // _SIDE)
    small = np.ascontiguousarray(field[::step, ::step])
    return _dark_corners(lit_field(small)[1]) > _ROUND


def _dark_corners(lit: np.ndarray) -> float:
    """Return the mean share of the four corners that is not lit."""
    side = max(1, min(lit.shape) // 10)
    corners = (lit[rows, columns] for rows in _ends(side) for columns in _ends(side))
    return float(np.mean([1 - corner.mean() for corner in corners]))


def _ends(side: int) -> tuple[slice, slice]:
    return slice(None, side), slice(-side, None)
