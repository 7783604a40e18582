"""The interface of a source of photographs, and the sources that are files in folders.

A source lists the names of photographs and reads one of them. It travels to the workers, so it is
small, can be pickled and imports little. `archives`, `arrays` and `several` have the other sources.
"""

import abc
import collections
import dataclasses
import functools
import glob
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np

from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding, recipes
from dr_tfx.sources import trees
from dr_tfx.storage import files

PATTERN_CHARACTER = re.compile(r"[*?[]")


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

    @abc.abstractmethod
    def path(self, name: str) -> str:
        """Return the place where a person finds the photograph."""

    def modified(self, name: str) -> float:
        """Return when a photograph was last changed, in seconds since 1970; 0 if unknown."""
        return files.modified(self.path(name))

    def prepare(self, data: bytes, recipe: specs.Recipe) -> recipes.Picture:
        """Return a photograph as an example holds it, from the bytes that `read` returned.

        Raises:
          RejectedImage: as `recipes.apply_recipe`.
        """
        return recipes.apply_recipe(data, recipe)

    def thumbnail(self, data: bytes, side: int) -> np.ndarray:
        """Return a photograph as people see it, from what `read` returned: uint8 RGB (h, w, 3).

        Its shorter side has at least `side` pixels, unless the photograph itself has fewer. If the
        format allows, it has not many more.

        Raises:
          RejectedImage: as `recipes.show`.
        """
        return recipes.show(data, at_least=side)


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
class Folder(Tree):
    """The photographs below a folder of a disk or an object store, any number of folders down."""

    folder: str

    def entries(self) -> Iterator[trees.Entry]:
        return trees.entries(self.folder)

    def read(self, name: str) -> bytes:
        return _read(self.path(name))

    def path(self, name: str) -> str:
        return posixpath.join(self.folder, name)


@dataclasses.dataclass(frozen=True)
class Pattern(Source):
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

    def read(self, name: str) -> bytes:
        return _read(self.path(name))

    def path(self, name: str) -> str:
        return self._fixed + name


def _read(path: str) -> bytes:
    try:
        # A read reserves memory for its whole length, so it must not exceed the file's size.
        size = decoding.MAX_BYTES if files.is_remote(path) else Path(path).stat().st_size
        data = files.read(path, length=min(size, decoding.MAX_BYTES) + 1)
    except (FileNotFoundError, PermissionError) as error:
        raise decoding.RejectedImage("unreadable", error.strerror or str(error)) from error
    check_bytes(len(data))
    return data


def check_bytes(size: int) -> None:
    """Refuse a file that is too large for a photograph.

    Raises:
      RejectedImage: `too_large`: the file has more than decoding.MAX_BYTES.
    """
    if size > decoding.MAX_BYTES:
        raise decoding.RejectedImage("too_large", f"more than {decoding.MAX_BYTES} bytes")
