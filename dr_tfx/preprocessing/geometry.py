"""The geometry of a recipe: which part of a photograph becomes the square that a model sees.

The same geometry holds for the photograph and for everything that lies on it. `Box` is what a
recipe keeps of it: a mask goes the same way as the photograph (`Box.to_square`), and a heat map or
a mask of the square finds its way back (`Box.to_photograph`).

Positions follow OpenCV's `resize`: pixels are areas whose centres are half a pixel from their
edges, so that nothing moves when the resolution changes.
"""

import dataclasses
from collections.abc import Callable
from typing import NamedTuple

import cv2
import numpy as np

from dr_tfx.preprocessing import decoding, head, optic_disc, quality

_DISC_SIDE = 0.34  # Of a square around the optic disc, in diameters of the field: two discs.


class Box(NamedTuple):
    """A rectangle of a photograph, in shares of its width and height, EXIF orientation applied.

    As shares it holds for the photograph, for its masks and for its heat maps, at any resolution.
    Ends below 0 or above 1 are padding.

    A JPEG file that is decoded at 1/2, 1/4 or 1/8 of its size, of which its sides are no multiples,
    has its last pixels stretched by less than one pixel of the decoded photograph. The box does not
    know this, and is wrong by as much there.
    """

    left: float = 0.0
    top: float = 0.0
    right: float = 1.0
    bottom: float = 1.0

    def to_square(self, mask: np.ndarray, size: int) -> np.ndarray:
        """Return a mask of the photograph as it lies on the recipe's square.

        Args:
          mask: bool, or float from 0 to 1, (height, width); of any resolution, which need not be
            that of the photograph.
          size: height and width of the square, in pixels.

        Returns:
          float32 (size, size): the share of each pixel that the mask covers, 0 in the padding, so
          that a lesion smaller than a pixel is not lost. A mask that has to grow keeps its values.
          What lies in the square beside the retina's box is black on the picture, but kept here.
        """
        height, width = mask.shape
        ends = np.multiply(self, (width, height, width, height))
        left, top, right, bottom = np.rint(ends).astype(int).tolist()
        kept = Rectangle(max(left, 0), max(top, 0), min(right, width), min(bottom, height))
        square = Crop(kept, Rectangle(left, top, right, bottom)).cut(mask.astype(np.float32))
        shrinks = min(square.shape) >= size
        # INTER_NEAREST, unlike this one, is half a pixel off.
        how = cv2.INTER_AREA if shrinks else cv2.INTER_NEAREST_EXACT
        return cv2.resize(square, (size, size), interpolation=how)

    def to_photograph(self, heatmap: np.ndarray, *, height: int, width: int) -> np.ndarray:
        """Return a heat map or a mask of the recipe's square at its place on the photograph.

        Bilinear, with the edges continued as `cv2.resize` does. Nothing larger than the photograph
        is made, however much of the square is padding.

        Args:
          heatmap: float32 (h, w), of any resolution.
          height: of the photograph, in pixels.
          width: of the photograph, in pixels.

        Returns:
          float32 (height, width), 0 outside of the box.
        """
        rows = _weights(heatmap.shape[0], self.top, self.bottom, height)
        columns = _weights(heatmap.shape[1], self.left, self.right, width)
        return np.asarray(rows @ heatmap.astype(np.float32) @ columns.T)

    def marked(self, mask: np.ndarray, *, height: int, width: int) -> np.ndarray:
        """Return what is marked on the recipe's square at its place on the photograph.

        A pixel of the photograph is marked if the pixel of the square is in which its centre lies,
        so that areas are kept, also those of marks of one pixel.

        Args:
          mask: bool (h, w), of any resolution.
          height: of the photograph, in pixels.
          width: of the photograph, in pixels.

        Returns:
          bool (height, width), False outside of the box.
        """
        rows, is_row = _cells(mask.shape[0], self.top, self.bottom, height)
        columns, is_column = _cells(mask.shape[1], self.left, self.right, width)
        return np.asarray(mask[np.ix_(rows, columns)] & np.logical_and.outer(is_row, is_column))


class Rectangle(NamedTuple):
    """A rectangle of an image in whole pixels, which may reach beyond the image's edges."""

    left: int
    top: int
    right: int
    bottom: int


class Crop(NamedTuple):
    """The part of a decoded photograph that a recipe keeps, and the rectangle around it."""

    kept: Rectangle  # Within the photograph.
    padded: Rectangle  # The same and more, which is black.

    def cut(self, image: np.ndarray) -> np.ndarray:
        """Return the padded rectangle of an image (height, width) or (height, width, channels).

        It is a view of the image where nothing is padded.
        """
        kept, padded = self
        part = image[kept.top : kept.bottom, kept.left : kept.right]
        if kept == padded:
            return part
        return cv2.copyMakeBorder(
            part,
            kept.top - padded.top,
            padded.bottom - kept.bottom,
            kept.left - padded.left,
            padded.right - kept.right,
            cv2.BORDER_CONSTANT,
        )

    def box(self, height: int, width: int) -> Box:
        """Return the padded rectangle in shares of the sides of the image."""
        left, top, right, bottom = self.padded
        return Box(left / width, top / height, right / width, bottom / height)


@dataclasses.dataclass(frozen=True)
class Geometry:
    """One way from a photograph to a square.

    Attributes:
      crop: returns which part of a photograph, uint8 BGR (height, width, 3), is shown.
      shrinking: OpenCV's interpolation where neither side of the rectangle has to grow.
      growing: OpenCV's interpolation otherwise.
    """

    crop: Callable[[np.ndarray], Crop]
    shrinking: int
    growing: int

    def resize(self, image: np.ndarray, size: int) -> np.ndarray:
        """Return what `Crop.cut` returned as (size, size, channels)."""
        shrinks = min(image.shape[:2]) >= size
        how = self.shrinking if shrinks else self.growing
        return cv2.resize(image, (size, size), interpolation=how)

    def reads(self, image: np.ndarray, size: int) -> tuple[np.ndarray, np.ndarray] | None:
        """Return the rows and the columns of an image that `resize` reads, if they are few.

        A bilinear resize reads four pixels for each that it makes: no other pixel has to be right.
        None means all of them.
        """
        if (self.shrinking, self.growing) != (cv2.INTER_LINEAR, cv2.INTER_LINEAR):
            return None
        height, width = image.shape[:2]
        return _bilinear_sources(height, size), _bilinear_sources(width, size)


def _whole(bgr: np.ndarray) -> Crop:
    """Keep all of the photograph, but not its aspect ratio."""
    whole = Rectangle(0, 0, bgr.shape[1], bgr.shape[0])
    return Crop(whole, whole)


def _whole_in_square(bgr: np.ndarray) -> Crop:
    """Keep all of the photograph and its aspect ratio."""
    return _in_square(_whole(bgr).kept)


def _retina_in_square(bgr: np.ndarray) -> Crop:
    """Keep the box of the retina, which stays round. What lies beside the box becomes black."""
    return _in_square(retina_box(bgr))


def _head_in_square(bgr: np.ndarray) -> Crop:
    """Keep the box of the head, which is looked for in red: the first window, or a picture."""
    return _in_square(Rectangle(*head.find(bgr[..., 2])))


def _disc_in_square(bgr: np.ndarray) -> Crop:
    """Keep a square around the optic disc, about two disc diameters wide.

    A picture without the dark surround of a whole field is taken for such a square already, and is
    kept whole.
    """
    field = retina_box(bgr)
    part = bgr[field.top : field.bottom, field.left : field.right]
    if not quality.is_round(part):
        return _in_square(field)
    x, y = optic_disc.find(part)
    side = max(1, round(_DISC_SIDE * max(part.shape[:2])))
    left, top = round(field.left + x - side / 2), round(field.top + y - side / 2)
    square = Rectangle(left, top, left + side, top + side)
    height, width = bgr.shape[:2]
    kept = Rectangle(
        max(left, 0), max(top, 0), min(square.right, width), min(square.bottom, height)
    )
    return Crop(kept, square)


def retina_box(bgr: np.ndarray) -> Rectangle:
    """Return the box of the lit field on its dark surround.

    The box is the whole photograph where the field is less than a tenth of it.
    """
    lit = quality.lit_field(bgr)[1]
    left, top, right, bottom = quality.lit_box(lit)
    if (right - left) * (bottom - top) < quality.MIN_BOX * lit.size:
        return _whole(bgr).kept
    return Rectangle(left, top, right, bottom)


def _in_square(kept: Rectangle) -> Crop:
    """Pad a rectangle on both sides to the smallest square that holds it.

    Raises:
      RejectedImage: `too_large`; the rectangle is so thin that the square has over MAX_PIXELS.
    """
    width, height = kept.right - kept.left, kept.bottom - kept.top
    side = max(width, height)
    if side * side > decoding.MAX_PIXELS:
        raise decoding.RejectedImage(
            "too_large", f"a square for {width}x{height}; at most {decoding.MAX_PIXELS} pixels"
        )
    left, top = kept.left - (side - width) // 2, kept.top - (side - height) // 2
    return Crop(kept, Rectangle(left, top, left + side, top + side))


def _weights(cells: int, start: float, end: float, pixels: int) -> np.ndarray:
    """Return what each cell between two shares of a side gives to each pixel of the side.

    float32 (pixels, cells), of which the rows are the weights of a linear interpolation.
    """
    share = (np.arange(pixels) + 0.5) / pixels
    position = np.clip((share - start) / (end - start) * cells - 0.5, 0, cells - 1)
    weights = np.maximum(0, 1 - np.abs(position[:, None] - np.arange(cells)))
    weights[(share < start) | (share > end)] = 0
    return weights.astype(np.float32)


def _cells(cells: int, start: float, end: float, pixels: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the cell between two shares of a side in which each pixel's centre lies, if any.

    int (pixels,), and bool (pixels,): whether there is one. A centre between two cells is in the
    second, whatever the rounding.
    """
    share = (np.arange(pixels) + 0.5) / pixels
    cell = np.floor((share - start) / (end - start) * cells + 1e-6).astype(int)
    return np.clip(cell, 0, cells - 1), (cell >= 0) & (cell < cells)


def _bilinear_sources(length: int, size: int) -> np.ndarray:
    """Return the indices that a bilinear resize of `length` pixels to `size` reads, and a few more.

    The resize reads two neighbours of the position in the source, which its single precision may
    put on either side of a whole number.
    """
    position = (np.arange(size) + 0.5) * (length / size) - 0.5
    first = np.floor(position[:, None] + [-0.01, 0.01]).astype(int)
    return np.unique(np.clip(np.concatenate([first, first + 1]), 0, length - 1))


# What the published recipe does.
STRETCHED = Geometry(_whole, shrinking=cv2.INTER_LINEAR, growing=cv2.INTER_LINEAR)
# Averaging over areas does not alias small lesions.
RETINA = Geometry(_retina_in_square, shrinking=cv2.INTER_AREA, growing=cv2.INTER_CUBIC)
WHOLE = Geometry(_whole_in_square, shrinking=cv2.INTER_AREA, growing=cv2.INTER_CUBIC)
DISC = Geometry(_disc_in_square, shrinking=cv2.INTER_AREA, growing=cv2.INTER_CUBIC)
HEAD = Geometry(_head_in_square, shrinking=cv2.INTER_AREA, growing=cv2.INTER_CUBIC)
