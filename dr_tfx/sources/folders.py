"""The interface of a source of photographs, and the sources that are files in folders.

A source lists the names of photographs and reads one of them. It travels to the workers, so it is
small, can be pickled and imports little. `archives`, `arrays` and `several` have the other sources.
"""

import abc
import collections
import contextlib
import dataclasses
import errno
import functools
import glob
import os
import posixpath
import re
import stat
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np

from dr_tfx.config import specs
from dr_tfx.machine import budget
from dr_tfx.preprocessing import decoding, recipes
from dr_tfx.sources import trees
from dr_tfx.storage import files

PATTERN_CHARACTER = re.compile(r"[*?[]")
_BLOCK = 1 << 20  # Bytes that are hashed at a time.
_FILES = budget.Budget(1 << 30)  # Two of the largest files, or hundreds of usual ones.
# Errors of the system that are a file's own fault, and not that of its disk.
_OF_FILE = (
    *(errno.ENOENT, errno.EACCES, errno.EPERM, errno.ELOOP),
    *(errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR),
)


class Source(abc.ABC):
    """A set of photographs, each under a name that is unique in it."""

    is_prepared: ClassVar[bool] = False  # True: `prepare` applies neither recipe nor gate.

    @abc.abstractmethod
    def names(self) -> Iterator[tuple[str, int]]:
        """Yield the name and the size in bytes of every photograph, in any order.

        The name of a file is its path below the source, with `/`.
        """

    def left_out(self) -> collections.Counter[str]:
        """Return how many pictures are not taken for photographs, by the reason."""
        return collections.Counter()

    @abc.abstractmethod
    def read(self, name: str) -> bytes:
        """Return the bytes of one photograph. Equal photographs have equal bytes.

        Raises:
          RejectedImage: `unreadable`: the photograph is gone, may not be read, or is damaged in
            its archive. `too_large`: it has more than decoding.MAX_BYTES, and no more are read.
          OSError: anything else, which may be the fault of a disk or network and not of the file.
        """

    def blocks(self, name: str) -> Iterator[bytes]:
        """Yield the bytes of one photograph a piece at a time, for whoever need not hold them.

        Raises:
          RejectedImage, OSError: as `read`.
        """
        yield self.read(name)

    def part(self, name: str, offset: int, length: int) -> bytes:
        """Return at most so many bytes of one photograph, from an offset on.

        Raises:
          RejectedImage, OSError: as `read`.
        """
        return self.read(name)[offset : offset + length]

    def size(self, name: str) -> int:
        """Return the number of bytes that `read` is going to return; 0 if it is not known."""
        del name
        return 0

    @contextlib.contextmanager
    def reading(self, name: str) -> Iterator[bytes]:
        """Give the body what `read` returns, once the files of other threads leave memory for it.

        Raises:
          RejectedImage, OSError: as `read`.
        """
        with _FILES.taken(self.size(name)):
            yield self.read(name)

    @abc.abstractmethod
    def path(self, name: str) -> str:
        """Return the place where a person finds the photograph."""

    def modified(self, name: str) -> float:
        """Return when a photograph was last changed, in seconds since 1970; 0 if unknown."""
        return files.modified(self.path(name))

    def prepare(
        self, data: bytes, recipe: specs.Recipe, neighbours: Sequence[np.ndarray | None] = ()
    ) -> recipes.Picture:
        """Return a photograph as an example holds it, from the bytes that `read` returned.

        Args:
          data: these bytes.
          recipe: the settings of the recipe.
          neighbours: what `neighbours` returned, for a recipe that shows them.

        Raises:
          RejectedImage: as `recipes.apply_recipe`.
        """
        return recipes.apply_recipe(data, recipe, neighbours)

    def neighbours(self, names: Sequence[str], recipe: specs.Recipe) -> list[np.ndarray | None]:
        """Return the slices of these names as `prepare` takes them, one in memory at a time.

        A name that is "", and a file that gives no picture, give None.

        Raises:
          OSError: as `read`.
        """
        return [recipes.neighbour(self.reading(name), recipe) if name else None for name in names]

    def thumbnail(self, data: bytes, side: int) -> np.ndarray:
        """Return a photograph as people see it, from what `read` returned: uint8 RGB (h, w, 3).

        Its shorter side has at least `side` pixels, unless the photograph itself has fewer. If the
        format allows, it has not many more.

        Raises:
          RejectedImage: as `recipes.show`.
        """
        return recipes.show(data, at_least=side)


class Files(Source):
    """A source whose photographs are files of their own."""

    def read(self, name: str) -> bytes:
        return read_file(self.path(name))

    def blocks(self, name: str) -> Iterator[bytes]:
        return file_blocks(self.path(name))

    def part(self, name: str, offset: int, length: int) -> bytes:
        path = self.path(name)
        with _file_is_rejected():
            if not files.is_remote(path):
                _check_regular(os.stat(path))
            return files.read(path, offset=offset, length=length)

    def size(self, name: str) -> int:
        return files.size_on_disk(self.path(name))


class Tree(Source):
    """A source that is a tree of folders."""

    @abc.abstractmethod
    def entries(self) -> Iterator[trees.Entry]:
        """Yield all files of the tree that look like photographs, in any order."""

    def names(self) -> Iterator[tuple[str, int]]:
        for entry in self.entries():
            if not entry.left_out:
                yield entry.name, entry.size

    def left_out(self) -> collections.Counter[str]:
        reasons = (entry.left_out for entry in self.entries())
        return collections.Counter(reason for reason in reasons if reason)


@dataclasses.dataclass(frozen=True)
class Folder(Files, Tree):
    """The photographs below a folder of a disk or an object store, any number of folders down."""

    folder: str

    def entries(self) -> Iterator[trees.Entry]:
        return trees.entries(self.folder)

    def path(self, name: str) -> str:
        return posixpath.join(self.folder, name)


@dataclasses.dataclass(frozen=True)
class SingleFiles(Files):
    """Photographs that were named one by one, as they were named."""

    given: tuple[str, ...]

    def names(self) -> Iterator[tuple[str, int]]:
        for name in self.given:
            yield name, self.size(name)

    def path(self, name: str) -> str:
        return name


@dataclasses.dataclass(frozen=True)
class Pattern(Files):
    """The photographs that match a pattern, named by their path below its fixed folder.

    The pattern is a shell's: `*` stays within a folder, `**` stands for any number of folders, and
    hidden files do not match.
    """

    pattern: str

    @functools.cached_property
    def _fixed(self) -> str:
        """The folder below which all matches lie."""
        before, _, _ = PATTERN_CHARACTER.sub("\0", self.pattern).partition("\0")
        return before[: before.rindex("/") + 1]

    def names(self) -> Iterator[tuple[str, int]]:
        if files.is_remote(self.pattern):
            for path, size in files.matches(self.pattern).items():
                if trees.is_photograph(path):
                    yield path.removeprefix(self._fixed), size
            return
        for path in glob.iglob(self.pattern, recursive=True):
            if trees.is_photograph(path) and Path(path).is_file():
                yield path.removeprefix(self._fixed), Path(path).stat().st_size

    def path(self, name: str) -> str:
        return self._fixed + name


def read_file(path: str) -> bytes:
    """Return the bytes of one photograph's file, on a disk or in an object store.

    Raises:
      RejectedImage: as `Source.read`; `unreadable` also if it is no regular file, such as a pipe,
        which would never end.
      OSError: as `Source.read`.
    """
    return b"".join(file_blocks(path, size=decoding.MAX_BYTES))


def file_blocks(path: str, *, size: int = _BLOCK) -> Iterator[bytes]:
    """Yield the bytes of a file, at most so many at a time; of an object in a store, all at once.

    Raises:
      RejectedImage, OSError: as `read_file`.
    """
    if files.is_remote(path):
        with _file_is_rejected():
            data = files.read(path, length=decoding.MAX_BYTES + 1)
        check_bytes(len(data))
        yield data
        return
    with _file_is_rejected():
        status = os.stat(path)
        _check_regular(status)
        check_bytes(status.st_size)
        stream = files.open_file(path)
    left = status.st_size + 1  # A read reserves memory for its whole length.
    with stream:
        while left > 0 and (block := stream.read(min(size, left))):
            left -= len(block)
            yield block


@contextlib.contextmanager
def _file_is_rejected() -> Iterator[None]:
    """Reject a file that cannot be opened for a reason of its own: it is gone, or forbidden."""
    try:
        yield
    except decoding.RejectedImage:  # It is a ValueError too.
        raise
    except ValueError as error:  # The name holds NUL.
        raise decoding.RejectedImage("unreadable", str(error)) from error
    except OSError as error:
        if error.errno not in _OF_FILE:
            raise
        raise decoding.RejectedImage("unreadable", error.strerror or str(error)) from error


def _check_regular(status: os.stat_result) -> None:
    """Refuse what is no regular file.

    Raises:
      RejectedImage: `unreadable`; says what it is.
    """
    if not stat.S_ISREG(status.st_mode):
        raise decoding.RejectedImage("unreadable", f"it is {_kind(status.st_mode)}")


def _kind(mode: int) -> str:
    if stat.S_ISDIR(mode):
        return "a folder"
    return "a pipe or socket" if stat.S_ISFIFO(mode) or stat.S_ISSOCK(mode) else "a device"


def check_bytes(size: int) -> None:
    """Refuse a file that is too large for a photograph.

    Raises:
      RejectedImage: `too_large`: the file has more than decoding.MAX_BYTES.
    """
    if size > decoding.MAX_BYTES:
        raise decoding.RejectedImage("too_large", f"more than {decoding.MAX_BYTES} bytes")
