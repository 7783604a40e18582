"""The photographs of a source as a table, and the photograph that belongs to each row of a CSV."""

import dataclasses
import logging
from collections.abc import Iterator
from itertools import islice
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.build_examples import label_files, label_table, photograph_names
from dr_tfx.config import specs
from dr_tfx.dataset import manifest, splits
from dr_tfx.sources import folders, refusals

_MISSING, _AMBIGUOUS = -1, -2  # Places of photographs that are not one.
_SHOWN = 3  # Photographs that a reason names.
_NO_NAME = "no photograph of this name"

_LOG = logging.getLogger(__name__)


def read(source: folders.Source) -> pd.DataFrame:
    """Return the photographs of a source sorted by `name`, with their `stem` and `size` in bytes.

    Raises:
      ValueError: a name is not UTF-8.
    """
    listing, sizes = source.names(), []

    def pieces() -> Iterator[list[str]]:
        while piece := list(islice(listing, splits.CHUNK)):
            sizes.append(np.array([size for _, size in piece], np.int64))
            yield [name for name, _ in piece]

    try:
        names = splits.text(pieces())
    except UnicodeEncodeError as error:
        raise refusals.UnusableInput(
            "{place} has a file {name!r}, whose name is not UTF-8: rename it",
            place=source.path(""),
            name=error.object,
        ) from error
    order = pc.array_sort_indices(_arrow(names)).to_numpy()
    names = names.iloc[order].reset_index(drop=True)
    size = np.concatenate([np.empty(0, np.int64), *sizes])[order]
    return pd.DataFrame(
        {"name": names, "stem": splits.map_text(photograph_names.identify, names), "size": size}
    )


class LocatedRows(NamedTuple):
    """The rows of a CSV and their photographs."""

    found: pd.DataFrame  # Usable rows with a photograph of their own, and its `name` and `size`.
    again: pd.Index  # Usable rows whose photograph another row has.
    rejects: pd.DataFrame  # Usable rows that are not found: label_table.REJECT_COLUMNS.
    unlabelled: pd.Series  # Names of the photographs without any row, sorted.


def with_zeros(table: label_table.LabelTable, photographs: pd.DataFrame) -> label_table.LabelTable:
    """Return rows that are called 5 as the photograph 005, whose zeros a spreadsheet has dropped.

    That is done where no photograph is called as the row is, no row as the photograph, and the
    number belongs to one of each.
    """
    numbers = _numbers(table.stems[table.stems == table.paths], photographs["stem"])
    called = _numbers(photographs["stem"], table.stems)
    of = {number: called[number] for number in numbers.keys() & called.keys()}
    if not of:
        return table
    first = min(of)
    _LOG.warning(
        "%d rows are joined with photographs by their number, as the zeros before it are missing: "
        "%r is %r, and so on",
        len(of),
        numbers[first],
        of[first],
    )
    names = {numbers[number]: name for number, name in of.items()}
    stems = table.stems.replace(names)
    return dataclasses.replace(
        table,
        stems=stems,
        paths=stems if table.paths is table.stems else table.paths.replace(names),
        rows=table.rows.assign(id=table.rows["id"].replace(names)),
    )


def _numbers(stems: pd.Series, others: pd.Series) -> dict[int, str]:
    """Return number -> stem of the stems that are numbers, one each, and that are not in others."""
    numeric = stems[stems.str.fullmatch(r"[0-9]{1,15}")]
    if not len(numeric):
        return {}
    numeric = pd.Series(numeric[~numeric.isin(others)].unique())
    numbers = numeric.astype("int64")
    is_one = ~numbers.duplicated(keep=False)
    return dict(zip(numbers[is_one].tolist(), numeric[is_one].tolist(), strict=True))


def locate(
    table: label_table.LabelTable, photographs: pd.DataFrame, source: folders.Source
) -> LocatedRows:
    """Find the photograph of each row: the one whose path ends as the row says."""
    places = _Places(table, photographs, source)
    rows, place = table.rows, places.of_row[table.rows.index]
    found = rows[place >= 0]
    is_again, again = label_table.repeats(found, place[place >= 0])
    lost = {}
    for reason, code in (("missing_image", _MISSING), ("ambiguous_image", _AMBIGUOUS)):
        where = rows.index[place == code]
        detail = pd.Series([places.details.get(i, _NO_NAME) for i in where], where, splits.TEXT)
        lost[reason] = label_table.reject(rows.loc[where], reason, detail)
    its = place[place >= 0][~is_again]
    return LocatedRows(
        found=found[~is_again].assign(
            name=photographs["name"].iloc[its].array, size=photographs["size"].to_numpy()[its]
        ),
        again=found.index[is_again],
        rejects=pd.concat([*lost.values(), again], ignore_index=True),
        unlabelled=photographs["name"][~places.is_labelled].reset_index(drop=True),
    )


def places(
    table: label_table.LabelTable, photographs: pd.DataFrame, source: folders.Source
) -> np.ndarray:
    """Return the place of each row's photograph, all rows included; negative where it has none."""
    return _Places(table, photographs, source).of_row


def nothing_found(
    table: label_table.LabelTable,
    located: LocatedRows,
    photographs: pd.DataFrame,
    *,
    labels: str,
    spec: specs.DatasetSpec,
    place: str,
) -> refusals.UnusableInput:
    """Return an error that says why no row has a photograph, and what is likely to help."""
    lost = located.rejects[located.rejects["reason"] != "duplicate_id"]
    told = lost[lost["detail"] != _NO_NAME]
    if told.empty:
        column = label_files.column_of(labels, spec, photographs["stem"].tolist())
        return refusals.UnusableInput(
            "no photograph in {place} belongs to a row of {csv}: the first photograph is "
            "{photograph!r}, the first row {row!r}. "
            + (
                "The column {column!r} names photographs: set {image_column} to it"
                if column
                else "Is it the CSV of these photographs? None of its columns names one"
            ),
            place=place,
            csv=labels,
            photograph=photographs["name"].iloc[0],
            row=table.paths.iloc[0],
            column=column,
        )
    return refusals.UnusableInput(
        "{csv} names no photograph in {place} clearly: {reasons}; the first is {first!r}: "
        "{detail}. "
        + (
            "Where the CSV gives folders or extensions, those of the photographs must be the same: "
            "rename them, correct the CSV, or pass the folder that the CSV means as {image_dir}"
            if told["reason"].iloc[0] == "missing_image"
            else "Give the folder or the extension in the CSV, or narrow {image_dir}, as in "
            "'{place}/*.jpg'"
        ),
        csv=labels,
        place=place.rstrip("/"),
        reasons=label_table.count_reasons(lost),
        first=told["id"].iloc[0],
        detail=told["detail"].iloc[0],
    )


class _Places:
    """The place of each row's photograph in the table of photographs.

    Most rows and photographs are matched by their stems alone, as arrays. Where a row gives folders
    or an extension, or several photographs have its stem, their paths are compared.
    """

    def __init__(
        self, table: label_table.LabelTable, photographs: pd.DataFrame, source: folders.Source
    ):
        codes, stems = pd.factorize(photographs["stem"])
        self._names, self._source = photographs["name"], source
        self._order = np.argsort(codes, kind="stable")  # Photographs of a stem, side by side.
        self._count = np.append(np.bincount(codes), 0)  # Rows of no stem, code -1, find the last.
        self._start = np.cumsum(self._count) - self._count
        code = pc.index_in(_arrow(table.stems), value_set=_arrow(pd.Series(stems)))
        code = code.fill_null(-1).to_numpy()
        self.of_row = np.full(len(code), _MISSING)
        self.is_labelled = np.zeros(len(codes), bool)
        self.details: dict[int, str] = {}  # Row -> why its photograph is missing or ambiguous.
        says_more = (table.paths != table.stems).to_numpy(dtype=bool)
        count = self._count[code]
        plain = np.flatnonzero((count == 1) & ~says_more)
        self.of_row[plain] = self._order[self._start[code[plain]]]
        rest = np.flatnonzero((count > 0) & (says_more | (count > 1)))
        self._common = photograph_names.common_folders(
            path for chunk in splits.chunks(table.paths[says_more]) for path in chunk
        )
        for start in range(0, len(rest), splits.CHUNK):
            rows = rest[start : start + splits.CHUNK]
            self._compare(rows, table.paths.iloc[rows].tolist(), code[rows])
        self.is_labelled[self.of_row[self.of_row >= 0]] = True

    def _compare(self, rows: np.ndarray, paths: list[str], codes: np.ndarray) -> None:
        """Find the photographs of some rows by their paths."""
        among = self._of_stems(np.unique(codes))
        names = self._names.iloc[among].tolist()
        endings = photograph_names.PhotographEndings((self._source.path(n), n) for n in names)
        settled: dict[str, tuple[int, str]] = {}  # A path that many rows give is looked up once.
        for row, path, code in zip(rows.tolist(), paths, codes, strict=True):
            if path not in settled:
                found = endings.find(path, common=self._common)
                self.is_labelled[among[found]] = True
                settled[path] = (
                    (among[found[0]], "")
                    if len(found) == 1
                    else (_AMBIGUOUS, manifest.some([names[i] for i in found]))
                    if found
                    else (_MISSING, self._instead(path, code))
                )
            self.of_row[row], detail = settled[path]
            if detail:
                self.details[row] = detail

    def _of_stems(self, codes: np.ndarray) -> np.ndarray:
        """Return the photographs of stems."""
        count, start = self._count[codes], self._start[codes]
        within = np.arange(count.sum()) - np.repeat(np.cumsum(count) - count, count)
        return self._order[np.repeat(start, count) + within]

    def _instead(self, path: str, code: int) -> str:
        """Return words on the photographs that have the stem of a path, but not its folders."""
        count, start = self._count[code], self._start[code]
        first = self._names.iloc[self._order[start : start + min(count, _SHOWN)]].tolist()
        more = f" and {count - len(first):,} more" if count > len(first) else ""
        return f"there is no {path}, only {', '.join(first)}{more}"


def _arrow(values: pd.Series) -> pa.Array:
    """Return the strings of a Series of TEXT, in one piece."""
    array = pa.array(values.array)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
