"""Data sets in object stores: what is read, what is kept, and what a store may do meanwhile."""

import contextlib
import itertools
import logging
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from dr_tfx.dataset import manifest, mirror_files, mirrors, places, records
from dr_tfx.input_pipeline import loader, shard_reader, strata
from dr_tfx.storage import store_reads
from tests.helpers import datasets, ready
from tests.helpers.misbehaving import Shaky

ADDRESS = "shaky://b/data"
RECORD = 32 * 32 * 3  # Bytes of the pixels of an example.


@pytest.fixture(scope="module")
def built(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    datasets.write(folder, datasets.experiment().dataset)
    return folder


@pytest.fixture
def store(built, monkeypatch) -> type[Shaky]:
    Shaky.begin({f"b/data/{path.name}": path.read_bytes() for path in built.iterdir()})
    monkeypatch.setattr(store_reads, "_FIRST_WAIT", 1e-4)
    monkeypatch.setattr(store_reads, "_LONGEST_WAIT", 1e-3)
    monkeypatch.setattr(mirrors, "_PAUSE", 1e-4)
    monkeypatch.setattr(mirrors, "MANY", 0.0)  # It is no slow store, however busy this machine is.
    return Shaky


@pytest.fixture
def opened(store, tmp_path):
    """A function that opens the data set with a cache of so many bytes."""

    def opened(size: int = 10**9) -> Path:
        return places.folder(ADDRESS, cache_dir=tmp_path / "cache", cache_gb=size / 1e9)

    yield opened
    mirrors._opened.cache_clear()


class Training:
    """The training split of a folder, read by numbers."""

    def __init__(self, folder: Path):
        data = manifest.load(folder)
        self.schema = loader.schema_of(data, {"label/level": records.Feature("int64")})
        self.reader = shard_reader.ShardReader(folder, data.shards_of("train"), self.schema)

    def read(self, numbers) -> np.ndarray:
        """The pixel values of the examples, each of which has one."""
        numbers = np.array(numbers)
        shapes = self.schema.shapes(len(numbers))
        batch = {name: np.empty(shape, dtype) for name, (shape, dtype) in shapes.items()}
        self.reader.read(numbers, np.zeros((len(numbers), 2), bool), batch)
        values = batch[records.IMAGE].reshape(len(numbers), -1)
        assert np.all(values == values[:, :1])
        return values[:, 0]


def shards_read(store) -> list[tuple[str, int, int]]:
    """Return the requests for examples: one for a single byte only asks how fast the store is."""
    return [(n, a, b) for n, a, b in store.read if ".tfrecord-" in n and b > a + 1]


def on_disk(folder: Path) -> int:
    return sum(512 * path.stat().st_blocks for path in folder.glob("*.tfrecord-*"))


def test_an_example_is_one_request_and_comes_once(opened, store, monkeypatch):
    monkeypatch.setattr(mirrors, "GROUP", 1)  # No neighbours.
    folder = opened()
    training = Training(folder)
    assert not shards_read(store) and on_disk(folder) == 0
    numbers = [30, 2, 17, 5]
    assert training.read(numbers).tolist() == numbers
    assert len(shards_read(store)) == 4
    assert all(RECORD < end - start < RECORD + 400 for _, start, end in shards_read(store))
    assert training.read([5, 30]).tolist() == [5, 30] and len(shards_read(store)) == 4
    # What follows one another in a shard is one request.
    assert training.read([3, 4, 6, 0, 1]).tolist() == [3, 4, 6, 0, 1]
    assert len(shards_read(store)) == 4 + 3


def test_small_neighbours_come_along(opened, store):
    training = Training(opened())
    assert training.read([0, 24]).tolist() == [0, 24]
    assert len(shards_read(store)) == 2  # Two shards, each smaller than a group.
    assert training.read(range(7)).tolist() == list(range(7))
    assert len(shards_read(store)) == 2


def test_of_a_store_that_answers_few_requests_more_comes_together(
    opened, store, monkeypatch, caplog
):
    caplog.set_level(logging.INFO, logger="absl")
    # 5 MB of 100 MB a second are sent in five times the time of one of 100 requests: 2^23 bytes.
    assert mirrors.group(100, 100e6) == 1 << 23
    assert mirrors.group(400, 10e6) == mirrors.GROUP
    monkeypatch.setattr(mirrors, "GROUP", 1)
    monkeypatch.setattr(mirrors, "MANY", 500.0)
    store.pause = 0.004
    folder = opened()
    mirror = mirrors.of(folder)
    assert mirror.group > 100 * RECORD
    assert f"{ADDRESS} answers few requests: examples come by range, " in caplog.text
    first, other = (mirror.ask(np.array([row])) for row in (0, 1))  # While the first is coming.
    mirror.fetch(first)
    mirror.fetch(other)
    assert len(shards_read(store)) == 1 + 1  # The first only asked how fast the store is.
    training = Training(folder)
    assert training.read([30, 2, 17, 5]).tolist() == [30, 2, 17, 5]
    shards = len(manifest.load(folder).shards_of("train"))
    assert len(shards_read(store)) <= 1 + shards


def test_a_slow_disk_has_a_mirror_like_a_store(built, tmp_path):
    folder = places.folder(built.as_uri(), cache_dir=tmp_path / "cache")
    assert folder != built and Training(folder).read([30, 2]).tolist() == [30, 2]
    mirrors._opened.cache_clear()


def test_another_run_finds_what_was_fetched(opened, store):
    assert Training(opened()).read([9]).tolist() == [9]
    mirrors._opened.cache_clear()
    before = len(shards_read(store))
    assert Training(opened()).read([9]).tolist() == [9]
    assert len(shards_read(store)) == before
    # A data set that was built anew is another one.
    store.objects["b/data/dataset.json"] = store.objects["b/data/dataset.json"] + b" "
    assert Training(opened()).read([9]).tolist() == [9]
    assert len(shards_read(store)) == before + 1


def test_the_cache_keeps_to_its_bound(opened, store, tmp_path, monkeypatch):
    monkeypatch.setattr(mirrors, "GROUP", 1)
    limit = 12 * (RECORD + 300)
    folder = opened(limit)
    training, rng = Training(folder), np.random.default_rng(0)
    for _ in range(3):
        for numbers in rng.permutation(33).reshape(-1, 3):
            assert training.read(numbers).tolist() == numbers.tolist()
            # Of a file's disk blocks, one at each end of a record is shared with others.
            assert on_disk(folder) <= limit + 12 * 2 * 4096
    # 12 of 33 are kept: the second and third pass fetch the others again.
    fetched = sum((end - start) // RECORD for _, start, end in shards_read(store))
    assert fetched == 33 + 2 * (33 - 12)
    # A split that is read from end to end takes the room of others,
    data = manifest.load(folder)
    shards = data.shards_of("validation")
    mirrors.fetch_whole(folder, [shard.name for shard in shards])
    for shard in shards:
        assert (folder / shard.name).read_bytes() == store.objects[f"b/data/{shard.name}"]
    # and keeps it while it is read.
    assert training.read(range(33)).tolist() == list(range(33))
    for shard in shards:
        assert (folder / shard.name).read_bytes() == store.objects[f"b/data/{shard.name}"]
    with pytest.raises(ValueError, match=r"0\.\d+ GB .* no room: .*--cache_gb"):
        mirrors.fetch_whole(folder, [shard.name for shard in data.shards_of("train")])


def test_the_oldest_mirror_makes_room(opened, store, tmp_path):
    first = opened()
    assert Training(first).read(range(33)).tolist() == list(range(33))
    store.objects["b/data/dataset.json"] += b" "
    both = 2 * sum(shard.bytes for shard in manifest.load(first).shards)
    second = opened(int(0.8 * both))
    assert first.exists() and second.exists()  # The first one is open.
    mirrors._opened.cache_clear()
    os.utime(first / mirror_files.MARK, (0, 0))
    assert opened(int(0.8 * both)) == second and not first.exists()


def test_faults_by_the_thousand_and_never_a_wrong_example(opened, store, monkeypatch):
    monkeypatch.setattr(mirrors, "_TRIES", 100)
    monkeypatch.setattr(mirrors, "GROUP", 1)
    training, rng = Training(opened()), np.random.default_rng(1)
    store.chance = 0.6
    while len(store.met) < 1000:
        for numbers in rng.permutation(33).reshape(-1, 11):
            assert training.read(numbers).tolist() == numbers.tolist()
        training.reader._files._mirror.forget(np.arange(33))
    assert set(store.met) == set(store.faults)


def test_faults_are_met_from_the_first_request_on(opened, store, built, monkeypatch):
    """While a data set is opened, its index and photographs are read, and shards come whole."""
    for module in (mirrors, places):
        monkeypatch.setattr(module, "_TRIES", 100)
    for seed in range(10):
        store.begin(store.objects)
        store.chance, store.drawn = 0.6, random.Random(seed)
        folder = opened()
        data = manifest.load(folder)
        for name in (manifest.FILE_NAME, manifest.INDEX_FILE):
            assert (folder / name).read_bytes() == (built / name).read_bytes()
        assert Training(folder).read([25, 3]).tolist() == [25, 3]  # With what lies beside them.
        mirrors.fetch_whole(folder, [shard.name for shard in data.shards])
        (folder / manifest.INDEX_FILE).write_bytes(b"?")
        os.truncate(folder / manifest.INDEX_FILE, len((built / manifest.INDEX_FILE).read_bytes()))
        mirrors.fetch_file(folder, manifest.INDEX_FILE, data.index)
        for name in (manifest.INDEX_FILE, *(shard.name for shard in data.shards)):
            assert (folder / name).read_bytes() == (built / name).read_bytes()
        mirrors._opened.cache_clear()
        shutil.rmtree(folder)
        assert len(store.met) > 20


def test_a_manifest_that_comes_otherwise_each_time_is_refused(opened, store):
    store.chance, store.faults = 1.0, ("flipped",)
    with pytest.raises(store_reads.StoreError, match=r"dataset\.json came with other bytes.*again"):
        opened()


def test_what_no_try_mends_is_one_sentence(opened, store, monkeypatch):
    training = Training(opened())
    monkeypatch.setattr(store_reads, "UNPERMITTED", 0.05)
    store.chance, store.faults = 1.0, ("expired",)
    with pytest.raises(store_reads.StoreError, match=r"credentials have expired.*goes on"):
        training.read([1])
    monkeypatch.setattr(store_reads, "PATIENCE", 0.1)
    store.faults = ("busy",)
    with pytest.raises(store_reads.StoreError, match=r"in \d+ tries \(Busy: .*goes on"):
        training.read([1])
    store.chance = 0.0
    assert training.read([1]).tolist() == [1]
    name = next(name for name in store.objects if "train-1" in name)
    # Another build's shard has the same size, and right checksums of its own.
    twin = store.objects[name].replace(bytes([25]) * 60, bytes([99]) * 60)
    store.objects[name] = twin
    with pytest.raises(store_reads.StoreError, match=rf"{name} has other bytes than.*Nothing"):
        training.read([25])
    del store.objects[name]
    with pytest.raises(store_reads.StoreError, match=rf"{name} is not there any more"):
        training.read([26])


def test_what_a_disk_loses_is_fetched_again(opened, store):
    folder = opened()
    assert Training(folder).read(range(33)).tolist() == list(range(33))
    data = manifest.load(folder)
    shard = data.shards_of("train")[0]
    with (folder / shard.name).open("r+b") as stream:
        stream.write(bytes(shard.bytes))  # As after a power cut: noted, but not written.
    assert Training(folder).read(range(7)).tolist() == list(range(7))
    with (folder / shard.name).open("r+b") as stream:
        stream.write(bytes(shard.bytes))
    mirrors.fetch_whole(folder, [shard.name])
    assert (folder / shard.name).read_bytes() == store.objects[f"b/data/{shard.name}"]


def test_processes_fill_and_empty_one_mirror_together(built, tmp_path):
    """Each reads all examples again and again, with room for a third of them."""
    code = """
import sys, numpy as np
from dr_tfx.dataset import manifest, mirrors, places, records
from dr_tfx.input_pipeline import shard_reader
mirrors.GROUP = 1
folder = places.folder(sys.argv[1], cache_dir=sys.argv[2], cache_gb=float(sys.argv[3]))
rng, none = np.random.default_rng(int(sys.argv[4])), np.zeros((11, 2), bool)
shards, schema = manifest.load(folder).shards_of("train"), records.Schema(32, "raw")
reader = shard_reader.ShardReader(folder, shards, schema)
batch = {"image": np.empty((11, 32, 32, 3), np.uint8)}
for _ in range(100):
    numbers = rng.permutation(33)[:11]
    reader.read(numbers, none, batch)
    assert np.all(batch["image"] == numbers[:, np.newaxis, np.newaxis, np.newaxis])
"""
    given = [f"file://{built}", str(tmp_path / "cache"), str(11 * RECORD / 1e9)]
    line = [sys.executable, "-c", code, *given]
    both = [subprocess.Popen([*line, seed], cwd=Path(__file__).parents[2]) for seed in "12"]
    assert [process.wait() for process in both] == [0, 0]
    (mirror,) = (tmp_path / "cache").iterdir()
    assert on_disk(mirror) <= 11 * RECORD + 22 * 4096


def test_the_batches_are_those_of_a_local_folder(built, tmp_path):
    """Through the processes that read, from any step on, and of several workers."""
    mirror = places.folder(f"file://{built}", cache_dir=tmp_path / "cache", cache_gb=1)
    experiment = datasets.experiment()

    def seen(folder, **settings):
        data = manifest.load(folder)
        batches, _ = loader.train_batches(folder, data, experiment, **settings)
        with contextlib.closing(batches):
            return [batch["image"][:, 0, 0, 0].copy() for batch in itertools.islice(batches, 9)]

    part = {"worker": 1, "workers": 2}
    given = {"first_step": 7, **part}
    assert np.array_equal(seen(mirror, **given), seen(built, **given))
    # A worker fetches nothing of the others' shards.
    mixed = strata.of_training(manifest.load(built), experiment)
    mine = {shard.name for shard in strata.part_of(mixed, experiment, **part).shards}
    fetched = {path.name for path in mirror.glob("*.tfrecord-*") if path.stat().st_blocks}
    assert fetched == mine and "train-0.tfrecord-00000-of-00004" not in mine
    assert np.array_equal(seen(mirror), seen(built))


FORKED = """
import os, signal, sys
from pathlib import Path
from dr_tfx.dataset import places
from tests.dataset.test_mirrors import ADDRESS, Training, shards_read
from tests.helpers.misbehaving import Shaky
Shaky.begin({f"b/data/{path.name}": path.read_bytes() for path in Path(sys.argv[1]).iterdir()})
training = Training(places.folder(ADDRESS, cache_dir=sys.argv[2], cache_gb=1))
assert training.read([1]).tolist() == [1]
child = os.fork()
if not child:
    signal.alarm(60)
    os._exit(0 if training.read([25, 8, 1]).tolist() == [25, 8, 1] else 1)
assert os.waitpid(child, 0)[1] == 0
before = len(shards_read(Shaky))
assert training.read([25]).tolist() == [25] and len(shards_read(Shaky)) == before
"""


def test_a_fork_reads_by_itself(built, tmp_path):
    """As the workers of PyTorch do; from a process in which nothing else runs."""
    done = ready.run([sys.executable, "-c", FORKED, str(built), str(tmp_path / "cache")])
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda objects: objects.pop("b/data/dataset.json"), r"dataset.json does not exist"),
        (lambda objects: objects.pop("b/data/index.npy"), r"index.npy is missing"),
        (
            lambda objects: objects.update({"b/data/index.npy": bytes(900)}),
            r"index.npy has other bytes",
        ),
        (
            lambda objects: objects.update(
                {"b/data/dataset.json": objects["b/data/dataset.json"].replace(b'"index"', b'"x"')}
            ),
            "manifest",
        ),
    ],
)
def test_what_is_no_data_set_is_refused(opened, store, change, error):
    change(store.objects)
    with pytest.raises((ValueError, OSError), match=error):
        opened()


def test_a_folder_of_a_disk_is_its_own_place(built):
    assert places.folder(built) == built and mirrors.of(built) is None
    assert mirrors.address(built) == str(built)
