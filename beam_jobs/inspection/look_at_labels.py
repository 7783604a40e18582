"""A look at labels: a table beside the photographs, or the folders that they lie in."""

import collections
import dataclasses
import functools
import posixpath
from collections.abc import Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from beam_jobs.build_examples import photograph_names, source_labels, text_tables
from beam_jobs.inspection import guess_columns
from beam_jobs.inspection.look_at_photographs import PhotographFindings
from dr_tfx.dataset import splits
from dr_tfx.sources import frames
from dr_tfx.storage import files

_TEXT = ".txt"
_TABLES = (".csv", ".tsv", ".csv.gz", ".xlsx", _TEXT)
_TRIED = 20  # Tables beside the photographs that are looked at.
_PIECES = 20  # Parts of a table that are looked at, of some ten thousand rows each.
_TRIED_ROWS = 1000  # Rows that tell whether a column names photographs.
_SHOWN = 5  # Names in a list.
_NONE, _SEVERAL = -1, -2  # In place of the place of a photograph.


@dataclasses.dataclass(frozen=True)
class LabelFindings:
    """What is known of the labels."""

    given: str  # What --labels takes.
    told: list[str] = dataclasses.field(default_factory=list)  # Lines about the table.
    # Dotted settings that say where photograph, label, patient and split are.
    settings: dict[str, Any] = dataclasses.field(default_factory=dict)
    values: list[str] = dataclasses.field(default_factory=list)  # The names of the labels.
    healthy: int = 0  # The place in `values` of the first label that occurs.
    matched: int = 0  # Photographs that have a label.
    lost: float = 0.0  # Share of the rows without photograph or label, or of one that was there.
    missing: str = ""  # The reason why there are no values.


def of_photographs(given: str, place: str, photographs: PhotographFindings) -> LabelFindings | None:
    """Return the labels of photographs: of frames, or of their files if those have more.

    Args:
      given: a table, as `look` takes it; "" to `find` one.
      place: the path of the source.
      photographs: what was found in it.

    Raises:
      ValueError: as `look`.
    """
    both = [photographs.names, photographs.files]
    found = [
        look(given, place, names) if given else find(photographs.place, place, names)
        for names in both[: 1 + (both[0] != both[1])]
    ]
    usable = [labels for labels in found if labels and labels.values]
    return max(usable, key=lambda labels: labels.matched, default=found[0])


def find(given: str, place: str, names: Sequence[str]) -> LabelFindings | None:
    """Return the labels beside or above photographs, or their folders if those look like labels.

    Args:
      given: a folder, pattern or archive, as a person has written it.
      place: the path of this source.
      names: the photographs in it.
    """
    looks = [_try(table, place, names) for table in _tables_near(given)]
    if usable := [found for found in looks if found.values]:
        return max(usable, key=lambda found: found.matched)
    # A text beside photographs may well be a licence, and none that was meant as a table.
    tables = (found for found in looks if not found.given.endswith(_TEXT))
    return of_folders(names) or next(tables, None)


def _try(given: str, place: str, names: Sequence[str]) -> LabelFindings:
    """Look at a table that may be of something else, or none at all."""
    try:
        return look(given, place, names)
    except ValueError as error:
        return LabelFindings(given, missing=str(error))


def look(given: str, place: str, names: Sequence[str]) -> LabelFindings:
    """Look at a table.

    Args:
      given: the file, or several of them with commas between.
      place: where the photographs are: the path of their source.
      names: the photographs.

    Raises:
      ValueError: it cannot be read.
    """
    if given == source_labels.FOLDERS:
        return of_folders(names) or LabelFindings(given, missing=f"{given} are no labels here")
    endings = photograph_names.PhotographEndings((place + name, name) for name in names)
    table, told, has_header, settings = _read(given, endings)
    named = _named(table, endings)
    found = guess_columns.guess(table, named)
    if not found.image:
        first = table.iloc[0].tolist() if len(table) else "none"
        why = f"No column of {given} names photographs: the first is {names[0]!r}, the first row "
        why = _unclear(table, named, endings, names) or f"{why}{first}"
        return LabelFindings(given, told, missing=why)
    told += _matching(table, {column: named[column] for column in found.image}, names)
    if not found.values:
        why = f"No column of {given} looks like a label: set dataset.label_column"
        return LabelFindings(given, told, missing=why)
    told += _meanings(table, found)
    values, healthy = list(found.values), 0
    if guess_columns.is_number(values):
        healthy = int(values[0])
        values = [str(label) for label in range(int(values[-1]) + 1)]
    is_clear = (_is_clear(table, column, found.label) for column in found.image)
    usable = ((named[c] >= 0) & clear for c, clear in zip(found.image, is_clear, strict=True))
    matched = sum(int(rows.sum()) for rows in usable)
    rows = sum(int((table[column] != "").sum()) for column in found.image)
    return LabelFindings(
        given,
        told,
        settings | _settings(found) if has_header else settings,
        values,
        healthy,
        matched,
        lost=1 - matched / max(rows, 1),
    )


class _Tables(NamedTuple):
    """The rows of one table or of several."""

    rows: pd.DataFrame
    told: list[str]  # Lines about them.
    has_header: bool
    settings: dict[str, Any]  # What several tables need, if each is a split.


def _read(given: str, endings: photograph_names.PhotographEndings) -> _Tables:
    tables = [given] if "," not in given or files.exists(given) else given.split(",")
    rows, notes, has_header = [], [], True
    for file in tables:
        opened = text_tables.read(
            file,
            is_header=lambda fields: False,  # Which column is which is not known yet.
            is_row=lambda fields: any(_place(endings, field) >= 0 for field in fields),
        )
        rows += [pd.DataFrame(columns=opened.columns), *islice(opened.pieces(), _PIECES)]
        has_header &= opened.has_header
        notes += [note for note in opened.notes if note not in notes]
    table = pd.concat(rows, ignore_index=True).fillna("").apply(lambda column: column.str.strip())
    told = [f"{len(table):,} rows; columns {', '.join(table.columns)}", *notes]
    is_split = len(tables) > 1 and all(splits.named(posixpath.basename(file)) for file in tables)
    settings = {"dataset.split.method": "column"} if is_split else {}
    return _Tables(table, told, has_header, settings)


def _named(
    table: pd.DataFrame, endings: photograph_names.PhotographEndings
) -> dict[str, pd.Series]:
    """Return column -> the photograph of each row, for the columns that seem to name any."""
    named = {}
    for column in table.columns:
        common = photograph_names.common_folders(map(photograph_names.normalise, table[column]))
        find = functools.partial(_place, endings, common=common)
        if any(find(name) != _NONE for name in table[column].head(_TRIED_ROWS)):
            named[column] = table[column].map(find).astype(int)
    return named


def _place(endings: photograph_names.PhotographEndings, name: str, *, common: int = 0) -> int:
    """Return the place of the photograph that a text names, _NONE or _SEVERAL."""
    found = endings.find(photograph_names.normalise(name), common=common) if name else []
    return found[0] if len(found) == 1 else _SEVERAL if found else _NONE


def _unclear(
    table: pd.DataFrame,
    named: dict[str, pd.Series],
    endings: photograph_names.PhotographEndings,
    names: Sequence[str],
) -> str:
    """Return a sentence on a text that may mean several photographs, "" if there is none."""
    for column, places in named.items():
        for text in table[column][places == _SEVERAL]:
            if meant := [names[i] for i in endings.find(photograph_names.normalise(text))[:2]]:
                kind = posixpath.splitext(meant[0])[1]
                return (
                    f"{text!r} in column {column!r} may mean {' or '.join(meant)}: pass only what "
                    f"is meant, by its folder or by a quoted pattern such as 'FOLDER/*{kind}'"
                )
    return ""


def _is_clear(table: pd.DataFrame, image: str, label: Sequence[str]) -> pd.Series:
    """Return whether each row has a label, and is the first of its photograph, with no other."""
    labels = table.groupby(list(label)).ngroup()
    is_other = labels.groupby(table[image]).transform("nunique") > 1
    return (table[list(label)] != "").any(axis=1) & ~table[image].duplicated() & ~is_other


def _settings(found: guess_columns.ColumnMeanings) -> dict[str, Any]:
    """Return the settings that name the columns."""
    settings = {
        "dataset.image_column": ",".join(found.image),
        "dataset.label_column": ",".join(found.label),
    }
    if found.patient:
        settings["dataset.patient_column"] = found.patient
    if found.split:
        settings |= {"dataset.split.method": "column", "dataset.split.column": found.split}
    return settings


def _meanings(table: pd.DataFrame, found: guess_columns.ColumnMeanings) -> list[str]:
    """Return lines on the columns besides that of the photographs."""
    if len(found.label) == 1:
        (label,) = found.label
        told = [f"label: {label} ({_counted(table[label])})", *_odd(table[label])]
    else:
        told = [f"label: the one that is 1 of {', '.join(found.label)}"]
    if found.patient:
        told.append(f"patient: {found.patient} ({table[found.patient].nunique():,} patients)")
    if found.split:
        told.append(f"split: {found.split} ({_counted(table[found.split])})")
    return told


def _odd(labels: pd.Series) -> list[str]:
    """Return lines on what may be a slip in the labels: one that occurs once, numbers left out."""
    count = collections.Counter(label for label in labels if label)
    told = [f"{label!r} occurs once: is it a slip?" for label, n in count.items() if n == 1]
    if guess_columns.is_number(list(count)):
        numbers = {int(float(label)) for label in count}
        absent = [str(n) for n in range(min(numbers), max(numbers)) if n not in numbers]
        if absent:
            told.append(f"no row has the label {', '.join(absent)}: is the highest one a slip?")
    return told[:_SHOWN]


def of_folders(names: Sequence[str]) -> LabelFindings | None:
    """Return the folders as labels if each photograph lies in one of some folders, else None."""
    names = [frames.file_of(name) for name in names]
    found = [[part for part in name.split("/")[:-1] if not splits.named(part)] for name in names]
    if not all(found):
        return None
    lowest = pd.Series([parts[-1] for parts in found])
    if not 2 <= lowest.nunique() <= min(guess_columns.MOST_LABELS, len(names) // 5):
        return None
    told, settings = [f"label: the folder ({_counted(lowest)})"], {}
    official = {next(filter(None, map(splits.named, name.split("/")[:-1])), "") for name in names}
    if "" not in official and len(official) > 1:
        settings["dataset.split.method"] = "column"
        told.append(f"split: the folder ({', '.join(sorted(official))})")
    values = guess_columns.order(lowest)
    return LabelFindings(source_labels.FOLDERS, told, settings, values, matched=len(names))


def _matching(table: pd.DataFrame, named: dict[str, pd.Series], names: Sequence[str]) -> list[str]:
    """Return lines on rows without photograph and photographs without row."""
    told, listed = [], set[int]()
    for column, places in named.items():
        told.append(f"photograph: {column} ({int((places >= 0).sum()):,} rows name a photograph)")
        if lost := table[column][(places == _NONE) & (table[column] != "")].tolist():
            told.append(f"{len(lost):,} rows have no photograph: {_some(lost)}")
        if several := table[column][places == _SEVERAL].tolist():
            told.append(
                f"{len(several):,} rows may mean several photographs: {_some(several)}. Pass only "
                "the folder that is meant"
            )
        listed |= set(places)
    if rest := [name for place, name in enumerate(names) if place not in listed]:
        told.append(f"{len(rest):,} photographs have no row: {_some(rest)}")
    return told


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", ..." if len(names) > _SHOWN else "")


def _counted(values: pd.Series) -> str:
    count = collections.Counter(values)
    shown = sorted(count, key=lambda text: (float(text), "") if _is_number(text) else (1e9, text))
    return ", ".join(f"{value or '(empty)'}: {count[value]:,}" for value in shown)


def _is_number(text: str) -> bool:
    return guess_columns.is_number([text])


def _tables_near(place: str) -> list[str]:
    """Return the tables in a folder of a disk, and in the folder above it or beside an archive."""
    if files.is_remote(place) or "," in place:
        return []
    start = Path(place)
    inside = start.rglob("*") if start.is_dir() else iter(())
    found = [*islice(inside, 100_000), *start.parent.glob("*")]
    return [str(path) for path in found if path.name.lower().endswith(_TABLES)][:_TRIED]
