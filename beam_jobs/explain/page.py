"""The page on which a person looks through the heat maps: index.html.

One file that needs no network and works from a disk. The rows are in it, as columns of JSON, some
40 bytes a photograph; the pictures are the PNG files beside it, and only those of the shown page
are loaded. `render` is pure.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import markupsafe
import numpy as np
import pandas as pd

from beam_jobs.explain import heatmap_shards, worker
from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.reports import pages

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
    settings: worker.Settings,
    is_raw: bool,
    alarms: Sequence[str],
    notices: Sequence[str],
    measures: Mapping[str, Any] | None,
) -> str:
    """The page, as HTML text; everything that comes from data is escaped.

    Args:
      index: one row a photograph: id, label, target, score, decision, shard, outside; of raw ones
        ungradable and training_split.
      rejects: id, reason and detail of those that were not explained.
      title: what was explained, for people.
      experiment: names labels and classes.
      threshold: of the decisions.
      method: what people call the way the maps were made.
      settings: of the job.
      is_raw: these are raw photographs.
      alarms: sentences on what spoils all that follows.
      notices: sentences on what else to know before reading on.
      measures: what `explain_measures.summarise` returned, if there are masks.
    """
    data = _columns(index, experiment) | _folders(settings, is_raw=is_raw)
    outside, trained = int(index["outside"].sum()), any(data["training"])
    if outside:
        notices = [*notices, _outside(outside, len(index))]
    return pages.render(
        "heatmaps.html.j2",
        digits=_digits,
        data=_json(data | {"threshold": threshold}),
        title=title,
        photographs=len(index),
        has_labels=bool(index["label"].notna().any()),
        has_overlays=settings.overlays != "none",
        classes=tasks.of(experiment).data.groups,
        threshold=threshold,
        method=method,
        alarms=alarms,
        notices=notices,
        outside=outside,
        trained=trained,
        rejects=rejects.head(_REJECTS_SHOWN).to_dict("records"),
        rejected=len(rejects),
        measures=measures,
        masks=settings.masks,
    )


def _folders(settings: worker.Settings, *, is_raw: bool) -> dict[str, str]:
    """Where the overlays are, "" for nowhere, and small ones of them."""
    has_small = is_raw and settings.overlays == "full"
    return {
        "overlays": "" if settings.overlays == "none" else heatmap_shards.OVERLAYS,
        "thumbnails": heatmap_shards.THUMBNAILS if has_small else heatmap_shards.OVERLAYS,
    }


def _outside(outside: int, photographs: int) -> str:
    return (
        f"In {outside:,} of {photographs:,} photographs the highest place of the map is outside of "
        "the retina, on the dark surround: such a map shows no finding."
    )


def _columns(index: pd.DataFrame, experiment: specs.Experiment) -> dict[str, Any]:
    """The rows, a list a column; -1 for a label or class that is not known."""
    shards, shard = np.unique(index["shard"].to_numpy(dtype=str), return_inverse=True)
    names = list(tasks.of(experiment).data.groups)
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
        "outside": index["outside"].tolist(),
        "ungradable": index["ungradable"].tolist() if "ungradable" in index else [],
        "training": index["training_split"].tolist() if "training_split" in index else [],
    }


def _json(data: Mapping[str, Any]) -> markupsafe.Markup:
    """JSON for a script element, which ends at the first `</script` whatever is around it."""
    text = json.dumps(data, separators=(",", ":"), ensure_ascii=False)
    return markupsafe.Markup(text.replace("<", "\\u003c"))


def _digits(row: Mapping[str, Any], key: str, rivals: Mapping[str, str]) -> int:
    """Decimals of percents that are to be compared: two figures of the smallest that is not 0."""
    shares = [row[name]["value"] for name in (key, *rivals.values())]
    least = min((share for share in shares if share), default=1.0)
    return max(1, 1 - math.floor(math.log10(100 * least)))
