"""The figures for a publication: a few photographs of each group with their heat maps."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from beam_jobs.explain import heatmap_shards, units
from beam_jobs.explain.plan import ExplainPlan
from beam_jobs.explain.results import ExplainResults
from dr_tfx import tasks
from dr_tfx.explanation import figures
from dr_tfx.storage import files
from dr_tfx.words import languages

ALL_FILE = "gradcam_final.png"
PATTERN = "gradcam_*.png"  # It matches every figure.
_SHOWN = 3  # Photographs of each group.


def write(plan: ExplainPlan, results: ExplainResults) -> None:
    """Write one figure for each group, and ALL_FILE, which shows all groups together.

    Each group is shown by the photographs whose ids have the smallest SHA-256. So they are chosen
    without looking at the scores, errors appear as often as they occur, and every run shows the
    same. The group is the true one, or the decision where no photograph's label is known. Where
    that is none, ALL_FILE shows any photographs.
    """
    index, kind = results.index, results.kind
    is_known = index["target"].notna().any()
    places = {name: place for place, name in enumerate(kind.data.groups)}
    groups = index["target"] if is_known else index["decision"].map(places)
    chosen = [choose(index[groups == place]) for place in places.values()]
    is_grouped = any(map(len, chosen))
    of_all = pd.concat(chosen) if is_grouped else choose(index)
    drawn = _rows(of_all, plan, kind)
    shown = {
        kind.scores.figure_name(place): ([name], chosen[place]) for name, place in places.items()
    }
    shown[ALL_FILE] = (list(places) if is_grouped else [], of_all)
    most = figures.CERTAIN if kind.scores.gives_maps else figures.MOST
    for file, (names, photographs) in shown.items():
        of = f": {_listed(names)}{'' if is_known else ', as decided'}" if names else ""
        rows = [drawn[name] for name in photographs["id"]]
        png = figures.draw(
            rows, title=results.method + of, colormap=plan.settings.colormap, most=most
        )
        files.write(plan.output_dir / file, png)


def choose(rows: pd.DataFrame) -> pd.DataFrame:
    """Return at most three rows, those whose ids have the smallest SHA-256."""
    digests = rows["id"].map(lambda name: hashlib.sha256(name.encode()).hexdigest())
    return rows.loc[digests.sort_values().index[:_SHOWN]]


def _rows(
    chosen: pd.DataFrame, plan: ExplainPlan, kind: tasks.Kind
) -> dict[str, figures.FigureRow]:
    """Return id -> row of a figure, for the chosen rows of the index."""
    pictures: dict[str, np.ndarray] = {}
    heatmaps: dict[str, np.ndarray] = {}
    for part in plan.parts:
        if wanted := set(chosen[chosen["shard"] == part.name]["id"]):
            pictures |= {
                prepared.item.id: prepared.picture.rgb
                for prepared in plan.inputs.pictures(part.only(wanted))
                if isinstance(prepared, units.PreparedItem) and prepared.item.id in wanted
            }
            heatmaps |= heatmap_shards.heatmaps(plan.output_dir, part.name, wanted=wanted)
    return {
        name: figures.FigureRow(pictures[name], heatmaps[name], _caption(row, kind))
        for row in chosen.to_dict("records")
        for name in (row["id"],)
    }


def _caption(row: Mapping[Any, Any], kind: tasks.Kind) -> str:
    groups, truth = kind.data.groups, ""
    if len(groups) > 1:
        truth = f"   truth {'not known' if pd.isna(row['target']) else groups[row['target']]}"
    explained = kind.scores.explained
    score = f"{explained.replace('_', ' ')} {row[explained]:.3f}"
    return f"{row['id']}{truth}   {score}   decision {row['decision']}"


def _listed(names: Sequence[str]) -> str:
    """Return names as part of a sentence: 'a', 'a and b', 'a, b and c'."""
    if len(names) == 1:
        return names[0]
    both = languages.current().template("{names} and {last}")
    return both.format(names=", ".join(names[:-1]), last=names[-1])
