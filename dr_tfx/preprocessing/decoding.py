"""The content of an image file: its size, its pixels, and whether it can be used at all.

Photographs (JPEG, PNG, TIFF, BMP, WebP, GIF, JPEG 2000, HEIC) become BGR arrays (height, width, 3),
in OpenCV's order of the channels, which all of this package uses until a recipe is finished. A grey
DICOM frame becomes a `dicom.Scan` of the values that the file holds, such as Hounsfield units;
nothing here chooses how they are displayed.

The size, the number of pages and the completeness of a file are checked before a decoder sees it,
so that a malicious file is refused instead of filling the memory. Damage that a decoder notices is
refused too, where many decoders go on with half of a picture.
"""

import contextlib
import warnings
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image

from dr_tfx.preprocessing import dicom, formats

EXTENSIONS = (
    *(".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2", ".heic"),
    ".dcm",
)
MAX_PIXELS = 150_000_000  # The header of a decompression bomb shows more, before any decoding.
# A file is read as a whole. One that is larger than the most pixels in uncompressed RGBA is no
# photograph, but a bomb in an archive or a film under the name of a photograph.
MAX_BYTES = 4 * MAX_PIXELS


class RejectedImage(ValueError):
    """A file that gives no example.

    Attributes:
      reason: a short key, by which such files are counted.
      detail: what a person should know.
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail

    def alone(self) -> "RejectedImage":
        """Return the same without its traceback, whose frames hold the bytes of the file."""
        return RejectedImage(self.reason, self.detail)


class UnknownFormat(RejectedImage):
    """A file that is no image, or one of a format that is not supported."""


def image_size(data: bytes) -> tuple[int, int]:
    """Return width and height from a file's header, without decoding.

    The size is that of the stored pixels, before any EXIF orientation.

    Raises:
      RejectedImage: `unreadable` if the format is not known; `too_large` if the file has more than
        MAX_PIXELS, where all frames of a DICOM file count together, or one of them 128 MiB.
    """
    if dicom.is_dicom(data):
        with _damage_is_rejected("DICOM"):
            width, height, decoded = dicom.measure(data)
        _check_size(width, height, decoded)
        return width, height
    return _header(data).size


def decode(data: bytes, *, at_least: int | None = None) -> np.ndarray | dicom.Scan:
    """Return what a file of any supported format holds.

    Args:
      data: the file's bytes. An EXIF orientation is applied; of several pages or frames the first
        is decoded.
      at_least: the pixels that the shorter side has to keep when a JPEG file is decoded at 1/2, 1/4
        or 1/8 of its size (scaled inverse DCT), which saves most of the time that a photograph
        takes. None: the full size. Other formats, in which nothing is saved, are never reduced.

    Returns:
      A photograph, or the colours of a DICOM file, as BGR (height, width, 3): uint8, with the very
      pixels of `cv2.imread` where OpenCV knows the format; uint16 where the file has 16 bits a
      sample and its largest value is below `formats.MAX_DIM`. A grey DICOM frame as a `dicom.Scan`.

    Raises:
      RejectedImage: `unreadable` (files included in which a decoder notices damage, with its words
        as the detail) or `too_large`.
    """
    if dicom.is_dicom(data):
        image_size(data)
        with _damage_is_rejected("DICOM"):
            return dicom.decode(data)
    header = _header(data)
    with _damage_is_rejected(header.format or ""):
        return formats.decode(header, data, at_least=at_least)


def displayed(decoded: np.ndarray | dicom.Scan) -> np.ndarray:
    """Return uint8 BGR (height, width, 3) of what `decode` returned, as a viewer shows it.

    A photograph of 8 bits is returned as it is, a DICOM frame through the window that its file
    names. Where nothing says what is black and what is white (`is_spread`), the lowest value
    becomes 0 and the highest one 255, of all channels together.

    Raises:
      RejectedImage: `unreadable`; what the file says about its window is damaged.
    """
    if isinstance(decoded, np.ndarray):
        if decoded.dtype == np.uint8:
            return decoded
        low, high = int(decoded.min()), int(decoded.max())
        return dicom.scaled(np.arange(high + 1), low, high)[decoded]
    with _damage_is_rejected("DICOM"):
        return cv2.cvtColor(decoded.as_displayed(), cv2.COLOR_GRAY2BGR)


def is_spread(decoded: np.ndarray | dicom.Scan) -> bool:
    """Return whether `displayed` spreads over all greys what `decode` returned.

    So it does with 16 bits a sample of which at most 14 are used, and with a DICOM frame of more
    than 8 bits whose file names no window.
    """
    if isinstance(decoded, np.ndarray):
        return decoded.dtype != np.uint8
    return decoded.is_spread


def _header(data: bytes) -> Image.Image:
    """Return the header of a file that is no DICOM file, with its size checked.

    Raises:
      RejectedImage: as `image_size`.
    """
    if not data:
        raise RejectedImage("unreadable", "the file is empty")
    try:
        header = formats.read_header(data)
        held = formats.pixels_held(header, data)
    except Image.DecompressionBombError as error:
        raise RejectedImage("too_large", str(error)) from error
    except formats.MissingLibrary as error:
        raise RejectedImage("unreadable", str(error)) from error
    except Exception as error:  # Damaged headers make Pillow raise nearly anything.
        if kind := formats.begins_as(data):
            why = f"{kind}: the file is cut short, or its header is damaged"
            raise RejectedImage("unreadable", why) from error
        raise UnknownFormat("unreadable", "not an image of a known format") from error
    _check_size(*header.size, held)
    return header


def _check_size(width: int, height: int, held: int) -> None:
    if held > MAX_PIXELS:
        raise RejectedImage("too_large", f"{width}x{height}: {held} pixels; at most {MAX_PIXELS}")


@contextlib.contextmanager
def _damage_is_rejected(format_name: str) -> Iterator[None]:
    """Turn whatever decoders raise, which is nearly anything, into one error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except dicom.MissingReader as error:
        raise RejectedImage("unreadable", str(error)) from error
    except dicom.FrameTooLarge as error:
        raise RejectedImage("too_large", str(error)) from error
    except Exception as error:
        kind = "" if type(error) in (ValueError, OSError) else f"{type(error).__name__}: "
        words = " ".join(f"{format_name}: {kind}{error}".split())[:200]
        raise RejectedImage("unreadable", words) from error
