"""A data set of an object store as a local folder that fills itself: its mirror.

A mirror has all files of the data set in their size, but of the shards only those records that were
asked for take room on the disk. Whoever reads shards reads local files, after asking the mirror for
what it needs: `fetch` for single records, `fetch_whole` for shards that are read from end to end. A
folder that is no mirror has everything already.

A record is compared with the checksum of the index, which the manifest vouches for, before it is
written down: a mirror holds no other bytes than the build wrote. `places` makes mirrors, and
`mirror_files` says what is in their folders.

The module loads no pandas: the processes that read batches are many.
"""

import concurrent.futures
import contextlib
import functools
import hashlib
import itertools
import os
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from absl import logging

from dr_tfx.dataset import mirror_files, record_index
from dr_tfx.storage import files, store_reads

REQUESTS = 32  # At a time, of one process.
GROUP = 1 << 19  # Small records of one place of a shard, of so many bytes, come together,
MANY = 500.0  # unless a store answers fewer requests in a second: then of more bytes,
MOST = 1 << 23  # so many at most,
_FACTOR = 5.0  # and so many that to send them takes so many times as long as to begin.
_RUN = 1 << 22  # Of a whole shard so many bytes come together, or one record.
_TRIES = 3  # Of a record whose bytes are not the build's,
_PAUSE = 0.5  # with so many seconds between, and more each time.


class _Run(NamedTuple):
    """Records that follow one another in a shard, rows `first` to `end` - 1.

    Attributes:
      data: their bytes, until they are written down.
      passing: those of the rows that are written down, and cannot be kept.
    """

    shard: int
    first: int
    end: int
    data: bytes = b""
    passing: Sequence[int] = ()


class Coming(NamedTuple):
    """Records that were asked for, and the requests for those that were not there."""

    rows: np.ndarray
    requests: list["concurrent.futures.Future[_Run]"]


class Mirror:
    """A mirror in a folder. Records go by their rows in the index.

    Args:
      folder: of the mirror.
    """

    def __init__(self, folder: Path) -> None:
        self._files = mirror_files.MirrorFiles(folder)
        self._number = {name: number for number, name in enumerate(self._files.names)}
        self._begin()
        self._passing = np.empty(0, np.int64)  # Rows that are on the disk, and cannot be kept.

    def _begin(self) -> None:
        """Make the threads and the client of this process; a fork has none of its parent's."""
        self._process = os.getpid()
        self._reader = store_reads.StoreReader(self._files.address)
        self._pool = concurrent.futures.ThreadPoolExecutor(REQUESTS, "mirror")
        self._asked: list[tuple[_Run, concurrent.futures.Future[_Run]]] = []

    @property
    def group(self) -> int:
        """How many bytes of one place of a shard come together where there is room."""
        return max(GROUP, self._files.group)

    @property
    def address(self) -> str:
        """Where the data set is."""
        return self._files.address

    def limit(self, size: int) -> None:
        """Say how many bytes the records may take, for all processes that have the mirror open."""
        self._files.limit = size

    def rows(self, shard: str) -> np.ndarray:
        """Return the rows of a shard, int64 (records,)."""
        number = self._number[shard]
        return np.arange(self._files.first(number), self._files.ends[number])

    def offsets(self, rows: np.ndarray) -> np.ndarray:
        """Return where in their shards the frames of records begin, int64."""
        return self._files.index["offset"][rows]

    def states(self, rows: np.ndarray) -> np.ndarray:
        """Return numbers that change whenever one of these records comes or goes."""
        return self._files.states(rows)

    def ask(self, rows: np.ndarray) -> Coming:
        """Begin to fetch those of some records that are not there."""
        if self._process != os.getpid():
            self._begin()
        missing = np.unique(self._files.missing(rows))
        size = self.group
        while len(missing) and size >= GROUP:
            if self._files.has_room(len(missing) * size):
                return Coming(rows, self._ask_with_neighbours(missing, size))
            size //= 2
        runs = self._runs(missing, _RUN)
        return Coming(rows, [self._pool.submit(self._read, run) for run in runs])

    def fetch(self, coming: Coming) -> np.ndarray:
        """Wait until records are there, and return their `states`.

        Raises:
          StoreError: they cannot be had, or are not those of the build any more.
          OSError: the disk is full.
        """
        while True:
            try:
                for request in coming.requests:
                    with contextlib.suppress(concurrent.futures.CancelledError):  # Asked anew.
                        run = self._written(request.result())
                        self._passing = np.append(self._passing, np.array(run.passing, np.int64))
            except BaseException:  # Ctrl-C, too: nobody waits for the others.
                for request in coming.requests:
                    request.cancel()
                self._reader.interrupt()
                raise
            states = self.states(coming.rows)
            if np.all(states % 2):
                return states
            coming = self.ask(coming.rows)  # Another process has made room meanwhile.

    def release(self) -> None:
        """Give back the room of records that were read and cannot be kept."""
        if len(self._passing):
            self._files.drop(self._passing)
            self._passing = self._passing[:0]

    def forget(self, rows: np.ndarray) -> None:
        """Take records for lost: what is on the disk is not what was written."""
        self._files.drop(rows)

    def fetch_whole(self, shards: Sequence[str]) -> None:
        """Wait until shards are there as a whole, and keep them while this process lives.

        Raises:
          ValueError: they are more than may be kept.
          StoreError, OSError: see `fetch`.
        """
        if self._process != os.getpid():
            self._begin()
        rows = np.concatenate([self.rows(shard) for shard in shards])
        missing = self._files.hold([self._number[shard] for shard in shards], rows)
        if len(missing):
            size = self._files.sizes(missing) / 1e9
            logging.info("fetching %.3g GB of %d shards of %s", size, len(shards), self.address)
        runs = self._runs(missing, _RUN)
        # Two requests are ready for each thread: more would only wait in memory.
        asked = iter(lambda: list(itertools.islice(runs, 2 * REQUESTS)), [])
        for some in asked:
            requested = np.concatenate([np.arange(run.first, run.end) for run in some])
            self.fetch(Coming(requested, [self._pool.submit(self._read, run) for run in some]))
        self._passing = np.setdiff1d(self._passing, rows)

    def fetch_file(self, name: str, sha256: str) -> None:
        """Wait until a file beside the shards is there.

        Raises:
          StoreError: it cannot be had, or is another one than the manifest says.
        """
        path = self._files.folder / name
        with path.open("rb") as stream:
            if hashlib.file_digest(stream, "sha256").hexdigest() == sha256:
                return
        files.write(path, read_file(self._reader, name, path.stat().st_size, sha256))

    def _ask_with_neighbours(
        self, missing: np.ndarray, group: int
    ) -> list["concurrent.futures.Future[_Run]"]:
        """Ask for missing records with those that are missing from the same places of shards.

        What comes is written down at once, so that it does not wait in memory, and what was asked
        for already is not asked for again.
        """
        places = (self._files.index["offset"][missing] // group).tolist()
        near = {*zip(self._files.shards_of(missing).tolist(), places, strict=True)}
        beside = (self._rows_within(shard, place * group, group) for shard, place in near)
        wanted = np.union1d(missing, self._files.missing(np.concatenate([*beside])))
        self._asked = [(run, request) for run, request in self._asked if not request.done()]
        for run, _ in self._asked:
            wanted = wanted[(wanted < run.first) | (wanted >= run.end)]
        for run in self._runs(wanted, max(_RUN, group)):
            self._asked.append((run, self._pool.submit(self._keep, run)))
        return [
            request
            for run, request in self._asked
            if np.any((missing >= run.first) & (missing < run.end))
        ]

    def _rows_within(self, shard: int, start: int, size: int) -> np.ndarray:
        """Return the rows of the records that begin within a part of a shard."""
        first = self._files.first(shard)
        offsets = self._files.index["offset"][first : self._files.ends[shard]]
        return first + np.arange(*np.searchsorted(offsets, [start, start + size]))

    def _runs(self, missing: np.ndarray, most: int) -> Iterator[_Run]:
        """Yield what to ask for: records that follow one another, up to so many bytes of them."""
        run: _Run | None = None
        size = 0
        shards = self._files.shards_of(missing).tolist()
        for row, shard in zip(missing.tolist(), shards, strict=True):
            more = int(self._files.index["bytes"][row]) + record_index.FRAME
            if run and (run.end, run.shard) == (row, shard) and size + more <= most:
                run, size = run._replace(end=row + 1), size + more
                continue
            if run:
                yield run
            run, size = _Run(shard, row, row + 1), more
        if run:
            yield run

    def _read(self, run: _Run) -> _Run:
        """Return some records with their bytes, which are the build's."""
        name, rows = self._files.names[run.shard], self._files.index[run.first : run.end]
        start, last = int(rows["offset"][0]), rows[-1]
        end = int(last["offset"]) + int(last["bytes"]) + record_index.FRAME
        for tried in range(_TRIES):
            time.sleep(tried * _PAUSE)
            data = self._reader.read(name, start, end)
            if all(record_index.is_frame(data, int(row["offset"]) - start, row) for row in rows):
                return run._replace(data=data)
        raise store_reads.StoreError(changed(f"{self.address}/{name}"))

    def _keep(self, run: _Run) -> _Run:
        return self._written(self._read(run))

    def _written(self, run: _Run) -> _Run:
        """Write down the bytes of a run, if it has them."""
        if not run.data:
            return run
        passing = self._files.write(run.first, run.end, run.data)
        return run._replace(data=b"", passing=tuple(passing.tolist()))


def read_file(reader: store_reads.StoreReader, name: str, size: int, sha256: str) -> bytes:
    """Return a file beside the shards, which is asked for again where another one comes.

    Raises:
      StoreError: it cannot be had, or is another one than the manifest says.
    """
    for tried in range(_TRIES):
        time.sleep(tried * _PAUSE)
        content = reader.read(name, 0, size)
        if hashlib.sha256(content).hexdigest() == sha256:
            return content
    raise store_reads.StoreError(changed(f"{reader.address}/{name}"))


def group(requests: float, bandwidth: float) -> int:
    """Return how many bytes of one place of a shard are to come together from a slow store.

    Args:
      requests: that it answers in a second.
      bandwidth: bytes that it sends in a second.
    """
    wanted = int(_FACTOR * bandwidth / requests)
    return min(MOST, max(GROUP, 1 << wanted.bit_length()))


def of(data_dir: Path) -> Mirror | None:
    """Return the mirror in a folder; None if the folder is a data set of its own."""
    return _opened(data_dir) if (data_dir / mirror_files.MARK).is_file() else None


@functools.cache
def _opened(folder: Path) -> Mirror:
    return Mirror(folder)


def fetch_whole(data_dir: Path, shards: Sequence[str]) -> None:
    """Wait until shards are there, see `Mirror.fetch_whole`; in other folders they are."""
    if mirror := of(data_dir):
        mirror.fetch_whole(shards)


def fetch_file(data_dir: Path, name: str, sha256: str) -> None:
    """Wait until a file is there, see `Mirror.fetch_file`; in other folders it is."""
    if mirror := of(data_dir):
        mirror.fetch_file(name, sha256)


def address(data_dir: Path) -> str:
    """Return where a person finds the data set in a folder, which may be the mirror of it."""
    mirror = of(data_dir)
    return mirror.address if mirror else str(data_dir)


def changed(path: str) -> str:
    """Return a sentence about an object that is not the build's."""
    return (
        f"{path} has other bytes than drtfx-build-examples wrote: it was changed or replaced since "
        "then, or the store has damaged it. Nothing of it was used. Restore it, or build the data "
        "set again."
    )
