"""Shards compared with their manifest, and their records with what is read of them.

The frames of all records are looked at before any is read (`offsets`), which reads 12 bytes of
each: TensorFlow's own reader takes memory for whatever length a frame claims, and ends the process
where there is none.

The module loads neither TensorFlow nor pandas.
"""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from dr_tfx.dataset import mirrors, records
from dr_tfx.storage import checksums

if TYPE_CHECKING:
    from dr_tfx.dataset import manifest

_FRAME = 16  # Bytes of a frame besides its record: length, checksum, and the record's checksum.


def damaged(path: Path, what: str) -> str:
    """Return a sentence about a shard; `what` is a clause."""
    return (
        f"{path} is damaged or was changed after the build: {what}. "
        "Build the data set again with drtfx-build-examples --overwrite."
    )


def offsets(path: Path, file: int, shard: "manifest.Shard") -> np.ndarray:
    """Return where each record's frame begins in a shard, from the headers of the frames.

    Args:
      path: of the shard, for errors.
      file: its descriptor.
      shard: what the manifest says of it.

    Returns:
      int64 (records,).

    Raises:
      ValueError: the file does not hold so many records in so many bytes.
    """
    size = os.fstat(file).st_size
    if size != shard.bytes or shard.records * _FRAME > size:
        told = f"it has {size:,} bytes; expected {shard.bytes:,} and {shard.records:,} records"
        raise ValueError(damaged(path, told))
    found, position = np.empty(shard.records, np.int64), 0
    for number in range(shard.records):
        found[number] = position
        position += _length(file, position) + _FRAME
        if not found[number] < position <= size:
            told = f"record {number} of {shard.records:,} at byte {found[number]} is cut short"
            raise ValueError(damaged(path, told))
    if position != size:
        told = f"its {shard.records:,} records end at byte {position} of {size}"
        raise ValueError(damaged(path, told))
    return found


def _length(file: int, position: int) -> int:
    """Return the bytes of the record whose frame begins here; a negative number if none does."""
    header = os.pread(file, 12, position)
    if len(header) < 12 or checksums.masked_crc(header[:8]) != header[8:]:
        return -_FRAME
    return int.from_bytes(header[:8], "little")


def read_record(
    path: Path, file: int, position: int, *, schema: records.Schema, texts: Sequence[str] = ()
) -> tuple[bytes, dict[str, Any], dict[str, np.ndarray]]:
    """Read a record, and compare its checksum and its features with what they have to be.

    Args:
      path: of the shard, for errors.
      file: its descriptor.
      position: where the record's frame begins.
      schema: what is read of it.
      texts: keys of features that are read besides, see `records.check`.

    Returns:
      The serialized record, its features, and its image and masks by their names in a batch.

    Raises:
      ValueError: the record is damaged, lacks a feature, or has one of another type or value.
    """
    length = _length(file, position)
    known = 0 <= length <= records.MOST_BYTES
    data = os.pread(file, length + 4, position + 12) if known else b""
    if not known or len(data) < length + 4 or checksums.masked_crc(data[:-4]) != data[-4:]:
        raise ValueError(damaged(path, f"the record at byte {position}"))
    try:
        example = records.parse(data[:-4])
        records.check(example, schema, texts)
        return data[:-4], example, records.pictures(example, schema)
    except records.DamagedRecord as error:
        raise ValueError(unfit(path, position, error)) from error


def unfit(path: Path, position: int, error: records.DamagedRecord) -> str:
    """Return a sentence about a whole record that is not what the task or the manifest needs."""
    return (
        f"{path} cannot be used: the record at byte {position} {error}. Build the data set with "
        "the config that is used, or use the config of the build."
    )


def places(data_dir: Path, shards: Sequence["manifest.Shard"]) -> list[np.ndarray]:
    """Return where the frames of all records begin, int64 (records,) of each shard.

    Those of a mirror are fetched first.

    Raises:
      ValueError: a shard does not hold as many records, in as many bytes, as its manifest says;
        names it.
      OSError: a shard is missing, or cannot be read.
    """
    mirrors.fetch_whole(data_dir, [shard.name for shard in shards])
    found = []
    for shard in shards:
        path = data_dir / shard.name
        with path.open("rb") as stream:
            found.append(offsets(path, stream.fileno(), shard))
    return found
