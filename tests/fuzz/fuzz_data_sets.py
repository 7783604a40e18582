"""Damage the shards, the manifest and the identities of data sets, and read them.

    python tests/fuzz/fuzz_data_sets.py SEED CASES

Half of the damage is that of a stranger, who writes checksums, sizes and digests that fit. Each
data set is read to the end, the same by every reader, or refused in one sentence that names its
file. The command prints how many were which, and fails at the first one that is neither or takes
much memory. It ends with the process, should native code crash.
"""

import dataclasses
import hashlib
import io
import json
import logging
import resource
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

sys.path.insert(0, str(Path(__file__).parents[2]))
from dr_tfx.dataset import identities, leakage, manifest, records
from dr_tfx.evaluation import scored
from dr_tfx.input_pipeline import in_order, loader, shard_reader
from dr_tfx.preprocessing import fingerprint
from dr_tfx.storage import checksums, files
from tests.fuzz.fuzz_bundles import mutated
from tests.helpers import datasets
from tests.helpers.damage import damage

MEMORY = 300 << 10  # Kilobytes that the damaged data sets may add.
LABEL = "label/level"
FEATURES = {LABEL: records.Feature("int64")}
SPLIT = "validation"
_VALUES: tuple[Any, ...] = (
    *(-1, 0, 2, 3, 2**31, 2**63 - 1, -(2**63), 0.5, float("nan"), b"", b"raw", b"png", b"\xff\xfe"),
    *(b"../x", b"/etc/passwd", b"a\x1b[2J", b"a/../b", b"a\0b", "\u202eb".encode(), b"x" * 5000),
    *(bytes(16 * 16 * 3), bytes(16 * 16 * 12), bytes(range(256)) * 3, b"image/encoded"),
)
_LENGTHS = (0, 1, 15, 2**16, 2**30, 2**31, 2**40, 2**62, 2**63 - 16, 2**63, 2**64 - 1)


class Case:
    """A data set of some records, the readers of it, and what it was before the damage."""

    def __init__(self, folder: Path, encoding: str):
        experiment = datasets.experiment(size=16, encoding=encoding)
        data = datasets.write(folder, experiment.dataset, shard_examples=4)
        ids = identities.collect(
            identities.PhotographIdentity(
                f"n{i}", f"p{i}", SPLIT, bytes(16), bytes([i] * fingerprint.BYTES)
            )
            for i in range(data.written)
        )
        with (folder / manifest.IDENTITIES_FILE).open("wb") as stream:
            digest = ids.write(stream)
        self.folder, self.data = folder, dataclasses.replace(data, identities=digest)
        files.write_text(folder / manifest.FILE_NAME, self.data.to_json())
        self.shard = data.shards_of(SPLIT)[1]
        self.intact = {path: path.read_bytes() for path in folder.iterdir()}

    def restore(self) -> None:
        changeable = (self.shard.name, manifest.FILE_NAME, manifest.IDENTITIES_FILE)
        for path in (self.folder / name for name in changeable):
            path.write_bytes(self.intact[path])

    def say(self, **changes: Any) -> None:
        """Write the manifest of a stranger, in which the shard is as it is now."""
        shards = tuple(
            dataclasses.replace(one, **changes) if one == self.shard else one
            for one in self.data.shards
        )
        made = dataclasses.replace(self.data, shards=shards)
        more = sum(one.records for one in shards) - self.data.written
        made = dataclasses.replace(made, written=made.written + more, rows=made.rows + more)
        (self.folder / manifest.FILE_NAME).write_text(made.to_json())

    def read(self) -> None:
        """Read all that the data set holds, by each of its readers.

        Raises:
          ValueError, OSError: it is refused.
        """
        data = manifest.load(self.folder)
        assert data.describe()
        json.dumps(data.to_dict())
        leakage.alarms(leakage.within(data.to_dict()))
        scored.notices(data)
        known = identities.load(self.folder, data)
        assert len(known.text("id")) == len(known.pixels) == len(known.fingerprints)
        shards, schema = data.shards_of(SPLIT), loader.schema_of(data, FEATURES)
        texts = (records.IMAGE_ID, records.IMAGE_PATIENT)
        batches = in_order.Batches(
            self.folder, data, SPLIT, batch_size=4, features=FEATURES, texts=texts
        )
        images, labels = zip(*((batch["image"], batch[LABEL]) for batch in batches), strict=True)
        reader = shard_reader.ShardReader(self.folder, shards, schema)
        for _ in range(2):  # When a record is parsed, and when it is known.
            arrays = reader.batch(np.arange(len(reader)))
            assert np.array_equal(np.concatenate(images), arrays["image"])
            assert np.array_equal(np.concatenate(labels), arrays[LABEL])
        for shard in shards:
            path = self.folder / shard.name
            with path.open("rb") as stream:
                try:
                    assert len(list(records.read_images(stream, 16))) == shard.records
                except ValueError as error:
                    raise ValueError(f"{path}: {error}") from error


def cut(data: bytes) -> list[bytes]:
    """Return the records of an intact shard."""
    return list(records.read(io.BytesIO(data)))


def changed(serialized: bytes, others: list[bytes], rng: np.random.Generator) -> bytes:
    """Return a record with another feature, or with the damage of a message."""
    if rng.random() < 0.4:
        return damage(serialized, others, rng)
    features = records.parse(serialized)
    key = sorted(features)[rng.integers(0, len(features))]
    value = _VALUES[rng.integers(0, len(_VALUES))]
    if rng.random() < 0.2:
        del features[key]
    elif rng.random() < 0.1:
        features = {"a" * int(rng.integers(1, 40_000)): value, **features}
    else:
        features[key] = value
    return records.example(features)


def of_a_shard(case: Case, rng: np.random.Generator) -> str:
    """Damage a shard; return the kind of the damage."""
    path = case.folder / case.shard.name
    whole = case.intact[path]
    if rng.random() < 0.3:
        found = damage(whole, list(case.intact.values()), rng)
        path.write_bytes(found)
        if rng.random() < 0.5:
            case.say(bytes=max(1, len(found)))
        return "shard damaged"
    frames = cut(whole)
    if rng.random() < 0.25:
        length = struct.pack("<Q", _LENGTHS[rng.integers(0, len(_LENGTHS))])
        at = int(rng.integers(0, len(frames))) * (len(whole) // len(frames))
        header = length + checksums.masked_crc(length)
        path.write_bytes(whole[:at] + header + whole[at + len(header) :])
        return "shard of another length"
    at = int(rng.integers(0, len(frames)))
    frames[at] = changed(frames[at], frames, rng)
    frames = frames[: len(frames) - int(rng.random() < 0.1)]
    with path.open("wb") as stream:
        writer = records.RecordWriter(stream)
        for record in frames:
            writer.write(record)
    count = len(frames) if rng.random() < 0.8 else int(rng.integers(1, 9))
    case.say(bytes=writer.bytes, records=count)
    return "record changed"


def of_a_manifest(case: Case, rng: np.random.Generator) -> str:
    path = case.folder / manifest.FILE_NAME
    if rng.random() < 0.3:
        path.write_bytes(damage(case.intact[path], list(case.intact.values()), rng))
        return "manifest damaged"
    path.write_text(json.dumps(mutated(json.loads(case.intact[path]), rng)))
    return "manifest mutated"


def of_identities(case: Case, rng: np.random.Generator) -> str:
    path = case.folder / manifest.IDENTITIES_FILE
    found = damage(case.intact[path], list(case.intact.values()), rng)
    path.write_bytes(found)
    digest = hashlib.sha256(found).hexdigest()
    made = dataclasses.replace(case.data, identities=digest)
    (case.folder / manifest.FILE_NAME).write_text(made.to_json())
    return "identities damaged"


def kinds() -> Iterator[Any]:
    while True:
        yield from (of_a_shard, of_a_shard, of_a_manifest, of_identities)


def main(seed: int, cases: int) -> dict[str, int]:
    logging.disable()
    tf.get_logger().setLevel("ERROR")
    rng, counts, before = np.random.default_rng(seed), Counter(), 0
    with tempfile.TemporaryDirectory() as temporary:
        made = [Case(Path(temporary) / name, name) for name in ("raw", "png")]
        for case in made:
            case.read()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        for number, kind in zip(range(cases), kinds(), strict=False):
            case = made[rng.integers(0, len(made))]
            try:
                name = kind(case, rng)
                try:
                    case.read()
                    counts[f"{name} read"] += 1
                except (ValueError, OSError) as error:
                    text = str(error)
                    assert str(case.folder) in text and "\n" not in text, text
                    assert len(text) < 1200, text
                    counts[f"{name} refused"] += 1
            except BaseException:
                print(f"case {number} of seed {seed}: {kind.__name__}", file=sys.stderr)
                raise
            case.restore()
            grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
            assert grown < MEMORY, f"case {number} of seed {seed}: {grown} kilobytes"
    print(json.dumps(counts, indent=1), "kilobytes", grown)
    return counts


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
