"""Outlines of masks on pictures, a colour a kind."""

from collections.abc import Iterator, Sequence

import cv2
import numpy as np

COLOURS = (  # RGB; they differ for the colour-blind, too (Okabe and Ito 2008).
    (230, 159, 0),
    (86, 180, 233),
    (0, 158, 115),
    (240, 228, 66),
    (213, 94, 0),
    (204, 121, 167),
)
_COLOUR, _LIGHT = 0.3, 0.8  # What is left of the colour and of the light of a picture below them.
NAMES = ("orange", "sky blue", "green", "yellow", "red", "pink")  # Of COLOURS.


def draw(rgb: np.ndarray, masks: Sequence[np.ndarray], *, side: int) -> np.ndarray:
    """Return a picture with the outlines of masks, one pixel wide, around what they cover.

    The picture is paler than it was and a little darker, so that the outlines stand out.

    Args:
      rgb: uint8 (height, width, 3).
      masks: bool (height, width), in the order of COLOURS, which begin anew after the last.
      side: the shorter side of the result; outlines are drawn on the picture at that size.

    Returns:
      uint8 RGB, of the same shape as the picture.
    """
    scale = side / min(rgb.shape[:2])
    size = (round(rgb.shape[1] * scale), round(rgb.shape[0] * scale))
    how = cv2.INTER_AREA if scale < 1 else cv2.INTER_CUBIC
    drawn = cv2.resize(rgb, size, interpolation=how)
    grey = cv2.cvtColor(cv2.cvtColor(drawn, cv2.COLOR_RGB2GRAY), cv2.COLOR_GRAY2RGB)
    drawn = cv2.addWeighted(drawn, _COLOUR * _LIGHT, grey, (1 - _COLOUR) * _LIGHT, 0)
    for colour, found in _contours(masks, size):
        cv2.drawContours(drawn, found, -1, colour, 1)
    return drawn


def layer(masks: Sequence[np.ndarray], *, side: int) -> np.ndarray:
    """Return outlines alone, to be laid over a picture: uint8 BGRA (side, side, 4).

    Args:
      masks: as `draw` takes them, square.
      side: height and width of the result.
    """
    drawn = np.zeros((side, side, 4), np.uint8)
    for (red, green, blue), found in _contours(masks, (side, side)):
        cv2.drawContours(drawn, found, -1, (blue, green, red, 255), 1)
    return drawn


def _contours(
    masks: Sequence[np.ndarray], size: tuple[int, int]
) -> Iterator[tuple[tuple[int, int, int], Sequence[np.ndarray]]]:
    """Yield the colour of each mask, RGB, and the contours around it at a width and height."""
    for i, mask in enumerate(masks):
        cover = cv2.resize(mask.astype(np.float32), size, interpolation=cv2.INTER_AREA)
        found, _ = cv2.findContours(
            (cover > 0).astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE
        )
        yield COLOURS[i % len(COLOURS)], found


def legend(kinds: Sequence[str], *, shown: Sequence[str] | None = None) -> str:
    """Return kinds with the names of their colours, as in `MA orange, HE sky blue`.

    Args:
      kinds: in the order of COLOURS.
      shown: those to name; None for all of them.
    """
    names = ((kind, NAMES[i % len(NAMES)]) for i, kind in enumerate(kinds))
    return ", ".join(f"{kind} {colour}" for kind, colour in names if shown is None or kind in shown)
