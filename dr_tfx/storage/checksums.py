"""The checksum of TFRecord files."""

import struct

import google_crc32c


def masked_crc(data: bytes) -> bytes:
    """Return the checksum that a TFRecord's frame holds of the data: 4 bytes."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)
