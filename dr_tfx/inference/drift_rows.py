"""The numbers of photographs that are answered one by one, kept until all are compared."""

import os
from pathlib import Path

import numpy as np
import pandas as pd

from dr_tfx.inference import drift, photographs
from dr_tfx.models import bundle_file
from dr_tfx.statistics import drift as statistics
from dr_tfx.storage import files, tables

FILE = "drift_rows.txt"


def line_of(read: photographs.ReadPhotograph, watch: drift.Watch) -> str:
    """Return the line of a photograph; "" if it was rejected."""
    if read.picture is None or read.reading is None:
        return ""
    numbers = " ".join(map(repr, watch.values(read.picture.rgb, read.reading).tolist()))
    return f"{_key(str(tables.harmless(read.name)))} {numbers}\n"


class KeptRows:
    """The numbers of photographs, in a table beside that of the answers, a line each.

    A command that goes on finds them there, and counts each photograph once.
    """

    def __init__(self, path: Path, reference: statistics.Reference, *, anew: bool):
        """Begin the table, or go on with it.

        Args:
          path: of the table.
          reference: what validation looked like.
          anew: whether what is there is of other predictions.
        """
        self._path, self._watch = path, drift.Watch(reference)
        if anew or not path.is_file():
            files.write(path, b"")
        # What is killed may leave the beginning of a line.
        os.truncate(path, path.read_bytes().rfind(b"\n") + 1)

    def add(self, read: photographs.ReadPhotograph) -> None:
        """Note a photograph, before its row of the answers is written."""
        self.extend(line_of(read, self._watch))

    def extend(self, lines: str) -> None:
        """Note what `line_of` returned of some photographs."""
        with files.named(self._path), self._path.open("a", encoding="utf-8") as stream:
            stream.write(lines)

    def counted(self, table: pd.DataFrame) -> statistics.Counted:
        """Return what the photographs of a table of answers are together.

        Args:
          table: with `photo`, `rejected` and `ungradable`, as text.
        """
        known = self._watch.reference
        width = len(known.scores) + len(known.pictures) + known.directions.shape[1]
        found = {}
        for line in self._path.read_text(encoding="utf-8").splitlines():
            name, *numbers = line.split()
            if len(numbers) == width:
                found[name] = np.array(numbers, np.float64)
        counted = statistics.Counted(known)
        columns = (table[name] for name in ("photo", "rejected", "ungradable"))
        for photo, rejected, ungradable in zip(*columns, strict=True):
            values = found.get(_key(photo))
            if rejected:
                if verdict := drift.verdict_of(rejected):
                    counted.add(None, verdict)
            elif values is not None:
                counted.add(known.row(values), ungradable)
        return counted


def _key(photo: str) -> str:
    """Return what stands for a photograph, by the name that its row has."""
    return bundle_file.digest(photo.encode())
