"""The page on which a person looks through the heat maps: index.html.

It is one file that needs no network and works from a disk. The rows are in it, as columns of JSON,
some 50 bytes a photograph. The pictures are the PNG files beside it, and a browser loads only those
of the page that is shown.
"""

import json
import math
import re
from collections.abc import Mapping
from typing import Any

import markupsafe
import numpy as np
import pandas as pd

from beam_jobs.explain import heatmap_shards, published_figures
from beam_jobs.explain.plan import ExplainPlan
from beam_jobs.explain.results import ExplainResults
from dr_tfx.dataset import splits
from dr_tfx.reports import pages
from dr_tfx.words import languages

FILE_NAME = "index.html"
_REJECTS_SHOWN = 50
_NO_LABEL = -1  # The place of a label or group that is not known.


def render(plan: ExplainPlan, results: ExplainResults) -> str:
    """Return the page as HTML text; everything that comes from data is escaped."""
    index, kind = results.index, results.kind
    data, outside = _columns(results) | _folders(plan), int(index["outside"].sum())
    notices = [*results.notices, *[_outside(outside, len(index))] * (outside > 0)]
    return pages.render(
        "heatmaps.html.j2",
        title=plan.title,
        model=plan.model,
        method=results.method,
        rule=results.rule,
        number=_words(kind.scores.explained),
        kinds=kind.experiment.dataset.masks if kind.scores.gives_maps else (),
        photographs=len(index),
        has_labels=bool(index["label"].notna().any()),
        is_judged=data["judged"],
        has_overlays=plan.settings.overlays != "none",
        is_full=data["thumbnails"] == heatmap_shards.THUMBNAILS,
        alarms=results.alarms,
        notices=notices,
        outside=outside,
        trained=[name for name in splits.SPLITS if name in data["training"]],
        groups=kind.data.groups,
        decisions=data["decisions"],
        figures=[(kind.scores.figure_name(i), name) for i, name in enumerate(kind.data.groups)],
        figure_of_all=published_figures.ALL_FILE,
        rejects=results.rejects.head(_REJECTS_SHOWN).to_dict("records"),
        rejected=len(results.rejects),
        measures=results.measures,
        masks=plan.settings.masks,
        digits=_digits,
        data=_json(data),
    )


def _columns(results: ExplainResults) -> dict[str, Any]:
    """Return the rows by name in natural order, a list a column."""
    index, kind = results.index.sort_values("id", key=_natural, ignore_index=True), results.kind
    shards, shard = np.unique(index["shard"].to_numpy(dtype=str), return_inverse=True)
    groups = list(kind.data.groups)
    # The groups come first, so that a place among the groups is the same among the decisions.
    decisions = groups + sorted(set(index["decision"]) - set(groups))
    return {
        "number": _words(kind.scores.explained),
        "labels": list(kind.experiment.dataset.label_names),
        "groups": groups,
        "decisions": decisions,
        # A decision that is no group is called neither correct nor wrong.
        "judged": decisions == groups and bool(index["target"].notna().any()),
        "shards": shards.tolist(),
        "id": index["id"].tolist(),
        "shard": shard.tolist(),
        "label": index["label"].fillna(_NO_LABEL).astype(int).tolist(),
        "target": index["target"].fillna(_NO_LABEL).astype(int).tolist(),
        "decision": index["decision"].map(decisions.index).astype(int).tolist(),
        "score": index[kind.scores.explained].round(4).tolist(),
        "wrongness": _rounded(index["wrongness"]),
        "outside": index["outside"].tolist(),
        "ungradable": index["ungradable"].tolist() if "ungradable" in index else [],
        "patient": _patients(results),
        "training": index["training_split"].tolist() if "training_split" in index else [],
    }


def _patients(results: ExplainResults) -> list[int]:
    """Return a number for the patient of each row, by natural order; empty if no two share one."""
    ids = results.index.sort_values("id", key=_natural, ignore_index=True)["id"]
    numbers, names = pd.factorize(
        splits.patients(ids, results.kind.experiment.dataset.patient_pattern)
    )
    return numbers.tolist() if len(names) < len(ids) else []


def _natural(names: pd.Series) -> pd.Series:
    """Return keys by which names sort as people expect: 9_left before 10_left."""
    return names.map(lambda name: re.sub(r"\d+", lambda digits: digits[0].zfill(20), name))


def _rounded(values: pd.Series) -> list[float]:
    """Return numbers to four decimals; an empty list if none is known, and -1e9 for unknown."""
    return values.round(4).fillna(-1e9).tolist() if values.notna().any() else []


def _folders(plan: ExplainPlan) -> dict[str, str]:
    """Return the folder of the overlays, "" for none, and that of small ones."""
    overlays = plan.settings.overlays
    has_small = plan.inputs.is_raw and overlays == "full"
    return {
        "overlays": "" if overlays == "none" else heatmap_shards.OVERLAYS,
        "thumbnails": heatmap_shards.THUMBNAILS if has_small else heatmap_shards.OVERLAYS,
        "photographs": "" if overlays == "none" else heatmap_shards.PHOTOGRAPHS,
    }


def _outside(outside: int, photographs: int) -> str:
    return (
        f"In {outside:,} of {photographs:,} photographs the highest place of the map is outside of "
        "the lit field, on the dark surround: such a map shows no finding."
    )


def _words(column: str) -> str:
    """Return the name of a column as people write it, in the language of the page."""
    return languages.current().said(column.replace("_", " "))


def _json(data: Mapping[str, Any]) -> markupsafe.Markup:
    """Return JSON for a script element, which the first `</script` would end."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return markupsafe.Markup(text.replace("<", "\\u003c"))


def _digits(row: Mapping[str, Any], key: str, rivals: Mapping[str, str]) -> int:
    """Return the decimals of percents that are compared: the smallest gets two figures."""
    shares = [row[name]["value"] for name in (key, *rivals.values())]
    least = min((share for share in shares if share), default=1.0)
    return max(1, 1 - math.floor(math.log10(100 * least)))
