"""Batches that processes read: the reader's own, in order, in memory nobody else writes to."""

import os
import pickle
import signal
import subprocess
import sys

import numpy as np
import psutil
import pytest

from dr_tfx.input_pipeline import batch_readers, shard_reader
from tests.input_pipeline.test_shard_reader import read, write

BATCH = 5


@pytest.fixture
def reader(tmp_path):
    shards, schema = write(tmp_path)
    return shard_reader.ShardReader(tmp_path, shards, schema)


@pytest.fixture
def readers(reader):
    made = batch_readers.BatchReaders(reader, batch_size=BATCH, processes=2)
    yield made
    made.close()


def same(batch, other):
    return batch.keys() == other.keys() and all(
        np.array_equal(batch[name], other[name]) and batch[name].dtype == other[name].dtype
        for name in batch
    )


def asked(rng):
    return rng.integers(0, 33, BATCH), rng.random((BATCH, 2)) < 0.5


def test_batches_come_in_order_and_stay_what_they_are_while_held(reader, readers):
    rng = np.random.default_rng(0)
    wanted = [asked(rng) for _ in range(30)]
    held = []
    for at, (numbers, flips) in enumerate(wanted):
        readers.ask(numbers, flips)
        if at >= 3:
            held.append(readers.take())
    held += [readers.take() for _ in range(3)]
    readers.close()
    for batch, (numbers, flips) in zip(held, wanted, strict=True):
        assert same(batch, read(reader, numbers, flips))
        assert all(array.ctypes.data % 64 == 0 for array in batch.values())


@pytest.mark.parametrize("held", ["image", "mask/lesion", "grade"])
def test_memory_is_used_again_once_nothing_refers_to_it(readers, held):
    rng, places = np.random.default_rng(0), set()
    readers.ask(*asked(rng))
    for _ in range(20):
        readers.ask(*asked(rng))
        batch = readers.take()
        places.add(batch["image"].ctypes.data)
        part = batch[held][1:]  # Refers to it as well.
        del batch
    assert len(places) == 3  # One taken, one read, and the part that is still held of the last one.
    assert len(part) == BATCH - 1


def test_the_checksum_that_one_process_compared_the_others_know(reader, readers):
    for _ in range(2):  # By both processes.
        readers.ask(np.arange(BATCH), np.zeros((BATCH, 2), bool))
    first, second = readers.take(), readers.take()
    assert same(first, second)
    index = readers._memory.index()
    assert (index["pixels"] > 0).tolist() == [True] * BATCH + [False] * (len(reader) - BATCH)
    assert np.array_equal(index["grade"][:BATCH], first["grade"])


def test_damage_is_named(tmp_path):
    shards, schema = write(tmp_path)
    path = tmp_path / shards[0].name
    data = bytearray(path.read_bytes())
    data[100] ^= 1
    path.write_bytes(data)
    reader = shard_reader.ShardReader(tmp_path, shards, schema)
    readers = batch_readers.BatchReaders(reader, batch_size=1, processes=1)
    readers.ask(np.array([0]), np.zeros((1, 2), bool))
    with pytest.raises(ValueError, match=f"{path.name} is damaged.*--overwrite"):
        readers.take()
    readers.close()


def test_a_reader_that_was_killed_is_said_to_have_ended(readers):
    for child in psutil.Process().children():  # A browser of other tests may be among them.
        if batch_readers.__name__ in child.cmdline():
            child.kill()
    with pytest.raises(ChildProcessError, match="has ended with exit code -9 "):
        readers.ask(*asked(np.random.default_rng(0)))
        readers.take()


def test_readers_import_what_the_process_that_asks_does(reader, tmp_path, monkeypatch):
    """They import no module of the same name in the current folder, as `python -m` would."""
    (tmp_path / "cv2.py").write_text("raise SystemExit(3)")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [path for path in sys.path if path])
    readers = batch_readers.BatchReaders(reader, batch_size=BATCH, processes=1)
    wanted = asked(np.random.default_rng(0))
    readers.ask(*wanted)
    assert same(readers.take(), read(reader, *wanted))
    readers.close()


PARENT = """
import pathlib, pickle, signal, sys, time
import numpy as np
signal.signal(signal.SIGINT, signal.default_int_handler)  # Ignored if a shell began this with `&`.
from dr_tfx.input_pipeline import batch_readers, shard_reader
folder = pathlib.Path(sys.argv[1])
reader = shard_reader.ShardReader(folder, *pickle.loads((folder / "written").read_bytes()))
readers = batch_readers.BatchReaders(reader, batch_size=2, processes=2)
for _ in range(3):
    readers.ask(np.array([1, 2]), np.zeros((2, 2), bool))
readers.take()
print("ready", flush=True)
time.sleep(60)
"""


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGINT])
def test_readers_end_with_the_process_that_asks(how, tmp_path):
    # It is written here: the other process then starts without TensorFlow.
    (tmp_path / "written").write_bytes(pickle.dumps(write(tmp_path)))
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", PARENT, str(tmp_path)]
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    with subprocess.Popen(command, env=environment, **pipes, text=True, process_group=0) as parent:
        assert parent.stdout.readline() == "ready\n"
        children = psutil.Process(parent.pid).children()
        assert len(children) == 2
        os.killpg(parent.pid, how)  # As a terminal does at Ctrl-C.
        parent.wait(20)
        _, alive = psutil.wait_procs(children, timeout=20)
        assert not alive
        errors = parent.stderr.read()
        assert errors.count("Traceback") == (how == signal.SIGINT), errors
