"""What the build job is going to do, decided on the driver before any photograph is decoded.

A `Plan` says which row of the CSV becomes an example of which shard and which rows are rejected
already, and why. It is a pure function of the settings, the CSV and the list of files; only files
of equal size are read, to find byte-identical ones.
"""

import collections
import dataclasses
import hashlib
import io
import json
import logging
import posixpath
import re
from collections.abc import Iterable
from typing import Any

import cv2
import numpy as np
import pandas as pd

import dr_tfx
from beam_jobs import output, sources
from dr_tfx import images, specs, splits

REJECT_COLUMNS = ("id", "path", "reason", "detail")
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
    rejects: pd.DataFrame  # REJECT_COLUMNS.
    twins: tuple[dict[str, Any], ...]  # Byte-identical files: ids, labels, splits.
    unlabelled: int  # Photographs that the CSV does not name.

    def shards(self) -> dict[str, pd.DataFrame]:
        """The rows of every shard, by its name."""
        return splits.shard_rows(self.rows, shard_examples=self.spec.shard_examples)

    def contract(self) -> dict[str, Any]:
        """Settings, versions and a hash of all that decides the output.

        How many rejects are too many decides no byte: left out, so that a build that failed for
        its rejects can be resumed with another limit.
        """
        dataset = specs.to_dict(self.spec)
        del dataset["max_reject_rate"]
        settings = {"dataset": dataset, "libraries": LIBRARIES}
        columns = self.rows[["id", "patient", "label", "split", "size", "name"]]
        rejects = self.rejects[["id", "reason"]]
        whole = {
            **settings,
            "rows": columns.to_numpy().tolist(),
            "rejects": rejects.to_numpy().tolist(),
        }
        text = json.dumps(whole, sort_keys=True)
        return {**settings, "fingerprint": hashlib.sha256(text.encode()).hexdigest()}


def make_plan(
    spec: specs.DatasetSpec, *, labels: str, source: sources.Source | None, find_twins: bool = True
) -> Plan:
    """Reads the CSV, lists the photographs and decides the split.

    Args:
      spec: the data set's settings.
      labels: path of the CSV; any file system that Beam knows.
      source: of the photographs. None: every row counts as having one.
      find_twins: read files of equal size, to keep byte-identical ones in one split.

    Raises:
      FileNotFoundError: no CSV.
      ValueError: the CSV cannot be used, or no photograph belongs to it, or no row is left.
    """
    csv = read_labels(labels, spec)
    rows, rejects = _valid(csv, spec)
    if rows.empty:
        raise ValueError(
            f"{labels}: none of the {len(csv)} rows can be used: {count_reasons(rejects)}; the "
            f"first is {rejects['id'].iloc[0]!r}: {rejects['detail'].iloc[0]}"
        )
    rows["patient"] = _patients(rows["id"], spec)
    unlabelled, found = 0, rows.assign(name="", size=0)
    if source is not None:
        photographs = list_photographs(source)
        unlabelled = int((~photographs["id"].isin(csv["id"])).sum())
        found, lost = _locate(rows, photographs)
        rejects = pd.concat([rejects, lost], ignore_index=True)
        if found.empty:
            raise ValueError(
                f"no photograph in {source.path('')} belongs to a row of {labels}: there is "
                f"{photographs['name'].iloc[0]!r}, the CSV {rows['id'].iloc[0]!r}. Does "
                f"config.dataset.image_column name the right column?"
            )
    twins = _twins(found, source) if source and find_twins else []
    # Rows without a photograph take part too: the split is a function of the CSV, so that a
    # photograph found later moves no other.
    rows["split"] = splits.assign(rows, spec.split, twins)
    found = found.assign(split=rows["split"])
    plan = Plan(
        spec=spec,
        csv_rows=len(csv),
        rows=found,
        rejects=rejects,
        twins=_describe_twins(found, twins),
        unlabelled=unlabelled,
    )
    _warn(plan)
    return plan


def read_labels(path: str, spec: specs.DatasetSpec) -> pd.DataFrame:
    """The CSV's rows as text, columns `id` (known extensions stripped) and `text` (the label).

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: it is empty, not a CSV, or lacks a column.
    """
    if not output.exists(path):
        raise FileNotFoundError(f"{path} does not exist; --labels names the CSV of labels")
    try:
        table = pd.read_csv(
            io.BytesIO(output.read(path)),
            encoding="utf-8-sig",
            dtype=str,
            keep_default_na=False,
            index_col=False,
        )
    except pd.errors.EmptyDataError as error:
        raise ValueError(f"{path} is empty; expected a CSV with a header") from error
    except (ValueError, OSError) as error:
        raise ValueError(f"{path} cannot be read as a UTF-8 CSV: {error}") from error
    for setting in ("image_column", "label_column"):
        column = getattr(spec, setting)
        if column not in table:
            raise ValueError(
                f"{path} has no column {column!r}; it has {', '.join(map(repr, table))}. Set "
                f"--config.dataset.{setting} to the right one"
            )
    if table.empty:
        raise ValueError(f"{path} has a header but no rows")
    text = table[[spec.image_column, spec.label_column]].fillna("")
    text = text.apply(lambda column: column.str.strip())
    return pd.DataFrame({"id": text.iloc[:, 0].map(_stem), "text": text.iloc[:, 1]})


def list_photographs(source: sources.Source) -> pd.DataFrame:
    """The photographs of a source: `id` (name without extension), `name`, `size` in bytes."""
    table = pd.DataFrame(source.names(), columns=["name", "size"])
    return table.assign(id=table["name"].map(lambda name: _stem(posixpath.basename(name))))


def reject(rows: pd.DataFrame, reason: str, detail: str | pd.Series) -> pd.DataFrame:
    """Rows as rejects: REJECT_COLUMNS."""
    columns = {"id": rows["id"], "path": "", "reason": reason, "detail": detail}
    return pd.DataFrame(columns, index=rows.index, dtype=str)


def count_labels(rows: pd.DataFrame, names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Split -> name of the label -> rows, zeros included, for the splits that have rows."""
    counts = rows.groupby(["split", "label"]).size()
    return {
        split: {name: int(counts.get((split, label), 0)) for label, name in enumerate(names)}
        for split in splits.SPLITS
        if (rows["split"] == split).any()
    }


def count_patients(rows: pd.DataFrame) -> tuple[dict[str, int], int]:
    """Split -> patients, and how many patients are in more than one split."""
    per_split = rows.groupby("split")["patient"].nunique()
    patients = {name: int(per_split[name]) for name in splits.SPLITS if name in per_split}
    return patients, int((rows.groupby("patient")["split"].nunique() > 1).sum())


def count_reasons(rejects: pd.DataFrame) -> dict[str, int]:
    """Reason -> rows, by name."""
    return {str(reason): int(n) for reason, n in rejects.groupby("reason").size().items()}


def summary(plan: Plan, task: specs.Task) -> dict[str, Any]:
    """The plan in numbers, JSON-ready: what `--plan` prints."""
    classes = plan.rows.assign(label=np.asarray(task.label_map)[plan.rows["label"]])
    patients, shared = count_patients(plan.rows)
    shards = {name: len(rows) for name, rows in plan.shards().items()}
    return {
        "rows": plan.csv_rows,
        "rejected": count_reasons(plan.rejects),
        "photographs": "found" if plan.rows["name"].all() else "not looked for: no --image_dir",
        "unlabelled": plan.unlabelled,
        "counts": count_labels(plan.rows, plan.spec.label_names),
        "classes": count_labels(classes, task.class_names),
        "patients": patients,
        "shared_patients": shared,
        "shards": {"number": len(shards), "records": shards},
        "twins": "not looked for: the plan reads no photograph",
    }


def _stem(name: str) -> str:
    stem, extension = posixpath.splitext(name)
    return stem if extension.lower() in images.EXTENSIONS else name


def _valid(csv: pd.DataFrame, spec: specs.DatasetSpec) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows whose label and id can be used (`id`, `label`), and the others as rejects."""
    is_integer = csv["text"].str.fullmatch(r"[+-]?[0-9]+").astype(bool)
    label = csv["text"].where(is_integer, "-1").map(int)
    known = label.between(0, len(spec.label_names) - 1)
    rejects = [
        reject(csv[~is_integer], "label_not_an_integer", "label " + csv["text"].map(repr)),
        reject(
            csv[is_integer & ~known],
            "label_out_of_range",
            "label " + csv["text"] + f", expected 0 to {len(spec.label_names) - 1}",
        ),
    ]
    rows = csv[known].assign(label=label[known].astype(int))[["id", "label"]]
    conflicting = rows.groupby("id")["label"].transform("nunique") > 1
    repeated = rows["id"].duplicated() & ~conflicting
    rejects += [
        reject(rows[conflicting], "duplicate_id", "rows of this id have different labels"),
        reject(rows[repeated], "duplicate_id", "an earlier row has the same id and label"),
    ]
    rows = rows[~conflicting & ~repeated].reset_index(drop=True)
    return rows, pd.concat(rejects, ignore_index=True)


def _patients(ids: pd.Series, spec: specs.DatasetSpec) -> pd.Series:
    if spec.patient_pattern and not any(re.search(spec.patient_pattern, i) for i in ids):
        _LOG.warning(
            "no id matches config.dataset.patient_pattern %r (first id: %r): every photograph "
            "counts as its own patient",
            spec.patient_pattern,
            ids.iloc[0],
        )
    return splits.patients(ids, spec.patient_pattern)


def _locate(rows: pd.DataFrame, photographs: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """The rows with exactly one photograph, with `name` and `size`, and the others as rejects."""
    files = photographs.groupby("id")["name"].agg(list)
    count = rows["id"].map(files.map(len)).fillna(0)
    ambiguous = rows[count > 1]
    names = ambiguous["id"].map(lambda i: ", ".join(files[i]))
    rejects = [
        reject(rows[count == 0], "missing_image", "no file of this name in the folder"),
        reject(ambiguous, "ambiguous_image", names),
    ]
    one = photographs.drop_duplicates("id").set_index("id")
    found = rows[count == 1]
    found = found.assign(name=found["id"].map(one["name"]), size=found["id"].map(one["size"]))
    return found.astype({"size": int}), pd.concat(rejects, ignore_index=True)


def _twins(found: pd.DataFrame, source: sources.Source) -> list[list[str]]:
    """Groups of ids whose files are byte-identical. Only files of equal size are read."""
    candidates = found[(found["size"] > 0) & found["size"].duplicated(keep=False)]
    same: dict[str, list[str]] = collections.defaultdict(list)
    for photograph, name in zip(candidates["id"], candidates["name"], strict=True):
        same[hashlib.sha256(source.read(name)).hexdigest()].append(photograph)
    return sorted(sorted(group) for group in same.values() if len(group) > 1)


def _describe_twins(found: pd.DataFrame, twins: list[list[str]]) -> tuple[dict[str, Any], ...]:
    by_id = found.set_index("id")
    return tuple(
        {
            "ids": group,
            "labels": by_id.loc[group, "label"].tolist(),
            "splits": by_id.loc[group, "split"].tolist(),
        }
        for group in twins
    )


def _warn(plan: Plan) -> None:
    """Says what a person should look at before believing the figures."""
    on_purpose = (
        "; config.dataset.split.method 'image' leaks on purpose, to reproduce published figures"
        if plan.spec.split.method == "image"
        else ""
    )
    for twin in plan.twins:
        if len(set(twin["labels"])) > 1:
            _LOG.warning("byte-identical files %(ids)s have different labels %(labels)s", twin)
    _, shared = count_patients(plan.rows)
    if shared:
        _LOG.warning("%d patients are in more than one split%s", shared, on_purpose)
    if plan.unlabelled:
        _LOG.warning("%d photographs have no row in the CSV: not used", plan.unlabelled)
