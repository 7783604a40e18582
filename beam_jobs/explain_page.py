"""The page on which a person looks through the heat maps: index.html.

One file that needs no network and works from a disk. The rows are in it, as columns of JSON, some
40 bytes a photograph; the pictures are the PNG files beside it, and only those of the shown page
are loaded. `render` is pure.
"""

import json
from collections.abc import Mapping
from typing import Any

import jinja2
import markupsafe
import numpy as np
import pandas as pd

from beam_jobs import explain_part, heatmap_shards
from dr_tfx import NOTICE, specs

FILE_NAME = "index.html"
_REJECTS_SHOWN = 50


def render(
    index: pd.DataFrame,
    rejects: pd.DataFrame,
    *,
    title: str,
    experiment: specs.Experiment,
    threshold: float,
    method: str,
    settings: explain_part.Settings,
    is_raw: bool,
    measures: Mapping[str, Any] | None,
) -> str:
    """The page, as HTML text; everything that comes from data is escaped.

    Args:
      index: one row a photograph: id, label, target, score, decision, shard.
      rejects: id, reason and detail of those that were not explained.
      title: what was explained, for people.
      experiment: names labels and classes.
      threshold: of the decisions.
      method: what people call the way the maps were made.
      settings: of the job.
      is_raw: these are raw photographs.
      measures: what `explain_measures.summarise` returned, if there are masks.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dr_tfx"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": _percent, "interval": _interval, "number": _number}
    folder = heatmap_shards.OVERLAYS
    if is_raw and settings.overlays == "full":
        folder = heatmap_shards.THUMBNAILS
    data = _columns(index, experiment) | {
        "overlays": "" if settings.overlays == "none" else heatmap_shards.OVERLAYS,
        "thumbnails": folder,
        "threshold": threshold,
    }
    return environment.get_template("heatmaps.html.j2").render(
        data=_json(data),
        title=title,
        photographs=len(index),
        has_labels=bool(index["label"].notna().any()),
        has_overlays=settings.overlays != "none",
        labels=experiment.dataset.label_names,
        classes=experiment.task.class_names,
        threshold=threshold,
        method=method,
        rejects=rejects.head(_REJECTS_SHOWN).to_dict("records"),
        rejected=len(rejects),
        measures=measures,
        masks=settings.masks,
        notice=NOTICE,
    )


def _columns(index: pd.DataFrame, experiment: specs.Experiment) -> dict[str, Any]:
    """The rows, a list a column; -1 for a label or class that is not known."""
    shards, shard = np.unique(index["shard"].to_numpy(dtype=str), return_inverse=True)
    names = list(experiment.task.class_names)
    return {
        "labels": list(experiment.dataset.label_names),
        "classes": names,
        "shards": shards.tolist(),
        "id": index["id"].tolist(),
        "shard": shard.tolist(),
        "label": index["label"].fillna(-1).astype(int).tolist(),
        "target": index["target"].fillna(-1).astype(int).tolist(),
        "decision": index["decision"].map(names.index).astype(int).tolist(),
        "score": index["score"].round(4).tolist(),
        "ungradable": index["ungradable"].tolist() if "ungradable" in index else [],
    }


def _json(data: Mapping[str, Any]) -> markupsafe.Markup:
    """JSON for a script element, which ends at the first `</script` whatever is around it."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return markupsafe.Markup(text.replace("<", "\\u003c"))


def _percent(value: float | None) -> str:
    return "–" if value is None else f"{100 * value:.1f} %"


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _interval(estimate: Mapping[str, float | None], scale: float = 100, digits: int = 1) -> str:
    if estimate["value"] is None:
        return ""
    low, high = (scale * (estimate[end] or 0.0) for end in ("low", "high"))
    return f"({low:.{digits}f} to {high:.{digits}f})"
