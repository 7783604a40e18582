"""Batches read ahead by processes of their own, into memory that they share with this one.

Threads of this process would take turns: every read of an image releases Python's lock, and to get
it back costs more than the read. A process reads a batch while this one takes a step, and no image
is copied on its way: the batch is the memory that the process has written to.

The processes load neither TensorFlow nor pandas, so that each takes 40 MB. They end with this one,
however it ends, and leave nothing behind: the memory has no name.
"""

import collections
import contextlib
import itertools
import math
import mmap
import os
import subprocess
import sys
import tempfile
import weakref
from multiprocessing.connection import Connection, Pipe
from typing import NamedTuple

import cv2
import numpy as np

from dr_tfx.dataset import mirrors, patches, records
from dr_tfx.input_pipeline import compression, shard_reader
from dr_tfx.machine import resources


class BatchReaders:
    """Processes that read batches of equal size, in the order in which they are asked for.

    Args:
      reader: the reader of the examples.
      batch_size: examples of a batch.
      processes: how many processes read at once, a batch each.
    """

    def __init__(
        self, reader: shard_reader.ShardReader, *, batch_size: int, processes: int
    ) -> None:
        self._memory = _Memory(reader, batch_size, _anonymous_file())
        self._memory.grow(0)
        self._memory.index()[:] = reader.index
        self._children = [_start(reader, self._memory) for _ in range(processes)]
        self._turns = itertools.cycle(self._children)
        self._asked = collections.deque[tuple[_Child, int]]()
        self._slots = 0  # Batches that there is memory for.
        self._free: list[int] = []  # Those of them that nobody holds.

    def ask(
        self,
        numbers: np.ndarray,
        flips: np.ndarray,
        draws: np.ndarray | float = 0.0,
        qualities: np.ndarray | int = 0,
    ) -> None:
        """Ask for a batch.

        Args:
          numbers: see `shard_reader.ShardReader.read`, as for `flips` and `draws`.
          flips: which are mirrored.
          draws: the chance that places patches.
          qualities: see `compression.compress`.

        Raises:
          ChildProcessError: the process that should read it has ended.
        """
        if not self._free:
            self._free.append(self._slots)
            self._slots += 1
            self._memory.grow(self._slots)
        child, slot = next(self._turns), self._free.pop()
        self._asked.append((child, slot))
        request = self._memory.request(slot)
        request["number"], request["flips"] = numbers, flips
        request["draws"], request["quality"] = draws, qualities
        try:
            child.connection.send(slot)
        except BrokenPipeError:
            raise _ended(child) from None

    def take(self) -> dict[str, np.ndarray]:
        """Return the batch that was asked for first of those not taken yet.

        Its memory is used again once nothing refers to any of its arrays any more, and no sooner.

        Returns:
          Arrays with the names and shapes of `records.Schema.shapes`, aligned to 64 bytes.

        Raises:
          ValueError: a record is damaged or lacks a feature; the message names the file.
          ChildProcessError: the process that should have read it has ended.
        """
        child, slot = self._asked.popleft()
        try:
            error = child.connection.recv()
        except (EOFError, ConnectionResetError):
            raise _ended(child) from None
        if error is not None:
            raise error
        memory = self._memory.slot(slot)
        weakref.finalize(memory, self._free.append, slot).atexit = False
        return self._memory.arrays(memory)

    def close(self) -> None:
        """End the processes, also those that wait for a store. Batches that were taken stay."""
        for child in self._children:
            child.connection.close()
            child.process.terminate()
        for child in self._children:
            child.process.wait()


class _Child(NamedTuple):
    process: subprocess.Popen
    connection: Connection


_REQUEST = np.dtype(  # One example of a batch.
    [
        ("number", np.int64),
        ("flips", bool, 2),
        ("quality", np.uint8),
        ("draws", np.float32, patches.DRAWS),
    ]
)
_ALIGNMENT = 64  # Bytes. TensorFlow takes memory that begins so as it is.


class _Memory:
    """A file in memory: the index of all examples, then slots of one batch and its request each."""

    def __init__(self, reader: shard_reader.ShardReader, batch_size: int, file: int) -> None:
        self.batch_size, self.file = batch_size, file
        self._examples, self._row = len(reader), reader.index_dtype
        self._shapes = reader.schema.shapes(batch_size)
        self._starts, end = {}, 0
        for name, (shape, dtype) in self._shapes.items():
            self._starts[name] = end
            end = _rounded_up(end + math.prod(shape) * np.dtype(dtype).itemsize, _ALIGNMENT)
        self._request = end
        self._step = _rounded_up(end + batch_size * _REQUEST.itemsize, mmap.PAGESIZE)
        self._slots = _rounded_up(self._examples * self._row.itemsize, mmap.PAGESIZE)
        self._maps: dict[int, mmap.mmap] = {}
        weakref.finalize(self, os.close, file)

    def grow(self, slots: int) -> None:
        """Make room for so many slots."""
        os.ftruncate(self.file, self._slots + slots * self._step)

    def index(self) -> np.ndarray:
        """Return the index of all examples, see `shard_reader.ShardReader.index_dtype`."""
        memory = mmap.mmap(self.file, self._slots)
        return np.frombuffer(memory, self._row, self._examples)

    def slot(self, slot: int) -> np.ndarray:
        """Return the memory of a batch, uint8 (bytes,); its arrays refer to it."""
        return np.ndarray(self._request, np.uint8, self._map(slot))

    def arrays(self, memory: np.ndarray) -> dict[str, np.ndarray]:
        """Return the arrays of a batch, given the memory that `slot` returned."""
        return {
            name: np.ndarray(shape, dtype, memory, self._starts[name])
            for name, (shape, dtype) in self._shapes.items()
        }

    def request(self, slot: int) -> np.ndarray:
        """Return what is asked for, _REQUEST (batch,)."""
        return np.ndarray(self.batch_size, _REQUEST, self._map(slot), self._request)

    def _map(self, slot: int) -> mmap.mmap:
        if slot not in self._maps:
            start = self._slots + slot * self._step
            self._maps[slot] = mmap.mmap(self.file, self._step, offset=start)
        return self._maps[slot]


def _rounded_up(size: int, step: int) -> int:
    """Return the least positive multiple of `step` that is not below `size`."""
    return max(1, math.ceil(size / step)) * step


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dr_tfx batches")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _start(reader: shard_reader.ShardReader, memory: _Memory) -> _Child:
    ours, theirs = Pipe()
    process = subprocess.Popen(
        # With -P it finds the modules that this process found, not those of the current folder.
        [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
        process_group=0,  # Ctrl-C is for the process that asks.
        pass_fds=(theirs.fileno(), memory.file),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
    )
    theirs.close()
    ours.send((reader, memory.batch_size, memory.file))
    return _Child(process, ours)


def _ended(child: _Child) -> ChildProcessError:
    code = child.process.wait()
    why = (
        " (it was killed, as the system does where memory is short). "
        "The same command goes on at the last checkpoint."
        if code < 0
        else "; what it said stands above."
    )
    return ChildProcessError(
        f"The process that reads the training examples has ended with exit code {code}{why}"
    )


def _main() -> None:
    """Read what the process at the other end of the pipe asks for, until it closes the pipe."""
    resources.tune_malloc()
    cv2.setNumThreads(1)
    connection = Connection(int(sys.argv[1]))
    with contextlib.suppress(EOFError, ConnectionError):  # The other process has ended.
        reader, batch_size, file = connection.recv()
        memory = _Memory(reader, batch_size, file)
        reader.index = memory.index()
        coming: collections.deque[tuple[int, mirrors.Coming | None]] = collections.deque()
        while True:
            while not coming or connection.poll():  # All that is asked for is fetched meanwhile.
                slot = connection.recv()
                coming.append((slot, reader.ask(memory.request(slot)["number"])))
            (slot, asked), error = coming.popleft(), None
            request, batch = memory.request(slot), memory.arrays(memory.slot(slot))
            try:
                draws = request["draws"] if reader.schema.patches else None
                reader.read(request["number"], request["flips"], batch, draws=draws, asked=asked)
                compression.compress(batch[records.IMAGE], request["quality"])
            except (ValueError, OSError) as raised:
                error = raised
            connection.send(error)


if __name__ == "__main__":
    _main()
