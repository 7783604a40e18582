"""The parts of the explain job joined: the index, the rejects, and the measures against masks."""

import collections
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from absl import logging

from beam_jobs.explain import heatmap_shards, mask_measures, worker
from beam_jobs.explain.plan import ExplainPlan
from dr_tfx import tasks
from dr_tfx.dataset import identities, leakage, splits
from dr_tfx.explanation import explainer
from dr_tfx.inference import prediction_files
from dr_tfx.storage import files, json_files, tables

INDEX_FILE, REJECTS_FILE = "index.csv", "rejects.csv"
MEASURES_FILE = "localization.json"
_NONE_IN_TRAINING = (
    "None of these photographs is in the data set that the model was trained on, nor is a copy of "
    "one there: resized, compressed anew or cropped along its dark border."
)


@dataclasses.dataclass(frozen=True)
class ExplainResults:
    """The content of the figures and the page.

    Attributes:
      index: one row a photograph, sorted by id: the columns of index.csv and `wrongness`, which is
        NaN where the label is not known.
      rejects: one row for each photograph that was not explained: id, photograph, reason, detail.
      kind: the kind of the task.
      rule: a sentence on how decisions follow.
      method: the name of the maps, for people.
      measures: what `mask_measures.summarise` returned; None if there are no masks.
      alarms: sentences on what spoils everything that follows.
      notices: sentences on what else a reader should know.
    """

    index: pd.DataFrame
    rejects: pd.DataFrame
    kind: tasks.Kind
    rule: str
    method: str
    measures: Mapping[str, Any] | None
    alarms: Sequence[str]
    notices: Sequence[str]


def headline(output_dir: Path) -> list[str]:
    """Return sentences on a finished folder: what was decided, and what masks say of the maps."""
    decided = pd.read_csv(
        output_dir / INDEX_FILE, usecols=["decision"], dtype=str, keep_default_na=False
    )["decision"]
    counts = prediction_files.in_short(collections.Counter(decided))
    told = f"{len(decided):,} photographs" + f": {counts}" * bool(counts)
    measures = output_dir / MEASURES_FILE
    verdicts = json_files.read(measures)["verdicts"] if measures.is_file() else []
    return [told, *(verdict["text"] for verdict in verdicts)]


class _Overlap(NamedTuple):
    """The photographs that are in the data set of the training, too."""

    split_of: Mapping[str, str]  # Id -> split.
    alarms: Sequence[str]
    notices: Sequence[str]


def join(plan: ExplainPlan) -> ExplainResults:
    """Join the parts, and write index.csv, rejects.csv and the tables of measures.

    Raises:
      ValueError: every photograph was rejected, no photograph has a lesion, or the data set of the
        training is damaged.
    """
    explain_with = next(iter(worker.load(plan.settings).values()))
    bundle, rows = explain_with.bundle, _read(plan)
    is_rejected = rows["reason"] != ""
    rejects, explained = rows[is_rejected], rows[~is_rejected]
    overlap = None
    if plan.inputs.is_raw:
        _write_rejects(rejects, len(rows), plan.output_dir)
        overlap = _in_training(explained, plan)
    index = _index(explained, explain_with)
    _write_index(index, bundle.kind, plan, overlap)
    measures = None
    if plan.settings.masks:
        measures = _measures(explained, plan.output_dir, bundle.experiment.dataset.label_names)
    rule = bundle.kind.scores.rule(bundle.fitted)
    if bundle.fitted is None:
        logging.warning(
            "%s was not evaluated on validation yet, so that nothing is fitted. %s",
            plan.settings.workdir,
            rule,
        )
    beside = overlap.notices if overlap else ()
    return ExplainResults(
        index=index,
        rejects=rejects,
        kind=bundle.kind,
        rule=rule,
        method=explain_with.title,
        measures=measures,
        alarms=overlap.alarms if overlap else (),
        notices=[*plan.notices, *beside],
    )


def _read(plan: ExplainPlan) -> pd.DataFrame:
    """Return the rows of all parts."""
    numbers = dict.fromkeys(("label", "target", "outside"), "Int64")
    text = dict.fromkeys(set(worker.COLUMNS) - numbers.keys(), "str")
    return pd.concat(
        (
            pd.read_csv(
                heatmap_shards.index_path(plan.output_dir, part.name),
                dtype=text | numbers,
                keep_default_na=False,  # An id may read "NA" or "1".
                na_values={column: [""] for column in numbers},
            )
            for part in plan.parts
        ),
        ignore_index=True,
    )


def _index(explained: pd.DataFrame, explain_with: explainer.Explainer) -> pd.DataFrame:
    """Return the rows by id, with what the model says of each and how wrong that is."""
    bundle = explain_with.bundle
    scores = bundle.kind.scores
    table = pd.DataFrame([json.loads(text) for text in explained["scores"]])
    readings = explain_with.read(table)
    known = explained["target"].notna().to_numpy()
    wrongness = np.full(len(explained), np.nan)
    if known.any():
        groups = explained["target"][known].to_numpy(dtype=np.int64)
        wrongness[known] = scores.wrongness(table[known], groups, bundle.fitted)
    index = explained.assign(
        **{scores.explained: [reading.number for reading in readings]},
        decision=[reading.brief or reading.decision for reading in readings],
        outside=explained["outside"].astype(int),
        wrongness=wrongness,
    )
    return index.sort_values("id", kind="stable", ignore_index=True)


def _write_index(
    index: pd.DataFrame, kind: tasks.Kind, plan: ExplainPlan, overlap: _Overlap | None
) -> None:
    """Write index.csv."""
    columns = ["id", "label", "target", kind.scores.explained, "decision"]
    columns += ["shard", "overlay", "outside"]
    if plan.inputs.is_raw:
        columns += ["photograph", "ungradable"]
    if overlap:
        index["training_split"] = [overlap.split_of.get(name, "") for name in index["id"]]
        columns += ["training_split"]
    files.write_text(plan.output_dir / INDEX_FILE, tables.csv_text(index[columns]))


def _in_training(explained: pd.DataFrame, plan: ExplainPlan) -> _Overlap | None:
    """Return which photographs are in the data set of the training; None if it is not given.

    A photograph that is in several of its splits, which may be if it has twins, counts as in the
    first of train, validation and test, because that one flatters most.
    """
    if plan.training is None or plan.training.identities is None:
        return None
    patients = {item.id: item.patient for part in plan.parts for item in part.items}
    here = identities.collect(
        identities.PhotographIdentity(
            id_, patients[id_], "", bytes.fromhex(pixels), bytes.fromhex(printed)
        )
        for id_, pixels, printed in zip(
            explained["id"], explained["pixels"], explained["fingerprint"], strict=True
        )
    )
    shared = leakage.with_training(here, plan.training.identities)
    split_of: dict[str, str] = {}
    for found in sorted(shared["copies"], key=lambda f: splits.SPLITS.index(f["split"])):
        split_of.setdefault(found["id"], found["split"])
    alarms = leakage.training_alarms(shared)
    if trained := sum(split == splits.SPLITS[0] for split in split_of.values()):
        alarms.append(
            "Heat maps of photographs that a model was trained on flatter it, and so do the "
            f"measures of them: here {trained:,} of {len(explained):,}."
        )
    for sentence in alarms:
        logging.warning("ALARM: %s", sentence)
    notices = leakage.training_notices(shared)
    if not split_of:
        notices.insert(0, _NONE_IN_TRAINING)
    return _Overlap(split_of, alarms, notices)


def _write_rejects(rejects: pd.DataFrame, total: int, output_dir: Path) -> None:
    """Write rejects.csv.

    Raises:
      ValueError: every photograph was rejected.
    """
    path = output_dir / REJECTS_FILE
    text = tables.csv_text(rejects[["id", "photograph", "reason", "detail"]])
    files.write_text(path, text)
    if len(rejects):
        reasons = rejects["reason"].value_counts().to_dict()
        logging.warning(
            "%d of %d photographs rejected, see %s: %s", len(rejects), total, path, reasons
        )
    if len(rejects) == total:
        first = rejects.iloc[0]
        raise ValueError(
            f"none of the {total} photographs can be used; the first, {first['photograph']}: "
            f"{first['reason']}: {first['detail']}. {path} lists them all"
        )


def _measures(
    explained: pd.DataFrame, output_dir: Path, label_names: Sequence[str]
) -> dict[str, Any]:
    """Write the table of measures and its averages, and return the averages.

    Raises:
      ValueError: no photograph has a lesion.
    """
    rows = [row for measures in explained["measures"] for row in json.loads(measures)]
    table = pd.DataFrame(rows, columns=list(mask_measures.COLUMNS)).astype({"label": "Int64"})
    if table.empty:
        raise ValueError(
            "no photograph that can be used has a lesion in its lit field: nothing to measure. Are "
            "these the masks of these photographs, with 0 where there is no lesion?"
        )
    files.write_text(output_dir / "localization_photographs.csv", tables.csv_text(table))
    summary = mask_measures.summarise(table, label_names)
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    files.write_text(output_dir / MEASURES_FILE, text + "\n")
    flat = tables.csv_text(mask_measures.flat(summary))
    files.write_text(output_dir / "localization.csv", flat)
    for verdict in summary["verdicts"]:
        say = logging.warning if verdict["alarm"] else logging.info
        say("%s%s: %s", "ALARM: " * verdict["alarm"], verdict["method"], verdict["text"])
    return summary
