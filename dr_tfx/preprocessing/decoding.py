"""The content of an image file: its size, its pixels, and whether it can be used at all.

Photographs (JPEG, PNG, TIFF, BMP) become uint8 BGR arrays (height, width, 3), in OpenCV's order of
the channels, which all of this package uses until a recipe is finished. A grey DICOM frame becomes
a `dicom.Scan` of the values that the file holds, such as Hounsfield units; nothing here chooses how
they are displayed.

The size, the number of pages and the completeness of a file are checked before a decoder sees it,
so that a damaged or malicious file is refused instead of filling the memory.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator

import cv2
import numpy as np
from PIL import Image

from dr_tfx.preprocessing import dicom

EXTENSIONS = (".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp", ".dcm")
MAX_PIXELS = 150_000_000  # The header of a decompression bomb shows more, before any decoding.
# A file is read as a whole. One that is larger than the most pixels in uncompressed RGBA is no
# photograph, but a bomb in an archive or a film under the name of a photograph.
MAX_BYTES = 4 * MAX_PIXELS

# OpenCV chooses its decoder by the same first bytes as Pillow, so that the format whose header was
# measured is the format that is decoded. Other formats would be measured by rules nobody checked.
_FORMATS = ("JPEG", "PNG", "TIFF", "BMP")
_REDUCED = {
    1: cv2.IMREAD_COLOR,
    2: cv2.IMREAD_REDUCED_COLOR_2,
    4: cv2.IMREAD_REDUCED_COLOR_4,
    8: cv2.IMREAD_REDUCED_COLOR_8,
}
_TILE_SIZE = (322, 323)  # The tags of a TIFF file's tile, which a decoder holds as a whole.

# RejectedImage says what OpenCV would print about a damaged file. OpenCV 5 has moved the function.
_SILENT = 0
(cv2.setLogLevel if hasattr(cv2, "setLogLevel") else cv2.utils.logging.setLogLevel)(_SILENT)


class RejectedImage(ValueError):
    """A file that gives no example.

    Attributes:
      reason: a short key, by which such files are counted.
      detail: what a person should know.
    """

    def __init__(self, reason: str, detail: str):
        super().__init__(f"{reason}: {detail}")
        self.reason, self.detail = reason, detail


def image_size(data: bytes) -> tuple[int, int]:
    """Return width and height from a file's header, without decoding.

    The size is that of the stored pixels, before any EXIF orientation.

    Raises:
      RejectedImage: `unreadable` if the format is not known; `too_large` if the file has more than
        MAX_PIXELS, where all frames of a DICOM file count together.
    """
    if not data:
        raise RejectedImage("unreadable", "the file is empty")
    if dicom.is_dicom(data):
        with _damaged_dicom_is_rejected():
            width, height, decoded = dicom.measure(data)
    else:
        width, height, decoded = _measure(data)
    if decoded > MAX_PIXELS:
        raise RejectedImage(
            "too_large", f"{width}x{height}: {decoded} pixels; at most {MAX_PIXELS}"
        )
    return width, height


def decode(data: bytes, *, at_least: int | None = None) -> np.ndarray | dicom.Scan:
    """Return what a file of any supported format holds.

    Args:
      data: the file's bytes. An EXIF orientation is applied; of several pages or frames the first
        is decoded.
      at_least: the pixels that the shorter side has to keep when a photograph is decoded at 1/2,
        1/4 or 1/8 of its size. JPEG is decoded directly at this fraction (scaled inverse DCT),
        which saves most of the time that a photograph takes. None: the full size. DICOM is never
        reduced.

    Returns:
      A photograph, or the colours of a DICOM file, as uint8 BGR (height, width, 3), with the very
      pixels of `cv2.imread`; a grey DICOM frame as a `dicom.Scan`.

    Raises:
      RejectedImage: `unreadable` (damaged files included) or `too_large`.
    """
    shorter = min(image_size(data))
    if dicom.is_dicom(data):
        with _damaged_dicom_is_rejected():
            return dicom.decode(data)
    if data.startswith(b"\xff\xd8") and not _jpeg_ends(data):
        raise RejectedImage("unreadable", "truncated: the JPEG file has no end-of-image marker")
    if data.startswith(b"\x89PNG") and not _png_ends(data):
        raise RejectedImage("unreadable", "truncated: the PNG file has no whole IEND chunk")
    fits = [] if at_least is None else [f for f in _REDUCED if shorter // f >= at_least]
    try:
        image = cv2.imdecode(np.frombuffer(data, np.uint8), _REDUCED[max(fits, default=1)])
    except cv2.error as error:
        raise RejectedImage("unreadable", f"OpenCV: {error.err}") from error
    if image is None:
        raise RejectedImage("unreadable", "damaged or truncated image data")
    return image


def displayed(decoded: np.ndarray | dicom.Scan) -> np.ndarray:
    """Return uint8 BGR (height, width, 3) of what `decode` returned, as a viewer shows it.

    A photograph is returned as it is, a DICOM frame through the window that its file names.

    Raises:
      RejectedImage: `unreadable`; what the file says about its window is damaged.
    """
    if isinstance(decoded, np.ndarray):
        return decoded
    with _damaged_dicom_is_rejected():
        return cv2.cvtColor(decoded.as_displayed(), cv2.COLOR_GRAY2BGR)


@contextlib.contextmanager
def _damaged_dicom_is_rejected() -> Iterator[None]:
    """Turn whatever pydicom and its decoders raise, which is nearly anything, into one error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    except dicom.MissingReader as error:
        raise RejectedImage("unreadable", str(error)) from error
    except Exception as error:
        short = " ".join(f"{type(error).__name__}: {error}".split())[:200]
        raise RejectedImage("unreadable", f"DICOM: {short}") from error


def _measure(data: bytes) -> tuple[int, int, int]:
    """Return width, height and the number of pixels that a decoder has to hold at once."""
    try:
        with warnings.catch_warnings():
            # Pillow warns of damaged EXIF and the like, of which `decode` is the judge.
            warnings.simplefilter("ignore")
            header = Image.open(io.BytesIO(data), formats=_FORMATS)
            tile = [int(getattr(header, "tag_v2", {}).get(tag, 0)) for tag in _TILE_SIZE]
    except Image.DecompressionBombError as error:
        raise RejectedImage("too_large", str(error)) from error
    except Exception as error:  # Damaged headers make Pillow raise nearly anything.
        raise RejectedImage("unreadable", "not an image of a known format") from error
    return *header.size, max(header.width * header.height, tile[0] * tile[1])


def _jpeg_ends(data: bytes) -> bool:
    """Return whether an end-of-image marker follows the header of the first scan.

    A file without one is truncated, and libjpeg would fill what is missing with grey. The segments
    before the scan are skipped by their lengths: a thumbnail in them has such a marker of its own.
    """
    at = 2
    while 0 <= at < len(data) - 3:
        marker = data[at + 1]
        if data[at] != 0xFF or marker in (0x00, 0xFF):  # Fill bytes, or garbage between segments.
            at = data.find(b"\xff", at + 1)
        elif marker == 0xDA:
            return data.find(b"\xff\xd9", at) >= 0
        elif marker == 0x01 or 0xD0 <= marker <= 0xD8:  # These markers have no length.
            at += 2
        else:
            at += 2 + int.from_bytes(data[at + 2 : at + 4], "big")
    return False


def _png_ends(data: bytes) -> bool:
    """Return whether all chunks up to IEND are there.

    OpenCV would allocate whatever length a chunk claims, gigabytes included.
    """
    at = 8
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")  # Length, name, content, CRC.
        if end > len(data) or data[at + 4 : at + 8] == b"IEND":
            return end <= len(data)
        at = end
    return False
