"""The labels: which rows of a CSV can be used, and why the others cannot.

Tables hold Arrow's strings and small integers, and are read a chunk at a time.
"""

import collections
import dataclasses
import hashlib
import json
import posixpath
import re
import shlex
import unicodedata
import warnings
from collections.abc import Iterator

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.sources import arrays, folders
from dr_tfx.config import specs
from dr_tfx.dataset import splits
from dr_tfx.preprocessing import decoding
from dr_tfx.storage import files

REJECT_COLUMNS = ("id", "path", "reason", "detail")

_INTEGER = re.compile(r"[+-]?[0-9]+")
_WHOLE = r"^([+-]?[0-9]+)\.0+$"
_ZIPPED = b"PK\3\4"
_NO_REJECTS = pd.DataFrame(columns=list(REJECT_COLUMNS), dtype=splits.TEXT)


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """What a CSV says of every row."""

    ids: pd.Series  # Of every row.
    rows: pd.DataFrame  # Those that can be used: `id`, `label`; indexed by their place in `ids`.
    rejects: pd.DataFrame  # REJECT_COLUMNS.
    digest: str  # Of the ids and labels of every row.


def read(path: str, spec: specs.DatasetSpec, source: folders.Source | None) -> LabelTable:
    """The labels of a CSV, or of an array in the order of the photographs of one.

    Args:
      path: any file system that Beam knows.
      spec: the columns, and how many labels there are.
      source: of the photographs.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it cannot be used, or none of its rows can.
    """
    digest, rejects = hashlib.sha256(), [_NO_REJECTS]
    labels: list[np.ndarray] = [np.empty(0, np.int16)]

    def pieces() -> Iterator[list[str]]:
        for ids, texts in _label_chunks(path, spec, source):
            digest.update(json.dumps([ids, texts]).encode())
            piece, bad = _usable(ids, texts, spec)
            labels.append(piece)
            rejects.append(bad)
            yield ids

    ids = splits.text(pieces())
    label = np.concatenate(labels)
    if not len(ids):
        raise ValueError(f"{path} has a header but no rows")
    rows = pd.DataFrame({"id": ids, "label": label})[label >= 0]
    again = rows[_repeated(rows["id"])]
    conflicting = again.groupby("id")["label"].transform("nunique").to_numpy(dtype=int) > 1
    repeated = again["id"].duplicated().to_numpy() & ~conflicting
    rejects += [
        reject(again[conflicting], "duplicate_id", "rows of this id have different labels"),
        reject(again[repeated], "duplicate_id", "an earlier row has the same id and label"),
    ]
    rows = rows.drop(again.index[conflicting | repeated])
    table = pd.concat(rejects, ignore_index=True)
    if rows.empty:
        asked = (
            "Is it the right array, and does config.dataset.label_names name every label?"
            if _is_array(path)
            else "Does config.dataset.label_column name the right column?"
        )
        raise ValueError(
            f"{path}: none of the {len(ids)} rows can be used: {count_reasons(table)}; the first "
            f"is {table['id'].iloc[0]!r}: {table['detail'].iloc[0]}. {asked}"
        )
    return LabelTable(ids=ids, rows=rows, rejects=table, digest=digest.hexdigest())


def identify(name: str) -> str:
    """The id of a photograph, from its name or from what a CSV calls it.

    That is the file name without folder and known extension. Unicode is composed (NFC), for
    macOS decomposes the names of files, and a CSV most often does not.
    """
    stem, extension = posixpath.splitext(posixpath.basename(name))
    known = extension.lower() in decoding.EXTENSIONS
    return unicodedata.normalize("NFC", stem if known else stem + extension)


def reject(rows: pd.DataFrame, reason: str, detail: str | pd.Series) -> pd.DataFrame:
    """Rows as rejects: REJECT_COLUMNS."""
    columns = {"id": rows["id"], "path": "", "reason": reason, "detail": detail}
    return pd.DataFrame(columns, index=rows.index, dtype=splits.TEXT)


def count_reasons(rejects: pd.DataFrame) -> dict[str, int]:
    """Reason -> rows, by name."""
    return {str(reason): int(n) for reason, n in rejects.groupby("reason").size().items()}


def _label_chunks(
    path: str, spec: specs.DatasetSpec, source: folders.Source | None
) -> Iterator[tuple[list[str], list[str]]]:
    """Ids and labels as text, some ten thousand rows at a time."""
    if not _is_array(path):
        return _csv_chunks(path, spec)
    if not isinstance(source, arrays.Arrays):
        raise ValueError(
            f"{path}: labels in an array belong to photographs in an array: give --npy_images too, "
            "or a CSV of labels"
        )
    return _npy_chunks(path, spec, source)


def _is_array(path: str) -> bool:
    return path.lower().endswith((".npy", ".npz"))


def _csv_chunks(path: str, spec: specs.DatasetSpec) -> Iterator[tuple[list[str], list[str]]]:
    """Of a CSV.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is empty, not a CSV, or lacks a column.
    """
    for table in _tables(path):
        for setting in ("image_column", "label_column"):
            column = getattr(spec, setting)
            if column in table:
                continue
            for separator in ";\t|":
                if len(table.columns) == 1 and separator in table.columns[0]:
                    raise ValueError(
                        f"{path} has one column, {table.columns[0]!r}: its separator seems to be "
                        f"{separator!r}, expected ','. Save it with commas"
                    )
            if any(_INTEGER.fullmatch(name.strip()) for name in table.columns):  # A label.
                raise ValueError(
                    f"{path} has no column {column!r}: its header seems to be missing, for its "
                    f"first line is {','.join(table.columns)!r}. Put the line "
                    f"'{spec.image_column},{spec.label_column}', or what the columns are called, "
                    "before it"
                )
            raise ValueError(
                f"{path} has no column {column!r}; it has {', '.join(map(repr, table))}. Set "
                f"--config.dataset.{setting} to the right one"
            )
        # A row that is too short lacks its last fields.
        names, texts = (
            table[column].fillna("").str.strip().tolist()
            for column in (spec.image_column, spec.label_column)
        )
        # `3.0` is what pandas writes of whole numbers where another row has none.
        whole = pc.replace_substring_regex(
            pa.array(texts, pa.large_string()), pattern=_WHOLE, replacement=r"\1"
        )
        yield [identify(name) for name in names], whole.to_pylist()


def _tables(path: str) -> Iterator[pd.DataFrame]:
    if not files.exists(path):
        raise FileNotFoundError(f"{path} does not exist; --labels names the CSV of labels")
    try:
        is_zipped = files.read(path, length=len(_ZIPPED)) == _ZIPPED
        if not is_zipped:
            yield from _read_tables(path)
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"{path} is empty; expected a CSV with a header") from error
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        why = (
            "rows have more fields than its header"
            if isinstance(error, pd.errors.ParserWarning)
            else getattr(error, "strerror", None) or error  # Without the path.
        )
        raise ValueError(f"{path} cannot be read as a UTF-8 CSV: {why}") from error
    if is_zipped:
        raise ValueError(f"{path} is a .zip archive; unpack it: unzip {shlex.quote(path)}")


def _read_tables(path: str) -> Iterator[pd.DataFrame]:
    # All columns and not two: rows with too many fields are found only then.
    with (
        files.open_file(path) as stream,
        pd.read_csv(
            stream,
            encoding="utf-8-sig",
            dtype=str,
            keep_default_na=False,
            index_col=False,
            chunksize=splits.CHUNK,
        ) as tables,
    ):
        while True:
            # Where the first row is longer than the header, fields are lost with a warning only.
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)
                table = next(tables, None)
            if table is None:
                return
            yield table


def _npy_chunks(
    path: str, spec: specs.DatasetSpec, source: arrays.Arrays
) -> Iterator[tuple[list[str], list[str]]]:
    """Of an array (N,), (N, 1) or one-hot (N, labels).

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is no such array, or one of another length than that of the photographs.
    """
    array, known = arrays.load(path, "--npy_labels"), len(spec.label_names)
    width = array.shape[1] if array.ndim == 2 else 1
    if array.ndim not in (1, 2) or array.dtype.kind not in "biuf" or width not in (1, known):
        raise ValueError(
            f"{path} is an array {array.shape} of {array.dtype}; expected labels (photographs,), "
            f"(photographs, 1), or one-hot (photographs, {known}) as config.dataset.label_names "
            "has it, of integers"
        )
    if len(array) != source.count():
        raise ValueError(
            f"{path} has {len(array)} labels, {source.images_npy} {source.count()} photographs: "
            "are they of the same split?"
        )
    for start in range(0, len(array), splits.CHUNK):
        piece = np.asarray(array[start : start + splits.CHUNK]).reshape(-1, width)
        ids = [identify(source.name(start + row)) for row in range(len(piece))]
        yield ids, [_as_text(row) for row in piece.tolist()]


def _as_text(row: list[float]) -> str:
    """A label, or the place of the only 1 of a one-hot row, as a CSV has it."""
    if len(row) > 1 and sorted(row) == [0] * (len(row) - 1) + [1]:
        return str(row.index(1))
    if len(row) > 1:
        return str(row)
    (value,) = row
    return str(int(value)) if float(value).is_integer() else str(value)


def _usable(
    ids: list[str], texts: list[str], spec: specs.DatasetSpec
) -> tuple[np.ndarray, pd.DataFrame]:
    """The labels, int16, -1 where they cannot be used; and these rows as rejects."""
    known = len(spec.label_names)
    label_of = {text: int(text) if _INTEGER.fullmatch(text) else None for text in set(texts)}
    labels = np.full(len(ids), -1, np.int16)
    rejects: dict[str, list[tuple[str, str]]] = collections.defaultdict(list)
    for i, text in enumerate(texts):
        label = label_of[text]
        if label is None:
            detail = f"label {text!r}, expected 0 to {known - 1}"
            rejects["label_not_an_integer"].append((ids[i], detail))
        elif not 0 <= label < known:
            detail = f"label {text}, expected 0 to {known - 1}"
            rejects["label_out_of_range"].append((ids[i], detail))
        else:
            labels[i] = label
    tables = [_NO_REJECTS]
    for reason, bad in rejects.items():
        rows = pd.DataFrame(bad, columns=["id", "detail"])
        tables.append(reject(rows, reason, rows["detail"]))
    return labels, pd.concat(tables)


def _repeated(ids: pd.Series) -> np.ndarray:
    """Whether an id is there more than once."""
    codes, _ = pd.factorize(ids)
    return np.bincount(codes)[codes] > 1
