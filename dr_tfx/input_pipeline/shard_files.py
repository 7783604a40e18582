"""The files of some shards as their reader needs them: on a disk, or in a mirror.

Both kinds say where records begin, give open files, and call what fills a batch until it has read
what the build wrote: a file of a disk may be changed by somebody, a record of a mirror may have to
come first, and may be dropped by another process meanwhile.

The module loads neither TensorFlow nor pandas.
"""

import contextlib
import os
import resource
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from dr_tfx.dataset import mirrors
from dr_tfx.input_pipeline import shard_check

if TYPE_CHECKING:  # It loads pandas, which the processes that read (`batch_readers`) do not need.
    from dr_tfx.dataset import manifest

_OTHERS = 256  # Files that a process has open besides its shards, at most.


class ShardFiles:
    """Shards on a disk. Examples are numbered from 0 in the order of the shards.

    Args:
      data_dir: folder of the shards.
      shards: what the manifest says of them.

    Attributes:
      paths: of the shards.
      ends: the end of each shard's numbers.
    """

    def __init__(self, data_dir: Path, shards: "Sequence[manifest.Shard]") -> None:
        self.paths = [data_dir / shard.name for shard in shards]
        self.ends = np.cumsum([shard.records for shard in shards])
        self._files = _OpenFiles(self.paths)
        self._states: list[_FileState] = []  # That of each file when it was last looked at.

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in vars(self).items() if k != "_files"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        vars(self).update(state)
        self._files = _OpenFiles(self.paths)

    def __getitem__(self, shard: int) -> int:
        """Return the descriptor of a shard's file, for use before the next one is asked for."""
        return self._files[shard]

    def offsets(self, shards: "Sequence[manifest.Shard]") -> np.ndarray:
        """Return where the frame of each example begins in its shard, int64 (examples,).

        Raises:
          ValueError: a shard is damaged, or is not what the manifest says; names it.
        """
        found, advised = [], _fits(sum(shard.bytes for shard in shards))
        for number, (path, shard) in enumerate(zip(self.paths, shards, strict=True)):
            file = self._files[number]
            self._states.append(_state(file))
            found.append(shard_check.offsets(path, file, shard))
            if advised:
                os.posix_fadvise(file, 0, 0, os.POSIX_FADV_WILLNEED)
        return np.concatenate(found)

    def rows(self, shard: int) -> slice:
        """Return the numbers of a shard's examples."""
        return slice(self.ends[shard - 1] if shard else 0, self.ends[shard])

    def shards_of(self, numbers: np.ndarray) -> np.ndarray:
        """Return the shard of each example."""
        return np.searchsorted(self.ends, numbers, side="right")

    def ask(self, numbers: np.ndarray) -> mirrors.Coming | None:
        """Begin to fetch some examples; the result is for `filled`."""
        del numbers
        return None

    def filled(
        self,
        numbers: np.ndarray,
        asked: mirrors.Coming | None,
        fill: Callable[[], None],
        forget: Callable[[slice], None],
    ) -> None:
        """Call `fill`, which reads some examples, until it has read whole ones.

        Args:
          numbers: of the examples, int64 (n,).
          asked: what `ask` returned of them.
          fill: reads them. It raises a ValueError if one is damaged.
          forget: is told the numbers of the examples of a file that was changed.
        """
        del asked
        fill()
        found = {n: _state(self._files[n]) for n in np.unique(self.shards_of(numbers)).tolist()}
        changed = [number for number in found if found[number] != self._states[number]]
        for number in changed:
            self._states[number] = found[number]
            forget(self.rows(number))
        if changed:
            fill()  # With checksums.


class MirroredFiles(ShardFiles):
    """Shards of a mirror."""

    def __init__(self, data_dir: Path, shards: "Sequence[manifest.Shard]") -> None:
        super().__init__(data_dir, shards)
        self._data_dir, self._mirror = data_dir, _mirror(data_dir)
        self._rows = np.concatenate([self._mirror.rows(shard.name) for shard in shards])

    def __getstate__(self) -> dict[str, Any]:
        return {k: v for k, v in super().__getstate__().items() if k != "_mirror"}

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._mirror = _mirror(self._data_dir)

    def offsets(self, shards: "Sequence[manifest.Shard]") -> np.ndarray:
        return self._mirror.offsets(self._rows)

    def ask(self, numbers: np.ndarray) -> mirrors.Coming | None:
        return self._mirror.ask(self._rows[numbers])

    def filled(
        self,
        numbers: np.ndarray,
        asked: mirrors.Coming | None,
        fill: Callable[[], None],
        forget: Callable[[slice], None],
    ) -> None:
        del forget  # A record that came again has the same bytes.
        rows, damaged = self._rows[numbers], False
        coming = asked or self._mirror.ask(rows)
        with contextlib.ExitStack() as read:
            read.callback(self._mirror.release)
            while True:
                states = self._mirror.fetch(coming)
                try:
                    fill()
                    if np.array_equal(self._mirror.states(rows), states):
                        return
                except ValueError:
                    if np.array_equal(self._mirror.states(rows), states):
                        if damaged:
                            raise
                        # A machine that lost its power may have written less than it noted.
                        damaged = True
                        self._mirror.forget(rows)
                coming = self._mirror.ask(rows)


def open_shards(data_dir: Path, shards: "Sequence[manifest.Shard]") -> ShardFiles:
    """Return the files of some shards in a folder, which may be a mirror."""
    return (MirroredFiles if mirrors.of(data_dir) else ShardFiles)(data_dir, shards)


def _mirror(data_dir: Path) -> mirrors.Mirror:
    found = mirrors.of(data_dir)
    if found is None:
        raise FileNotFoundError(f"{data_dir} is no mirror of a data set any more.")
    return found


class _OpenFiles:
    """The files of all shards, as many of them open as the system lets a process have.

    Where there are more, the one that was opened first is closed for the next.
    """

    def __init__(self, paths: Sequence[Path]):
        self._paths = paths
        self._most = min(len(paths), _open_files_allowed(len(paths)))
        self._files: dict[int, int] = {}

    def __getitem__(self, shard: int) -> int:
        """Return the descriptor of a shard's file, for use before the next one is asked for."""
        file = self._files.get(shard)
        if file is None:
            if len(self._files) == self._most:
                os.close(self._files.pop(next(iter(self._files))))
            file = self._files[shard] = os.open(self._paths[shard], os.O_RDONLY)
        return file

    def __del__(self) -> None:
        for file in getattr(self, "_files", {}).values():
            os.close(file)


class _FileState(NamedTuple):
    """The facts of a file that differ once it was changed, or another took its place."""

    inode: int
    size: int
    modified: int
    changed: int


def _state(file: int) -> _FileState:
    """Return the state of an open file."""
    found = os.fstat(file)
    return _FileState(found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)


def _fits(total: int) -> bool:
    """Tell whether the system is to read so many bytes of shards into free memory ahead.

    Examples are read in random order; a disk that is slow at that has them in its cache soon.
    """
    free = os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return hasattr(os, "posix_fadvise") and total < free / 2


def _open_files_allowed(count: int) -> int:
    """Raise this process's own limit for so many shards; return how many may be open at once."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = count + _OTHERS
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return count
    limit = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return count if limit == wanted else max(1, limit - _OTHERS, limit // 4)
