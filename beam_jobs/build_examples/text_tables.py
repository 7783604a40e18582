"""Tables of text: CSV files of any separator and encoding, and the first sheet of a workbook.

A table is read a piece at a time. Every value is text, and nothing is interpreted: no number, no
missing value, no formula. What takes memory before it can be refused has a limit: a line, the
number of columns, and what a workbook unpacks to.
"""

import collections
import csv
import dataclasses
import io
import itertools
import shlex
import struct
import warnings
import zipfile
from collections.abc import Callable, Iterable, Iterator, Sequence

import pandas as pd

from beam_jobs.build_examples import text_streams
from dr_tfx.dataset import splits
from dr_tfx.sources import refusals
from dr_tfx.storage import files

MAX_COLUMNS = 4096
MAX_WORKBOOK = 1 << 28  # Bytes of all parts of an Excel workbook, unpacked.
SEPARATORS = (",", ";", "\t", "|")
_LAST_GAP = r"\s+(?=\S+\s*$)"  # The last spaces of a line: names of files may have some, too.
_BROKEN = 64  # Line breaks in names of columns.
_CELLS = 8 * splits.CHUNK  # Values that are Python objects at the same time.
_EXCEL = (".xlsx", ".xlsm")
_SAID = 200  # Characters of what a library says of a damaged workbook, which may be all of it.
# zipfile raises these for damaged files; NotImplementedError and UnicodeDecodeError are some.
_DAMAGED = (
    zipfile.BadZipFile,
    EOFError,
    OSError,
    RuntimeError,
    ValueError,
    OverflowError,
    struct.error,
)
_IN_WORKBOOK = "xl/workbook.xml"
_OF_OTHERS = ("content.xml", "Index/Document.iwa")  # LibreOffice's .ods, Apple's .numbers.
_ZIPPED, _OLD_EXCEL = b"PK\3\4", b"\xd0\xcf\x11\xe0"


@dataclasses.dataclass(frozen=True)
class TextTable:
    """An opened table."""

    columns: list[str]  # Their names, `composed`; repeated ones get a number.
    repeated: frozenset[str]  # Names that several columns have.
    has_header: bool  # False: there are two columns, whose names are made up.
    notes: list[str]  # What was taken that a person may not expect.
    pieces: Callable[[], Iterator[pd.DataFrame]]  # The rows, some ten thousand at a time.


def read(
    path: str, *, is_header: Callable[[list[str]], bool], is_row: Callable[[list[str]], bool]
) -> TextTable:
    """Open a table.

    Args:
      path: a CSV, packed with gzip or not, or an Excel workbook.
      is_header: tells whether the fields of a first line are the expected columns, by which the
        right separator is found.
      is_row: tells whether two fields are a row, so that there is no header.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it cannot be read. Reading `pieces` may find that later.
    """
    if not files.exists(path):
        raise refusals.MissingInput(
            "{file} does not exist; {labels} names the CSV of labels", file=path
        )
    with text_streams.explained(path, "CSV"):
        start = files.read(path, length=len(_ZIPPED))
    if start == _ZIPPED:
        return _workbook(path)
    if start == _OLD_EXCEL:
        raise refusals.UnusableInput(
            "{file} is a workbook in Excel's old format (.xls). Save it as .xlsx or as a CSV",
            file=path,
        )
    return _csv(path, is_header, is_row)


def _csv(
    path: str, is_header: Callable[[list[str]], bool], is_row: Callable[[list[str]], bool]
) -> TextTable:
    encoding = text_streams.encoding_of(path)
    line = _first_line(path, encoding)
    name = text_streams.name_of(encoding)
    notes = [] if name == text_streams.UTF8 else [f"it was read as {name}"]
    with text_streams.explained(path, f"{text_streams.name_of(encoding)} CSV"):
        fields = {separator: _fields(line, separator) for separator in SEPARATORS}
    for separator, names in fields.items():
        if is_header(names):
            return _with_header(path, encoding, separator, names, notes)
    for separator, row in {**fields, _LAST_GAP: line.strip().rsplit(maxsplit=1)}.items():
        if len(row) == 2 and is_row(row):
            notes.append(f"it has no header, for its first line is {line.strip()!r}")
            columns = ["photograph", "label"]
            rows = _pieces(path, encoding, separator, columns, header=None)
            return TextTable(columns, frozenset(), False, notes, rows)
    separator = max(fields, key=lambda s: len(fields[s]))
    return _with_header(path, encoding, separator, fields[separator], notes)


def _with_header(
    path: str, encoding: str, separator: str, names: list[str], notes: list[str]
) -> TextTable:
    """Return a CSV whose first line is these names of columns."""
    columns = _each_once(names)
    _check_columns(path, columns)
    pieces = _pieces(path, encoding, separator, columns)
    return TextTable(columns, _repeated(names), True, notes, pieces)


def _pieces(
    path: str, encoding: str, separator: str, columns: list[str], header: int | None = 0
) -> Callable[[], Iterator[pd.DataFrame]]:
    """Return what reads the rows of a CSV."""
    size = min(max(_CELLS // max(len(columns), 1), 1), splits.CHUNK)

    def pieces() -> Iterator[pd.DataFrame]:
        with (
            text_streams.explained(path, f"{text_streams.name_of(encoding)} CSV"),
            text_streams.unpacked(path) as stream,
            text_streams.SeenText(stream, encoding, newline="") as text,
            # All columns are read, and not two of them: only so are rows with too many fields
            # found.
            pd.read_csv(
                text,
                sep=separator,
                engine="python" if separator == _LAST_GAP else "c",
                dtype=str,
                keep_default_na=False,
                index_col=False,
                header=header,
                chunksize=size,
            ) as tables,
        ):
            while True:
                # If the first row is longer than the header, pandas drops fields and only warns.
                with warnings.catch_warnings():
                    warnings.simplefilter("error", pd.errors.ParserWarning)
                    table = next(tables, None)
                if table is None:
                    return
                yield _without_empty_rows(table.set_axis(columns, axis=1))

    return pieces


def _without_empty_rows(table: pd.DataFrame) -> pd.DataFrame:
    """Return the table without rows that have no value; a row that is too short has some."""
    table = table.fillna("")
    empty = table.iloc[:, 0].str.strip() == ""
    if empty.any():
        rest = table[empty].apply(lambda column: column.str.strip() == "")
        empty[empty] = rest.all(axis=1)
    return table[~empty] if empty.any() else table


def _check_columns(path: str, columns: Sequence[str]) -> None:
    if len(columns) > MAX_COLUMNS:
        raise refusals.UnusableInput(
            "{file} has more than {most:,} columns. Leave out those that are no names, labels or "
            "patients",
            file=path,
            most=MAX_COLUMNS,
        )


def _fields(line: str, separator: str) -> list[str]:
    """Return the values of a first line; of too many, some more than allowed."""
    try:
        values = next(csv.reader(io.StringIO(line, newline=""), delimiter=separator), [])
    except csv.Error:  # A field is longer than a name of a column can be.
        values = [line]
    return [text_streams.composed(value) for value in values[: 2 * MAX_COLUMNS]]


def _repeated(names: Sequence[str]) -> frozenset[str]:
    """Return the names that occur several times."""
    return frozenset(name for name, n in collections.Counter(names).items() if n > 1)


def _each_once(values: Iterable[str]) -> list[str]:
    """Return names of columns, where those that occur again get a number."""
    names: dict[str, None] = {}
    counts: collections.Counter[str] = collections.Counter()
    for value in values:
        name = value
        while name in names:
            counts[value] += 1
            name = f"{value}.{counts[value]}"
        names[name] = None
    return list(names)


def _first_line(path: str, encoding: str) -> str:
    """Return the first line that is not blank, with those that a quoted line break adds."""
    with (
        text_streams.explained(path, f"{text_streams.name_of(encoding)} CSV"),
        text_streams.unpacked(path) as stream,
        text_streams.SeenText(stream, encoding, newline="") as text,
    ):
        lines = iter(lambda: text.readline(text_streams.MAX_LINE), "")
        line = next((line for line in lines if line.strip()), "")
        for more in itertools.islice(lines, _BROKEN):
            if line.count('"') % 2 == 0 or len(line) >= text_streams.MAX_LINE:
                break
            line += more
        if not line:
            raise pd.errors.EmptyDataError
    if len(line) >= text_streams.MAX_LINE:
        raise refusals.UnusableInput(
            "{file}: its first line has more than {most:,} characters; expected the names of the "
            "columns",
            file=path,
            most=text_streams.MAX_LINE,
        )
    return line


def _workbook(path: str) -> TextTable:
    """Open the first sheet of an Excel workbook. Formulas are not run: their last values count."""
    with files.open_file(path) as stream:
        try:
            members = zipfile.ZipFile(stream).infolist()
        except _DAMAGED as error:
            if path.lower().endswith(_EXCEL):
                raise refusals.UnusableInput(
                    "{file} is a damaged workbook: {error}", file=path, error=error
                ) from error
            members = []
        if not any(member.filename == _IN_WORKBOOK for member in members):
            if any(member.filename in _OF_OTHERS for member in members):
                raise refusals.UnusableInput(
                    "{file} is a table of another program than Excel. Save it as .xlsx or as a CSV",
                    file=path,
                )
            raise refusals.UnusableInput(
                "{file} is a .zip archive; unpack it: unzip {quoted}",
                file=path,
                quoted=shlex.quote(path),
            )
        if sum(member.file_size for member in members) > MAX_WORKBOOK:
            raise refusals.UnusableInput(
                "{file} is a workbook of more than {most:,} bytes, unpacked. Save it as a CSV",
                file=path,
                most=MAX_WORKBOOK,
            )
        stream.seek(0)
        try:
            sheet = pd.read_excel(
                stream, sheet_name=0, header=None, dtype=str, na_filter=False, engine="openpyxl"
            )
        except ImportError as error:
            raise refusals.UnusableInput(
                "{file} is an Excel workbook, which needs openpyxl: pip install 'dr_tfx[excel]', "
                "or save it as a CSV",
                file=path,
            ) from error
        except Exception as error:  # openpyxl has no error of its own for a damaged workbook.
            raise refusals.UnusableInput(
                "{file} cannot be read as an Excel workbook: {error}",
                file=path,
                error=" ".join(str(error).split())[:_SAID] or type(error).__name__,
            ) from error
    if sheet.empty:
        raise refusals.UnusableInput("{file}: the first sheet is empty", file=path)
    names = [text_streams.composed(str(name)) for name in sheet.iloc[0]]
    columns = _each_once(names)
    _check_columns(path, columns)
    rows = _without_empty_rows(sheet.iloc[1:].set_axis(columns, axis=1))
    step = max(_CELLS // len(columns), 1)

    def pieces() -> Iterator[pd.DataFrame]:
        for start in range(0, len(rows), step):
            yield rows.iloc[start : start + step]

    return TextTable(columns, _repeated(names), True, [], pieces)
