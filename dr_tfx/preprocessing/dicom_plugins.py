"""Decoders that pydicom lacks, in the form of its plugins (`pydicom.pixels.decoders`)."""

import contextlib
from typing import Any

import numpy as np

from dr_tfx.preprocessing import jpeg_lossless

NAME = "dr_tfx"


def add(syntax: Any, function: str) -> None:
    """Add a function of this module to pydicom's decoder of a transfer syntax, if it is not there.

    Args:
      syntax: the syntax, a pydicom UID.
      function: the name of the function.
    """
    from pydicom import pixels

    decoder = pixels.get_decoder(syntax)
    if NAME not in decoder.available_plugins:
        with contextlib.suppress(ValueError):  # Another thread was first.
            decoder.add_plugin(NAME, (__name__, function))


def is_available(_: str) -> bool:
    """Return whether a transfer syntax can be decoded, which pydicom asks."""
    return True


def decode_lossless(frame: bytes, runner: Any) -> bytes:
    """Return the samples of a JPEG Lossless frame as pydicom's runner expects them.

    Raises:
      ValueError: the frame is damaged or of a kind that is not supported.
    """
    samples = jpeg_lossless.decode(frame)
    if runner.pixel_representation:  # The sign is the highest of the bits that are stored.
        unused = 16 - runner.bits_stored
        samples = (samples << unused).view(np.int16) >> unused
    runner.set_option("planar_configuration", 0)
    return samples.astype(f"<u{runner.bits_allocated // 8}").tobytes()


def decode_high_throughput(frame: bytes, runner: Any) -> bytes:
    """Return the samples of an HTJ2K frame: OpenJPEG, and so Pillow, reads it as JPEG 2000.

    Raises:
      Exception: nearly any, where the frame is damaged or of a kind that is not supported.
    """
    from pydicom.pixels.decoders import pillow

    return pillow._decode_frame(frame, runner)
