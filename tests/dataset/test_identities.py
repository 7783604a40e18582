"""The file by which photographs are recognised: round trip, damage."""

import dataclasses
import hashlib

import numpy as np
import pyarrow as pa
import pytest

from dr_tfx.dataset import identities, manifest
from dr_tfx.preprocessing import fingerprint
from tests.dataset.test_manifest import MADE

KNOWN = [
    identities.PhotographIdentity(
        f"Ärztin {i}", f"p{i // 2}", "train", bytes([i] * 16), bytes([i] * fingerprint.BYTES)
    )
    for i in range(5)
]


@pytest.fixture
def written(tmp_path):
    """(folder, manifest) of the identities above, in two pieces."""
    pieces = [identities.collect(KNOWN[:3]), identities.collect([]), identities.collect(KNOWN[3:])]
    with (tmp_path / manifest.IDENTITIES_FILE).open("wb") as stream:
        sha256 = identities.join(pieces).write(stream)
    assert sha256 == hashlib.sha256((tmp_path / "photographs.arrow").read_bytes()).hexdigest()
    return tmp_path, dataclasses.replace(MADE, identities=sha256, written=5)


def test_round_trip(written):
    read = identities.load(*written)
    assert len(read) == 5
    for column in ("id", "patient", "split"):
        assert read.text(column).tolist() == [getattr(one, column) for one in KNOWN]
    assert read.pixels.tobytes() == b"".join(one.pixels for one in KNOWN)
    assert (read.fingerprints == np.arange(5)[:, None]).all()
    assert read.fingerprints.shape == (5, fingerprint.BYTES)


def test_a_file_that_is_missing_or_damaged_is_told_of(written):
    folder, data = written
    path = folder / manifest.IDENTITIES_FILE
    damaged = bytearray(path.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    path.write_bytes(damaged)
    with pytest.raises(ValueError, match=r"photographs.arrow is damaged.*--overwrite"):
        identities.load(folder, data)
    path.unlink()
    with pytest.raises(FileNotFoundError, match=r"photographs.arrow is missing.*--overwrite"):
        identities.load(folder, data)


def arrow(table):
    """The bytes of a table as a file of Arrow."""
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue().to_pybytes()


@pytest.mark.parametrize(
    "change, told",
    [
        (lambda data, table: b"", "is damaged"),
        (lambda data, table: data[:-200], "is damaged"),
        (lambda data, table: data[:300] + data[900:], "is damaged"),
        (lambda data, table: arrow(table.drop_columns("pixels")), "has other columns"),
        (lambda data, table: arrow(table[1:]), "has 4 photographs; dataset.json says 5"),
        (lambda data, table: arrow(at(table, "split", "x")), "other splits than train, validation"),
        (
            lambda data, table: arrow(at(table, "id", "\x1b[2J")),
            "control characters in the column",
        ),
        (lambda data, table: arrow(at(table, "patient", None)), "has other columns"),
    ],
)
def test_a_file_that_no_build_writes_is_refused_with_a_digest_of_its_own(written, change, told):
    folder, data = written
    path = folder / manifest.IDENTITIES_FILE
    whole = path.read_bytes()
    path.write_bytes(change(whole, pa.ipc.open_file(whole).read_all()))
    data = dataclasses.replace(data, identities=hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(ValueError, match=f"{path}.*{told}.*--overwrite"):
        identities.load(folder, data)


def at(table, column, value):
    """The table with another first value of a column."""
    values = [value, *table[column].to_pylist()[1:]]
    place = table.schema.get_field_index(column)
    field = table.schema.field(column)
    return table.set_column(place, field, pa.array(values, field.type))
