"""The identities of a data set's photographs: the facts by which each is recognised elsewhere.

The file `photographs.arrow` beside the shards (Arrow's IPC format) has one row for each example, in
the order of the shards. So photographs are compared with a data set in seconds and without reading
a shard.
"""

import hashlib
from collections.abc import Iterable
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from dr_tfx.dataset import folds, manifest, mirrors, records, splits
from dr_tfx.preprocessing import fingerprint
from dr_tfx.storage import seen_text

_SCHEMA = pa.schema(
    [
        ("id", pa.large_string()),
        ("patient", pa.large_string()),
        ("split", pa.large_string()),
        ("pixels", pa.binary(records.DIGEST_BYTES)),
        ("fingerprint", pa.binary(fingerprint.BYTES)),
    ]
)


class PhotographIdentity(NamedTuple):
    """The facts by which one photograph is recognised, in a data set or from elsewhere."""

    id: str
    patient: str
    split: str  # "" for a photograph from elsewhere.
    pixels: bytes  # What `records.digest` returned of the prepared pixels.
    fingerprint: bytes  # What `preprocessing.fingerprint.of` returned.


class Identities:
    """The identities of many photographs, in columns: about a kilobyte each."""

    def __init__(self, table: pa.Table):
        """Hold a table with the columns of the file."""
        self._table = table

    def __len__(self) -> int:
        return self._table.num_rows

    def text(self, column: str) -> pd.Series:
        """Return `id`, `patient` or `split` as a Series of TEXT."""
        return pd.Series(pd.array(self._table[column], dtype=splits.TEXT))

    @property
    def pixels(self) -> np.ndarray:
        """The digests of the prepared pixels, uint64 (photographs, 2)."""
        return _bytes(self._table["pixels"], records.DIGEST_BYTES).view(np.uint64)

    @property
    def fingerprints(self) -> np.ndarray:
        """The fingerprints, uint8 (photographs, fingerprint.BYTES)."""
        return _bytes(self._table["fingerprint"], fingerprint.BYTES)

    def in_view(self, data: manifest.Manifest) -> "Identities":
        """Return them with the splits of a view of a data set with folds."""
        role = folds.roles(data, data.fold)
        seen = pa.array(
            [role[name] for name in self._table["split"].to_pylist()], pa.large_string()
        )
        place = self._table.schema.get_field_index("split")
        return Identities(self._table.set_column(place, _SCHEMA.field(place), seen))

    def write(self, stream: BinaryIO) -> str:
        """Write the file, and return the SHA-256 of its bytes."""
        hashed = _Hashed(stream)
        with pa.ipc.new_file(pa.PythonFile(hashed, "w"), _SCHEMA) as writer:
            for batch in self._table.to_batches():
                writer.write_batch(batch)
        return hashed.sha256


def collect(photographs: Iterable[PhotographIdentity]) -> Identities:
    """Return the identities of photographs, in their order."""
    columns = [*zip(*photographs, strict=True)] or [()] * len(_SCHEMA)
    arrays = [pa.array(c, field.type) for c, field in zip(columns, _SCHEMA, strict=True)]
    return Identities(pa.Table.from_arrays(arrays, schema=_SCHEMA))


def join(pieces: Iterable[Identities]) -> Identities:
    """Return several identities as one."""
    return Identities(pa.concat_tables([piece._table for piece in pieces]))


def load(data_dir: Path, data: manifest.Manifest) -> Identities:
    """Return the identities of a data set.

    Args:
      data_dir: its folder.
      data: its manifest, or a view of it.

    Raises:
      FileNotFoundError: the file is missing.
      ValueError: the file is not the one that was written with the manifest.
    """
    mirrors.fetch_file(data_dir, manifest.IDENTITIES_FILE, data.identities)
    path = data_dir / manifest.IDENTITIES_FILE
    again = "Build the data set again with drtfx-build-examples --overwrite."
    if not path.is_file():
        raise FileNotFoundError(f"{path} is missing, by which photographs are recognised. {again}")
    with path.open("rb") as stream:
        if hashlib.file_digest(stream, "sha256").hexdigest() != data.identities:
            raise ValueError(f"{path} is damaged: {manifest.FILE_NAME} says otherwise. {again}")
    try:
        with pa.memory_map(str(path)) as stream:
            table = pa.ipc.open_file(stream).read_all()
        table.validate(full=True)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"{path} is damaged: {' '.join(str(error).split())}. {again}") from error
    if wrong := _wrong(table, data):
        raise ValueError(f"{path} is damaged: {wrong}. {again}")
    found = Identities(table)
    return found.in_view(data) if data.fold != -1 else found


def _wrong(table: pa.Table, data: manifest.Manifest) -> str:
    """Return a clause on what a valid table has that no build writes; "" for what one does."""
    if not table.schema.equals(_SCHEMA) or any(column.null_count for column in table.columns):
        return "it has other columns than photographs are recognised by"
    if len(table) != data.written:
        return f"it has {len(table):,} photographs; {manifest.FILE_NAME} says {data.written:,}"
    parts = splits.names_of(data.dataset.split)
    if not set(table["split"].unique().to_pylist()) <= set(parts):
        return f"it has other splits than {', '.join(parts)}"
    unseen = [
        name
        for name in ("id", "patient")
        if pc.any(pc.match_substring_regex(table[name], seen_text.UNSEEN)).as_py()
    ]
    return f"it has control characters in the column {unseen[0]}" if unseen else ""


class _Hashed:
    """A stream that hashes what is written to it."""

    closed = False

    def __init__(self, stream: BinaryIO):
        self._stream, self._digest = stream, hashlib.sha256()

    def write(self, data: bytes) -> int:
        self._digest.update(data)
        return self._stream.write(data)

    def flush(self) -> None:
        self._stream.flush()

    def close(self) -> None:
        """Leave the stream open: its owner closes it."""

    @property
    def sha256(self) -> str:
        return self._digest.hexdigest()


def _bytes(column: pa.ChunkedArray, width: int) -> np.ndarray:
    """Return a column of strings of `width` bytes as uint8 (rows, width)."""
    pieces = [np.empty((0, width), np.uint8)]
    for chunk in column.chunks:
        start = chunk.offset * width
        whole = np.frombuffer(chunk.buffers()[1], np.uint8, len(chunk) * width, start)
        pieces.append(whole.reshape(-1, width))
    return np.concatenate(pieces)
