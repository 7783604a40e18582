"""The place of the head on a slice of a CT, or on a picture of one as people have it.

The head is the largest thing that is not black. A screenshot's bright or grey frame is no part of
the picture, and rulers, letters and the edge of the table are smaller than a head.
"""

import cv2
import numpy as np

from dr_tfx.preprocessing import quality

LIT = 40  # Grey levels, of 255: brain is 90 to 140 through its own window, and fluid is about 30.
_SAME = 12  # Grey levels within which a frame is of one colour, JPEG artefacts included.
_FRAME = 0.9  # Of the picture's edge that has the colour of a frame.
_FRAMES = 3  # Frames around frames that are looked for.
_LEAST = 0.05  # Of the picture that a head takes; nothing smaller is cut out.


def find(grey: np.ndarray) -> tuple[int, int, int, int]:
    """Return left, top, right and bottom of the head, in pixels.

    Rows and columns of which the head covers less than 2 % are left out.

    Args:
      grey: uint8 (height, width): the brain's window, or a picture.

    Returns:
      All of the picture, but for its frame, where nothing in it is as large as a head.
    """
    frame = x, y, end_x, end_y = _within_frames(grey)
    inner = grey[y:end_y, x:end_x]
    count, places, figures, _ = cv2.connectedComponentsWithStats((inner > LIT).astype(np.uint8))
    if count < 2:
        return frame
    largest = 1 + int(figures[1:, cv2.CC_STAT_AREA].argmax())
    left, top, right, bottom = quality.lit_box(places == largest)
    if (right - left) * (bottom - top) < _LEAST * inner.size:
        return frame
    return x + left, y + top, x + right, y + bottom


def _within_frames(grey: np.ndarray) -> tuple[int, int, int, int]:
    """Return the picture without frames of one colour that is not black."""
    left, top, (bottom, right) = 0, 0, grey.shape
    for _ in range(_FRAMES):
        part = grey[top:bottom, left:right].astype(np.int16)
        edge = np.concatenate([part[0], part[-1], part[:, 0], part[:, -1]])
        colour = np.median(edge)
        is_frame = np.abs(edge - colour) <= _SAME
        if colour <= LIT or is_frame.mean() < _FRAME:
            break
        box = quality.lit_box(np.abs(part - colour) > _SAME)
        if box[0] == box[2]:
            break
        left, top, right, bottom = left + box[0], top + box[1], left + box[2], top + box[3]
    return left, top, right, bottom
