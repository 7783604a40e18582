"""The photometry of a recipe: which values of a photograph are seen, and with which contrast.

Photometry changes values and never their places, so that masks and heat maps have no part in it.
"""

import dataclasses
from collections.abc import Callable

import cv2
import numpy as np

from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding, dicom

_STRIP_BYTES = 1 << 18  # A strip of BGR of this size and its LAB copy stay in a core's cache.

Reads = tuple[np.ndarray, np.ndarray] | None  # What `geometry.Geometry.reads` returns.


def _as_it_is(bgr: np.ndarray, recipe: specs.Recipe, reads: Reads) -> np.ndarray:
    """Return the photograph unchanged."""
    del recipe, reads
    return bgr


@dataclasses.dataclass(frozen=True)
class Photometry:
    """One way from what a file holds to the values that a model sees.

    Attributes:
      window: returns what `decoding.decode` returned as uint8 BGR (height, width, 3), pixel by
        pixel and before the geometry is found; takes the recipe's settings too. Raises
        RejectedImage where the file does not hold what the recipe needs.
      enhance: returns the cropped photograph, uint8 BGR, which it may overwrite, with another
        contrast; takes the recipe's settings and the rows and columns that have to be right.
    """

    window: Callable[[np.ndarray | dicom.Scan, specs.Recipe], np.ndarray]
    enhance: Callable[[np.ndarray, specs.Recipe, Reads], np.ndarray] = _as_it_is


def displayed(decoded: np.ndarray | dicom.Scan, recipe: specs.Recipe) -> np.ndarray:
    """Return what a viewer shows: `decoding.displayed`."""
    del recipe
    return decoding.displayed(decoded)


def windows(decoded: np.ndarray | dicom.Scan, recipe: specs.Recipe) -> np.ndarray:
    """Return Hounsfield units through the windows of the recipe, whatever window the file names.

    One window becomes grey, three become red, green and blue. What lies below a window is 0, what
    lies above it 255, with the linear function of PS3.3 C.11.2.1.2.1 in between. MONOCHROME1
    inverts a display and not Hounsfield units: a larger value is always brighter.

    Raises:
      RejectedImage: `no_hounsfield_units`; the file holds anything else.
    """
    if not isinstance(decoded, dicom.Scan) or decoded.unit != "HU":
        unit = decoded.unit if isinstance(decoded, dicom.Scan) else "a photograph"
        raise decoding.RejectedImage(
            "no_hounsfield_units",
            f"the recipe shows Hounsfield units; the file holds {unit or 'values of no unit'}",
        )
    channels = [_linear(decoded.values, *each) for each in recipe.windows]
    return cv2.merge(channels[::-1] if len(channels) == 3 else channels * 3)


def windows_or_picture(decoded: np.ndarray | dicom.Scan, recipe: specs.Recipe) -> np.ndarray:
    """Return `windows` of a CT, and the greys of a picture of one.

    A picture has lost the Hounsfield units, and nobody knows through which window it was saved:
    its grey stands for each of the windows, the same in all three channels. That is an
    approximation. A DICOM file of 8 bits that has no units, as a secondary capture, is a picture.

    Raises:
      RejectedImage: `no_hounsfield_units`; a DICOM file of more bits, such as an MR.
    """
    if isinstance(decoded, dicom.Scan) and (decoded.unit == "HU" or not decoded.is_byte):
        return windows(decoded, recipe)
    return cv2.cvtColor(
        cv2.cvtColor(decoding.displayed(decoded), cv2.COLOR_BGR2GRAY), cv2.COLOR_GRAY2BGR
    )


def _linear(values: np.ndarray, center: float, width: float) -> np.ndarray:
    share = (values - (center - 0.5)) / (width - 1) + 0.5
    return np.clip(share * 255, 0, 255).round().astype(np.uint8)


def clahe(bgr: np.ndarray, recipe: specs.Recipe, reads: Reads = None) -> np.ndarray:
    """Return a uint8 BGR image with CLAHE on its lightness (Zuiderveld 1994), its colours kept.

    The colours are those of 8-bit LAB. CLAHE needs the lightness of every pixel, but where only
    some rows and columns are read afterwards, only their colours are converted back: the others
    are left as they were. The image is overwritten there.
    """
    equalise = cv2.createCLAHE(clipLimit=recipe.clip_limit, tileGridSize=(recipe.tiles,) * 2)
    if reads is None:
        lab = cv2.cvtColor(bgr, cv2.COLOR_BGR2LAB)
        lab[..., 0] = equalise.apply(np.ascontiguousarray(lab[..., 0]))
        return cv2.cvtColor(lab, cv2.COLOR_LAB2BGR)
    lightness = _lightness(bgr)
    lightness = equalise.apply(lightness, lightness)
    read = np.ix_(*reads)
    pixels = bgr.view("V3")[..., 0]  # NumPy gathers whole pixels faster than their channels.
    enhanced = lightness[read]
    samples = pixels[read].view(np.uint8).reshape(*enhanced.shape, 3)
    lab = cv2.cvtColor(samples, cv2.COLOR_BGR2LAB)
    lab[..., 0] = enhanced
    pixels[read] = cv2.cvtColor(lab, cv2.COLOR_LAB2BGR).view("V3")[..., 0]
    return bgr


def _lightness(bgr: np.ndarray) -> np.ndarray:
    """Return L of 8-bit LAB, uint8 (height, width), made in strips of rows without a whole copy."""
    height, width = bgr.shape[:2]
    lightness = np.empty((height, width), np.uint8)
    rows = max(1, _STRIP_BYTES // (3 * width))
    for top in range(0, height, rows):
        lab = cv2.cvtColor(bgr[top : top + rows], cv2.COLOR_BGR2LAB)
        cv2.extractChannel(lab, 0, lightness[top : top + rows])
    return lightness


PLAIN = Photometry(window=displayed)
CLAHE = Photometry(window=displayed, enhance=clahe)
CT = Photometry(window=windows)
CT_OR_PICTURE = Photometry(window=windows_or_picture)
