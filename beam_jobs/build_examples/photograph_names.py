r"""The names of photographs, as a CSV, a file system or an archive write them.

A name is a path: folders, a stem and an extension, each of which may be missing but the stem. Two
spellings of one path are equal here: `/` and Windows' `\`, composed Unicode and macOS' decomposed
one. Where a CSV gives folders or an extension, they decide which photograph a row is about. The
stem of a frame is its file and its number: that of `a/b.dcm/frame_0002` is `b.dcm/frame_0002`.
"""

import collections
import itertools
import re
import unicodedata
from collections.abc import Iterable
from typing import NamedTuple

from dr_tfx.preprocessing import decoding
from dr_tfx.sources import frames
from dr_tfx.storage import seen_text

_FROM_ROOT = re.compile(r"[A-Za-z][\w+.-]*://|[A-Za-z]:/|/")  # A store, a drive or a disk.
_EXTENSIONS = frozenset(extension.removeprefix(".") for extension in decoding.EXTENSIONS)
_PACKED = ".zip"  # An archive train.zip stands for a folder train.


class NameParts(NamedTuple):
    """The parts of a path."""

    folders: tuple[str, ...]
    stem: str
    extension: str  # That of a photograph, with its dot, as it is written; "" if there is none.

    def ending(self, depth: int) -> str:
        """Return the last folders, so many or all there are, and the stem."""
        return "/".join((*self.folders[max(len(self.folders) - depth, 0) :], self.stem))


def normalise(name: str) -> str:
    """Return a path in the one spelling that all paths are compared in.

    `.` and `..` are resolved, and what leads out of the path is dropped, so that no id made of it
    leaves a folder. A path that begins at a disk, drive or object store begins with `/`.
    """
    name = unicodedata.normalize("NFC", name)
    if "/" not in name and "\\" not in name and name not in (".", ".."):
        return name
    name = name.replace("\\", "/")
    root = _FROM_ROOT.match(name)
    kept: list[str] = []
    for part in name[root.end() if root else 0 :].split("/"):
        if part == "..":
            del kept[-1:]
        elif part not in ("", "."):
            kept.append(part)
    return ("/" if root else "") + "/".join(kept)


def parts(path: str) -> NameParts:
    """Return the parts of a path that `normalise` returned."""
    stem, extension = _split(base_of(path))
    *folders, _ = frames.file_of(path).removeprefix("/").split("/")
    return NameParts(tuple(f.removesuffix(_PACKED) for f in folders), stem, extension)


def identify(name: str) -> str:
    """Return the stem of a name: the id of a photograph whose stem no other photograph has.

    Unicode is composed (NFC), because macOS decomposes the names of files, and a CSV most often
    does not. Characters that are not seen are written as `\\u202e`, so that a name is what it looks
    like wherever it is shown.
    """
    return stem_of(normalise(name))


def stem_of(path: str) -> str:
    """Return the stem of a path that `normalise` returned, as `identify` does."""
    return seen_text.printable(_split(base_of(path))[0])


def base_of(path: str) -> str:
    """Return a path that `normalise` returned without its folders."""
    above = frames.file_of(path).rpartition("/")[0]
    return path.removeprefix(f"{above}/") if above else path.removeprefix("/")


def _split(base: str) -> tuple[str, str]:
    """Return the stem of a file's name and the extension of a photograph, "" if it has none."""
    stem, dot, extension = base.rpartition(".")
    if extension.lower() in _EXTENSIONS and stem.strip("."):  # A name such as .png has none.
        return stem, dot + extension
    return base, ""


def spell(name: str) -> str:
    """Return the name of a patient or the like as it is shown and compared: NFC, and all seen."""
    return seen_text.printable(unicodedata.normalize("NFC", name))


def distinct(paths: Iterable[str]) -> dict[str, str]:
    """Return path -> id of paths whose stems are not unique.

    An id is the shortest ending that no other path has. Where paths differ by nothing but their
    extensions, it has the extension too; a path without one is that of any.

    Args:
      paths: what `normalise` returned: with a path, all others of its stem.
    """
    split = {path: parts(path) for path in set(paths)}
    extensions: dict[tuple[tuple[str, ...], str], set[str]] = collections.defaultdict(set)
    for part in split.values():
        extensions[part.folders, part.stem] |= {part.extension} - {""}
    is_one_kind = {whole for whole, kinds in extensions.items() if len(kinds) < 2}
    for path, part in split.items():
        if (part.folders, part.stem) in is_one_kind:
            split[path] = part._replace(extension="")
    rest = set(split.values())
    deepest = max((len(part.folders) for part in rest), default=0)
    ids: dict[NameParts, str] = {}
    for depth in range(deepest + 1):
        count = collections.Counter(part.ending(depth) for part in rest)
        ids |= {part: part.ending(depth) for part in rest if count[part.ending(depth)] == 1}
        rest = {part for part in rest if part not in ids}
    ids |= {part: part.ending(deepest) + part.extension for part in rest}
    return {path: seen_text.printable(ids[part]) for path, part in split.items()}


def common_folders(paths: Iterable[str]) -> int:
    """Return the number of leading folders that all paths from a root share."""
    shared: tuple[str, ...] | None = None
    for path in paths:
        if path.startswith("/"):
            folders = parts(path).folders
            pairs = zip(folders if shared is None else shared, folders, strict=False)
            shared = tuple(
                a for a, _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs)
            )
    return len(shared or ())


class PhotographEndings:
    """Photographs that are found by the endings of their paths."""

    def __init__(self, photographs: Iterable[tuple[str, str]]):
        """Take (path, name) of every photograph: the whole path, and the part below its source."""
        paths, names = zip(*photographs, strict=True)
        self._paths = [parts(normalise(path)) for path in paths]
        self._names = [parts(normalise(name)) for name in names]
        self._by_depth: dict[tuple[int, bool], dict[str, list[int]]] = {}

    def find(self, path: str, *, common: int = 0) -> list[int]:
        """Return the places of the photographs that a path of a CSV may mean; one is the answer.

        All folders of the path must be those of the photograph. A path from the root may be that of
        another computer, and of what all such paths share one folder is enough.

        Args:
          path: what `normalise` returned.
          common: what `common_folders` says of all paths of the CSV.
        """
        wanted = parts(path)
        count = len(wanted.folders)
        least = min(count, max(1, count - common)) if path.startswith("/") else count
        for depth in range(count, least - 1, -1):
            if found := self._ending(depth, wanted):
                return self._likeliest(found, wanted)
        return []

    def _ending(self, depth: int, wanted: NameParts) -> list[int]:
        """Return the photographs with these last folders, this stem and, if given, extension."""
        key = (depth, bool(wanted.extension))
        if key not in self._by_depth:
            places = self._by_depth[key] = collections.defaultdict(list)
            for place, part in enumerate(self._paths):
                if len(part.folders) >= depth:
                    extension = part.extension.lower() if wanted.extension else ""
                    places[part.ending(depth) + extension].append(place)
        return self._by_depth[key].get(wanted.ending(depth) + wanted.extension.lower(), [])

    def _likeliest(self, found: list[int], wanted: NameParts) -> list[int]:
        """Return the one that is spelt as wanted, or of one kind lies just there, or else all."""
        spelt = [i for i in found if self._names[i].extension == wanted.extension]
        found = spelt or found
        there = [i for i in found if self._names[i].folders == wanted.folders]
        is_one_kind = len({self._names[i].extension.lower() for i in found}) == 1
        return there if len(there) == 1 and is_one_kind else found
