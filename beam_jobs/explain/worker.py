"""All that a worker of the explain job runs: one part in, its heat maps, overlays and rows out."""

import dataclasses
import functools
import itertools
import json
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import apache_beam as beam
import cv2
import numpy as np
import pandas as pd

from beam_jobs.explain import heatmap_shards, mask_measures, units
from dr_tfx.dataset import leakage, manifest, records
from dr_tfx.explanation import explainer, gradcam, localization
from dr_tfx.machine import resources
from dr_tfx.models import bundles
from dr_tfx.storage import files

OVERLAYS = ("full", "small", "none")
COLUMNS = (
    *("id", "label", "target", "scores", "shard", "overlay"),
    *("photograph", "ungradable", "outside", "digest", "measures", "reason", "detail"),
)
_LOADING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Settings:
    """What every worker does alike."""

    workdir: Path
    version: str  # Any text that changes with the bundle.
    methods: tuple[str, ...]  # The first makes the maps; all are measured.
    overlays: str  # One of OVERLAYS.
    average_views: bool  # Whether maps are means over the views.
    colormap: str
    masks: mask_measures.Masks | None
    threads: int  # That draw at the same time.


class ExplainPart(beam.DoFn):
    """Writes the heat maps, the overlays and, last, the rows of a part; yields its name."""

    def __init__(self, settings: Settings, inputs: units.Inputs, output_dir: Path):
        self._settings, self._inputs, self._output_dir = settings, inputs, output_dir

    def setup(self) -> None:
        resources.end_quickly()
        s = self._settings
        explainers = load(s.workdir, s.version, s.methods, average_views=s.average_views)
        self._explainer = explainers[s.methods[0]]
        self._measurer = (
            mask_measures.Measurer(s.masks, explainers, self._inputs) if s.masks else None
        )

    def process(self, part: units.Part) -> Iterator[str]:
        if heatmap_shards.is_done(self._output_dir, part.name):
            yield part.name  # Dask tries again whatever a lost worker had finished.
            return
        final = heatmap_shards.path(self._output_dir, part.name)
        temporary = final.with_name(f"{final.name}.tmp")
        batch_size = self._explainer.at_once
        if self._measurer:  # Another photograph's map, for comparison, is one of the same batch.
            batch_size = self._explainer.bundle.experiment.evaluation.batch_size
        rows: list[dict[str, Any]] = []
        with files.Live(str(heatmap_shards.live_path(self._output_dir, part.name))) as live:
            with temporary.open("wb") as stream, ThreadPoolExecutor(self._settings.threads) as pool:
                writer = records.RecordWriter(stream)
                pictures = self._inputs.pictures(part)
                while batch := list(itertools.islice(pictures, batch_size)):
                    usable = [seen for seen in batch if isinstance(seen, units.Seen)]
                    rejected = [r for r in batch if isinstance(r, units.Rejected)]
                    rows += map(self._reject, rejected)
                    for row in self._explain(usable, part, writer, pool):
                        rows.append(row)
                        live.say(len(rows))
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(final)
            text = pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False)
            manifest.write_text(heatmap_shards.index_path(self._output_dir, part.name), text)
        yield part.name

    def _explain(
        self,
        usable: Sequence[units.Seen],
        part: units.Part,
        writer: records.RecordWriter,
        pool: Executor,
    ) -> Iterator[dict[str, Any]]:
        """Writes heat maps and overlays of a batch; gives the row of each when it is done."""
        if not usable:
            return
        maps, table = self._explainer(np.stack([seen.picture.rgb for seen in usable]))
        overlays = pool.map(functools.partial(self._draw, part=part), usable, maps)
        measured: Iterator[list[dict[str, Any]]] = itertools.repeat([], len(usable))
        if self._measurer:
            measured = self._measurer.measure(usable)
        kind = self._explainer.bundle.kind
        scores = table.to_dict("records")
        for seen, heatmap, score, overlay, measures in zip(
            usable, maps, scores, overlays, measured, strict=True
        ):
            item, rgb = seen.item, seen.picture.rgb
            explained = float(score[kind.scores.explained])
            writer.write(heatmap_shards.record(item.id, heatmap, explained))
            yield {
                "id": item.id,
                "label": item.label,
                "target": None if item.label is None else kind.data.group_of[item.label],
                "scores": json.dumps(score),
                "shard": part.name,
                "overlay": overlay,
                "photograph": self._inputs.path(item),
                "ungradable": seen.picture.ungradable,
                "outside": int(localization.is_outside(heatmap, mask_measures.retina(rgb))),
                "digest": leakage.digest(rgb).hex(),
                "measures": json.dumps(measures),
            }

    def _reject(self, rejected: units.Rejected) -> dict[str, Any]:
        item, error = rejected
        known = {"id": item.id, "photograph": self._inputs.path(item)}
        return known | {"reason": error.reason, "detail": error.detail}

    def _draw(self, seen: units.Seen, heatmap: np.ndarray, *, part: units.Part) -> str:
        """Writes the overlays of one photograph; gives the path of the best within the folder."""
        size = self._settings.overlays
        if size == "none":
            return ""
        path = heatmap_shards.overlay(part.name, seen.item.id)
        small = heatmap_shards.thumbnail(part.name, seen.item.id)
        is_full = size == "full" and self._inputs.is_raw
        self._write(small if is_full else path, seen.picture.rgb, heatmap)
        if is_full:
            whole = self._inputs.whole(seen)
            height, width = whole.shape[:2]
            placed = seen.picture.box.to_photograph(heatmap, height=height, width=width)
            self._write(path, whole, placed)
        return path

    def _write(self, path: str, rgb: np.ndarray, heatmap: np.ndarray) -> None:
        mixed = gradcam.overlay(rgb, heatmap, colormap=self._settings.colormap)
        done, png = cv2.imencode(".png", cv2.cvtColor(mixed, cv2.COLOR_RGB2BGR))
        if not done:
            raise ValueError(f"OpenCV could not write {path}, {rgb.shape}, as PNG")
        final = self._output_dir / path
        final.parent.mkdir(parents=True, exist_ok=True)
        final.write_bytes(png.tobytes())


def load(
    workdir: Path, version: str, methods: tuple[str, ...], *, average_views: bool
) -> dict[str, explainer.Explainer]:
    """The bundle's explainers by method, loaded once per process however many workers run in it.

    Args:
      workdir: the bundle's folder.
      version: any text that changes with the bundle, so that an old one is not taken for it.
      methods: names in `gradcam.METHODS`.
      average_views: whether maps are means over the views of test-time augmentation.
    """
    with _LOADING:
        return _load(workdir, version, methods, average_views)


@functools.lru_cache(maxsize=1)
def _load(
    workdir: Path, version: str, methods: tuple[str, ...], average_views: bool
) -> dict[str, explainer.Explainer]:
    del version  # Part of the cache's key.
    bundle = bundles.load(workdir)
    return {
        method: explainer.Explainer(bundle, method, average_views=average_views)
        for method in methods
    }
