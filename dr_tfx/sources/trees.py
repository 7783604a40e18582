"""The photographs of a tree of folders, on a disk, in an object store or in an archive.

All files that look like photographs are taken, any number of folders down, except

- hidden ones, and those that computers make by themselves (`._x.jpeg`, `__MACOSX`, `@eaDir`);
- those below folders called `mask` or `masks`: masks have the names of their photographs;
- those below folders that hold results of our own commands, such as heat maps.

The last two are counted, and a person who means them can give their folder itself.
"""

import collections
import errno
import os
import posixpath
from collections.abc import Collection, Iterable, Iterator
from typing import NamedTuple

from dr_tfx.preprocessing import decoding
from dr_tfx.storage import files, seen_text

CONTACT_SHEET_FILE = "contact_sheet.png"
UNGRADABLE_FILE = "ungradable.png"
_OWN_PICTURES = {CONTACT_SHEET_FILE, UNGRADABLE_FILE}  # A build makes them: no photographs.
_BY_COMPUTERS = {"__MACOSX", "@eaDir"}  # macOS and Synology keep pictures of their own there.
_MASKS = {"mask", "masks"}
# A folder with one of these files was written by drtfx-train, -compare, -explain or -predict.
_RESULTS = ("bundle.json", "compare.json", "explain.json", "predictions.csv")
IN_MASKS, IN_RESULTS = "in folders called mask or masks", "in folders of results"
_SHOWN = 5  # Folders that a sentence names.


class Entry(NamedTuple):
    """A file that looks like a photograph."""

    name: str  # The path below the tree's root, with `/`.
    size: int  # Bytes.
    left_out: str  # The reason why it is not taken; "" for a photograph.


def entries(root: str) -> Iterator[Entry]:
    """Yield what looks like a photograph below a folder of a disk or of an object store."""
    if files.is_remote(root):
        yield from sort_out(files.below(root).items())
    else:
        yield from _walk(root)


def sort_out(listing: Collection[tuple[str, int]]) -> Iterator[Entry]:
    """Yield what looks like a photograph among the paths and sizes of all files of a tree."""
    results = {
        posixpath.dirname(name) for name, _ in listing if posixpath.basename(name) in _RESULTS
    }
    for name, size in listing:
        if is_photograph(name) and not any(map(is_hidden, name.split("/"))):
            yield Entry(name, size, _left_out(posixpath.dirname(name), results))


def is_photograph(name: str) -> bool:
    """Tell whether a file is a photograph, judged by its own name alone."""
    base = posixpath.basename(name)
    known = posixpath.splitext(base)[1].lower() in decoding.EXTENSIONS
    return known and base not in _OWN_PICTURES and not is_hidden(base)


def is_hidden(part: str) -> bool:
    """Tell whether a file or folder of this name is none that a person has put there."""
    # macOS puts a file ._x.jpeg beside x.jpeg, which is no photograph.
    return part.startswith(".") or part in _BY_COMPUTERS


def describe(names: Iterable[str]) -> str:
    """Return a sentence on how many photographs lie in which folders, the fullest first."""
    count = collections.Counter(map(posixpath.dirname, names))
    fullest = count.most_common(_SHOWN)
    told = [
        f"{n:,} in {seen_text.printable(folder) or 'the folder itself'}" for folder, n in fullest
    ]
    if rest := len(count) - len(fullest):
        others = count.total() - sum(n for _, n in fullest)
        told.append(f"{others:,} in {rest:,} more folders")
    return f"{count.total():,} photographs: {', '.join(told)}"


def _walk(root: str) -> Iterator[Entry]:
    """Yield the entries below a folder of a disk. Each folder is visited once.

    Links are followed after all that lies in the tree itself, so that what they point to is named
    by its own place if that is in the tree, and so that a link to a parent ends there.
    """
    real, links = collections.deque([""]), collections.deque[str]()
    visited, results = set(), set()
    while real or links:
        below = (real or links).popleft()
        folder = posixpath.join(root, below)
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in visited:
            continue
        visited.add((status.st_dev, status.st_ino))
        if below and any(os.path.exists(posixpath.join(folder, name)) for name in _RESULTS):
            results.add(below)
        why, inside = _left_out(below, results), []
        with os.scandir(folder) as found:
            for entry in found:
                if entry.is_symlink() and _leads_nowhere(entry):
                    continue
                if entry.is_dir():
                    inside.append((entry.name, entry.is_symlink()))
                elif is_photograph(entry.name) and entry.is_file():
                    name = posixpath.join(below, entry.name)
                    yield Entry(name, entry.stat().st_size, why)
        for name, is_link in sorted(inside):
            if not is_hidden(name):
                (links if is_link else real).append(posixpath.join(below, name))


def _leads_nowhere(link: os.DirEntry[str]) -> bool:
    """Tell whether a link leads to nothing, or to itself."""
    try:
        link.stat()
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
            return True
        raise
    return False


def _left_out(folder: str, results: Collection[str]) -> str:
    """Return the reason why the photographs of a folder are not taken, or "".

    Args:
      folder: its path below the root; "" for the root, which a person has named and is taken.
      results: the folders with results of our own.
    """
    while folder:
        if posixpath.basename(folder).lower() in _MASKS:
            return IN_MASKS
        if folder in results:
            return IN_RESULTS
        folder = posixpath.dirname(folder)
    return ""
