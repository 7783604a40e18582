"""Folders of results, in which nobody's own files are overwritten.

A command writes a JSON file of its own, its mark, into its folder before anything else. A file
under the name of a result in a folder without the mark is somebody else's, and stays.
"""

import fnmatch
import os
import posixpath
from collections.abc import Collection, Mapping
from pathlib import Path

from dr_tfx.storage import files

_SHOWN = 3  # Files that a message names.
_MOST_BYTES = 1 << 24  # Of a mark, in which its keys are looked for.


def check(folder: str | Path, *, mark: str, key: str, results: Collection[str]) -> None:
    """Refuse a folder that holds somebody else's files under the names of results.

    Args:
      folder: on a disk; it need not exist.
      mark: the name of the mark.
      key: one that the mark has, and somebody else's file of the same name has not.
      results: patterns of names, such as `*.png`, of all that is going to be written beside it.

    Raises:
      FileExistsError: names some of these files.
    """
    if found := foreign(os.fspath(folder), marks={mark: key}, results=[mark, *results]):
        raise FileExistsError(
            f"{folder} holds {described(found)}, which this command did not make and would "
            "overwrite. Choose a new or an empty folder, or move that away"
        )


def foreign(folder: str, *, marks: Mapping[str, str], results: Collection[str]) -> list[str]:
    """Return the names in a folder that results would take and that somebody else has.

    Args:
      folder: on a disk or in an object store.
      marks: a key of each mark, of which one is enough.
      results: patterns of names.
    """
    if files.is_remote(folder):
        names: Collection[str] = files.sizes(folder)
    else:
        names = os.listdir(folder) if os.path.isdir(folder) else ()
    taken = sorted(n for n in names if any(fnmatch.fnmatchcase(n, one) for one in results))
    if taken and any(_is_mark(posixpath.join(folder, m), key) for m, key in marks.items()):
        return []
    return taken


def described(names: Collection[str]) -> str:
    """Return the first of some names, for a message."""
    more = len(names) - _SHOWN
    return ", ".join(list(names)[:_SHOWN]) + (f" and {more:,} more" if more > 0 else "")


def _is_mark(path: str, key: str) -> bool:
    """Tell whether a file has a key, also where it is damaged and no JSON any more."""
    try:
        return f'"{key}"'.encode() in files.read(path, length=_MOST_BYTES)
    except OSError:
        return False
