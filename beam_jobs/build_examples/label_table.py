"""The labels of a CSV or an array: the rows that can be used, and the reasons against the others.

Tables hold Arrow's strings and small integers.
"""

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence

import numpy as np
import numpy.typing as npt
import pandas as pd
import pyarrow as pa

from beam_jobs.build_examples import (
    label_arrays,
    label_files,
    label_texts,
    photograph_names,
    source_labels,
)
from dr_tfx.config import specs
from dr_tfx.dataset import splits
from dr_tfx.preprocessing import mask_files
from dr_tfx.sources import folders, refusals

_LONGEST = 4096  # Characters of a path; no system has longer ones, and the rest is cut off.
_UNKNOWN = 20  # Texts that are no labels and are told of.
REJECT_COLUMNS = ("id", "path", "reason", "detail")
REJECTS_HEADER = f"{','.join(REJECT_COLUMNS)}\n".encode()  # The first line of their file.


@dataclasses.dataclass(frozen=True)
class LabelTable:
    """The content of a CSV of labels."""

    paths: pd.Series  # All rows' photographs as the CSV gives them: photograph_names.normalise.
    stems: pd.Series  # The same without folders and extensions; one object if there are none.
    # Usable rows: `id`, `label`, and, if the file tells them, `patient` ("" where it does not) and
    # `official`, the place in splits.SPLITS; indexed by their place in `paths`.
    rows: pd.DataFrame
    rejects: pd.DataFrame  # The other rows: REJECT_COLUMNS.
    digest: str  # A hash of the paths and labels of all rows.


def read(
    path: str,
    spec: specs.DatasetSpec,
    source: folders.Source | None,
    masks: mask_files.MaskFolder | None = None,
) -> LabelTable:
    """Read the labels of a CSV, or of an array that has the order of an array of photographs.

    Args:
      path: a file of a disk or an object store.
      spec: the names of the columns, and the labels.
      source: the photographs.
      masks: their masks, which may tell their labels.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file cannot be used, or none of its rows can.
    """
    digest, names, rows_of = hashlib.sha256(), _Names(), _RowsOfLabels(spec)
    for given in label_files.chunks(path, spec, source, masks):
        paths_of = [photograph_names.normalise(name[:_LONGEST]) for name in given.names]
        digest.update(json.dumps([paths_of, *given[1:]]).encode())
        names.add(paths_of)
        rows_of.add(given)
    if not len(names):
        raise refusals.UnusableInput("{file} has a header but no rows", file=path)
    paths, stems, ids = names.table()
    rows, bad = rows_of.table(ids, path)
    is_again, again = repeats(rows, rows["id"])
    rejects = [reject(bad, bad["reason"], bad["detail"]), again]
    rows = rows[~is_again]
    table = pd.concat(rejects, ignore_index=True)
    if rows.empty:
        raise _nothing_usable(path, spec, table, rows_of.unknown)
    return LabelTable(paths, stems, rows, table, digest.hexdigest())


def spell(paths: list[str]) -> tuple[pd.Series, pd.Series, pd.Series]:
    """Return paths, stems and ids of rows, as a `LabelTable` has them, from their paths."""
    names = _Names()
    names.add(paths)
    return names.table()


def _nothing_usable(
    path: str, spec: specs.DatasetSpec, rejects: pd.DataFrame, unknown: Sequence[str]
) -> refusals.UnusableInput:
    """Return an error that says why no row can be used, and what is likely to help.

    Args:
      path: the file of labels.
      spec: the data set's settings.
      rejects: all rows.
      unknown: the first texts that are no labels.
    """
    likely = {
        "unknown_label": "Its labels are {found}. If they are what {label_names} calls "
        "{names}, say which is which: {label_values}='({example},)'. If they are others, set "
        "{label_column} to the right column. drtfx-inspect proposes these settings",
        "missing_label": "Does {label_column} name the right column?",
        "label_out_of_range": "Does {label_names} name every label?",
        "unknown_split": "Does {split_column} name the right column?",
        "duplicate_id": "Does {image_column} name the right column?",
    }
    reason = rejects["reason"].value_counts().index[0]
    asked = likely[reason]
    if label_arrays.is_array(path):
        asked = "Is it the right array, and does {label_names} name every label?"
    elif path in source_labels.WORDS and reason == "missing_label":
        asked = {
            source_labels.FOLDERS: "The folder of a photograph is its label here: pass the folder "
            "that holds those as {image_dir}, or a CSV as {labels}",
            source_labels.NAMES: "Does {label_pattern} find a label in the names?",
        }[path]
    elif path in source_labels.WORDS:
        asked = asked.partition(" If they are others")[0]
    return refusals.UnusableInput(
        "{file}: none of the {count} rows can be used: {reasons}; the first is {first!r}: "
        "{detail}. " + asked,
        file=path,
        count=len(rejects),
        reasons=count_reasons(rejects),
        first=rejects["id"].iloc[0],
        detail=rejects["detail"].iloc[0],
        found=label_texts.some(unknown),
        names=label_texts.some(spec.label_names),
        example=", ".join(f'"{label_texts.short(text)}=0"' for text in unknown[:2]),
    )


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


class _RowsOfLabels:
    """What rows say of their photographs, gathered a chunk at a time."""

    def __init__(self, spec: specs.DatasetSpec):
        self._spec, self._texts = spec, label_texts.LabelTexts(spec)
        self._labels = [np.empty(0, np.int16)]
        self._official = [np.empty(0, np.int8)]
        self._patients: list[pa.Array] = []
        self._bad: dict[int, tuple[str, str]] = {}  # Row -> reason and detail against it.
        self._count = 0
        self.unknown: list[str] = []  # The first texts that are no labels.

    def add(self, rows: label_arrays.LabelRows) -> None:
        """Take some rows."""
        if len(self.unknown) < _UNKNOWN:
            texts = dict.fromkeys(rows.labels)
            self.unknown += [text for text in texts if self._texts.label(text) is None][:_UNKNOWN]
        self._labels.append(self._numbers(rows.labels, self._texts.number, self._texts.reject))
        if rows.splits is not None:
            self._official.append(self._numbers(rows.splits, _place_of_split, _no_split))
        if rows.patients is not None:
            told = [photograph_names.spell(name) for name in rows.patients]
            self._patients.append(pa.array(told, pa.large_string()))
        self._count += len(rows.names)

    def _numbers(
        self,
        texts: list[str],
        number: Callable[[str], int],
        reject: Callable[[str], tuple[str, str]],
    ) -> np.ndarray:
        """Return the numbers of texts, int16, -1 where they have none, and note the latter."""
        of = {text: number(text) for text in set(texts)}
        numbers = np.array([of[text] for text in texts], np.int16)
        for i in np.flatnonzero(numbers < 0).tolist():
            self._bad[self._count + i] = reject(texts[i])
        return numbers

    def table(self, ids: pd.Series, path: str) -> tuple[pd.DataFrame, pd.DataFrame]:
        """Return the usable rows, and `id`, `reason` and `detail` of the others."""
        columns = {"id": ids, "label": np.concatenate(self._labels)}
        if self._patients:
            columns["patient"] = patients = splits.joined(self._patients)
            if not (patients != "").any():
                raise refusals.UnusableInput(
                    "{file}: the column {column!r} is empty in every row, so that it tells no "
                    "patient. Does {patient_column} name the right column?",
                    file=path,
                    column=self._spec.patient_column,
                )
        if len(self._official) > 1:
            columns["official"] = np.concatenate(self._official)
        bad = pd.DataFrame.from_dict(
            self._bad, "index", columns=["reason", "detail"], dtype=splits.TEXT
        )
        is_usable = np.ones(len(ids), bool)
        is_usable[bad.index] = False
        return pd.DataFrame(columns)[is_usable], bad.assign(id=ids[bad.index])


def _place_of_split(text: str) -> int:
    split = splits.named(text)
    return splits.SPLITS.index(split) if split else -1


def _no_split(text: str) -> tuple[str, str]:
    split = label_texts.short(text)
    return "unknown_split", f"split {split!r}, expected one of {', '.join(splits.SPLITS)}"


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
        stems = [photograph_names.stem_of(path) for path in paths]
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
