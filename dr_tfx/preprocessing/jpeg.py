"""JPEG pixels, and the damage that libjpeg notices.

libjpeg goes on where the data are damaged: it fills what is missing and gives a warning, which
OpenCV prints and Pillow drops. simplejpeg, which is libjpeg-turbo too and gives the same pixels,
raises it. Only the first warning of a file is known.
"""

import re

import numpy as np
import simplejpeg

from dr_tfx.preprocessing import jpeg_scan

# Each scan of a progressive file is a pass over all pixels. Photographs have some ten of them; a
# file of a few hundred kB may have thousands, which would take minutes.
MAX_PASSED = 3_000_000_000  # Pixels in all passes: about ten seconds.

_STRAY = re.compile(r"extraneous bytes before marker 0xd9")
_DAMAGE = re.compile(
    r"no photograph has|Corrupt JPEG data|Premature end|two SOI markers|Inconsistent progression"
)
# Words in the header that are wrong in files of some cameras, and decide nothing.
_HARMLESS = re.compile(r"Invalid SOS parameters|JFIF revision|Unknown Adobe color transform")


def decode(data: bytes, *, width: int, height: int, fraction: int = 1) -> np.ndarray:
    """Return the pixels of a whole file, uint8 BGR (height, width, 3), as `cv2.imdecode` does.

    An EXIF orientation is not applied.

    Args:
      data: the file's bytes.
      width: of the stored pixels, as the header says.
      height: likewise.
      fraction: 1, 2, 4 or 8. The sides become this part of their length, rounded up, by a scaled
        inverse DCT, which saves most of the time.

    Raises:
      ValueError: the file is damaged; the message is libjpeg's error or its first warning. Or it
        would take minutes.
    """
    scans = jpeg_scan.count_scans(data)
    if scans * width * height > MAX_PASSED:
        raise ValueError(f"{scans} scans of {width}x{height} pixels, which no photograph has")
    pixels = np.empty((-(-height // fraction), -(-width // fraction), 3), np.uint8)

    def decode_into(*, strict: bool) -> None:
        simplejpeg.decode_jpeg(
            data,
            "BGR",
            min_height=pixels.shape[0],
            min_width=pixels.shape[1],
            buffer=pixels,
            strict=strict,
        )

    try:
        decode_into(strict=True)
    except ValueError as error:
        if not _is_harmless(str(error), data):
            raise
        decode_into(strict=False)
    return pixels


def check(data: bytes, *, width: int, height: int) -> None:
    """Refuse damage in a JPEG stream of whatever kind, which something else decodes.

    Raises:
      ValueError: the stream is damaged. A kind of JPEG that is not known here is no damage.
    """
    try:
        decode(data, width=width, height=height)
    except ValueError as error:
        if _DAMAGE.search(str(error)):
            raise


def _is_harmless(warning: str, data: bytes) -> bool:
    """Return whether every pixel was decoded as it was meant in spite of a warning."""
    if _STRAY.search(warning):
        return jpeg_scan.ends_with_stray_bytes(data)
    return bool(_HARMLESS.search(warning))
