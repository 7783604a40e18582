"""What the build job is going to do, decided on the driver before any photograph is decoded.

A `Plan` says which row of the CSV becomes an example of which shard and which rows are rejected
already, and why. It is a pure function of the settings, the CSV and the list of files; only files
of equal size are read, to find byte-identical ones. Ten million rows fit into the memory of a
notebook: tables hold Arrow's strings and small integers, and nothing is kept a row besides.
"""

import collections
import dataclasses
import functools
import hashlib
import json
import logging
import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import cv2
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

import dr_tfx
from beam_jobs.build_examples import label_table, twin_files
from beam_jobs.sources import arrays, folders
from dr_tfx.config import specs
from dr_tfx.dataset import manifest, splits

LIBRARIES = {
    "dr_tfx": dr_tfx.__version__,
    "numpy": np.__version__,
    "opencv": cv2.__version__,
}  # Whatever decides pixels.

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Plan:
    """What is built from what."""

    spec: specs.DatasetSpec
    csv_rows: int
    rows: pd.DataFrame  # To be written: id, patient, label, split, name (in source), size (bytes).
    rejects: pd.DataFrame  # label_table.REJECT_COLUMNS.
    twins: tuple[dict[str, Any], ...]  # Byte-identical files: ids, labels, splits.
    unlabelled: pd.Series  # Names of the photographs that the CSV does not name, sorted.
    # Digests of all rows of the CSV, of the photographs' names and sizes, and of the contents of
    # those that share a size.
    inputs: dict[str, str]
    is_prepared: bool = False  # The pictures are given as they are: no recipe is applied.

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
        # Of arrays alone: other data sets keep the fingerprint that they have.
        prepared = {"prepared": manifest.ELSEWHERE} if self.is_prepared else {}
        return {"dataset": dataset, "libraries": LIBRARIES, **prepared}

    @functools.cached_property
    def _fingerprint(self) -> str:
        settings = json.dumps(self._settings, sort_keys=True)
        rows = self.rows[["id", "patient", "label", "split", "size", "name"]]
        rejects = self.rejects[["id", "reason"]]
        contents = self.inputs.get("contents", "")
        text = f"{settings}{_digest(rows)}{_digest(rejects)}{contents}"
        return hashlib.sha256(text.encode()).hexdigest()


def make_plan(
    spec: specs.DatasetSpec, *, labels: str, source: folders.Source | None, find_twins: bool = True
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
    table = label_table.read(labels, spec, source)
    rows, rejects = table.rows, table.rejects
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
    twins: list[list[str]] = []
    if source is not None and find_twins and spec.split.method != "hash":
        twins, inputs["contents"] = twin_files.find(found, source)
    # Rows without a photograph take part too: the split is a function of the CSV, so that a
    # photograph found later moves no other.
    split = splits.assign(rows, spec.split, twins)
    found = found.assign(split=split[found.index]).reset_index(drop=True)
    plan = Plan(
        spec=spec,
        csv_rows=len(table.ids),
        rows=found,
        rejects=rejects,
        twins=twin_files.describe(found, twins),
        unlabelled=unlabelled,
        inputs=inputs,
        is_prepared=source is not None and source.is_prepared,
    )
    _warn(plan)
    return plan


def list_photographs(source: folders.Source) -> pd.DataFrame:
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
    return pd.DataFrame(
        {"name": names, "id": splits.map_text(label_table.identify, names), "size": size}
    )


def count_labels(rows: pd.DataFrame, names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Split -> name of the label -> rows, zeros included, for the splits that have rows."""
    counts = rows.groupby(["split", "label"], observed=True).size()
    return {
        split: {name: int(counts.get((split, label), 0)) for label, name in enumerate(names)}
        for split in splits.SPLITS
        if (rows["split"] == split).any()
    }


def count_patients(rows: pd.DataFrame) -> tuple[dict[str, int], list[str]]:
    """Split -> patients, and the names of those who are in more than one split, sorted."""
    codes, names = pd.factorize(rows["patient"])
    is_in = np.zeros((len(names), len(splits.SPLITS)), bool)
    is_in[codes, rows["split"].cat.codes] = True
    counts = dict(zip(splits.SPLITS, is_in.sum(axis=0).tolist(), strict=True))
    shared = sorted(names[is_in.sum(axis=1) > 1].tolist())
    return {name: count for name, count in counts.items() if count}, shared


def too_many(rejects: pd.DataFrame, plan: Plan) -> str:
    """What is to be said of rejects where they are more than the settings allow; else ""."""
    limit = plan.spec.max_reject_rate
    if len(rejects) <= limit * plan.csv_rows and len(rejects) < plan.csv_rows:
        return ""
    reasons = rejects["reason"].value_counts()
    counts = ", ".join(f"{n} {reason}" for reason, n in reasons.items())
    first = rejects.sort_values(["id", "reason"], kind="stable")["id"].head(5)
    return (
        f"{len(rejects)} of {plan.csv_rows} rows were rejected, more than "
        f"config.dataset.max_reject_rate={limit} allows: {counts}; the first are "
        f"{', '.join(name or '(empty)' for name in first)}"
    )


def summary(plan: Plan, *, classes: Sequence[str], class_of: Sequence[int]) -> dict[str, Any]:
    """The plan in numbers, JSON-ready: what `--plan` prints.

    Warns where the build is certain to be refused for its rejects.

    Args:
      plan: of the build.
      classes: names of the classes of a task.
      class_of: the class of each label, as a place in `classes`.
    """
    refused = too_many(plan.rejects, plan)
    if refused:
        _LOG.warning("the build will be refused: %s", refused)
    rows = plan.rows[["split"]].assign(label=np.asarray(class_of)[plan.rows["label"]])
    patients, shared = count_patients(plan.rows)
    shards = {name: len(rows) for name, rows in plan.shards()}
    return {
        "rows": plan.csv_rows,
        "rejected": label_table.count_reasons(plan.rejects),
        "refused": refused,
        "photographs": "found"
        if "photographs" in plan.inputs
        else "not looked for: no --image_dir",
        "unlabelled": len(plan.unlabelled),
        "counts": count_labels(plan.rows, plan.spec.label_names),
        "classes": count_labels(rows, classes),
        "patients": patients,
        "shared_patients": len(shared),
        "shards": {"number": len(shards), "records": shards},
        "twins": "not looked for: the plan reads no photograph",
    }


def _patients(ids: pd.Series, spec: specs.DatasetSpec, source: folders.Source | None) -> pd.Series:
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
    table: label_table.LabelTable, photographs: pd.DataFrame
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
        label_table.reject(rows[count[code] == 0], "missing_image", "no photograph of this name"),
        label_table.reject(rows[count[code] > 1], "ambiguous_image", details),
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


def _warn(plan: Plan) -> None:
    """Says what a person should look at before believing the figures."""
    on_purpose = (
        "; config.dataset.split.method 'image' leaks on purpose, to reproduce published figures"
        if plan.spec.split.method == "image"
        else ""
    )
    twin_files.warn(plan.twins)
    _, shared = count_patients(plan.rows)
    if shared:
        _LOG.warning(
            "%d patients are in more than one split, %s%s",
            len(shared),
            manifest.some(shared),
            on_purpose,
        )
    if len(plan.unlabelled):
        _LOG.warning(
            "%d photographs have no row in the CSV: not used; the first are %s",
            len(plan.unlabelled),
            ", ".join(plan.unlabelled.head(3)),
        )
    for name in ("validation", "test") if plan.spec.split.method != "external" else ():
        if getattr(plan.spec.split, name) and not (plan.rows["split"] == name).any():
            _LOG.warning("no photograph is in split %s: there are too few patients", name)
