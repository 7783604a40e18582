"""Which source `--image_dir` or `--npy_images` means, and what else may have been meant."""

import collections
import posixpath
import re
import shlex
from pathlib import Path

from beam_jobs.sources import archives, arrays, folders
from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding
from dr_tfx.storage import files

_SPLIT_ARCHIVE = re.compile(r"(.+\.zip)\.\d{2,}", re.IGNORECASE)


def open_photographs(place: str, recipe: specs.Recipe) -> folders.Source:
    """The source that either flag means: `open_source`'s or `arrays.open_arrays`'."""
    if place.lower().endswith((".npy", ".npz")):
        return arrays.open_arrays(place, recipe)
    return open_source(place)


def open_source(image_dir: str) -> folders.Source:
    """The source that `--image_dir` means.

    Args:
      image_dir: a folder; or a pattern such as `raw/*/*.jpeg`; or a `.zip` archive. Each on a disk
        or wherever Beam can read. What exists is taken as it is: only a name that no file of the
        disk has, and every name with `*`, `?` or `[` in an object store, is a pattern.

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
        raise ValueError(
            f"{image_dir}: an archive in parts cannot be read. Join them and pass the whole one: "
            f"cat {whole}.* > {whole}"
        )
    if is_file and not is_remote:
        raise ValueError(
            f"{image_dir} is a file; --image_dir takes a folder, a pattern such as "
            "'raw/*/*.jpeg' or a .zip archive"
        )
    if folders.PATTERN_CHARACTER.search(place) and (is_remote or not Path(place).exists()):
        matched = folders.Pattern(place)
        if not next(matched.names(), None):
            raise FileNotFoundError(
                f"{image_dir}: no photograph ({', '.join(decoding.EXTENSIONS)}) matches this "
                "pattern. Is its folder the right one? (A bracket itself is written [[])"
            )
        return matched
    folder = folders.Folder(place)
    if not next(folder.names(), None):
        raise _nothing_in(image_dir, place)
    return folder


def _part_of(place: str) -> re.Match[str] | None:
    """A match whose first group is the archive, where only the first part of one is there."""
    first = f"{place}.001"
    if not place.lower().endswith(".zip") or files.exists(place) or not files.exists(first):
        return None
    return _SPLIT_ARCHIVE.fullmatch(first)


def _nothing_in(image_dir: str, folder: str) -> Exception:
    """Why a folder gives no photograph, and what may have been meant."""
    if not files.exists(folder):
        return FileNotFoundError(
            f"{image_dir} does not exist; --image_dir names a folder, a pattern such as "
            "'raw/*/*.jpeg' or a .zip archive"
        )
    below = collections.Counter(
        path.parent
        for path in Path(folder).glob("*/*")
        if folders.is_photograph(path.name) and path.is_file()
    )
    known = ", ".join(decoding.EXTENSIONS)
    if len(below) > 1:
        ((inside, count),) = below.most_common(1)
        pattern = shlex.quote(f"{image_dir.rstrip('/')}/*/*")
        return ValueError(
            f"{image_dir} holds no photographs itself, {len(below)} folders in it hold "
            f"{below.total()}, {inside} the most of them, {count}: pass --image_dir={inside}, or "
            f"all as --image_dir={pattern}"
        )
    if below:
        ((inside, count),) = below.items()
        return ValueError(
            f"{image_dir} holds no photographs itself, {inside} holds {count}: pass "
            f"--image_dir={inside}"
        )
    if packed := sorted(path.name for path in Path(folder).glob("*.zip*")):
        return ValueError(
            f"{image_dir} holds no photographs ({known}), but {packed[0]}: pass "
            f"--image_dir={posixpath.join(folder, packed[0])}"
        )
    return ValueError(f"{image_dir} holds no photographs ({known})")
