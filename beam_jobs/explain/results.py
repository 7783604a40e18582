"""Joins what the parts of the explain job left: index, rejects, measures, figures and the page."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd
from absl import logging

from beam_jobs.explain import heatmap_shards, mask_measures, page, published_figures, units, worker
from dr_tfx.dataset import leakage, manifest, splits
from dr_tfx.explanation import explainer

INDEX_FILE, REJECTS_FILE = "index.csv", "rejects.csv"
MEASURES_FILE = "localization.json"
FILES = (INDEX_FILE, REJECTS_FILE, page.FILE_NAME, "gradcam_*.png")
_OF_SPLIT = ["id", "label", "target", "score", "decision", "shard", "overlay", "outside"]
_OF_PHOTOGRAPHS = [*_OF_SPLIT, "photograph", "ungradable"]


_NONE_IN_TRAINING = (
    "None of these photographs is in the data set that the model was trained on, nor is any name "
    "of their patients (of photographs, where patients are not known)."
)


class Training(NamedTuple):
    """The data set that the model was trained on."""

    folder: Path
    data: manifest.Manifest


def write(
    parts: Sequence[units.Part],
    inputs: units.Inputs,
    settings: worker.Settings,
    explain_with: explainer.Explainer,
    *,
    title: str,
    notices: Sequence[str],
    training: Training | None,
    output_dir: Path,
) -> None:
    """Writes all that is about more than one part.

    Raises:
      ValueError: every photograph was rejected, or the data set of the training is damaged.
    """
    experiment = explain_with.bundle.experiment
    rows = _read(parts, output_dir)
    is_rejected = rows["reason"] != ""
    rejects, explained = rows[is_rejected], rows[~is_rejected]
    if inputs.is_raw:
        _write_rejects(rejects, len(rows), output_dir)
    alarms: list[str] = []
    split_of = None
    if training and inputs.is_raw:
        split_of, alarms = _in_training(explained, parts, training)
        notices = notices if alarms else [*notices, _NONE_IN_TRAINING]
    columns = _OF_PHOTOGRAPHS if inputs.is_raw else _OF_SPLIT
    index = _index(explained, explain_with, columns, split_of)
    manifest.write_text(output_dir / INDEX_FILE, index.to_csv(index=False))
    measures = None
    if settings.masks:
        measures = _measures(explained, output_dir, experiment.dataset.label_names)
    published_figures.write(
        index,
        parts,
        inputs,
        output_dir=output_dir,
        class_names=explain_with.bundle.kind.data.groups,
        method=explain_with.title,
        colormap=settings.colormap,
    )
    html = page.render(
        index,
        rejects,
        title=title,
        experiment=experiment,
        threshold=_threshold(explain_with),
        method=explain_with.title,
        settings=settings,
        is_raw=inputs.is_raw,
        alarms=alarms,
        notices=notices,
        measures=measures,
    )
    manifest.write_text(output_dir / page.FILE_NAME, html)


def _index(
    explained: pd.DataFrame,
    explain_with: explainer.Explainer,
    columns: Sequence[str],
    split_of: Mapping[str, str] | None,
) -> pd.DataFrame:
    """The rows of these columns by id; with the split of the training's data set, if looked for."""
    table = pd.DataFrame([json.loads(text) for text in explained["scores"]])
    readings = explain_with.read(table)
    index = explained.assign(
        score=[reading.number for reading in readings],
        decision=[reading.decision for reading in readings],
        outside=explained["outside"].astype(int),
    )[list(columns)]
    if split_of is not None:
        index["training_split"] = [split_of.get(name, "") for name in index["id"]]
    return index.sort_values("id", kind="stable", ignore_index=True)


def _threshold(explain_with: explainer.Explainer) -> float:
    return explain_with.read(pd.DataFrame({"score": [0.0]}))[0].answer["threshold"]


def _in_training(
    explained: pd.DataFrame, parts: Sequence[units.Part], training: Training
) -> tuple[dict[str, str], list[str]]:
    """Which photographs are in the data set of the training: id -> split, and what is to be said.

    Those of several of its splits, as may be where it has twins, count as the first that flatters
    most: train, validation, test.
    """
    patients = {item.id: item.patient for part in parts for item in part.items}
    here = (
        leakage.PhotographIdentity(id_, patients[id_], "", bytes.fromhex(digest))
        for id_, digest in zip(explained["id"], explained["digest"], strict=True)
    )
    shared = leakage.with_training(here, training_dir=training.folder, training=training.data)
    split_of: dict[str, str] = {}
    for found in sorted(shared["identical"], key=lambda f: splits.SPLITS.index(f["split"])):
        split_of.setdefault(found["id"], found["split"])
    said = leakage.training_alarms(shared)
    if trained := sum(split == splits.SPLITS[0] for split in split_of.values()):
        said.append(
            "Heat maps of photographs that a model was trained on flatter it, and so does what is "
            f"measured of them: here {trained:,} of {len(explained):,}."
        )
    for sentence in said:
        logging.warning("ALARM: %s", sentence)
    return split_of, said


def _write_rejects(rejects: pd.DataFrame, total: int, output_dir: Path) -> None:
    path = output_dir / REJECTS_FILE
    text = rejects[["id", "photograph", "reason", "detail"]].to_csv(index=False)
    manifest.write_text(path, text)
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
    """Writes the table of measures and its averages, and says what follows."""
    rows = [row for measures in explained["measures"] for row in json.loads(measures)]
    table = pd.DataFrame(rows, columns=list(mask_measures.COLUMNS)).astype({"label": "Int64"})
    if table.empty:
        raise ValueError(
            "no photograph that can be used has a lesion in its retina: nothing to measure. Are "
            "these the masks of these photographs, with 0 where there is no lesion?"
        )
    manifest.write_text(output_dir / "localization_photographs.csv", table.to_csv(index=False))
    summary = mask_measures.summarise(table, label_names)
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    manifest.write_text(output_dir / MEASURES_FILE, text + "\n")
    flat = mask_measures.flat(summary).to_csv(index=False)
    manifest.write_text(output_dir / "localization.csv", flat)
    for verdict in summary["verdicts"]:
        say = logging.warning if verdict["alarm"] else logging.info
        say("%s%s: %s", "ALARM: " * verdict["alarm"], verdict["method"], verdict["text"])
    return summary


def _read(parts: Sequence[units.Part], output_dir: Path) -> pd.DataFrame:
    """The rows of all parts."""
    numbers = dict.fromkeys(("label", "target", "outside"), "Int64")
    text = dict.fromkeys(set(worker.COLUMNS) - numbers.keys(), "str")
    # No id is a number or missing.
    return pd.concat(
        pd.read_csv(
            heatmap_shards.index_path(output_dir, part.name),
            dtype=text | numbers,
            keep_default_na=False,
            na_values={column: [""] for column in numbers},
        )
        for part in parts
    )
