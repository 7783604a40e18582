"""Photographs that a person names on a command line: files, folders, patterns and archives."""

import glob
import os
import posixpath
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from dr_tfx.config import specs
from dr_tfx.sources import find_source, folders, frames, refusals, trees
from dr_tfx.storage import files


class GivenPhotograph(NamedTuple):
    """A photograph that a person has named, by itself or by the folder or archive it lies in."""

    shown: str  # Its place, as the person would write it.
    source: folders.Source
    name: str  # In the source.


def photographs(
    arguments: Sequence[str], recipe: specs.Recipe | None = None
) -> list[GivenPhotograph]:
    """Return the photographs that arguments mean, each once, those of one argument sorted.

    Args:
      arguments: photographs, which need not exist; and folders, patterns and archives, as
        `open_source` takes them, without commas.
      recipe: says whether frames of DICOM files are photographs; None: files are.

    Raises:
      FileNotFoundError, ValueError: as `open_source`.
    """
    found: dict[str, GivenPhotograph] = {}
    for given in arguments:
        source = folders.SingleFiles((given,)) if _is_one(given) else find_source.open_place(given)
        taken = source if recipe is None else frames.split(source, recipe)
        for name in sorted(name for name, _ in taken.names()):
            place = files.absolute(source.path(name))
            found.setdefault(place, GivenPhotograph(_shown(given, source, name), taken, name))
    return list(found.values())


def unexpanded(image_dir: str | None, words: Sequence[str]) -> tuple[str | None, list[str]]:
    """Return the pattern that a shell has replaced by the photographs that match it.

    Of `--image_dir raw/*.jpg` without quotes, a command sees its first photograph as the flag's
    value, and the others among its words.

    Args:
      image_dir: the value of the flag.
      words: what is left of the command line besides flags.

    Returns:
      The pattern and the words that are no photographs; without such words, what was given.

    Raises:
      ValueError: no pattern of one folder and one ending matches just these photographs.
    """
    others = [word for word in words if trees.is_photograph(word) and os.path.isfile(word)]
    if not (image_dir and others):
        return image_dir, list(words)
    given = {image_dir, *others}
    ending = posixpath.splitext(image_dir)[1]
    pattern = posixpath.join(posixpath.dirname(image_dir), f"*{ending}")
    if set(glob.glob(pattern)) != given:
        raise ValueError(
            f"--image_dir names {len(given)} photographs, {image_dir} and others; expected one "
            "folder, pattern or .zip archive. A pattern is put in quotes, as in "
            "--image_dir='raw/1*.jpg', so that the shell passes it on as it is"
        )
    return pattern, [word for word in words if word not in given]


def _is_one(given: str) -> bool:
    """Tell whether an argument names one photograph, whether there is such a file or not."""
    if files.is_remote(given):
        return trees.is_photograph(given) and not folders.PATTERN_CHARACTER.search(given)
    if files.exists(given):
        is_archive = given.lower().endswith(".zip")
        return not Path(given).is_dir() and not is_archive
    in_archive = next(find_source.archives_above(files.absolute(given)), None)
    return not folders.PATTERN_CHARACTER.search(given) and not in_archive


def _shown(given: str, source: folders.Source, name: str) -> str:
    """Return the place of a photograph as whoever gave its folder would write it."""
    if isinstance(source, folders.SingleFiles):
        return name
    if not isinstance(source, folders.Pattern):
        return posixpath.join(given, name)
    path = source.path(name)
    return path if files.is_remote(given) or posixpath.isabs(given) else os.path.relpath(path)


def check_apart(found: Iterable[GivenPhotograph], output_dir: str | Path) -> None:
    """Refuse a folder of results in which one of the photographs lies.

    Raises:
      ValueError: names the photograph.
    """
    folder = f"{files.absolute(str(output_dir))}/"
    for one in found:
        if files.absolute(one.source.path(one.name)).startswith(folder):
            raise refusals.UnusableInput(
                "{output_dir}={folder} holds the photograph {photograph}; choose another folder, "
                "so that results are never taken for photographs, nor written over one",
                folder=output_dir,
                photograph=one.shown,
            )
