"""The work of the explain job: one part in, its heat maps, overlays and rows out."""

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
from dr_tfx.dataset import records
from dr_tfx.explanation import explainer, localization, overlays
from dr_tfx.machine import resources
from dr_tfx.models import bundles
from dr_tfx.preprocessing import mask_files
from dr_tfx.storage import files, seen_text

OVERLAYS = ("full", "small", "none")
COLUMNS = (
    *("id", "label", "target", "scores", "shard", "overlay"),
    *("photograph", "ungradable", "outside", "pixels", "fingerprint"),
    *("measures", "reason", "detail"),
)
_LOADING = threading.Lock()
_JPEG = [  # Of photographs, whose lesions are small and red.
    *(cv2.IMWRITE_JPEG_QUALITY, 92),
    *(cv2.IMWRITE_JPEG_SAMPLING_FACTOR, cv2.IMWRITE_JPEG_SAMPLING_FACTOR_444),
]


@dataclasses.dataclass(frozen=True)
class ExplainSettings:
    """The settings that all workers share."""

    workdir: Path
    version: str  # Any text that changes with the bundle.
    methods: tuple[str, ...]  # The first makes the maps; all are measured.
    overlays: str  # One of OVERLAYS.
    average_views: bool  # Whether maps are means over the views.
    colormap: str
    masks: mask_files.MaskFolder | None
    threads: int  # Threads of a worker that draw at the same time.


class ExplainPart(beam.DoFn):
    """Writes the heat maps, the overlays and, last, the rows of a part; yields its name."""

    def __init__(self, settings: ExplainSettings, inputs: units.ExplainInputs, output_dir: Path):
        self._settings, self._inputs, self._output_dir = settings, inputs, output_dir

    def setup(self) -> None:
        resources.end_quickly()
        explainers = load(self._settings)
        self._explainer = next(iter(explainers.values()))
        masks = self._settings.masks
        self._measurer = (
            mask_measures.MaskMeasurer(masks, explainers, self._inputs) if masks else None
        )

    def process(self, part: units.HeatmapPart) -> Iterator[str]:
        if heatmap_shards.is_done(self._output_dir, part.name):
            yield part.name  # Dask repeats the finished work of a worker that was lost.
            return
        final = heatmap_shards.path(self._output_dir, part.name)
        temporary = final.with_name(f"{final.name}.tmp")
        with files.Live(str(heatmap_shards.live_path(self._output_dir, part.name))) as live:
            with files.named(final), temporary.open("wb") as stream:
                rows = self._explain_part(part, records.RecordWriter(stream), live)
                stream.flush()
                os.fsync(stream.fileno())
            temporary.replace(final)
            text = pd.DataFrame(rows, columns=list(COLUMNS)).to_csv(index=False)
            files.write_text(heatmap_shards.index_path(self._output_dir, part.name), text)
        yield part.name

    def _explain_part(
        self, part: units.HeatmapPart, writer: records.RecordWriter, live: files.Live
    ) -> list[dict[str, Any]]:
        """Write the heat maps and overlays of a part, and return its rows."""
        batch_size = self._explainer.at_once
        if self._measurer:  # It compares with a map of another photograph of the same batch.
            batch_size = self._explainer.bundle.experiment.evaluation.batch_size
        rows: list[dict[str, Any]] = []
        with ThreadPoolExecutor(self._settings.threads) as pool:
            pictures = self._inputs.pictures(part)
            while batch := list(itertools.islice(pictures, batch_size)):
                usable = [one for one in batch if isinstance(one, units.PreparedItem)]
                rows += [self._reject(r) for r in batch if isinstance(r, units.RejectedItem)]
                for row in self._explain_batch(usable, part, writer, pool):
                    rows.append(row)
                    live.say(len(rows))
        return rows

    def _explain_batch(
        self,
        usable: Sequence[units.PreparedItem],
        part: units.HeatmapPart,
        writer: records.RecordWriter,
        pool: Executor,
    ) -> Iterator[dict[str, Any]]:
        """Write the heat maps and overlays of a batch; yield each row when it is finished."""
        if not usable:
            return
        maps, table = self._explainer(np.stack([prepared.picture.rgb for prepared in usable]))
        overlays = pool.map(functools.partial(self._draw, part=part), usable, maps)
        measured: Iterator[list[dict[str, Any]]] = itertools.repeat([], len(usable))
        if self._measurer:
            measured = self._measurer.measure(usable)
        kind = self._explainer.bundle.kind
        scores, readings = table.to_dict("records"), self._explainer.read(table)
        for prepared, heatmap, score, reading, overlay, measures in zip(
            usable, maps, scores, readings, overlays, measured, strict=True
        ):
            item, rgb = prepared.item, prepared.picture.rgb
            writer.write(heatmap_shards.record(item.id, heatmap, reading.number))
            yield {
                "id": item.id,
                "label": item.label,
                "target": None if item.label is None else kind.data.group_of[item.label],
                "scores": json.dumps(score),
                "shard": part.name,
                "overlay": overlay,
                "photograph": self._inputs.path(item),
                "ungradable": prepared.picture.ungradable,
                "outside": int(localization.is_outside(heatmap, mask_measures.retina(rgb))),
                "pixels": records.digest(rgb).hex(),
                "fingerprint": prepared.picture.fingerprint.hex(),
                "measures": json.dumps(measures),
            }

    def _reject(self, rejected: units.RejectedItem) -> dict[str, Any]:
        item, error = rejected
        known = {"id": item.id, "photograph": self._inputs.path(item)}
        return known | {"reason": error.reason, "detail": seen_text.printable(error.detail)}

    def _draw(
        self, prepared: units.PreparedItem, heatmap: np.ndarray, *, part: units.HeatmapPart
    ) -> str:
        """Write the overlays of one photograph; return the largest one's path in the folder."""
        size = self._settings.overlays
        if size == "none":
            return ""
        path = heatmap_shards.overlay(part.name, prepared.item.id)
        small = heatmap_shards.thumbnail(part.name, prepared.item.id)
        whole, placed = prepared.picture.rgb, heatmap
        if size == "full" and self._inputs.is_raw:
            self._write(small, self._mixed(whole, heatmap))
            whole = self._inputs.whole(prepared)
            height, width = whole.shape[:2]
            placed = prepared.picture.box.to_photograph(heatmap, height=height, width=width)
        self._write(path, self._mixed(whole, placed))
        self._write(heatmap_shards.photograph(part.name, prepared.item.id), whole)
        return path

    def _mixed(self, rgb: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
        return overlays.overlay(rgb, heatmap, colormap=self._settings.colormap)

    def _write(self, path: str, rgb: np.ndarray) -> None:
        """Write a picture as its name ends: PNG, or JPEG with full colour resolution."""
        bgr, ending = cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR), Path(path).suffix
        done, data = cv2.imencode(ending, bgr, _JPEG if ending == ".jpg" else [])
        if not done:
            raise ValueError(f"OpenCV could not write {path}, {rgb.shape}")
        final = self._output_dir / path
        final.parent.mkdir(parents=True, exist_ok=True)
        with files.named(final):
            final.write_bytes(data.tobytes())


def load(settings: ExplainSettings) -> dict[str, explainer.Explainer]:
    """Return the bundle's explainers by name, loaded once for all threads of a process.

    Raises:
      FileNotFoundError, ValueError: there is no bundle, or no map can be made of its model.
    """
    with _LOADING:
        return _load(settings.workdir, settings.version, settings.methods, settings.average_views)


@functools.lru_cache(maxsize=1)
def _load(
    workdir: Path, version: str, methods: tuple[str, ...], average_views: bool
) -> dict[str, explainer.Explainer]:
    del version  # It is a part of the cache's key, so that a new bundle is loaded anew.
    bundle = bundles.load(workdir)
    made = [explainer.Explainer(bundle, name, average_views=average_views) for name in methods]
    return {one.name: one for one in made}
