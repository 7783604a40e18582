"""The rows of a file of labels: photographs, labels and, where the file has them, more.

That is a table (`text_tables`); several tables, each of them a split; an array; or nothing but the
folders in which the photographs lie, their names, or their masks.
"""

import dataclasses
import logging
import posixpath
from collections.abc import Collection, Iterator

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.build_examples import (
    label_arrays,
    label_texts,
    long_labels,
    photograph_names,
    source_labels,
    text_streams,
    text_tables,
    tfds_labels,
)
from beam_jobs.build_examples.label_arrays import LabelRows
from dr_tfx.config import label_sets, specs
from dr_tfx.dataset import splits
from dr_tfx.preprocessing import mask_files
from dr_tfx.sources import arrays, folders, refusals, tfds
from dr_tfx.storage import files

_LOG = logging.getLogger(__name__)
_WHOLE = r"^([+-]?[0-9]+)\.0+$"


def chunks(
    path: str,
    spec: specs.DatasetSpec,
    source: folders.Source | None,
    masks: mask_files.MaskFolder | None = None,
) -> Iterator[LabelRows]:
    """Yield the rows of a file of labels, some ten thousand at a time.

    Args:
      path: a table; several, with commas between them; an .npy file of labels that has the order of
        an array of photographs; one of source_labels.WORDS; or the folder of the photographs, if it
        is a data set that TensorFlow Datasets has prepared.
      spec: the names of the columns, and the labels.
      source: the photographs.
      masks: their masks.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file cannot be used.
    """
    if path in source_labels.WORDS:
        found = source_labels.rows(path, spec, source, masks)
        return (LabelRows(names, labels, splits=official) for names, labels, official in found)
    if isinstance(source, tfds.TfdsFolder) and files.absolute(path) == source.folder:
        return tfds_labels.rows(spec, source)
    if not label_arrays.is_array(path):
        return _table_rows(path, spec)
    if not isinstance(source, arrays.Arrays):
        raise refusals.UnusableInput(
            "{file}: labels in an array belong to photographs in an array: give --npy_images too, "
            "or a CSV of labels",
            file=path,
        )
    return label_arrays.rows(path, spec, source)


def _table_rows(path: str, spec: specs.DatasetSpec) -> Iterator[LabelRows]:
    """Yield the rows of a table, or of several one after the other."""
    tables = [path] if "," not in path or files.exists(path) else path.split(",")
    of_tables = [splits.named(posixpath.basename(table)) for table in tables]
    is_split = len(tables) > 1 and any(of_tables) and not spec.split.column
    if is_split and not all(of_tables):
        raise refusals.UnusableInput(
            "{file}: the name of {table} tells no split, those of others do; expected one of "
            "train, validation and test in each",
            file=path,
            table=tables[of_tables.index("")],
        )
    for table, split in zip(tables, of_tables, strict=True):
        for rows in _Reader(table, spec).rows():
            yield rows._replace(splits=[split] * len(rows.names)) if is_split else rows


class _Reader:
    """A reader of one table, which knows the columns that the settings mean."""

    def __init__(self, path: str, spec: specs.DatasetSpec):
        spec = dataclasses.replace(
            spec,
            image_column=text_streams.composed(spec.image_column),
            label_column=text_streams.composed(spec.label_column),
            patient_column=text_streams.composed(spec.patient_column),
            split=dataclasses.replace(spec.split, column=text_streams.composed(spec.split.column)),
        )
        self._path, self._spec = path, spec
        self._texts = label_texts.LabelTexts(spec)
        self._sets = label_sets.columns_of(spec.label_column, spec.label_names)
        self._table = text_tables.read(path, is_header=self._is_header, is_row=self._is_row)
        for note in self._table.notes:
            _LOG.warning("%s: %s", path, note)
        if self._table.has_header and not self._is_long(self._table.columns):
            self._wanted()  # Missing columns are told before any row is read.

    def pieces(self) -> Iterator[pd.DataFrame]:
        """Yield the table as it is."""
        return self._table.pieces()

    def rows(self) -> Iterator[LabelRows]:
        """Yield the rows."""
        if self._table.has_header and self._is_long(self._table.columns):
            yield from long_labels.rows(self.pieces(), self._sets, self._spec.label_names)
            return
        order: list[int] = []
        for table in filter(len, self._table.pieces()):
            if self._table.has_header:
                yield self._rows(table)
            else:
                order = order or self._in_order(table.iloc[0].tolist())
                names, labels = (_texts(table.iloc[:, place]) for place in order)
                yield LabelRows(names, _whole(labels))

    def _rows(self, table: pd.DataFrame) -> LabelRows:
        """Return the rows of a piece; row after row the photographs, if there are several."""
        spec, columns = self._spec, {name: _texts(table[name]) for name in self._wanted()}
        images = [columns[name] for name in self._of("image_column")]
        named = self._of("label_column")
        labels = [_whole(columns[name]) for name in named]
        if self._sets and len(labels) == len(self._sets):
            texts = [
                long_labels.set_of(row, named, spec.label_names)
                for row in zip(*labels, strict=True)
            ]
            labels = [texts] * len(images)
        elif len(labels) == len(images):
            pass
        elif len(labels) == 1:
            labels *= len(images)
        elif len(labels) == len(spec.label_names):
            labels = [self._one_hot(labels, named)] * len(images)
        else:
            raise refusals.UnusableInput(
                "{label_column} names {count} columns; expected one, one for each of the {known} "
                "labels, or one for each of the {photographs} columns of {image_column}",
                count=len(labels),
                known=len(spec.label_names),
                photographs=len(images),
            )
        patients = _whole(columns[spec.patient_column]) if spec.patient_column in columns else None
        official = columns[spec.split.column] if spec.split.column else None
        if len(images) == 1:
            return LabelRows(images[0], labels[0], patients, official)
        if patients is None:
            patients = [next(filter(None, row), "") for row in zip(*images, strict=True)]
            patients = [photograph_names.identify(first) for first in patients]
        # A column without a name has no photograph, unless no column of the row has one.
        kept = [
            (name, labels[i][row], row)
            for row, names in enumerate(zip(*images, strict=True))
            for i, name in enumerate(names)
            if name or (i == 0 and not any(names))
        ]
        names, texts, rows = (list(column) for column in zip(*kept, strict=True))
        return LabelRows(
            names,
            texts,
            [patients[row] for row in rows],
            None if official is None else [official[row] for row in rows],
        )

    def _one_hot(self, columns: list[list[str]], named: list[str]) -> list[str]:
        """Return the name of the label whose column is 1, or what is wrong with the row."""
        names, labels = self._spec.label_names, []
        for row in zip(*columns, strict=True):
            values = [value.lower() for value in row]
            ones = [i for i, value in enumerate(values) if value in long_labels.YES]
            is_right = len(ones) == 1 and {*values} <= long_labels.YES | long_labels.NO
            told = ", ".join(f"{name}={value}" for name, value in zip(named, row, strict=True))
            labels.append(names[ones[0]] if is_right else told)
        return labels

    def _of(self, setting: str) -> list[str]:
        """Return the columns that a setting names: one of that very name, or several."""
        value = getattr(self._spec, setting)
        return [value] if value in self._table.columns else _parts(value)

    def _wanted(self) -> list[str]:
        """Return all columns that are read, each once.

        Raises:
          ValueError: the table lacks one, or has several of its name.
        """
        spec, settings = self._spec, ["image_column", "label_column", "patient_column"]
        wanted = {name: setting for setting in settings for name in self._of(setting) if name}
        if spec.patient_column not in self._table.columns and spec.patient_column in specs.TAGS:
            del wanted[spec.patient_column]  # The photographs tell it.
        if column := spec.split.column:
            wanted[column] = "split_column"
        for name, setting in wanted.items():
            if name not in self._table.columns:
                raise _no_column(self._path, self._table.columns, self._spec, setting, name)
            if name in self._table.repeated:
                raise refusals.UnusableInput(
                    "{file} has several columns {column!r}, and which of them counts is not known. "
                    "Give the others another name",
                    file=self._path,
                    column=name,
                )
        return list(wanted)

    def _is_header(self, fields: list[str]) -> bool:
        """Tell whether the fields of a first line are the columns that the settings name."""
        if self._is_long(fields):
            return True
        settings = (self._spec.image_column, self._spec.label_column)
        return all(value in fields or set(_parts(value)) <= set(fields) for value in settings)

    def _is_long(self, fields: list[str]) -> bool:
        """Tell whether fields are the two columns of `long_labels`, whatever they are called."""
        if len(fields) != 2 or fields[1].lower() in long_labels.YES | long_labels.NO:
            return False
        return bool(self._sets) and not {*self._sets, self._spec.label_column} & {*fields}

    def _is_row(self, fields: list[str]) -> bool:
        """Tell whether two fields are a photograph and its label."""
        name, label = (fields[i] for i in self._in_order(fields))
        return bool(name) and self._texts.is_label(_whole([label])[0])

    def _in_order(self, fields: list[str]) -> list[int]:
        """Return the places of the photograph and of the label in a row without a header."""
        has_extension = [bool(photograph_names.parts(field).extension) for field in fields]
        return [1, 0] if has_extension == [False, True] else [0, 1]


def column_of(path: str, spec: specs.DatasetSpec, stems: Collection[str]) -> str:
    """Return the column of a table that names most photographs of these stems, "" if none does."""
    if path in source_labels.WORDS or label_arrays.is_array(path) or not files.exists(path):
        return ""
    table = next(iter(_Reader(path, spec).pieces()), None)
    if table is None:
        return ""
    known = set(stems)
    found = {
        column: sum(photograph_names.identify(name) in known for name in _texts(table[column]))
        for column in table
    }
    best = max(found, key=lambda column: found[column])
    return str(best) if found[best] else ""


def _parts(value: str) -> list[str]:
    return [part.strip() for part in value.split(",")]


def _texts(column: pd.Series) -> list[str]:
    return column.map(text_streams.composed).tolist()


def _whole(texts: list[str]) -> list[str]:
    """Return numbers such as `3.0`, which pandas writes if another row has none, as `3`."""
    array = pa.array(texts, pa.large_string())
    return pc.replace_substring_regex(array, pattern=_WHOLE, replacement=r"\1").to_pylist()


def _no_column(
    path: str, columns: list[str], spec: specs.DatasetSpec, setting: str, column: str
) -> refusals.UnusableInput:
    """Return an error that says why a table lacks the column that a setting names."""
    if any(label_texts.LabelTexts(spec).is_label(name) for name in columns):
        return refusals.UnusableInput(
            "{file} has no column {column!r}: its header seems to be missing, for its first line "
            "is {line!r}. Put the line '{header}', or what the columns are called, before it",
            file=path,
            column=column,
            line=label_texts.short(",".join(columns)),
            header=f"{spec.image_column},{spec.label_column}",
        )
    or_none = ", or to '' if there is none" if setting == "patient_column" else ""
    return refusals.UnusableInput(
        "{file} has no column {column!r}; it has {columns}. Set {"
        + setting
        + "} to the right one"
        + or_none,
        file=path,
        column=column,
        columns=label_texts.some(columns, most=20),
    )
