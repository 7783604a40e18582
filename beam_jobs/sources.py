"""Where photographs come from. A source lists their names and reads one of them.

A source travels to the workers, so that it is small, can be pickled and imports little.
"""

import collections
import dataclasses
import posixpath
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from beam_jobs import output
from dr_tfx import images


class Source(Protocol):
    """A set of photographs, each under a name that is unique in it."""

    def names(self) -> Iterator[tuple[str, int]]:
        """Name and size in bytes of every photograph, sorted by name."""

    def read(self, name: str) -> bytes:
        """The bytes of one photograph."""

    def path(self, name: str) -> str:
        """Where a person finds it."""


def open_source(image_dir: str) -> Source:
    """The source that `--image_dir` means.

    Raises:
      FileNotFoundError: there is no such folder.
      ValueError: it holds no photograph.
    """
    source = Folder(output.absolute(image_dir))
    if next(source.names(), None):
        return source
    if not output.exists(source.folder):
        raise FileNotFoundError(f"{image_dir} does not exist; --image_dir names a folder")
    below = collections.Counter(
        path.parent for path in Path(source.folder).glob("*/*") if _is_photograph(path.name)
    )
    if below:
        ((folder, count),) = below.most_common(1)
        raise ValueError(
            f"{image_dir} holds no photographs itself, {folder} holds {count}: pass "
            f"--image_dir={folder}"
        )
    raise ValueError(f"{image_dir} holds no photographs ({', '.join(images.EXTENSIONS)})")


@dataclasses.dataclass(frozen=True)
class Folder:
    """The photographs of a folder, not of those below it; any file system that Beam knows."""

    folder: str

    def names(self) -> Iterator[tuple[str, int]]:
        for name, size in sorted(output.sizes(self.folder).items()):
            if _is_photograph(name):
                yield name, size

    def read(self, name: str) -> bytes:
        return output.read(self.path(name))

    def path(self, name: str) -> str:
        return posixpath.join(self.folder, name)


def _is_photograph(name: str) -> bool:
    return posixpath.splitext(name)[1].lower() in images.EXTENSIONS
