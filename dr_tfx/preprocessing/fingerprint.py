"""The fingerprint of a photograph: a small grey picture of its lit field.

A photograph that is resized, compressed anew, or cropped along its dark border keeps it; see
`dr_tfx.dataset.copies`, which compares fingerprints.
"""

import cv2
import numpy as np

from dr_tfx.preprocessing import geometry

SIDE = 32
BYTES = SIDE * SIDE
AT_LEAST = 160  # Pixels of the shorter side, below which a photograph is better not decoded.
_LOOKED_AT = 256  # Pixels along the longer side at least, if there are as many, and below twice.
_SAMPLED = 4 * _LOOKED_AT  # Of a larger photograph, only every second pixel or fewer are read.


def of(bgr: np.ndarray) -> bytes:
    """Return the fingerprint of a decoded photograph.

    The photograph is reduced, the box of the lit field cut out, and that stretched to a square.

    Args:
      bgr: uint8 (height, width, 3), of any size.

    Returns:
      BYTES grey levels, (SIDE, SIDE) in C order.
    """
    bgr = _reduced(bgr)
    left, top, right, bottom = geometry.retina_box(bgr)
    grey = cv2.cvtColor(bgr, cv2.COLOR_BGR2GRAY)[top:bottom, left:right]
    shrinks = min(grey.shape) >= SIDE
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(grey, (SIDE, SIDE), interpolation=how).tobytes()


def _reduced(bgr: np.ndarray) -> np.ndarray:
    """Return a photograph in a size in which its fingerprint can be seen."""
    height, width = bgr.shape[:2]
    step = max(height, width) // _SAMPLED
    if step > 1:
        size = max(1, width // step), max(1, height // step)
        bgr = cv2.resize(bgr, size, interpolation=cv2.INTER_NEAREST)
    while max(bgr.shape[:2]) >= 2 * _LOOKED_AT and min(bgr.shape[:2]) > 1:
        height, width = bgr.shape[0] // 2, bgr.shape[1] // 2  # OpenCV is fast at exact halves.
        bgr = cv2.resize(
            bgr[: 2 * height, : 2 * width], (width, height), interpolation=cv2.INTER_AREA
        )
    return bgr
