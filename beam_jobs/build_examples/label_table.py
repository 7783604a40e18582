"""The labels of a CSV or an array: the rows that can be used, and the reasons against the others.

Tables hold Arrow's strings and small integers.
"""

import collections
import dataclasses
import hashlib
import json
import posixpath
import unicodedata
from collections.abc import Iterator

import numpy as np
import pandas as pd

from beam_jobs.build_examples import label_files
from beam_jobs.sources import folders, refusals
from dr_tfx.config import specs
from dr_tfx.dataset import splits
from dr_tfx.preprocessing import decoding

REJECT_COLUMNS = ("id", "path", "reason", "detail")

_NO_REJECTS = pd.DataFrame(columns=list(REJECT_COLUMNS), dtype=splits.TEXT)


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """The content of a CSV of labels."""

    ids: pd.Series  # All rows' ids.
    rows: pd.DataFrame  # Usable rows: `id`, `label`; indexed by their place in `ids`.
    rejects: pd.DataFrame  # The other rows: REJECT_COLUMNS.
    digest: str  # A hash of the ids and labels of all rows.


def read(path: str, spec: specs.DatasetSpec, source: folders.Source | None) -> LabelTable:
    """Read the labels of a CSV, or of an array that has the order of an array of photographs.

    Args:
      path: a file of a disk or an object store.
      spec: the names of the columns, and the labels.
      source: the photographs.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file cannot be used, or none of its rows can.
    """
    digest, rejects = hashlib.sha256(), [_NO_REJECTS]
    labels: list[np.ndarray] = [np.empty(0, np.int16)]

    def pieces() -> Iterator[list[str]]:
        for names, texts in label_files.chunks(path, spec, source):
            ids = [identify(name) for name in names]
            digest.update(json.dumps([ids, texts]).encode())
            piece, bad = _usable(ids, texts, spec)
            labels.append(piece)
            rejects.append(bad)
            yield ids

    ids = splits.text(pieces())
    label = np.concatenate(labels)
    if not len(ids):
        raise refusals.UnusableInput("{file} has a header but no rows", file=path)
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
            "Is it the right array, and does {label_names} name every label?"
            if label_files.is_array(path)
            else "Does {label_column} name the right column?"
        )
        raise refusals.UnusableInput(
            "{file}: none of the {count} rows can be used: {reasons}; the first is {first!r}: "
            "{detail}. " + asked,
            file=path,
            count=len(ids),
            reasons=count_reasons(table),
            first=table["id"].iloc[0],
            detail=table["detail"].iloc[0],
        )
    return LabelTable(ids=ids, rows=rows, rejects=table, digest=digest.hexdigest())


def identify(name: str) -> str:
    """Return the id of a photograph, made of its file's name or of its name in a CSV.

    The id is the file name without its folder and without a known extension. Unicode is composed
    (NFC), because macOS decomposes the names of files, and a CSV most often does not.
    """
    stem, extension = posixpath.splitext(posixpath.basename(name))
    known = extension.lower() in decoding.EXTENSIONS
    return unicodedata.normalize("NFC", stem if known else stem + extension)


def reject(rows: pd.DataFrame, reason: str, detail: str | pd.Series) -> pd.DataFrame:
    """Return rows as rejects, with REJECT_COLUMNS."""
    columns = {"id": rows["id"], "path": "", "reason": reason, "detail": detail}
    return pd.DataFrame(columns, index=rows.index, dtype=splits.TEXT)


def count_reasons(rejects: pd.DataFrame) -> dict[str, int]:
    """Return reason -> number of rows, sorted by reason."""
    return {str(reason): int(n) for reason, n in rejects.groupby("reason").size().items()}


def _usable(
    ids: list[str], texts: list[str], spec: specs.DatasetSpec
) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the labels, int16, -1 if they cannot be used; and the unusable rows as rejects."""
    known = len(spec.label_names)
    label_of = {
        text: int(text) if label_files.INTEGER.fullmatch(text) else None for text in set(texts)
    }
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
    """Return a mask of the ids that occur more than once."""
    codes, _ = pd.factorize(ids)
    return np.bincount(codes)[codes] > 1
