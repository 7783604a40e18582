"""The frame of a PNG file: its size and its chunks, before a decoder sees it."""

import struct

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def header(width: int, height: int) -> bytes:
    """Return the first bytes of every PNG file of this size."""
    return _SIGNATURE + struct.pack(">I4sII", 13, b"IHDR", width, height)


def is_whole(data: bytes) -> bool:
    """Return whether all chunks up to IEND are there.

    OpenCV would allocate whatever length a chunk claims, gigabytes included.
    """
    at = len(_SIGNATURE)
    while at < len(data):
        end = at + 12 + int.from_bytes(data[at : at + 4], "big")  # Length, name, content, CRC.
        if end > len(data) or data[at + 4 : at + 8] == b"IEND":
            return end <= len(data)
        at = end
    return False
