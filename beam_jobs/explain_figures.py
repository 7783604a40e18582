"""The three published figures: a few photographs of each class with their heat maps."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from beam_jobs import heatmap_shards
from dr_tfx import figures, specs

_SHOWN = 3  # Photographs of each class.


def write(
    index: pd.DataFrame, *, data_dir: Path, output_dir: Path, experiment: specs.Experiment
) -> None:
    """Writes gradcam_normal.png, gradcam_abnormal.png and gradcam_final.png, the two together.

    Shown are those of each class whose ids have the smallest SHA-256: chosen without looking at
    the scores, so that errors appear as often as they occur, and the same in every run.

    Args:
      index: one row an example: id, target, score, decision, shard.
      data_dir: where the photographs are.
      output_dir: where the heat maps are, and the figures go.
      experiment: names the classes and the size.
    """
    names = experiment.task.class_names
    chosen = [choose(index[index["target"] == target]) for target in (0, 1)]
    pictures: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for shard, rows in pd.concat(chosen).groupby("shard"):
        pictures |= heatmap_shards.pictures(
            data_dir / str(shard),
            heatmap_shards.path(output_dir, str(shard)),
            wanted=set(rows["id"]),
            size=experiment.dataset.recipe.size,
        )
    negative, positive = (
        [
            figures.Explained(*pictures[row["id"]], _caption(row, names))
            for row in rows.to_dict("records")
        ]
        for rows in chosen
    )
    for file, title, shown in (
        ("gradcam_normal.png", f"Grad-CAM: {names[0]}", negative),
        ("gradcam_abnormal.png", f"Grad-CAM: {names[1]}", positive),
        ("gradcam_final.png", f"Grad-CAM: {names[0]} and {names[1]}", negative + positive),
    ):
        temporary = output_dir / f"{file}.tmp"
        temporary.write_bytes(figures.draw(shown, title=title))
        temporary.replace(output_dir / file)


def choose(rows: pd.DataFrame) -> pd.DataFrame:
    """At most three rows, by the SHA-256 of their ids."""
    digests = rows["id"].map(lambda name: hashlib.sha256(name.encode()).hexdigest())
    return rows.loc[digests.sort_values().index[:_SHOWN]]


def _caption(row: Mapping[Hashable, Any], names: Sequence[str]) -> str:
    return (
        f"{row['id']}   truth {names[row['target']]}   score {row['score']:.3f}   "
        f"decision {row['decision']}"
    )
