"""The plan of a build, made on the driver before any photograph is decoded.

A `Plan` says which row of the CSV becomes an example of which shard, and which rows are rejected
already, and why. It is a pure function of the settings, the CSV and the list of files; only files
of equal size are read, to find byte-identical ones. Ten million rows fit into the memory of a
notebook, because tables hold Arrow's strings and small integers, and nothing else is kept per row.
"""

import dataclasses
import functools
import hashlib
import json
import logging
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import cv2
import numpy as np
import pandas as pd
import PIL
import simplejpeg

import dr_tfx
from beam_jobs.build_examples import (
    frame_rows,
    label_table,
    lesion_masks,
    patients,
    photograph_table,
    slice_tags,
    source_labels,
    twin_files,
)
from dr_tfx.config import label_sets, specs, typed
from dr_tfx.dataset import manifest, splits
from dr_tfx.preprocessing import mask_files
from dr_tfx.sources import folders, refusals, trees
from dr_tfx.storage import seen_text

LIBRARIES = {
    "dr_tfx": dr_tfx.__version__,
    "numpy": np.__version__,
    "opencv": cv2.__version__,
    "pillow": PIL.__version__,
    "simplejpeg": simplejpeg.__version__,
}  # The versions that decide pixels.

_FILES = ("name", "before", "after")  # Columns of names of files.

_LOG = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Plan:
    """The examples to be written, the rows that are rejected, and digests of the input."""

    spec: specs.DatasetSpec
    csv_rows: int
    # The examples: id, patient, whether anything tells that (is_told), label, split, name (in
    # source), size (bytes); for a recipe that shows neighbours, the names `before` and `after`.
    rows: pd.DataFrame
    rejects: pd.DataFrame  # label_table.REJECT_COLUMNS.
    twins: tuple[dict[str, Any], ...]  # Byte-identical files: ids, labels, splits.
    unlabelled: pd.Series  # Names of the photographs that the CSV does not name, sorted.
    # Digests of all rows of the CSV, of the photographs' names and sizes, and of the contents of
    # those that share a size.
    inputs: dict[str, str]
    lost: pd.DataFrame  # Rows without a photograph, as `splits.assign` takes them, by their place.
    is_prepared: bool = False  # True: the pictures stay as they are, and no recipe is applied.
    masks: mask_files.MaskFolder | None = None  # Of the photographs; None: there are none.

    @property
    def files(self) -> pd.Series:
        """The names of all files that the examples are made of, each once."""
        columns = [self.rows[side] for side in _FILES if side in self.rows]
        names = pd.concat(columns).drop_duplicates() if columns[1:] else columns[0]
        return names[names != ""]

    def reunited(self, near: Sequence[Sequence[str]]) -> "Plan":
        """Return the plan that keeps near twins in one split, made as if they had been known.

        That is this plan itself if it parts none of them, or if its split looks at one patient at a
        time and cannot know them.

        Args:
          near: groups of ids of near twins; ids that no row has are ignored.
        """
        if self.spec.split.method in ("hash", "external"):
            return self
        ids = self.rows["id"]
        known = set(ids[ids.isin([i for group in near for i in group])])
        near = [[i for i in group if i in known] for group in near]
        parted = (len(set(twin["splits"])) > 1 for twin in twin_files.describe(self.rows, near))
        if not any(parted):
            return self
        twins = [twin["ids"] for twin in self.twins]
        is_found = np.ones(len(self.rows) + len(self.lost), bool)
        is_found[self.lost.index] = False
        found = self.rows.set_axis(np.flatnonzero(is_found))
        rows = pd.concat([found[list(self.lost.columns)], self.lost]).sort_index()
        split = splits.assign(rows, self.spec.split, [*twins, *near])
        found = found.assign(split=split[found.index]).reset_index(drop=True)
        return dataclasses.replace(self, rows=found, twins=twin_files.describe(found, twins))

    def shards(self) -> Iterator[tuple[str, pd.DataFrame]]:
        """Yield name and rows of every shard, in order."""
        return splits.shard_rows(self.rows, shard_examples=self.spec.shard_examples)

    def contract(self) -> dict[str, Any]:
        """Return settings, versions, digests of the inputs, and one of all that decides the output.

        `max_reject_rate` decides no byte and is left out, so that a build that failed for its
        rejects can be resumed with another limit. A photograph without a row decides none either,
        but is among the inputs: `inputs` says what has changed, `fingerprint` whether it matters.
        """
        return {**self._settings, "inputs": self.inputs, "fingerprint": self._fingerprint}

    @property
    def _settings(self) -> dict[str, Any]:
        dataset = typed.to_dict(self.spec)
        del dataset["max_reject_rate"]
        # Only arrays have this entry: other data sets keep the fingerprint that they have.
        prepared = {"prepared": manifest.ELSEWHERE} if self.is_prepared else {}
        schema = manifest.SCHEMA_VERSION
        return {"dataset": dataset, "libraries": LIBRARIES, "schema_version": schema, **prepared}

    @functools.cached_property
    def _fingerprint(self) -> str:
        settings = json.dumps(self._settings, sort_keys=True)
        rows = self.rows[["id", "patient", "label", "split", "size", "name"]]
        rejects = self.rejects[["id", "reason"]]
        others = "".join(self.inputs.get(key, "") for key in ("contents", "masks", "neighbours"))
        text = f"{settings}{_digest(rows)}{_digest(rejects)}{others}"
        return hashlib.sha256(text.encode()).hexdigest()


def make_plan(
    spec: specs.DatasetSpec,
    *,
    labels: str,
    source: folders.Source | None,
    masks_dir: str = "",
    find_twins: bool = True,
) -> Plan:
    """Read the labels, list the photographs and decide the split.

    Args:
      spec: the data set's settings.
      labels: what `label_files.chunks` takes, such as the path of a CSV.
      source: the photographs. None: every row counts as having one.
      masks_dir: the folder of their masks, or "".
      find_twins: read files of equal size, to keep byte-identical ones in one split. The split
        'hash' cannot keep them together and never reads them.

    Raises:
      FileNotFoundError: the CSV does not exist.
      ValueError: the CSV cannot be used, no photograph belongs to it, or no row is left.
    """
    masks = lesion_masks.open_folder(masks_dir, spec, source)
    table = label_table.read(labels, spec, source, masks)
    if source is not None:
        photographs = photograph_table.read(source)
        table = frame_rows.expand(table, photographs, source)
        table = photograph_table.with_zeros(table, photographs)
    is_by_tags = spec.patient_column in specs.TAGS and "patient" not in table.rows
    table = dataclasses.replace(table, rows=patients.named(table, spec, source))
    rows, rejects = table.rows, table.rejects
    spec = _with_official_split(spec, labels, has_official="official" in rows)
    found = rows.assign(name=pd.Series("", rows.index, splits.TEXT), size=0)
    unlabelled, inputs = found["name"].iloc[:0], {"labels": table.digest}
    if source is not None:
        _log_where(photographs["name"], source)
        inputs["photographs"] = _digest(photographs[["name", "size"]])
        located = photograph_table.locate(table, photographs, source)
        found, unlabelled = located.found, located.unlabelled
        rejects = pd.concat([rejects, located.rejects], ignore_index=True)
        rows = rows.drop(located.again)
        if found.empty:
            place = source.path("")
            raise photograph_table.nothing_found(
                table, located, photographs, labels=labels, spec=spec, place=place
            )
        rows, found, of_neighbours = slice_tags.add(
            rows, found, photographs, source=source, spec=spec, is_by_tags=is_by_tags
        )
        inputs |= of_neighbours
        del photographs
    if masks is not None:
        lesion_masks.check_names(masks, found["name"])
        inputs["masks"] = masks.digest
    twins: list[list[str]] = []
    if source is not None and find_twins and spec.split.method != "hash":
        twins, inputs["contents"] = twin_files.find(found, source)
    # Rows without a photograph take part too: the split is a function of the CSV, so that a
    # photograph found later moves no other.
    split = splits.assign(rows, spec.split, twins)
    lost_rows = rows.reset_index(drop=True)[~rows.index.isin(found.index)]
    found = found.assign(split=split[found.index]).reset_index(drop=True)
    plan = Plan(
        spec=spec,
        csv_rows=len(table.paths),
        rows=found,
        rejects=rejects,
        twins=twin_files.describe(found, twins),
        unlabelled=unlabelled,
        inputs=inputs,
        lost=lost_rows,
        is_prepared=source is not None and source.is_prepared,
        masks=masks,
    )
    _warn(plan, labels)
    return plan


def count_labels(rows: pd.DataFrame, names: Iterable[str]) -> dict[str, dict[str, int]]:
    """Return split -> name of the label -> rows, zeros included, for the splits that have rows."""
    counts = rows.groupby(["split", "label"], observed=True).size()
    return {
        split: {name: int(counts.get((split, label), 0)) for label, name in enumerate(names)}
        for split in rows["split"].cat.categories
        if (rows["split"] == split).any()
    }


def count_patients(rows: pd.DataFrame) -> tuple[dict[str, int], list[str]]:
    """Return split -> patients, and the sorted names of those who are in more than one split."""
    codes, names = pd.factorize(rows["patient"])
    parts = rows["split"].cat.categories
    is_in = np.zeros((len(names), len(parts)), bool)
    is_in[codes, rows["split"].cat.codes] = True
    counts = dict(zip(parts, is_in.sum(axis=0).tolist(), strict=True))
    shared = sorted(names[is_in.sum(axis=1) > 1].tolist())
    return {name: count for name, count in counts.items() if count}, shared


def count_unknown(rows: pd.DataFrame) -> int:
    """Return the number of photographs whose patient nothing tells."""
    return int((~rows["is_told"]).sum())


def too_many(rejects: pd.DataFrame, plan: Plan) -> str:
    """Return a sentence about the rejects if they are more than the settings allow, else ""."""
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
    """Return the plan in numbers, ready for JSON, as `--plan` prints it.

    A warning says if the build is certain to be refused for its rejects.

    Args:
      plan: the plan of a build.
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
        "unknown_patients": manifest.patients_warning(count_unknown(plan.rows), len(plan.rows))
        or "none",
        "shards": {"number": len(shards), "records": shards},
        "twins": "not looked for: the plan reads no photograph",
    }


def _with_official_split(
    spec: specs.DatasetSpec, labels: str, *, has_official: bool
) -> specs.DatasetSpec:
    """Return settings that take the split which files of labels have, if they have one.

    Raises:
      ValueError: the settings ask for an official split, and there is none, or for folds beside it.
    """
    if spec.split.method == "column" and not has_official:
        raise refusals.UnusableInput(
            "{split_method} is 'column', but nothing tells the split. Set {split_column} to the "
            "column that does, or pass one CSV a split, as in {labels}=train.csv,test.csv; {csv} "
            "is one",
            csv=labels,
        )
    if not has_official or spec.split.method in ("column", "external"):
        return spec
    if spec.split.folds:
        raise refusals.UnusableInput(
            "{csv}: the files tell a split of their own, which {split_folds}={folds} would ignore. "
            "Give the labels that are to be dealt to folds as one CSV, or set {split_folds}=0",
            csv=labels,
            folds=spec.split.folds,
        )
    _LOG.info(
        "%s: the split is that of the files, not config.dataset.split.method=%r",
        labels,
        spec.split.method,
    )
    return dataclasses.replace(spec, split=dataclasses.replace(spec.split, method="column"))


def _log_where(names: pd.Series, source: folders.Source) -> None:
    """Log how many photographs were found in which folders, and what was left out."""
    chunks = splits.chunks(names)
    _LOG.info("%s: %s", source.path(""), trees.describe(name for piece in chunks for name in piece))
    for why, count in source.left_out().items():
        # Masks lie beside their photographs, as they should; results of ours hardly ever do.
        level = logging.INFO if why == trees.IN_MASKS else logging.WARNING
        _LOG.log(
            level,
            "%d pictures %s are not taken for photographs. If they are, name their folder in "
            "--image_dir",
            count,
            why,
        )


def _digest(table: pd.DataFrame) -> str:
    """Return a hash of all values, in their order."""
    digest = hashlib.sha256()
    for piece in zip(*(splits.chunks(table[column]) for column in table), strict=True):
        digest.update(json.dumps(piece).encode())
    return digest.hexdigest()


def _labels_of_nobody(plan: Plan) -> list[str]:
    """Return the names of labels that no photograph has; of sets of labels many have none."""
    names = plan.spec.label_names
    if label_sets.columns_of(plan.spec.label_column, names):
        return []
    found = set(plan.rows["label"].unique())
    return [name for label, name in enumerate(names) if label not in found]


def _warn(plan: Plan, labels: str) -> None:
    """Log what a person should look at before believing the figures."""
    on_purpose = (
        "; config.dataset.split.method 'image' leaks on purpose, to reproduce published figures"
        if plan.spec.split.method == "image"
        else ""
    )
    twin_files.warn(plan.twins)
    if unknown := manifest.patients_warning(count_unknown(plan.rows), len(plan.rows)):
        _LOG.warning("%s", unknown)
    if plan.is_prepared:
        _LOG.warning(
            "the photographs are arrays, which count as prepared: config.dataset.recipe is not "
            "applied"
        )
    _, shared = count_patients(plan.rows)
    if shared:
        _LOG.warning(
            "%d patients are in more than one split, %s%s",
            len(shared),
            manifest.some(shared),
            on_purpose,
        )
    slice_tags.warn(plan.rows)
    if len(plan.unlabelled):
        _LOG.warning(
            "%d photographs have no label: not used; the first are %s",
            len(plan.unlabelled),
            ", ".join(map(seen_text.printable, plan.unlabelled.head(3))),
        )
    is_written = labels not in (source_labels.MASKS, source_labels.NONE)  # By a person.
    if is_written and (nobody := _labels_of_nobody(plan)):
        _LOG.warning(
            "no photograph has the label %s of config.dataset.label_names. If the labels mean "
            "something else, such as 0 for no and 1 for yes, name them: "
            '--config.dataset.label_names=\'("no", "yes")\'',
            ", ".join(map(repr, nobody)),
        )
    split = plan.spec.split
    held_out = [name for name in ("validation", "test") if getattr(split, name)]
    expected = splits.names_of(split) if split.folds else held_out
    for name in expected if split.method != "external" else ():
        if not (plan.rows["split"] == name).any():
            _LOG.warning("no photograph is in split %s: there are too few patients", name)
