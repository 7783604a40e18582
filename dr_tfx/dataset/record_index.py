"""Where each record of a data set is: a NumPy file beside the shards, with a row an example.

A record of a TFRecord file is found by reading the headers of all before it, which over a network
is a request each. With the index an example is one request, whose answer is compared with the
checksum that the index has of it: the manifest has the SHA-256 of the index, so that no other
example can take its place.

    index = numpy.load("DATA/index.npy")  # Rows in the order of the shards in dataset.json.
"""

import hashlib
import io
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from dr_tfx.storage import checksums

if TYPE_CHECKING:  # It loads pandas, which the processes that read do not need.
    from dr_tfx.dataset import manifest

DTYPE = np.dtype(
    [
        ("offset", "<i8"),  # Bytes of the shard before the record's frame.
        ("bytes", "<u4"),  # Of the record; its frame has FRAME more.
        ("crc", "<u4"),  # The masked CRC32C of the record, as its frame has it.
    ]
)
FRAME = 16  # Bytes of a frame besides its record, 12 of them before it.
BEFORE = 12


def of_frames(frames: Sequence[tuple[int, int]]) -> np.ndarray:
    """Return the rows of a shard, DTYPE (records,), of the bytes and checksum of its records."""
    rows = np.empty(len(frames), DTYPE)
    if len(frames):
        rows["bytes"], rows["crc"] = np.array(frames, np.uint32).T
        sizes = rows["bytes"].astype(np.int64) + FRAME
        rows["offset"] = np.cumsum(sizes) - sizes
    return rows


def to_bytes(index: np.ndarray) -> bytes:
    """Return the content of the file."""
    stream = io.BytesIO()
    np.save(stream, index, allow_pickle=False)
    return stream.getvalue()


def parse(content: bytes, data: "manifest.Manifest", *, where: str) -> np.ndarray:
    """Return the index of a data set, DTYPE (examples,).

    Args:
      content: the bytes of the file.
      data: the manifest.
      where: the file, for errors.

    Raises:
      ValueError: it is not the file that was written with the manifest.
    """
    if hashlib.sha256(content).hexdigest() != data.index:
        raise ValueError(f"{where} is not the file that dataset.json names. Build it again.")
    index = np.load(io.BytesIO(content), allow_pickle=False)
    ends = np.cumsum([shard.records for shard in data.shards])
    fits = index.dtype == DTYPE and index.shape == (ends[-1],)
    if fits:
        last = index[ends - 1]
        told = last["offset"] + last["bytes"] + FRAME
        fits = bool(np.all(told == [shard.bytes for shard in data.shards]))
    if not fits:
        raise ValueError(f"{where} does not fit the shards of dataset.json. Build it again.")
    return index


def is_frame(data: bytes, start: int, row: np.void) -> bool:
    """Tell whether the whole frame of a record is in some bytes.

    Args:
      data: bytes of a shard.
      start: where in them the frame begins.
      row: what the index says of the record.
    """
    size, length = int(row["bytes"]), int(row["bytes"]).to_bytes(8, "little")
    begin, end = start + BEFORE, start + BEFORE + size
    crc = int(row["crc"]).to_bytes(4, "little")
    return (
        data[start:begin] == length + checksums.masked_crc(length)
        and data[end : end + 4] == crc
        and checksums.masked_crc(data[begin:end]) == crc
    )
