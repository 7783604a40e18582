"""The three published figures: a few photographs of each class with their heat maps."""

import hashlib
from collections.abc import Hashable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from beam_jobs.explain import heatmap_shards, units
from dr_tfx.explanation import figures

_SHOWN = 3  # Photographs of each class.


def write(
    index: pd.DataFrame,
    parts: Sequence[units.Part],
    inputs: units.Inputs,
    *,
    output_dir: Path,
    class_names: Sequence[str],
    method: str,
    colormap: str,
) -> None:
    """Writes gradcam_normal.png, gradcam_abnormal.png and gradcam_final.png, the two together.

    Shown are those of each class whose ids have the smallest SHA-256: chosen without looking at
    the scores, so that errors appear as often as they occur, and the same in every run. The class
    is the truth, or the decision where no photograph's label is known.

    Args:
      index: one row a photograph: id, target, score, decision, shard.
      parts: of the job.
      inputs: give the photographs.
      output_dir: where the heat maps are, and the figures go.
      class_names: of class 0 and 1.
      method: how the maps were made, for the titles.
      colormap: of the figures.
    """
    is_known = index["target"].notna().any()
    classes = index["target"] if is_known else index["decision"].map(list(class_names).index)
    negative, positive = (choose(index[classes == target]) for target in (0, 1))
    chosen = pd.concat([negative, positive])
    pictures: dict[str, np.ndarray] = {}
    heatmaps: dict[str, np.ndarray] = {}
    for part in parts:
        if wanted := set(chosen[chosen["shard"] == part.name]["id"]):
            pictures |= {
                seen.item.id: seen.picture.rgb
                for seen in inputs.pictures(part.only(wanted))
                if isinstance(seen, units.Seen) and seen.item.id in wanted
            }
            heatmaps |= heatmap_shards.heatmaps(output_dir, part.name, wanted=wanted)

    def rows(of: pd.DataFrame) -> list[figures.Explained]:
        return [
            figures.Explained(pictures[row["id"]], heatmaps[row["id"]], _caption(row, class_names))
            for row in of.to_dict("records")
        ]

    shown = {
        "gradcam_normal.png": ([class_names[0]], rows(negative)),
        "gradcam_abnormal.png": ([class_names[1]], rows(positive)),
        "gradcam_final.png": (class_names, rows(negative) + rows(positive)),
    }
    for file, (names, explained) in shown.items():
        title = f"{method}: {' and '.join(names)}{'' if is_known else ', as decided'}"
        temporary = output_dir / f"{file}.tmp"
        temporary.write_bytes(figures.draw(explained, title=title, colormap=colormap))
        temporary.replace(output_dir / file)


def choose(rows: pd.DataFrame) -> pd.DataFrame:
    """At most three rows, by the SHA-256 of their ids."""
    digests = rows["id"].map(lambda name: hashlib.sha256(name.encode()).hexdigest())
    return rows.loc[digests.sort_values().index[:_SHOWN]]


def _caption(row: Mapping[Hashable, Any], names: Sequence[str]) -> str:
    truth = "not known" if pd.isna(row["target"]) else names[row["target"]]
    return f"{row['id']}   truth {truth}   score {row['score']:.3f}   decision {row['decision']}"
