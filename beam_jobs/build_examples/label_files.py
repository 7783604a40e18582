"""The files of labels, a CSV or an array, read as text a chunk at a time."""

import re
import shlex
import warnings
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.sources import arrays, folders, refusals
from dr_tfx.config import specs
from dr_tfx.dataset import splits
from dr_tfx.storage import files

INTEGER = re.compile(r"[+-]?[0-9]+")
_WHOLE = r"^([+-]?[0-9]+)\.0+$"
_ZIPPED = b"PK\3\4"


class LabelRows(NamedTuple):
    """Some rows of a file of labels, in their order, as text."""

    names: list[str]  # Photographs.
    labels: list[str]
    patients: list[str] | None = None  # "" where the file does not tell; None: it never does.


def chunks(
    path: str, spec: specs.DatasetSpec, source: folders.Source | None
) -> Iterator[LabelRows]:
    """Yield the rows of a file of labels, some ten thousand at a time.

    Args:
      path: a CSV, or an .npy file of labels that has the order of an array of photographs.
      spec: the names of the columns, and the labels.
      source: the photographs.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file cannot be used.
    """
    if not is_array(path):
        return _csv_chunks(path, spec)
    if not isinstance(source, arrays.Arrays):
        raise refusals.UnusableInput(
            "{file}: labels in an array belong to photographs in an array: give --npy_images too, "
            "or a CSV of labels",
            file=path,
        )
    return _npy_chunks(path, spec, source)


def is_array(path: str) -> bool:
    """Tell whether a path names an array and not a CSV."""
    return path.lower().endswith((".npy", ".npz"))


def _csv_chunks(path: str, spec: specs.DatasetSpec) -> Iterator[LabelRows]:
    """Yield the rows of a CSV."""
    for table in _tables(path):
        values: dict[str, list[str]] = {}
        for setting in ("image_column", "label_column", "patient_column"):
            column = getattr(spec, setting)
            if not column and setting == "patient_column":
                continue
            if column not in table:
                raise _no_column(path, list(table.columns), spec, setting)
            # A row that is too short lacks its last fields.
            values[setting] = table[column].fillna("").str.strip().tolist()
        yield LabelRows(
            values["image_column"],
            _whole(values["label_column"]),
            _whole(values["patient_column"]) if spec.patient_column else None,
        )


def _whole(texts: list[str]) -> list[str]:
    """Return numbers such as `3.0`, which pandas writes if another row has none, as `3`."""
    array = pa.array(texts, pa.large_string())
    return pc.replace_substring_regex(array, pattern=_WHOLE, replacement=r"\1").to_pylist()


def _no_column(
    path: str, columns: list[str], spec: specs.DatasetSpec, setting: str
) -> refusals.UnusableInput:
    """Return an error that says why a CSV lacks the column that a setting names."""
    column = getattr(spec, setting)
    for separator in ";\t|":
        if len(columns) == 1 and separator in columns[0]:
            return refusals.UnusableInput(
                "{file} has one column, {only!r}: its separator seems to be {separator!r}, "
                "expected ','. Save it with commas",
                file=path,
                only=columns[0],
                separator=separator,
            )
    if any(INTEGER.fullmatch(name.strip()) for name in columns):  # Such a name is a label.
        return refusals.UnusableInput(
            "{file} has no column {column!r}: its header seems to be missing, for its first line "
            "is {line!r}. Put the line '{header}', or what the columns are called, before it",
            file=path,
            column=column,
            line=",".join(columns),
            header=f"{spec.image_column},{spec.label_column}",
        )
    return refusals.UnusableInput(
        "{file} has no column {column!r}; it has {columns}. Set {" + setting + "} to the right one",
        file=path,
        column=column,
        columns=", ".join(map(repr, columns)),
    )


def _tables(path: str) -> Iterator[pd.DataFrame]:
    if not files.exists(path):
        raise refusals.MissingInput(
            "{file} does not exist; {labels} names the CSV of labels", file=path
        )
    try:
        is_zipped = files.read(path, length=len(_ZIPPED)) == _ZIPPED
        if not is_zipped:
            yield from _read_tables(path)
    except pd.errors.EmptyDataError as error:
        raise refusals.UnusableInput(
            "{file} is empty; expected a CSV with a header", file=path
        ) from error
    except (ValueError, OSError, pd.errors.ParserWarning) as error:
        why = (
            "rows have more fields than its header"
            if isinstance(error, pd.errors.ParserWarning)
            else getattr(error, "strerror", None) or error  # The path is not repeated.
        )
        raise refusals.UnusableInput(
            "{file} cannot be read as a UTF-8 CSV: {why}", file=path, why=why
        ) from error
    if is_zipped:
        raise refusals.UnusableInput(
            "{file} is a .zip archive; unpack it: unzip {quoted}",
            file=path,
            quoted=shlex.quote(path),
        )


def _read_tables(path: str) -> Iterator[pd.DataFrame]:
    # All columns are read, and not two of them: only so are rows with too many fields found.
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
            # If the first row is longer than the header, pandas drops fields with a mere warning.
            with warnings.catch_warnings():
                warnings.simplefilter("error", pd.errors.ParserWarning)
                table = next(tables, None)
            if table is None:
                return
            yield table


def _npy_chunks(path: str, spec: specs.DatasetSpec, source: arrays.Arrays) -> Iterator[LabelRows]:
    """Yield the rows of an array (N,), (N, 1) or one-hot (N, labels)."""
    array, known = arrays.load(path, "--npy_labels"), len(spec.label_names)
    width = array.shape[1] if array.ndim == 2 else 1
    if array.ndim not in (1, 2) or array.dtype.kind not in "biuf" or width not in (1, known):
        raise refusals.UnusableInput(
            "{file} is an array {shape} of {dtype}; expected labels (photographs,), (photographs, "
            "1), or one-hot (photographs, {known}) as {label_names} has it, of integers",
            file=path,
            shape=array.shape,
            dtype=array.dtype,
            known=known,
        )
    if len(array) != source.count():
        raise refusals.UnusableInput(
            "{file} has {count} labels, {images} {photographs} photographs: are they of the same "
            "split?",
            file=path,
            count=len(array),
            images=source.images_npy,
            photographs=source.count(),
        )
    for start in range(0, len(array), splits.CHUNK):
        piece = np.asarray(array[start : start + splits.CHUNK]).reshape(-1, width)
        names = [source.name(start + row) for row in range(len(piece))]
        yield LabelRows(names, [_as_text(row) for row in piece.tolist()])


def _as_text(row: list[float]) -> str:
    """Return a label, or the place of the only 1 of a one-hot row, as a CSV has it."""
    if len(row) > 1 and sorted(row) == [0] * (len(row) - 1) + [1]:
        return str(row.index(1))
    if len(row) > 1:
        return str(row)
    (value,) = row
    return str(int(value)) if float(value).is_integer() else str(value)
