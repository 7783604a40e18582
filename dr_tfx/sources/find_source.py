"""Finds the source of photographs that a flag means, and what may have been meant instead."""

import collections
import os
import posixpath
import re
import shlex
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding
from dr_tfx.sources import archives, arrays, folders, frames, refusals, several, tfds, trees
from dr_tfx.storage import files

_PART = re.compile(r"(.+\.zip)\.\d{2,}", re.IGNORECASE)  # Made by 7-zip and `split`.
_PART_OF_ZIP = re.compile(r"(.+\.z)\d{2,}", re.IGNORECASE)  # Made by `zip -s`.
_PACKED = re.compile(r".+\.(?:tar|tgz|txz|tar\.\w+|7z|rar|gz)", re.IGNORECASE)
_SAYS_NOTHING = re.compile("images?|imgs?|photos|photographs|pictures", re.IGNORECASE)
_LOOKED_AT = 100_000  # Files in which what may have been meant is looked for.


def open_photographs(place: str, recipe: specs.Recipe) -> folders.Source:
    """Return the source that `--image_dir` or `--npy_images` means, as a recipe takes it.

    It may be the folder of a data set that TensorFlow Datasets has prepared, too.

    Raises:
      FileNotFoundError, ValueError: as `open_source`, `arrays.open_arrays` and `tfds.open_folder`.
    """
    if tfds.is_folder(place):
        return tfds.open_folder(place)
    if place.lower().endswith((".npy", ".npz")):
        return arrays.open_arrays(place, recipe)
    return frames.split(open_source(place), recipe)


def open_source(image_dir: str) -> folders.Source:
    """Return the source that `--image_dir` means.

    Args:
      image_dir: a folder; or a pattern such as `raw/*/*.jpeg`; or a `.zip` archive, or a folder in
        it; or several of these with commas between. Each of them is on a disk or in an object
        store. A name that exists is taken as it is. A pattern is a name with `*`, `?` or `[` that
        no file or folder of the disk has, or any such name in an object store.

    Raises:
      FileNotFoundError: there is no such folder or archive, or no photograph matches.
      ValueError: it holds no photograph, or the archive cannot be used.
    """
    return several.join([open_place(place) for place in places(image_dir)])


def name_of(image_dir: str) -> str:
    """Return what the photographs of `--image_dir` may be called: as their folders or archives are.

    A folder called `images` has the name of the folder that holds it, and a data set of TensorFlow
    Datasets its own.
    """
    if tfds.is_folder(image_dir):
        return tfds.full_name(image_dir)
    names = []
    for place in places(image_dir):
        parts = [part for part in place.removesuffix(".zip").split("/") if part not in ("", ".")]
        while len(parts) > 1 and (_SAYS_NOTHING.fullmatch(parts[-1]) or "*" in parts[-1]):
            parts.pop()
        names.append(parts[-1] if parts else "")
    return "-".join(dict.fromkeys(filter(None, names)))


def places(image_dir: str) -> list[str]:
    """Return what stands between the commas of `--image_dir`.

    A comma may be part of a name on a disk. A store is not asked, which would cost time and money.
    """
    parts, found = image_dir.split(","), []
    while len(parts) > 1:
        lengths = range(len(parts), 1, -1)
        joined = {n: ",".join(parts[:n]) for n in lengths if not files.is_remote(parts[0])}
        length = next((n for n, place in joined.items() if files.exists(place)), 1)
        found.append(",".join(parts[:length]))
        del parts[:length]
    return [place for place in [*found, *parts] if place] or [image_dir]


def open_place(given: str) -> folders.Source:
    """Return the source that one place means, in which a comma is a comma.

    Raises:
      FileNotFoundError, ValueError: as `open_source`.
    """
    place = files.absolute(given)
    is_remote = files.is_remote(place)
    is_file = files.exists(place) and (is_remote or not Path(place).is_dir())
    _refuse_parts(given, place)
    if is_file and place.lower().endswith(".zip"):
        return archives.open_archive(place, given=given)
    if is_file and not is_remote:
        raise _file(given)
    if not files.exists(place):
        for archive in archives_above(place):
            inside = posixpath.relpath(place, archive)
            of_person = given.rstrip("/").removesuffix(inside).rstrip("/")
            return archives.open_archive(archive, given=of_person or archive, folder=inside)
    if folders.PATTERN_CHARACTER.search(place) and (is_remote or not Path(place).exists()):
        matched = folders.Pattern(place)
        if not next(matched.names(), None):
            raise refusals.MissingInput(
                "{place}: no photograph ({known}) matches this pattern. Is its folder the right "
                "one? (A bracket itself is written [[])",
                place=given,
                known=_known(),
            )
        return matched
    if not is_remote and not files.exists(place):
        raise refusals.MissingInput(
            "{place} does not exist; {image_dir} names a folder, a pattern such as 'raw/*/*.jpeg' "
            "or a .zip archive",
            place=given,
        )
    folder = folders.Folder(place)
    if not next(folder.names(), None):
        raise _nothing_in(given, folder)
    return folder


def _known() -> str:
    return ", ".join(decoding.EXTENSIONS)


def archives_above(place: str) -> Iterator[str]:
    """Yield the archives in which an absolute path that does not exist may be a folder."""
    while (above := posixpath.dirname(place)) not in (place, ""):
        is_file = files.exists(above) and not Path(above).is_dir()
        if is_file and above.lower().endswith(".zip"):
            yield above
        place = above


def _refuse_parts(given: str, place: str) -> None:
    """Refuse an archive in parts, with the command that joins them.

    Raises:
      ValueError: the place is a part of an archive, or only the first part of it exists.
    """
    join = ""
    if part := _PART.fullmatch(given):
        join = _command_to_concatenate(part[1])
    elif part := _PART_OF_ZIP.fullmatch(given):
        join = archives.command_to_join(f"{part[1]}ip")
    elif place.lower().endswith(".zip"):
        if files.exists(f"{place}.001") and not files.exists(place):
            join = _command_to_concatenate(given)
        elif files.exists(f"{place[:-2]}01"):
            join = archives.command_to_join(given)
    if not join:
        return
    raise refusals.UnusableInput(
        "{place}: an archive in parts cannot be read. Join them and pass the whole one: {join}",
        place=given,
        join=join,
    )


def _command_to_concatenate(given: str) -> str:
    """Return the command that makes one archive of the parts x.zip.001, x.zip.002, ..."""
    whole = shlex.quote(given)
    return f"cat {whole}.* > {whole}"


def _file(given: str) -> refusals.UnusableInput:
    """Return an error that says why a file is no source."""
    expected = "{image_dir} takes a folder, a pattern such as 'raw/*/*.jpeg' or a .zip archive"
    if trees.is_photograph(given):
        return refusals.UnusableInput(
            "{place} is one photograph; " + expected + ". Pass its folder, {folder}",
            place=given,
            folder=posixpath.dirname(given) or ".",
        )
    if _PACKED.fullmatch(given):
        return refusals.UnusableInput(
            "{place} is an archive of another kind than .zip; " + expected + ". Unpack it and pass "
            "the folder: mkdir photographs && {command}",
            place=given,
            command=_command_to_unpack(given),
        )
    return refusals.UnusableInput("{place} is a file; " + expected, place=given)


def _command_to_unpack(given: str) -> str:
    quoted = shlex.quote(given)
    if given.lower().endswith(".7z"):
        return f"7z x -ophotographs {quoted}"
    if given.lower().endswith(".rar"):
        return f"unrar x {quoted} photographs/"
    return f"tar -xf {quoted} -C photographs"


def _nothing_in(given: str, folder: folders.Folder) -> refusals.UnusableInput:
    """Return an error that says why a folder has no photograph, and what may have been meant."""
    if masks := folder.left_out():
        entry = next(entry for entry in folder.entries() if entry.left_out)
        return refusals.UnusableInput(
            "{place} holds no photographs, only {count} pictures {why}. If they are photographs, "
            "pass {image_dir}={inside}",
            place=given,
            count=masks.total(),
            why=entry.left_out,
            inside=posixpath.join(given, posixpath.dirname(entry.name)),
        )
    if files.is_remote(folder.folder):
        found = sorted(files.below(folder.folder))
    else:
        found = sorted(islice(_files_below(folder.folder), _LOOKED_AT))
    whole = [name for name in found if name.lower().endswith(".zip")]
    packed = whole or [name for name in found if _PART.fullmatch(name)][:1]
    if packed:
        return refusals.UnusableInput(
            "{place} holds no photographs ({known}), but {archives}: pass {image_dir}={path}",
            place=given,
            known=_known(),
            archives=", ".join(packed),
            path=shlex.quote(",".join(posixpath.join(given, name) for name in packed)),
        )
    kinds = collections.Counter(posixpath.splitext(name)[1].lower() or name for name in found)
    return refusals.UnusableInput(
        "{place} holds no photographs ({known}), nor does any folder in it; it holds {found}",
        place=given,
        known=_known(),
        found=", ".join(f"{n} {kind}" for kind, n in kinds.most_common(5)) or "no files at all",
    )


def _files_below(folder: str) -> Iterator[str]:
    for above, _, names in os.walk(folder):
        for name in names:
            yield os.path.relpath(os.path.join(above, name), folder)
