"""Heat maps of one split of a data set, as a Beam job.

    shards of the split -> Reshuffle -> ExplainShard: one shard in, one shard of heat maps out

The shard is the unit of work, as in the build job: nothing but shard names passes between workers,
memory does not grow with the data set, and a rerun skips what is finished. OUTPUT_DIR receives

    explain.json             what the folder is made from; written first, compared by a rerun
    heatmaps-<shard>         TFRecords: image/id, heatmap/values (float32 bytes), heatmap/height,
                             heatmap/width, score
    heatmaps-<shard>.csv     the shard's rows of the index; written last: the shard is finished
    index.csv                id, label, target, score, decision, shard; sorted by id
    gradcam_normal.png       three photographs of the negative class
    gradcam_abnormal.png     three of the positive class
    gradcam_final.png        the six together
"""

import functools
import hashlib
import itertools
import json
import os
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd
from absl import logging
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs import explain_figures, heatmap_shards, progress, runners
from dr_tfx import explainer, manifest, models, records

SOURCE_FILE = "explain.json"
INDEX_FILE = "index.csv"
_COLUMNS = ["id", "label", "target", "score", "decision", "shard"]
_LOADING = threading.Lock()


class ExplainShard(beam.DoFn):
    """Writes the heat maps and the index rows of one shard; yields the number of records."""

    def __init__(self, *, workdir: Path, version: str, data_dir: Path, output_dir: Path):
        self._workdir, self._version = workdir, version
        self._data_dir, self._output_dir = data_dir, output_dir

    def setup(self) -> None:
        self._explainer = load(self._workdir, self._version)

    def process(self, shard: manifest.Shard) -> Iterator[int]:
        target = self._explainer.bundle.experiment.task.label_map[shard.label]
        final = heatmap_shards.path(self._output_dir, shard.name)
        temporary = final.with_name(f"{final.name}.tmp")
        rows = []
        with temporary.open("wb") as stream:
            writer = records.RecordWriter(stream)
            try:
                for name, heatmap, score in self._explained(shard):
                    writer.write(heatmap_shards.record(name, heatmap, score))
                    rows.append((name, shard.label, target, score, shard.name))
            except ValueError as error:
                raise ValueError(f"{self._data_dir / shard.name}: {error}") from error
            stream.flush()
            os.fsync(stream.fileno())
        if len(rows) != shard.records:
            raise ValueError(
                f"{self._data_dir / shard.name} has {len(rows)} records; "
                f"{manifest.FILE_NAME} says {shard.records}. Build the data set again."
            )
        temporary.replace(final)
        index = pd.DataFrame(rows, columns=["id", "label", "target", "score", "shard"])
        manifest.write_text(
            heatmap_shards.index_path(self._output_dir, shard.name), index.to_csv(index=False)
        )
        yield len(rows)

    def _explained(self, shard: manifest.Shard) -> Iterator[tuple[str, np.ndarray, float]]:
        experiment = self._explainer.bundle.experiment
        size, batch_size = experiment.dataset.recipe.size, experiment.evaluation.batch_size
        with (self._data_dir / shard.name).open("rb") as stream:
            examples = records.read_images(stream, size)
            while batch := list(itertools.islice(examples, batch_size)):
                maps, scores = self._explainer(np.stack([image for _, image in batch]))
                for (name, _), heatmap, score in zip(batch, maps, scores, strict=True):
                    yield name, heatmap, float(score)


def explain(
    *,
    workdir: Path,
    data_dir: Path,
    split: str,
    output_dir: Path,
    options: PipelineOptions,
    overwrite: bool = False,
) -> Path:
    """Explains every example of a split; see the module's text. Returns `output_dir`.

    Args:
      workdir: a trained bundle.
      data_dir: a data set of the same recipe and labels.
      split: which part of it.
      output_dir: created if need be. What an interrupted run left there is taken up.
      options: Beam's; workers must see all three folders under the same paths.
      overwrite: discard what `output_dir` holds of earlier runs, and start again.

    Raises:
      FileNotFoundError: no bundle or no data set.
      ValueError: data and bundle do not fit, a shard is damaged, or `output_dir` holds something
        else and `overwrite` is not set.
    """
    data = manifest.load(data_dir)
    model_hash = _sha256(workdir / models.MODEL_FILE)
    version = f"{model_hash} {_sha256(workdir / models.BUNDLE_FILE)}"
    loaded = load(workdir, version)
    bundle = loaded.bundle
    manifest.check_same_contract(bundle.manifest, data, where=str(data_dir))
    shards = data.shards_of(split)
    views = list(bundle.experiment.evaluation.views)
    source = {"model": model_hash, "views": views, "data": data.fingerprint, "split": split}
    _claim(output_dir, source, overwrite=overwrite)
    work = ExplainShard(workdir=workdir, version=version, data_dir=data_dir, output_dir=output_dir)
    _run([s for s in shards if not _is_done(output_dir, s)], work, options, output_dir)
    if bundle.threshold is None:
        logging.warning("%s has no threshold yet: decisions at %s.", workdir, loaded.threshold)
    index = _read_index(output_dir, shards)
    index["decision"] = index["score"].map(loaded.decide)
    index = index[_COLUMNS].sort_values("id", kind="stable", ignore_index=True)
    manifest.write_text(output_dir / INDEX_FILE, index.to_csv(index=False))
    explain_figures.write(
        index, data_dir=data_dir, output_dir=output_dir, experiment=bundle.experiment
    )
    return output_dir


def load(workdir: Path, version: str) -> explainer.Explainer:
    """The bundle's explainer, loaded once per process however many workers run in it.

    Args:
      workdir: the bundle's folder.
      version: any text that changes with the bundle, so that an old one is not taken for it.
    """
    with _LOADING:
        return _load(workdir, version)


@functools.lru_cache(maxsize=1)
def _load(workdir: Path, version: str) -> explainer.Explainer:
    del version  # Part of the cache's key.
    return explainer.Explainer(models.load_bundle(workdir))


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: {path.parent} holds no finished training. Check --workdir."
        )
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _claim(output_dir: Path, source: dict[str, Any], *, overwrite: bool) -> None:
    """Notes what the folder is made from, after making sure that it holds nothing else."""
    output_dir.mkdir(parents=True, exist_ok=True)
    path = output_dir / SOURCE_FILE
    if overwrite:
        for pattern in (SOURCE_FILE, "heatmaps-*", "gradcam_*.png", INDEX_FILE):
            for old in output_dir.glob(pattern):
                old.unlink()
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        different = [key for key in source if found.get(key) != source[key]]
        if different:
            raise ValueError(
                f"{output_dir} holds heat maps of something else: {', '.join(different)} "
                f"differ{'s' if len(different) == 1 else ''} from {path}. "
                "Choose another --output_dir, or discard them with --overwrite."
            )
    manifest.write_text(path, json.dumps(source, indent=2, sort_keys=True) + "\n")


def _run(
    shards: Sequence[manifest.Shard],
    work: ExplainShard,
    options: PipelineOptions,
    output_dir: Path,
) -> None:
    if not shards:
        return
    pipeline = beam.Pipeline(runner=runners.create(options), options=options)
    _ = pipeline | beam.Create(shards) | beam.Reshuffle() | beam.ParDo(work)

    def count() -> tuple[int, dict[str, int]]:
        return sum(shard.records for shard in shards if _is_done(output_dir, shard)), {}

    total = sum(shard.records for shard in shards)
    with progress.bar(count, total=total, seconds=0.5, title="explain"):
        try:
            pipeline.run().wait_until_finish()
        except RuntimeError as error:  # How Beam hands on what a worker raised, as text.
            logging.debug("%s", error)
            last = str(error).strip().splitlines()[-1]
            raise ValueError(f"{last} (--verbosity=1 shows where.)") from error


def _is_done(output_dir: Path, shard: manifest.Shard) -> bool:
    made = (heatmap_shards.path, heatmap_shards.index_path)
    return all(where(output_dir, shard.name).is_file() for where in made)


def _read_index(output_dir: Path, shards: Sequence[manifest.Shard]) -> pd.DataFrame:
    exactly = {"id": str, "score": float}  # No id is a number or missing, no digit is lost.
    paths = [heatmap_shards.index_path(output_dir, shard.name) for shard in shards]
    return pd.concat([pd.read_csv(path, converters=exactly) for path in paths])
