"""Batches read ahead by processes of their own, into memory that they share with this one.

Threads of this process would take turns: every read of a picture lets go of Python's lock, and to
get it back costs more than the read. A process reads a batch while this one takes a step, and no
picture is copied on its way: the batch is the memory that the process has written to.

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

from dr_tfx.input_pipeline import shard_reader
from dr_tfx.machine import resources


class BatchReaders:
    """Reads batches of equal size, in the order in which they are asked for.

    Args:
      reader: of the examples.
      batch_size: examples of a batch.
      processes: how many read at once, a batch each.
    """

    def __init__(
        self, reader: shard_reader.ShardReader, *, batch_size: int, processes: int
    ) -> None:
        size = reader.recipe.size
        self._memory = _Memory(_anonymous_file(), len(reader), (batch_size, size, size, 3))
        self._memory.grow(0)
        self._memory.index()[:] = reader.index
        self._children = [_start(reader, self._memory) for _ in range(processes)]
        self._turns = itertools.cycle(self._children)
        self._asked = collections.deque[tuple[_Child, int]]()
        self._slots = 0  # Batches that there is memory for,
        self._free: list[int] = []  # and those of them that nobody has.

    def ask(self, numbers: np.ndarray, flips: np.ndarray) -> None:
        """Asks for a batch; arguments as of `shard_reader.ShardReader.read`."""
        if not self._free:
            self._free.append(self._slots)
            self._slots += 1
            self._memory.grow(self._slots)
        child, slot = next(self._turns), self._free.pop()
        self._asked.append((child, slot))
        request = self._memory.request(slot)
        request["number"], request["flips"] = numbers, flips
        try:
            child.connection.send(slot)
        except BrokenPipeError:
            raise _ended(child) from None

    def take(self) -> np.ndarray:
        """The batch that was asked for first of those not taken yet.

        Its memory is used again once nothing refers to it any more, and no sooner.

        Returns:
          uint8 RGB (batch, size, size, 3), aligned to a page.

        Raises:
          ValueError: a record is damaged; names the file.
          ChildProcessError: the process that should have read it has ended.
        """
        child, slot = self._asked.popleft()
        try:
            error = child.connection.recv()
        except (EOFError, ConnectionResetError):
            raise _ended(child) from None
        if error is not None:
            raise error
        batch = self._memory.batch(slot)
        weakref.finalize(batch, self._free.append, slot).atexit = False
        return batch.view()

    def close(self) -> None:
        """Ends the processes. Batches that were taken stay."""
        for child in self._children:
            child.connection.close()
        for child in self._children:
            child.process.wait()


class _Child(NamedTuple):
    process: subprocess.Popen
    connection: Connection


_REQUEST = np.dtype([("number", np.int64), ("flips", bool, 2)])  # One of a batch.


class _Memory:
    """A file in memory: the index of all examples, then batches, each with what was asked for."""

    def __init__(self, file: int, examples: int, shape: tuple[int, ...]) -> None:
        self.file, self._examples, self._shape = file, examples, shape
        self._batches = _pages(examples * shard_reader.INDEX.itemsize)
        self._pixels = _pages(math.prod(shape))
        self._step = self._pixels + _pages(shape[0] * _REQUEST.itemsize)
        self._maps: dict[int, mmap.mmap] = {}
        weakref.finalize(self, os.close, file)

    def grow(self, batches: int) -> None:
        """Makes room for so many batches."""
        os.ftruncate(self.file, self._batches + batches * self._step)

    def index(self) -> np.ndarray:
        """`shard_reader.INDEX` (examples,)."""
        memory = mmap.mmap(self.file, self._batches)
        return np.frombuffer(memory, shard_reader.INDEX, self._examples)

    def batch(self, slot: int) -> np.ndarray:
        """uint8 of the shape of a batch."""
        return np.ndarray(self._shape, np.uint8, self._map(slot))

    def request(self, slot: int) -> np.ndarray:
        """_REQUEST (batch,)."""
        return np.ndarray(self._shape[0], _REQUEST, self._map(slot), self._pixels)

    def _map(self, slot: int) -> mmap.mmap:
        if slot not in self._maps:
            start = self._batches + slot * self._step
            self._maps[slot] = mmap.mmap(self.file, self._step, offset=start)
        return self._maps[slot]

    def arguments(self) -> tuple:
        """Of which another process, given the file, makes the same."""
        return self.file, self._examples, self._shape


def _pages(size: int) -> int:
    return max(1, math.ceil(size / mmap.PAGESIZE)) * mmap.PAGESIZE


def _anonymous_file() -> int:
    if hasattr(os, "memfd_create"):
        return os.memfd_create("dr_tfx batches")
    with tempfile.TemporaryFile() as file:
        return os.dup(file.fileno())


def _start(reader: shard_reader.ShardReader, memory: _Memory) -> _Child:
    ours, theirs = Pipe()
    process = subprocess.Popen(
        # -P: it shall find what this process found, and not what the current folder holds.
        [sys.executable, "-P", "-m", __name__, str(theirs.fileno())],
        process_group=0,  # Ctrl-C is for the process that asks.
        pass_fds=(theirs.fileno(), memory.file),
        env={**os.environ, "PYTHONPATH": os.pathsep.join(map(os.path.abspath, sys.path))},
    )
    theirs.close()
    ours.send((reader, memory.arguments()))
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
    """A process that reads, until the other end of its pipe is closed."""
    resources.tune_malloc()
    cv2.setNumThreads(1)
    connection = Connection(int(sys.argv[1]))
    with contextlib.suppress(EOFError, ConnectionError):  # Nobody asks any more.
        reader, arguments = connection.recv()
        memory = _Memory(*arguments)
        reader.index = memory.index()
        while True:
            slot, error = connection.recv(), None
            request = memory.request(slot)
            try:
                reader.read(request["number"], request["flips"], memory.batch(slot))
            except (ValueError, OSError) as raised:
                error = raised
            connection.send(error)


if __name__ == "__main__":
    _main()
