"""Joins what the parts of the explain job left: index, rejects, measures, figures and the page."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from absl import logging

from beam_jobs import (
    explain_figures,
    explain_inputs,
    explain_measures,
    explain_page,
    explain_part,
    heatmap_shards,
)
from dr_tfx import explainer, manifest

INDEX_FILE, REJECTS_FILE = "index.csv", "rejects.csv"
MEASURES_FILE = "localization.json"
FILES = (INDEX_FILE, REJECTS_FILE, explain_page.FILE_NAME, "gradcam_*.png")
_OF_SPLIT = ["id", "label", "target", "score", "decision", "shard", "overlay"]
_OF_PHOTOGRAPHS = [*_OF_SPLIT, "photograph", "ungradable"]


def write(
    parts: Sequence[explain_inputs.Part],
    inputs: explain_inputs.Inputs,
    settings: explain_part.Settings,
    explain_with: explainer.Explainer,
    *,
    title: str,
    output_dir: Path,
) -> None:
    """Writes all that is about more than one part.

    Raises:
      ValueError: every photograph was rejected.
    """
    experiment = explain_with.bundle.experiment
    rows = _read(parts, output_dir)
    is_rejected = rows["reason"] != ""
    rejects, index = rows[is_rejected], rows[~is_rejected]
    if inputs.is_raw:
        _write_rejects(rejects, len(rows), output_dir)
    decisions = index["score"].map(explain_with.decide).astype(str)
    index = index.assign(decision=decisions)[_OF_PHOTOGRAPHS if inputs.is_raw else _OF_SPLIT]
    index = index.sort_values("id", kind="stable", ignore_index=True)
    manifest.write_text(output_dir / INDEX_FILE, index.to_csv(index=False))
    measures = None
    if settings.masks:
        measures = _measures(parts, output_dir, experiment.dataset.label_names)
    explain_figures.write(
        index,
        parts,
        inputs,
        output_dir=output_dir,
        class_names=experiment.task.class_names,
        method=explain_with.title,
        colormap=settings.colormap,
    )
    html = explain_page.render(
        index,
        rejects,
        title=title,
        experiment=experiment,
        threshold=explain_with.threshold,
        method=explain_with.title,
        settings=settings,
        is_raw=inputs.is_raw,
        measures=measures,
    )
    manifest.write_text(output_dir / explain_page.FILE_NAME, html)


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
    parts: Sequence[explain_inputs.Part], output_dir: Path, label_names: Sequence[str]
) -> dict[str, Any]:
    """Averages the tables of measures, writes them, and says what follows."""
    paths = [heatmap_shards.measures_path(output_dir, part.name) for part in parts]
    as_text = {"id": str, "patient": str}
    read = [pd.read_csv(path, converters=as_text) for path in paths]
    table = pd.concat([part for part in read if len(part)] or read, ignore_index=True)
    if table.empty:
        raise ValueError(
            "no photograph that can be used has a lesion in its retina: nothing to measure. Are "
            "these the masks of these photographs, with 0 where there is no lesion?"
        )
    manifest.write_text(output_dir / "localization_photographs.csv", table.to_csv(index=False))
    summary = explain_measures.summarise(table, label_names)
    text = json.dumps(summary, indent=2, ensure_ascii=False)
    manifest.write_text(output_dir / MEASURES_FILE, text + "\n")
    flat = explain_measures.flat(summary).to_csv(index=False)
    manifest.write_text(output_dir / "localization.csv", flat)
    for verdict in summary["verdicts"]:
        say = logging.warning if verdict["alarm"] else logging.info
        say("%s%s: %s", "ALARM: " * verdict["alarm"], verdict["method"], verdict["text"])
    return summary


def _read(parts: Sequence[explain_inputs.Part], output_dir: Path) -> pd.DataFrame:
    """The rows of all parts."""
    numbers = {"label": "Int64", "target": "Int64"}
    text = dict.fromkeys(set(explain_part.COLUMNS) - {*numbers, "score"}, "str")
    # No id is a number or missing, and no digit of a score is lost.
    return pd.concat(
        pd.read_csv(
            heatmap_shards.index_path(output_dir, part.name),
            dtype=text | numbers,
            converters={"score": lambda digits: float(digits or "nan")},
            keep_default_na=False,
            na_values={column: [""] for column in numbers},
        )
        for part in parts
    )
