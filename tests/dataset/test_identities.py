"""The file by which photographs are recognised: round trip, damage."""

import dataclasses
import hashlib

import numpy as np
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
    return tmp_path, dataclasses.replace(MADE, identities=sha256)


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
