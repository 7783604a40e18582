"""The files of predictions of raw photographs, which are there as far as the work has come."""

import collections
import contextlib
import io
import itertools
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import pandas as pd
from absl import logging

import dr_tfx
from dr_tfx.inference import drift_rows, photographs
from dr_tfx.sources import frames
from dr_tfx.storage import claims, files, json_files, seen_text, tables

MARK_FILE, TABLE_FILE, FIGURES, DICOM = "predict.json", "predictions.csv", "figures", "dicom"
DRIFT_PAGE = "drift.html"
_DIGITS, _MOST_DIGITS = 3, 17  # After the point; a float64 has no more.
_DECISIONS_SAID = 6  # Most that are counted in the terminal.
_MARK = "predicted_by"  # The key that tells our predict.json from others.


class PredictionFiles:
    """The files of a folder of predictions: the table, row by row, figures, objects and the mark.

    The mark, `predict.json`, says how the predictions were made, and once all are there, how many.
    A folder whose predictions were made alike, and are not all there, goes on.

    Attributes:
      table: the path of the table.
      rows: how many photographs it has.
    """

    def __init__(
        self,
        output_dir: Path,
        answer_names: Sequence[str],
        made: Mapping[str, Any],
        *,
        objects: Sequence[str] = (),
    ):
        """Claim a folder, and begin its table anew or go on with it.

        Args:
          output_dir: a folder that the caller holds locked.
          answer_names: columns of the table: `ScoreSide.answer_names`, and what is measured.
          made: how the predictions are made, as plain JSON types.
          objects: the kinds of DICOM objects that photographs may have; each is a column, too.

        Raises:
          FileExistsError: the folder holds somebody else's files under the names of these.
        """
        results = [TABLE_FILE, FIGURES, drift_rows.FILE, DRIFT_PAGE]
        results += [DICOM] if objects else []
        claims.check(output_dir, mark=MARK_FILE, key=_MARK, results=results)
        self._folder, self._answer_names, self._made = output_dir, answer_names, made
        self._objects = objects
        self.table = output_dir / TABLE_FILE
        self._count: collections.Counter[str] = collections.Counter()  # Of stems that repeat.
        columns = columns_of(answer_names, objects)
        before = self._begun(columns)
        self._answered = set(before["photo"])
        self._taken = {Path(name).stem for name in before["figure"] if name}
        for kind in objects:
            self._taken |= {
                Path(name).stem.removesuffix(f"-{kind}") for name in before[kind] if name
            }
        self.rows = len(before)
        if not self.rows:
            self._tell_of_earlier()
            self._note({})
            with self._opened("wb") as stream:
                stream.write(tables.csv_text(pd.DataFrame(columns=columns)).encode())

    def _begun(self, columns: Sequence[str]) -> pd.DataFrame:
        """Return the rows that are there, of predictions that were made alike and not finished."""
        none = pd.DataFrame(columns=list(columns), dtype=str)
        mark = self._folder / MARK_FILE
        if not (mark.is_file() and self.table.is_file()):
            return none
        made = json.loads(json.dumps({_MARK: dr_tfx.__version__, **self._made}))
        if json_files.read(mark) != made:
            return none
        data = self.table.read_bytes()
        whole = data.rfind(b"\n") + 1  # What is killed may leave the beginning of a row.
        try:
            found = pd.read_csv(io.BytesIO(data[:whole]), dtype=str, keep_default_na=False)
        except ValueError:
            return none
        if list(found) != list(columns):
            return none
        os.truncate(self.table, whole)
        return found

    def _tell_of_earlier(self) -> None:
        """Say that the table of an earlier call, which is finished or was made otherwise, goes."""
        rows = self.table.read_bytes().count(b"\n") - 1 if self.table.is_file() else 0
        if rows > 0:
            logging.warning(
                "%s, with %d rows of an earlier call, is replaced; another --output_dir keeps both",
                self.table,
                rows,
            )

    def has(self, photograph: str) -> bool:
        """Tell whether a photograph, by the name that a person gives it, has its row."""
        return tables.harmless(photograph) in self._answered

    def add(
        self,
        read: photographs.ReadPhotograph,
        figure: bytes | None = None,
        measured: Mapping[str, Any] | None = None,
        *,
        objects: Mapping[str, bytes] | None = None,
    ) -> dict[str, Any]:
        """Write the row of a photograph and return it.

        Args:
          read: the photograph, with the answer of the model if there is one.
          figure: a PNG, if there is one.
          measured: values of further `answer_names`, which no model gave.
          objects: DICOM files, by their kinds.
        """
        written = {"figure": "", **dict.fromkeys(self._objects, "")}
        if figure is not None or objects:
            written |= self._write(self._stem(read.name), figure, objects or {})
        row = row_of(read, self._answer_names, written=written, measured=measured)
        self.extend([read.name], text_of([row]))
        return row

    def extend(self, names: Sequence[str], rows: bytes) -> None:
        """Write the rows of photographs, which `text_of` made.

        Args:
          names: of the photographs, as a person gives them.
          rows: one for each.
        """
        size = self.table.stat().st_size
        try:
            with self._opened("ab") as stream:
                stream.write(rows)
        except OSError:  # A disk that becomes full takes the beginning of a row.
            os.truncate(self.table, size)
            raise
        self.rows += len(names)
        self._answered.update(str(tables.harmless(name)) for name in names)

    def finish(self) -> None:
        """Note that all photographs were read, and how many there were of each kind."""
        rejected = self.rows - sum(self.decided().values())
        self._note({"photographs": {"read": self.rows - rejected, "rejected": rejected}})

    def decided(self) -> collections.Counter[str]:
        """Return how many photographs were read, by what was decided of them."""
        table = self.written("decision", "rejected")
        return collections.Counter(table["decision"][table["rejected"] == ""])

    def in_short(self) -> str:
        """Return how many photographs were read, and what was decided how often, as a line."""
        decided = self.decided()
        read, counts = sum(decided.values()), in_short(decided)
        told = f"{read:,} photograph{'s' * (read != 1)} read" + f": {counts}" * bool(counts)
        rejected = self.rows - read
        return told + f"; {rejected:,} rejected" * bool(rejected)

    def written(self, *columns: str) -> pd.DataFrame:
        """Return columns of the rows that are there, as text."""
        return pd.read_csv(self.table, usecols=list(columns), dtype=str, keep_default_na=False)

    def _note(self, more: Mapping[str, Any]) -> None:
        text = json.dumps({_MARK: dr_tfx.__version__, **self._made, **more}, indent=2)
        files.write_text(self._folder / MARK_FILE, text + "\n")

    @contextlib.contextmanager
    def _opened(self, mode: str) -> Iterator[IO[bytes]]:
        with files.named(self.table), self.table.open(mode) as stream:
            yield stream

    def _write(
        self, stem: str, figure: bytes | None, objects: Mapping[str, bytes]
    ) -> dict[str, str]:
        """Write the files of a photograph, and return their names by their columns."""
        named = {kind: f"{DICOM}/{stem}-{kind}.dcm" for kind in objects}
        for kind, name in named.items():
            files.write(self._folder / name, objects[kind])
        if figure is not None:
            named["figure"] = f"{FIGURES}/{stem}.png"
            files.write(self._folder / named["figure"], figure)
        return named

    def _stem(self, photograph: str) -> str:
        """Return the stem of a name, with -2, -3 ... where several photographs share it."""
        found, own = frames.parts(photograph), Path(photograph).stem
        if found:  # The file and the number; a stem would be the number alone.
            own = str(found._replace(file=Path(found.file).name))
        name = stem = seen_text.file_stem(own)
        while name in self._taken:
            self._count[stem] += 1
            name = f"{stem}-{self._count[stem] + 1}"
        self._taken.add(name)
        return name


def columns_of(answer_names: Sequence[str], objects: Sequence[str] = ()) -> list[str]:
    """Return the columns of the table; for the arguments, see `PredictionFiles`."""
    return ["photo", *answer_names, "figure", *objects, "rejected", "ungradable"]


def row_of(
    read: photographs.ReadPhotograph,
    answer_names: Sequence[str],
    *,
    written: Mapping[str, str] | None = None,
    measured: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return the row of a photograph.

    Args:
      read: the photograph, with the answer of the model if there is one.
      answer_names: the columns of the answer.
      written: the paths of its files in the folder, by their columns.
      measured: values of further `answer_names`, which no model gave.
    """
    answer: dict[str, Any] = dict.fromkeys(answer_names)
    answer |= {**(read.reading.answer if read.reading else {}), **(measured or {})}
    row = {"photo": seen_text.printable(read.name), **answer, **(written or {"figure": ""})}
    return row | {"rejected": read.rejected, "ungradable": read.ungradable}


def text_of(rows: Sequence[Mapping[str, Any]]) -> bytes:
    """Return rows of `row_of`, one or more, as they stand in the table."""
    return tables.csv_text(pd.DataFrame(rows), header=False).encode()


def in_short(decided: Mapping[str, int]) -> str:
    """Return how often what was decided, the commonest first; "" if that would be a long list.

    Lists of lesions are hardly ever alike.
    """
    if len(decided) > _DECISIONS_SAID:
        return ""
    by_number = sorted(decided.items(), key=lambda pair: -pair[1])
    return ", ".join(f"{count:,} {seen_text.printable(name)}" for name, count in by_number)


def cells(values: Sequence[object]) -> list[str]:
    """Return values as they are printed: a number that differs from its threshold looks different.

    The threshold of a number is the next number.
    """
    numbers = [value for value in values if isinstance(value, float)]
    pairs = [(one, other) for one, other in itertools.pairwise(numbers) if one != other]
    digits = _DIGITS
    while digits < _MOST_DIGITS and any(f"{a:.{digits}f}" == f"{b:.{digits}f}" for a, b in pairs):
        digits += 1
    return [
        "-" if value is None else f"{value:.{digits}f}" if isinstance(value, float) else str(value)
        for value in values
    ]
