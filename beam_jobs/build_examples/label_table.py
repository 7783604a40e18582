"""The labels of a CSV or an array: the rows that can be used, and the reasons against the others.

Tables hold Arrow's strings and small integers.
"""

import dataclasses
import hashlib
import json

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from beam_jobs.build_examples import label_files, photograph_names
from beam_jobs.sources import folders, refusals
from dr_tfx.config import specs
from dr_tfx.dataset import splits

REJECT_COLUMNS = ("id", "path", "reason", "detail")


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """The content of a CSV of labels."""

    paths: pd.Series  # All rows' photographs as the CSV gives them: photograph_names.normalise.
    stems: pd.Series  # The same without folders and extensions; one object if there are none.
    # Usable rows: `id`, `label`, and `patient` if the file tells it ("" where it does not); indexed
    # by their place in `paths`.
    rows: pd.DataFrame
    rejects: pd.DataFrame  # The other rows: REJECT_COLUMNS.
    digest: str  # A hash of the paths and labels of all rows.


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
    digest, names, labels = hashlib.sha256(), _Names(), [np.empty(0, np.int16)]
    unusable: list[pd.DataFrame] = []
    patients: list[pa.Array] = []
    for given in label_files.chunks(path, spec, source):
        piece_paths = [photograph_names.normalise(name) for name in given.names]
        told = [photograph_names.spell(name) for name in given.patients or ()]
        digest.update(json.dumps([piece_paths, given.labels, told]).encode())
        patients += [pa.array(told, pa.large_string())] if told else []
        piece, bad = _usable(given.labels, spec)
        unusable.append(bad.set_axis(bad.index + len(names)))
        labels.append(piece)
        names.add(piece_paths)
    if not len(names):
        raise refusals.UnusableInput("{file} has a header but no rows", file=path)
    paths, stems, ids = names.table()
    label = np.concatenate(labels)
    bad = pd.concat(unusable)
    columns = {"id": ids, "label": label}
    if patients:
        columns["patient"] = _told_patients(splits.joined(patients), path, spec)
    rows = pd.DataFrame(columns)[label >= 0]
    is_again, again = repeats(rows, rows["id"])
    rejects = [reject(bad.assign(id=ids[bad.index]), bad["reason"], bad["detail"]), again]
    rows = rows[~is_again]
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
            count=len(paths),
            reasons=count_reasons(table),
            first=table["id"].iloc[0],
            detail=table["detail"].iloc[0],
        )
    return LabelTable(paths, stems, rows, table, digest.hexdigest())


def reject(rows: pd.DataFrame, reason: str | pd.Series, detail: str | pd.Series) -> pd.DataFrame:
    """Return rows as rejects, with REJECT_COLUMNS."""
    columns = {"id": rows["id"], "path": "", "reason": reason, "detail": detail}
    return pd.DataFrame(columns, index=rows.index, dtype=splits.TEXT)


def repeats(rows: pd.DataFrame, key: npt.ArrayLike) -> tuple[np.ndarray, pd.DataFrame]:
    """Find the rows that are about one photograph. The first is kept if all have one label.

    Args:
      rows: columns `id` and `label`.
      key: what tells the photographs of the rows apart, one value a row.

    Returns:
      A mask of the rows that are not kept, and these rows as rejects.
    """
    codes, _ = pd.factorize(pd.Series(key))
    is_one_of_several = np.bincount(codes, minlength=1)[codes] > 1
    several, code = rows[is_one_of_several], codes[is_one_of_several]
    conflicting = several["label"].groupby(code).transform("nunique").to_numpy(dtype=int) > 1
    repeated = pd.Series(code).duplicated().to_numpy() & ~conflicting
    is_again = np.zeros(len(rows), bool)
    is_again[np.flatnonzero(is_one_of_several)[conflicting | repeated]] = True
    same, other = (
        "an earlier row has the same id and label",
        "rows of this id have different labels",
    )
    rejects = [
        reject(several[conflicting], "duplicate_id", other),
        reject(several[repeated], "duplicate_id", same),
    ]
    return is_again, pd.concat(rejects)


def count_reasons(rejects: pd.DataFrame) -> dict[str, int]:
    """Return reason -> number of rows, sorted by reason."""
    return {str(reason): int(n) for reason, n in rejects.groupby("reason").size().items()}


def _told_patients(patients: pd.Series, path: str, spec: specs.DatasetSpec) -> pd.Series:
    if (patients == "").all():
        raise refusals.UnusableInput(
            "{file}: the column {column!r} is empty in every row, so that it tells no patient. "
            "Does {patient_column} name the right column?",
            file=path,
            column=spec.patient_column,
        )
    return patients


class _Names:
    """The names of photographs, gathered a chunk at a time."""

    def __init__(self) -> None:
        self._paths: list[pa.Array] = []
        self._stems: list[pa.Array] = []
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def add(self, paths: list[str]) -> None:
        """Take the names of some rows."""
        stems = [photograph_names.identify(path) for path in paths]
        self._stems.append(pa.array(stems, pa.large_string()))
        is_more = stems != paths
        self._paths.append(pa.array(paths, pa.large_string()) if is_more else self._stems[-1])
        self._count += len(paths)

    def table(self) -> tuple[pd.Series, pd.Series, pd.Series]:
        """Return paths, stems and ids of all rows. Equal paths have equal ids, others have not."""
        stems = splits.joined(self._stems)
        is_more = any(a is not b for a, b in zip(self._paths, self._stems, strict=True))
        paths = splits.joined(self._paths) if is_more else stems
        several = stems.duplicated(keep=False) if is_more else np.zeros(len(stems), bool)
        longer = photograph_names.distinct(paths[several])
        if not longer:
            return paths, stems, stems
        ids = stems.copy()
        ids[several] = splits.text([[longer[path] for path in paths[several]]]).array
        return paths, stems, ids


def _usable(texts: list[str], spec: specs.DatasetSpec) -> tuple[np.ndarray, pd.DataFrame]:
    """Return the labels, int16, -1 if they cannot be used; and reason and detail of the others.

    The table of the others is indexed by their place.
    """
    known = len(spec.label_names)
    label_of = {
        text: int(text) if label_files.INTEGER.fullmatch(text) else None for text in set(texts)
    }
    labels, bad = np.full(len(texts), -1, np.int16), {}
    for i, text in enumerate(texts):
        label = label_of[text]
        if label is None:
            bad[i] = ("label_not_an_integer", f"label {text!r}, expected 0 to {known - 1}")
        elif not 0 <= label < known:
            bad[i] = ("label_out_of_range", f"label {text}, expected 0 to {known - 1}")
        else:
            labels[i] = label
    columns = ["reason", "detail"]
    return labels, pd.DataFrame.from_dict(bad, "index", columns=columns, dtype=splits.TEXT)
