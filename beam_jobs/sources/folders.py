"""What a source of photographs is, and the plainest: files in folders of any file system.

A source lists the names of photographs and reads one of them. It travels to the workers, so that it
is small, can be pickled and imports little. `archives` and `arrays` have the others.
"""

import abc
import dataclasses
import functools
import glob
import os
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import numpy as np
from apache_beam.io.filesystems import FileSystems

from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding, recipes
from dr_tfx.storage import files

CONTACT_SHEET_FILE = "contact_sheet.png"
UNGRADABLE_FILE = "ungradable.png"
_OWN_PICTURES = {CONTACT_SHEET_FILE, UNGRADABLE_FILE}  # Of a data set, and no photographs.
PATTERN_CHARACTER = re.compile(r"[*?[]")


class Source(abc.ABC):
    """A set of photographs, each under a name that is unique in it."""

    is_prepared: ClassVar[bool] = False  # Already: `prepare` applies no recipe and no gate.

    @abc.abstractmethod
    def names(self) -> Iterator[tuple[str, int]]:
        """Name and size in bytes of every photograph, in any order."""

    @abc.abstractmethod
    def read(self, name: str) -> bytes:
        """The bytes of one photograph: those of two are equal where the photographs are.

        Raises:
          RejectedImage: `unreadable`; it is gone, may not be read, or is damaged in its archive.
            `too_large`: over decoding.MAX_BYTES, no more of which are read.
          OSError: anything else, which may be the fault of a disk or network and not of the file.
        """

    @abc.abstractmethod
    def path(self, name: str) -> str:
        """Where a person finds it."""

    def modified(self, name: str) -> float:
        """When a photograph was last changed, in seconds since 1970; 0 where that is not known."""
        return files.modified(self.path(name))

    def prepare(self, data: bytes, recipe: specs.Recipe) -> recipes.Picture:
        """Return the photograph that `read` gave as an example holds it.

        Raises:
          RejectedImage: see `recipes.apply_recipe`.
        """
        return recipes.apply_recipe(data, recipe)

    def thumbnail(self, data: bytes, side: int) -> np.ndarray:
        """Return the photograph that `read` gave as people see it, uint8 RGB (height, width, 3).

        Its shorter side has at least `side` pixels, unless the photograph itself has fewer; where
        the format allows, it has not many more.

        Raises:
          RejectedImage: see `recipes.show`.
        """
        return recipes.show(data, at_least=side)


@dataclasses.dataclass(frozen=True)
class Folder(Source):
    """The photographs of a folder, not of those below it; any file system that Beam knows."""

    folder: str

    def names(self) -> Iterator[tuple[str, int]]:
        if files.is_remote(self.folder):
            yield from _matches(f"{self.folder}/*", below=f"{self.folder}/")
        elif Path(self.folder).is_dir():
            with os.scandir(self.folder) as entries:
                for entry in entries:
                    if is_photograph(entry.name) and entry.is_file():
                        yield entry.name, entry.stat().st_size

    def read(self, name: str) -> bytes:
        return _read(self.path(name))

    def path(self, name: str) -> str:
        return posixpath.join(self.folder, name)


@dataclasses.dataclass(frozen=True)
class Pattern(Source):
    """The photographs that match a pattern, named by their path from its fixed folder on.

    On a disk, as a shell does: `*` stays within a folder, `**` is any number of folders, hidden
    files do not match. In an object store as Beam does: there, `**/` is one folder at least.
    """

    pattern: str

    @functools.cached_property
    def _fixed(self) -> str:
        """The folder below which all matches are."""
        before, _, _ = PATTERN_CHARACTER.sub("\0", self.pattern).partition("\0")
        return before[: before.rindex("/") + 1]

    def names(self) -> Iterator[tuple[str, int]]:
        if files.is_remote(self.pattern):
            yield from _matches(self.pattern, below=self._fixed)
            return
        for path in glob.iglob(self.pattern, recursive=True):
            if is_photograph(path) and Path(path).is_file():
                yield path.removeprefix(self._fixed), Path(path).stat().st_size

    def read(self, name: str) -> bytes:
        return _read(self.path(name))

    def path(self, name: str) -> str:
        return self._fixed + name


def _matches(pattern: str, *, below: str) -> Iterator[tuple[str, int]]:
    (found,) = FileSystems.match([pattern])
    for file in found.metadata_list:
        if is_photograph(file.path):
            yield file.path.removeprefix(below), file.size_in_bytes


def _read(path: str) -> bytes:
    try:
        # A read reserves all of its length: on a disk, no more than the file has.
        size = decoding.MAX_BYTES if files.is_remote(path) else Path(path).stat().st_size
        data = files.read(path, length=min(size, decoding.MAX_BYTES) + 1)
    except (FileNotFoundError, PermissionError) as error:
        raise decoding.RejectedImage("unreadable", error.strerror or str(error)) from error
    check_bytes(len(data))
    return data


def check_bytes(size: int) -> None:
    """Refuses what is too large for a photograph.

    Raises:
      RejectedImage: `too_large`; over decoding.MAX_BYTES.
    """
    if size > decoding.MAX_BYTES:
        raise decoding.RejectedImage("too_large", f"more than {decoding.MAX_BYTES} bytes")


def is_photograph(name: str) -> bool:
    """Whether a file's name is that of a photograph; not whether it is one."""
    base = posixpath.basename(name)
    if base in _OWN_PICTURES:
        return False
    # macOS puts a file ._x.jpeg, which is none, beside x.jpeg.
    return posixpath.splitext(base)[1].lower() in decoding.EXTENSIONS and not base.startswith(".")
