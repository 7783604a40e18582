"""The frames of DICOM files as photographs of their own: `series.dcm/frame_0001` and so on.

A file of several frames is to whoever reads photographs what a folder is, as an archive is one. So
nothing behind a source knows of frames. A recipe says whether its pictures are frames
(`recipes.takes_frames`); with the others, a file stays one photograph, and its first frame counts.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import re
from collections.abc import Callable, Iterator
from itertools import islice
from typing import NamedTuple

from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding, dicom_elements, dicom_split, recipes
from dr_tfx.sources import folders

_ENDING = ".dcm"  # Other files are not opened to see whether they have frames.
_FRAME = re.compile(rf"(.+(?i:\{_ENDING}))/frame_(\d{{4,}})", re.DOTALL)
_THREADS, _AHEAD = 8, 1024  # Headers that are read at the same time, and names that are listed.
_HEADERS = 16  # Files whose headers a process keeps.


class FrameName(NamedTuple):
    """The name of a frame, in its parts."""

    file: str
    frame: int  # From 0 on; in the name from 1 on, as DICOM counts them.

    def __str__(self) -> str:
        return f"{self.file}/frame_{self.frame + 1:04}"


def parts(name: str) -> FrameName | None:
    """Return the parts of the name of a frame; None for that of a file."""
    found = _FRAME.fullmatch(name) if "/frame_" in name else None
    return FrameName(found[1], int(found[2]) - 1) if found else None


def file_of(name: str) -> str:
    """Return the file of a frame; of a file, that itself."""
    found = parts(name)
    return found.file if found else name


@dataclasses.dataclass(frozen=True)
class Frames(folders.Source):
    """The photographs of a source, where the frames of each DICOM file are photographs."""

    files: folders.Source

    def names(self) -> Iterator[tuple[str, int]]:
        """Yield name and size of every photograph. Frames share the bytes of their file."""
        listing = self.files.names()
        with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
            while piece := list(islice(listing, _AHEAD)):
                counts = pool.map(self._count, (name for name, _ in piece))
                for (name, size), count in zip(piece, counts, strict=True):
                    if count == 1:
                        yield name, size
                        continue
                    for frame in range(count):
                        yield str(FrameName(name, frame)), size // count + (frame < size % count)

    def left_out(self) -> collections.Counter[str]:
        return self.files.left_out()

    def read(self, name: str) -> bytes:
        found = parts(name)
        if found is None:
            return self.files.read(name)
        folders.check_bytes(self.size(name))
        part = functools.partial(self.files.part, found.file)
        return _read(functools.partial(self._cut, found.file), found.frame, part)

    def blocks(self, name: str) -> Iterator[bytes]:
        return super().blocks(name) if parts(name) else self.files.blocks(name)

    def size(self, name: str) -> int:
        found = parts(name)
        if found is None:
            return self.files.size(name)
        try:
            start, end = self._cut(found.file).spans[found.frame]
        except (*dicom_elements.DAMAGE, IndexError):
            return 0
        return end - start

    def path(self, name: str) -> str:
        return self.files.path(name)

    def modified(self, name: str) -> float:
        return self.files.modified(file_of(name))

    def _count(self, name: str) -> int:
        if not name.lower().endswith(_ENDING):
            return 1
        return dicom_split.count(functools.partial(self.files.part, name))

    def _cut(self, file: str) -> dicom_split.CutFile:
        return _opened(self.files, file, self.files.modified(file))


@functools.lru_cache(maxsize=_HEADERS)
def _opened(files: folders.Source, name: str, modified: float) -> dicom_split.CutFile:
    """Return a file whose header was read, once for all frames of it."""
    del modified  # A file that was written anew is another one.
    return dicom_split.cut(functools.partial(files.part, name))


def _read(opened: Callable[[], dicom_split.CutFile], frame: int, part: dicom_split.Part) -> bytes:
    """Return the file of one frame.

    Raises:
      RejectedImage: `unreadable`: the file is damaged, or ends before the frame.
    """
    try:
        return opened().file(frame, part)
    except decoding.RejectedImage:  # It is a ValueError too.
        raise
    except dicom_elements.DAMAGE as error:
        words = str(error) or "the file is cut short"
        raise decoding.RejectedImage("unreadable", f"DICOM: {words}") from error


def in_bytes(name: str, data: bytes, recipe: specs.Recipe) -> list[tuple[str, Callable[[], bytes]]]:
    """Return the photographs in the bytes of a file: the name of each, and what reads it.

    Args:
      name: that of the file, which may have any ending.
      data: its bytes, of which no copy is made before a frame is read.
      recipe: says whether frames are photographs.
    """

    def part(offset: int, length: int) -> bytes:
        return data[offset : offset + length]

    count = dicom_split.count(part) if recipes.takes_frames(recipe) else 1
    if count == 1:
        return [(name, lambda: data)]
    opened = functools.cache(functools.partial(dicom_split.cut, part))
    return [
        (
            str(FrameName(name, frame)).removeprefix("/"),
            functools.partial(_read, opened, frame, part),
        )
        for frame in range(count)
    ]


def split(source: folders.Source, recipe: specs.Recipe) -> folders.Source:
    """Return the photographs of a source as a recipe takes them: frames, or files."""
    is_split = recipes.takes_frames(recipe) and not source.is_prepared
    return Frames(source) if is_split else source
