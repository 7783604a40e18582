"""The files of a mirror of a data set, and which records are in them.

    shards            of their final size, with holes where a record is not there
    dataset.json, index.npy, and photographs.arrow once it was asked for
    .mirror.json      the address of the data set, and how many bytes of one place of a shard come
                      together; its time is when the mirror was last opened
    .state            HEADER: the bytes of the records that are there, and how many may be kept;
                      then a byte a record, odd while it is there
    .in-use           locked by whoever has the mirror open; and .held-<split> by whoever reads the
                      shards of a split from end to end, so that nobody makes room of them

Several processes may fill one mirror, and give room back, at the same time. A record's byte of the
state grows by one whenever the record comes or goes: whoever finds it odd and unchanged after
reading has read the record.
"""

import contextlib
import ctypes
import errno
import fcntl
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from dr_tfx.dataset import record_index
from dr_tfx.storage import files, json_files

MARK, STATE, IN_USE, DATA_SET, INDEX = (
    *(".mirror.json", ".state", ".in-use"),
    *("dataset.json", "index.npy"),
)
HEADER = np.dtype([("used", "<i8"), ("limit", "<i8")])  # What the state begins with.
_LOCK, _HELD = ".lock", ".held-"
_PAGE = 4096
_KEEP_SIZE, _PUNCH_HOLE = 1, 2  # Of fallocate(2).


class MirrorFiles:
    """The records of a mirror that are on the disk. Records go by their rows in the index.

    Args:
      folder: of the mirror.

    Attributes:
      address: of the data set.
      group: how many bytes of one place of a shard come together; 0 of an earlier version.
      names: of the shards.
      ends: the row behind the last of each shard, int64 (shards,).
      index: see `record_index`.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        # Whoever wants to remove the folder waits for this lock, which ends with the process.
        self._in_use = locked(folder / IN_USE, fcntl.LOCK_SH)
        mark = json_files.read(folder / MARK)
        self.address, self.group = str(mark["address"]), int(mark.get("group", 0))
        shards = json_files.read(folder / DATA_SET)["shards"]
        self.names = [str(shard["name"]) for shard in shards]
        self.ends = np.cumsum([shard["records"] for shard in shards])
        self.index = np.load(folder / INDEX, mmap_mode="r", allow_pickle=False)
        self._splits = [str(shard["split"]) for shard in shards]
        whole = np.memmap(folder / STATE, np.uint8, "r+")
        header, self._state = np.split(whole, [HEADER.itemsize])
        self._used, self._limit = header.view(HEADER)["used"], header.view(HEADER)["limit"]
        self._lock, self._file = threading.RLock(), os.open(folder / _LOCK, os.O_RDWR | os.O_CREAT)
        self._process = os.getpid()
        self._depth = 0  # Of bodies of `_alone` in one another: flock counts none.
        self._held: dict[str, int] = {}
        with self._alone():  # A process that was killed may have miscounted.
            self._used[0] = self.sizes(np.flatnonzero(self._state % 2))

    def __del__(self) -> None:
        for name in ("_in_use", "_file"):
            if hasattr(self, name):
                os.close(getattr(self, name))
        for file in getattr(self, "_held", {}).values():
            os.close(file)

    @property
    def limit(self) -> int:
        """How many bytes may be kept, by all processes."""
        return int(self._limit[0])

    @limit.setter
    def limit(self, size: int) -> None:
        with self._alone():
            self._limit[0] = size
            self._make_room(0, np.empty(0, np.int64))

    def first(self, shard: int) -> int:
        """Return the first row of a shard, given its number."""
        return int(self.ends[shard - 1]) if shard else 0

    def shards_of(self, rows: np.ndarray) -> np.ndarray:
        """Return the number of the shard of each row."""
        return np.searchsorted(self.ends, rows, side="right")

    def states(self, rows: np.ndarray) -> np.ndarray:
        """Return numbers of the rows that are odd while a record is there, see the module."""
        return self._state[rows]

    def missing(self, rows: np.ndarray) -> np.ndarray:
        """Return those of some rows whose record is not there."""
        return rows[self._state[rows] % 2 == 0]

    def sizes(self, rows: np.ndarray) -> int:
        """Return the bytes of some records with their frames."""
        return int(self.index["bytes"][rows].sum(dtype=np.int64)) + record_index.FRAME * len(rows)

    def has_room(self, size: int) -> bool:
        """Tell whether so many bytes more can be kept."""
        return int(self._used[0]) + size <= self.limit

    def write(self, first: int, end: int, data: bytes) -> np.ndarray:
        """Write down the records of some rows that follow one another in a shard.

        Returns:
          The rows that can not be kept, and are to be dropped once they were read.

        Raises:
          OSError: the disk is full.
        """
        path = self.folder / self.names[int(self.shards_of(np.array(first)))]
        with self._alone():
            missing = self.missing(np.arange(first, end))
            if not len(missing):
                return missing
            with files.named(path), path.open("r+b", buffering=0) as stream:
                done = os.pwrite(stream.fileno(), data, int(self.index["offset"][first]))
                if done < len(data):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
            self._state[missing] += 1
            self._used[0] += self.sizes(missing)
            return missing[:0] if self.has_room(0) else missing

    def drop(self, rows: np.ndarray) -> None:
        """Give back the room of those of some records that are there."""
        with self._alone():
            rows = np.unique(rows[self._state[rows] % 2 == 1])
            self._state[rows] += 1
            self._used[0] -= self.sizes(rows)
            shards = self.shards_of(rows)
            for shard in np.unique(shards).tolist():
                with (self.folder / self.names[shard]).open("r+b", buffering=0) as stream:
                    for row in rows[shards == shard].tolist():
                        punch(stream.fileno(), *self._pages(shard, row))

    def hold(self, shards: Sequence[int], rows: np.ndarray) -> np.ndarray:
        """Keep the records of whole shards while this process lives, and make room for them.

        Records whose bytes are not the build's any more are dropped: a machine that lost its power
        may have written down the state, and not the record.

        Returns:
          The rows whose records are missing.

        Raises:
          ValueError: there is no room for them.
        """
        with self._lock:
            for split in {self._splits[shard] for shard in shards} - self._held.keys():
                self._held[split] = locked(self.folder / f"{_HELD}{split}", fcntl.LOCK_SH)
        self.drop(self._damaged(rows))
        missing = self.missing(rows)
        with self._alone():
            self._make_room(self.sizes(missing), rows)
            if not self.has_room(self.sizes(missing)):
                raise ValueError(
                    f"{self.sizes(rows) / 1e9:.3g} GB of {self.address} are read from end to end, "
                    f"for which the cache has no room: it may have {self.limit / 1e9:.3g} GB in "
                    f"{self.folder.parent}. Give a larger --cache_gb, or --cache_dir on a larger "
                    "disk."
                )
        return missing

    def _damaged(self, rows: np.ndarray) -> np.ndarray:
        there = rows[self._state[rows] % 2 == 1]
        shards, wrong = self.shards_of(there), []
        for shard in np.unique(shards).tolist():
            with (self.folder / self.names[shard]).open("rb", buffering=0) as stream:
                for row in there[shards == shard].tolist():
                    told = self.index[row]
                    size = int(told["bytes"]) + record_index.FRAME
                    frame = os.pread(stream.fileno(), size, int(told["offset"]))
                    if not record_index.is_frame(frame, 0, told):
                        wrong.append(row)
        return np.array(wrong, np.int64)

    def _pages(self, shard: int, row: int) -> tuple[int, int]:
        """Return where the whole pages begin and end that belong to records which are gone.

        A page at an end of a record has parts of others, of several where they are small.
        """
        offsets, first, last = self.index["offset"], self.first(shard), int(self.ends[shard]) - 1
        start = int(offsets[row])
        end = start + int(self.index["bytes"][row]) + record_index.FRAME
        floor, ceiling = start // _PAGE * _PAGE, -(-end // _PAGE) * _PAGE
        before = after = row
        while before > first and offsets[before] > floor and not self._state[before - 1] % 2:
            before -= 1
        while after < last and offsets[after + 1] < ceiling and not self._state[after + 1] % 2:
            after += 1
        if before > first and offsets[before] > floor:
            floor += _PAGE
        if after < last and offsets[after + 1] < ceiling:
            ceiling -= _PAGE
        return floor, ceiling

    def _make_room(self, needed: int, kept: np.ndarray) -> None:
        """Drop records that nobody holds, but for the kept ones, until so many bytes fit."""
        over = int(self._used[0]) + needed - self.limit
        if over <= 0:
            return
        there = np.setdiff1d(np.flatnonzero(self._state % 2), kept)
        held = {split for split in set(self._splits) if self._is_held(split)}
        free = np.array([split not in held for split in self._splits])
        there = there[free[self.shards_of(there)]][::-1]
        freed = np.cumsum(self.index["bytes"][there].astype(np.int64))
        self.drop(there[: np.searchsorted(freed, over) + 1])

    def _is_held(self, split: str) -> bool:
        """Tell whether any process reads the shards of a split from end to end."""
        try:
            os.close(locked(self.folder / f"{_HELD}{split}", fcntl.LOCK_EX | fcntl.LOCK_NB))
        except BlockingIOError:
            return True
        return False

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep all other processes and threads from changing the state during the body."""
        if self._process != os.getpid():  # A fork would share the lock of its parent.
            self._process, self._lock, self._depth = os.getpid(), threading.RLock(), 0
            self._file = os.open(self.folder / _LOCK, os.O_RDWR | os.O_CREAT)
        with self._lock:
            if not self._depth:
                fcntl.flock(self._file, fcntl.LOCK_EX)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if not self._depth:
                    fcntl.flock(self._file, fcntl.LOCK_UN)


def punch(file: int, start: int, end: int) -> None:
    """Give a part of a file back to the disk.

    Raises:
      OSError: the disk, or the system, has no files with holes.
    """
    fallocate = getattr(ctypes.CDLL(None, use_errno=True), "fallocate", None)
    if fallocate is None:
        raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
    fallocate.argtypes = [ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64]
    if end > start and fallocate(file, _KEEP_SIZE | _PUNCH_HOLE, start, end - start):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def locked(path: Path, how: int) -> int:
    """Return the descriptor of a file that is locked until it is closed.

    Raises:
      BlockingIOError: another process has the lock, and `how` says not to wait.
    """
    file = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
    try:
        fcntl.flock(file, how)
    except BaseException:
        os.close(file)
        raise
    return file
