"""Finds the source of photographs that a flag means, and what may have been meant instead."""

import collections
import posixpath
import re
import shlex
from pathlib import Path

from beam_jobs.sources import archives, arrays, folders, refusals
from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding
from dr_tfx.storage import files

_KNOWN = ", ".join(decoding.EXTENSIONS)
_SPLIT_ARCHIVE = re.compile(r"(.+\.zip)\.\d{2,}", re.IGNORECASE)


def open_photographs(place: str, recipe: specs.Recipe) -> folders.Source:
    """Return the source that `--image_dir` or `--npy_images` means.

    Raises:
      FileNotFoundError, ValueError: as `open_source` and `arrays.open_arrays`.
    """
    if place.lower().endswith((".npy", ".npz")):
        return arrays.open_arrays(place, recipe)
    return open_source(place)


def open_source(image_dir: str) -> folders.Source:
    """Return the source that `--image_dir` means.

    Args:
      image_dir: a folder; or a pattern such as `raw/*/*.jpeg`; or a `.zip` archive. Each of them
        is on a disk or in an object store. A name that exists is taken as it is. A pattern is a
        name with `*`, `?` or `[` that no file or folder of the disk has, or any such name in an
        object store.

    Raises:
      FileNotFoundError: there is no such folder or archive, or no photograph matches.
      ValueError: it holds no photograph, or the archive cannot be used.
    """
    place = files.absolute(image_dir)
    is_remote = files.is_remote(place)
    is_file = files.exists(place) and (is_remote or not Path(place).is_dir())
    if is_file and place.lower().endswith(".zip"):
        return archives.open_archive(place)
    if part := _SPLIT_ARCHIVE.fullmatch(place) or _part_of(place):
        whole = shlex.quote(part[1])
        raise refusals.UnusableInput(
            "{place}: an archive in parts cannot be read. Join them and pass the whole one: "
            "cat {whole}.* > {whole}",
            place=image_dir,
            whole=whole,
        )
    if is_file and not is_remote:
        raise refusals.UnusableInput(
            "{place} is a file; {image_dir} takes a folder, a pattern such as 'raw/*/*.jpeg' or a "
            ".zip archive",
            place=image_dir,
        )
    if folders.PATTERN_CHARACTER.search(place) and (is_remote or not Path(place).exists()):
        matched = folders.Pattern(place)
        if not next(matched.names(), None):
            raise refusals.MissingInput(
                "{place}: no photograph ({known}) matches this pattern. Is its folder the right "
                "one? (A bracket itself is written [[])",
                place=image_dir,
                known=_KNOWN,
            )
        return matched
    folder = folders.Folder(place)
    if not next(folder.names(), None):
        raise _nothing_in(image_dir, place)
    return folder


def _part_of(place: str) -> re.Match[str] | None:
    """Return a match whose first group is the archive, if only the first part of one exists."""
    first = f"{place}.001"
    if not place.lower().endswith(".zip") or files.exists(place) or not files.exists(first):
        return None
    return _SPLIT_ARCHIVE.fullmatch(first)


def _nothing_in(image_dir: str, folder: str) -> refusals.UnusableInput:
    """Return an error that says why a folder has no photograph, and what may have been meant."""
    if not files.exists(folder):
        return refusals.MissingInput(
            "{place} does not exist; {image_dir} names a folder, a pattern such as 'raw/*/*.jpeg' "
            "or a .zip archive",
            place=image_dir,
        )
    below = collections.Counter(
        path.parent
        for path in Path(folder).glob("*/*")
        if folders.is_photograph(path.name) and path.is_file()
    )
    if len(below) > 1:
        ((inside, count),) = below.most_common(1)
        pattern = shlex.quote(f"{image_dir.rstrip('/')}/*/*")
        return refusals.UnusableInput(
            "{place} holds no photographs itself, {folders} folders in it hold {total}, {inside} "
            "the most of them, {count}: pass {image_dir}={inside}, or all as "
            "{image_dir}={pattern}",
            place=image_dir,
            folders=len(below),
            total=below.total(),
            inside=inside,
            count=count,
            pattern=pattern,
        )
    if below:
        ((inside, count),) = below.items()
        return refusals.UnusableInput(
            "{place} holds no photographs itself, {inside} holds {count}: pass "
            "{image_dir}={inside}",
            place=image_dir,
            inside=inside,
            count=count,
        )
    if packed := sorted(path.name for path in Path(folder).glob("*.zip*")):
        return refusals.UnusableInput(
            "{place} holds no photographs ({known}), but {archive}: pass {image_dir}={path}",
            place=image_dir,
            known=_KNOWN,
            archive=packed[0],
            path=posixpath.join(folder, packed[0]),
        )
    return refusals.UnusableInput(
        "{place} holds no photographs ({known})", place=image_dir, known=_KNOWN
    )
