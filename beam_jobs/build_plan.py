"""What the build job is going to do, decided on the driver before any photograph is decoded.

A `Plan` says which row of the CSV becomes an example of which shard and which rows are rejected
already, and why. It is a pure function of the settings, the CSV and the list of files; only files
of equal size are read, to find byte-identical ones. Ten million rows fit into the memory of a
notebook: tables hold Arrow's strings and small integers, and nothing is kept a row besides.
"""

import collections
import concurrent.futures
import dataclasses
import functools
import hashlib
import json
import logging
import posixpath
import re
import shlex
import unicodedata
import warnings
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

import dr_tfx
from beam_jobs import arrays, output, sources
from dr_tfx import images, specs, splits

REJECT_COLUMNS = ("id", "path", "reason", "detail")
LIBRARIES = {
    "dr_tfx": dr_tfx.__version__,
    "numpy": np.__version__,
    "opencv": cv2.__version__,
}  # Whatever decides pixels.

_LOG = logging.getLogger(__name__)
_READERS = 16  # Threads that read files to compare them; they mostly wait.
_MANY = 1000  # Files from which on reading them is worth a word.
_INTEGER = re.compile(r"[+-]?[0-9]+")
_ZIPPED = b"PK\3\4"
_NO_REJECTS = pd.DataFrame(columns=list(REJECT_COLUMNS), dtype=splits.TEXT)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is built from what."""

    spec: specs.DatasetSpec
    csv_rows: int
    rows: pd.DataFrame  # To be written: id, patient, label, split, name (in source), size (bytes).
    rejects: pd.DataFrame  # REJECT_COLUMNS.
    twins: tuple[dict[str, Any], ...]  # Byte-identical files: ids, labels, splits.
    unlabelled: pd.Series  # Names of the photographs that the CSV does not name, sorted.
    # Digests of all rows of the CSV, of the photographs' names and sizes, and of the contents of
    # those that share a size.
    inputs: dict[str, str]

    def shards(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Name and rows of every shard, in order."""
        return splits.shard_rows(self.rows, shard_examples=self.spec.shard_examples)

    def contract(self) -> dict[str, Any]:
        """Settings, versions, digests of the inputs, and one of all that decides the output.

        How many rejects are too many decides no byte: left out, so that a build that failed for
        its rejects can be resumed with another limit. Nor does a photograph without a row, though
        it is among the inputs: these say what is another, `fingerprint` whether it matters.
        """
        return {**self._settings, "inputs": self.inputs, "fingerprint": self._fingerprint}

    @property
    def _settings(self) -> dict[str, Any]:
        dataset = specs.to_dict(self.spec)
        del dataset["max_reject_rate"]
        return {"dataset": dataset, "libraries": LIBRARIES}

    @functools.cached_property
    def _fingerprint(self) -> str:
        settings = json.dumps(self._settings, sort_keys=True)
        rows = self.rows[["id", "patient", "label", "split", "size", "name"]]
        rejects = self.rejects[["id", "reason"]]
        contents = self.inputs.get("contents", "")
        text = f"{settings}{_digest(rows)}{_digest(rejects)}{contents}"
        return hashlib.sha256(text.encode()).hexdigest()


def make_plan(
    spec: specs.DatasetSpec, *, labels: str, source: sources.Source | None, find_twins: bool = True
) -> Plan:
    """Reads the labels, lists the photographs and decides the split.

    Args:
      spec: the data set's settings.
      labels: path of the CSV; any file system that Beam knows. Where `source` is an array, it may
        be an array too: an .npy file of labels in the order of the photographs.
      source: of the photographs. None: every row counts as having one.
      find_twins: read files of equal size, to keep byte-identical ones in one split; not done by
        the split 'hash', which cannot keep them.

    Raises:
      FileNotFoundError: no CSV.
      ValueError: the CSV cannot be used, or no photograph belongs to it, or no row is left.
    """
    table = _read_labels(labels, spec, source)
    rows, rejects = table.rows, table.rejects
    if rows.empty:
        raise ValueError(
            f"{labels}: none of the {len(table.ids)} rows can be used: {count_reasons(rejects)}; "
            f"the first is {rejects['id'].iloc[0]!r}: {rejects['detail'].iloc[0]}. Does "
            "config.dataset.label_column name the right column?"
        )
    rows["patient"] = _patients(rows["id"], spec, source)
    found = rows.assign(name=pd.Series("", rows.index, splits.TEXT), size=0)
    unlabelled, inputs = found["name"].iloc[:0], {"labels": table.digest}
    if source is not None:
        photographs = list_photographs(source)
        inputs["photographs"] = _digest(photographs[["name", "size"]])
        found, lost, unlabelled = _locate(table, photographs)
        rejects = pd.concat([rejects, lost], ignore_index=True)
        if found.empty:
            raise ValueError(
                f"no photograph in {source.path('')} belongs to a row of {labels}: there is "
                f"{photographs['name'].iloc[0]!r}, the CSV {rows['id'].iloc[0]!r}. Does "
                f"config.dataset.image_column name the right column?"
            )
        del photographs
    looks = source is not None and find_twins and spec.split.method != "hash"
    twins: list[list[str]] = []
    if source is not None and looks:
        twins, inputs["contents"] = _twins(found, source)
    # Rows without a photograph take part too: the split is a function of the CSV, so that a
    # photograph found later moves no other.
    split = splits.assign(rows, spec.split, twins)
    found = found.assign(split=split[found.index]).reset_index(drop=True)
    plan = Plan(
        spec=spec,
        csv_rows=len(table.ids),
        rows=found,
        rejects=rejects,
        twins=describe_twins(found, twins),
        unlabelled=unlabelled,
        inputs=inputs,
    )
    _warn(plan)
    return plan


def list_photographs(source: sources.Source) -> pd.DataFrame:
    """The photographs of a source, sorted by `name`: their `id` and `size` in bytes, too.

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
        raise ValueError(
            f"{source.path('')} has a file {error.object!r}, whose name is not UTF-8: rename it"
        ) from error
    order = pc.array_sort_indices(_arrow(names)).to_numpy()
    names = names.iloc[order].reset_index(drop=True)
    size = np.concatenate([np.empty(0, np.int64), *sizes])[order]
    return pd.DataFrame({"name": names, "id": splits.map_text(identify, names), "size": size})


def identify(name: str) -> str:
    """The id of a photograph, from its name or from what a CSV calls it.

    That is the file name without folder and known extension. Unicode is composed (NFC), for
    macOS decomposes the names of files, and a CSV most often does not.
    """
    stem, extension = posixpath.splitext(posixpath.basename(name))
    known = extension.lower() in images.EXTENSIONS
    return unicodedata.normalize("NFC", stem if known else stem + extension)


def reject(rows: pd.DataFrame, reason: str, detail: str | pd.Series) -> pd.DataFrame:
    """Rows as rejects: REJECT_COLUMNS."""
    columns = {"id": rows["id"], "path": "", "reason": reason, "detail": detail}
    return pd.DataFrame(columns, index=rows.index, dtype=splits.TEXT)


def count_labels(rows: pd.DataFrame, names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Split -> name of the label -> rows, zeros included, for the splits that have rows."""
    counts = rows.groupby(["split", "label"], observed=True).size()
    return {
        split: {name: int(counts.get((split, label), 0)) for label, name in enumerate(names)}
        for split in splits.SPLITS
        if (rows["split"] == split).any()
    }


def count_patients(rows: pd.DataFrame) -> tuple[dict[str, int], int]:
    """Split -> patients, and how many patients are in more than one split."""
    codes, names = pd.factorize(rows["patient"])
    is_in = np.zeros((len(names), len(splits.SPLITS)), bool)
    is_in[codes, rows["split"].cat.codes] = True
    counts = dict(zip(splits.SPLITS, is_in.sum(axis=0).tolist(), strict=True))
    shared = int((is_in.sum(axis=1) > 1).sum())
    return {name: count for name, count in counts.items() if count}, shared


def count_reasons(rejects: pd.DataFrame) -> dict[str, int]:
    """Reason -> rows, by name."""
    return {str(reason): int(n) for reason, n in rejects.groupby("reason").size().items()}


def summary(plan: Plan, task: specs.Task) -> dict[str, Any]:
    """The plan in numbers, JSON-ready: what `--plan` prints."""
    class_of = np.asarray(task.label_map)
    classes = plan.rows[["split"]].assign(label=class_of[plan.rows["label"]])
    patients, shared = count_patients(plan.rows)
    shards = {name: len(rows) for name, rows in plan.shards()}
    return {
        "rows": plan.csv_rows,
        "rejected": count_reasons(plan.rejects),
        "photographs": "found"
        if "photographs" in plan.inputs
        else "not looked for: no --image_dir",
        "unlabelled": len(plan.unlabelled),
        "counts": count_labels(plan.rows, plan.spec.label_names),
        "classes": count_labels(classes, task.class_names),
        "patients": patients,
        "shared_patients": shared,
        "shards": {"number": len(shards), "records": shards},
        "twins": "not looked for: the plan reads no photograph",
    }


@dataclasses.dataclass(frozen=True)
class _Labels:
    """What a CSV says."""

    ids: pd.Series  # Of every row.
    rows: pd.DataFrame  # Those that can be used: `id`, `label`; indexed by their place in `ids`.
    rejects: pd.DataFrame
    digest: str  # Of the ids and labels of every row.


def _read_labels(path: str, spec: specs.DatasetSpec, source: sources.Source | None) -> _Labels:
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
    return _Labels(ids=ids, rows=rows, rejects=table, digest=digest.hexdigest())


def _label_chunks(
    path: str, spec: specs.DatasetSpec, source: sources.Source | None
) -> Iterator[tuple[list[str], list[str]]]:
    """Ids and labels as text, some ten thousand rows at a time."""
    if not path.lower().endswith((".npy", ".npz")):
        return _csv_chunks(path, spec)
    if not isinstance(source, arrays.Arrays):
        raise ValueError(
            f"{path}: labels in an array belong to photographs in an array: give --npy_images too, "
            "or a CSV of labels"
        )
    return _npy_chunks(path, spec, source)


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
            raise ValueError(
                f"{path} has no column {column!r}; it has {', '.join(map(repr, table))}. Set "
                f"--config.dataset.{setting} to the right one"
            )
        # A row that is too short lacks its last fields.
        names, texts = (
            table[column].fillna("").str.strip().tolist()
            for column in (spec.image_column, spec.label_column)
        )
        yield [identify(name) for name in names], texts


def _tables(path: str) -> Iterator[pd.DataFrame]:
    if not output.exists(path):
        raise FileNotFoundError(f"{path} does not exist; --labels names the CSV of labels")
    try:
        is_zipped = output.read(path, length=len(_ZIPPED)) == _ZIPPED
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
        output.open_file(path) as stream,
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


def _patients(ids: pd.Series, spec: specs.DatasetSpec, source: sources.Source | None) -> pd.Series:
    pattern = spec.patient_pattern
    if isinstance(source, arrays.Arrays):
        _LOG.warning(
            "%s: the photographs count as prepared, and config.dataset.recipe is not applied. An "
            "array does not say whose they are: each counts as its own patient, so that the eyes "
            "of one may be in several splits",
            source.path(""),
        )
        return ids.copy()
    search = re.compile(pattern).search
    if pattern and not any(search(i) for chunk in splits.chunks(ids) for i in chunk):
        _LOG.warning(
            "no id matches config.dataset.patient_pattern %r (first id: %r): every photograph "
            "counts as its own patient",
            pattern,
            ids.iloc[0],
        )
    return splits.patients(ids, pattern)


def _locate(
    table: _Labels, photographs: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Which photograph belongs to which row.

    Returns:
      The rows with exactly one photograph, with `name` and `size`; the others as rejects; and the
      names of the photographs that belong to no row of the CSV, be it usable or not.
    """
    codes, ids = pd.factorize(photographs["id"])
    count = np.append(np.bincount(codes), 0)  # The last: of the rows without one, whose code is -1.
    first = np.empty(len(ids), np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    code = pc.index_in(_arrow(table.ids), value_set=_arrow(pd.Series(ids)))
    code = code.fill_null(-1).to_numpy()
    is_labelled = np.zeros(len(count), bool)
    is_labelled[code] = True
    unlabelled = photographs["name"][~is_labelled[codes]]
    rows, code = table.rows, code[table.rows.index]
    ambiguous = code[count[code] > 1]
    among = np.flatnonzero(np.isin(codes, ambiguous))
    names: dict[int, list[str]] = collections.defaultdict(list)
    for place, name in zip(among, photographs["name"].iloc[among], strict=True):
        names[codes[place]].append(name)
    details = pd.Series([", ".join(names[i]) for i in ambiguous], rows.index[count[code] > 1])
    rejects = [
        reject(rows[count[code] == 0], "missing_image", "no photograph of this name"),
        reject(rows[count[code] > 1], "ambiguous_image", details),
    ]
    place = first[code[count[code] == 1]]
    found = rows[count[code] == 1].assign(
        name=photographs["name"].iloc[place].array, size=photographs["size"].to_numpy()[place]
    )
    return found, pd.concat(rejects, ignore_index=True), unlabelled.reset_index(drop=True)


def _arrow(values: pd.Series) -> pa.Array:
    """The strings of a Series of TEXT, in one piece."""
    array = pa.array(values.array)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array


def _digest(table: pd.DataFrame) -> str:
    """A hash of all values, in their order."""
    digest = hashlib.sha256()
    for piece in zip(*(splits.chunks(table[column]) for column in table), strict=True):
        digest.update(json.dumps(piece).encode())
    return digest.hexdigest()


def _twins(found: pd.DataFrame, source: sources.Source) -> tuple[list[list[str]], str]:
    """Groups of ids whose files are byte-identical, and a digest of all that was read.

    Only files of equal size are read: a twentieth of some ten thousand photographs, but nearly all
    of some million, or of an array.
    """
    candidates = found[(found["size"] > 0) & found["size"].duplicated(keep=False)]
    if len(candidates) > _MANY:
        _LOG.info("reading %d files of equal size, to find identical ones", len(candidates))

    def digest(name: str) -> bytes:
        try:
            return hashlib.blake2b(source.read(name), digest_size=16).digest()
        except images.RejectedImage:
            return bytes(16)  # Has no twin; the build will say why.

    pieces = [np.empty((0, 2), np.uint64)]
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        for chunk in splits.chunks(candidates["name"]):
            read = b"".join(pool.map(digest, chunk))
            pieces.append(np.frombuffer(read, np.uint64).reshape(-1, 2))
    digests = np.concatenate(pieces)
    return group_twins(candidates["id"], digests), hashlib.sha256(digests.tobytes()).hexdigest()


def group_twins(ids: pd.Series, digests: np.ndarray) -> list[list[str]]:
    """Groups of ids with equal digests, uint64 (ids, 2), of which zeros are none."""
    again = pd.DataFrame(digests).duplicated(keep=False).to_numpy() & digests.any(axis=1)
    same: dict[bytes, list[str]] = collections.defaultdict(list)
    for digest, photograph in zip(digests[again], ids[again], strict=True):
        same[digest.tobytes()].append(photograph)
    return sorted(sorted(group) for group in same.values())


def describe_twins(
    found: pd.DataFrame, twins: Sequence[Sequence[str]]
) -> tuple[dict[str, Any], ...]:
    """Ids, labels and splits of every group, as the manifest has them."""
    is_twin = found["id"].isin([i for group in twins for i in group])
    by_id = found[is_twin].set_index("id")
    return tuple(
        {
            "ids": group,
            "labels": by_id.loc[list(group), "label"].tolist(),
            "splits": by_id.loc[list(group), "split"].tolist(),
        }
        for group in twins
    )


def warn_of_twins(twins: Iterable[dict[str, Any]]) -> None:
    """Names byte-identical files that contradict each other or are on both sides of a split."""
    for twin in twins:
        if len(set(twin["labels"])) > 1:
            _LOG.warning("byte-identical files %(ids)s have different labels %(labels)s", twin)
        if len(set(twin["splits"])) > 1:
            _LOG.warning("byte-identical files %(ids)s are in different splits %(splits)s", twin)


def _warn(plan: Plan) -> None:
    """Says what a person should look at before believing the figures."""
    on_purpose = (
        "; config.dataset.split.method 'image' leaks on purpose, to reproduce published figures"
        if plan.spec.split.method == "image"
        else ""
    )
    warn_of_twins(plan.twins)
    _, shared = count_patients(plan.rows)
    if shared:
        _LOG.warning("%d patients are in more than one split%s", shared, on_purpose)
    if len(plan.unlabelled):
        _LOG.warning(
            "%d photographs have no row in the CSV: not used; the first are %s",
            len(plan.unlabelled),
            ", ".join(plan.unlabelled.head(3)),
        )
    for name in ("validation", "test"):
        if getattr(plan.spec.split, name) and not (plan.rows["split"] == name).any():
            _LOG.warning("no photograph is in split %s: there are too few patients", name)
