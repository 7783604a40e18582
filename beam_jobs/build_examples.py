"""Raw photographs and a label CSV -> TFRecord shards and `dataset.json`, as an Apache Beam job.

The shard is the unit of work. Beam distributes *paths*, grouped by shard; one call of `WriteShard`
reads, preprocesses and writes one shard. No image passes through a shuffle, which a local runner
would keep in memory, and no byte depends on the runner or the number of workers.

A shard is written under a temporary name, described in `_progress/<shard>.json` and then renamed:
where both are, it is done, and the same command again goes on with the others. `dataset.json` is
written last: a folder without it is not a data set.
"""

import contextlib
import json
import logging
import os
import re
import shutil
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import apache_beam as beam
import cv2
import pandas as pd
from apache_beam.metrics import Metrics
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from tqdm import tqdm

from beam_jobs import build_plan, runners
from dr_tfx import images, manifest, records, specs, splits

REJECTS_FILE = "rejects.csv"
Row = tuple[str, str, str, int]  # Id, path, patient, label.
Task = tuple[str, list[Row]]  # Name and rows of a shard.

_LOG = logging.getLogger(__name__)
_PROGRESS = "_progress"
_PLAN = "plan.json"
_SHARD = re.compile(rf"(?:{'|'.join(splits.SPLITS)})-\d+\.tfrecord-\d{{5}}-of-\d{{5}}")
_STRAY = re.compile(rf"\.{_SHARD.pattern}\.[0-9a-f]{{32}}\.tmp")
_POLL_SECONDS = 0.5


class WriteShard(beam.DoFn):
    """Writes one shard and its sidecar; yields the shard's name."""

    def __init__(self, spec: specs.DatasetSpec, output_dir: str):
        self._spec, self._output_dir = spec, Path(output_dir)

    def setup(self) -> None:
        """Keeps OpenCV to one thread: the runner's workers are the parallelism."""
        cv2.setNumThreads(1)

    def process(self, task: Task) -> Iterator[str]:
        """Reads, preprocesses and writes the rows of `task`, in their order."""
        name, rows = task
        # Unique, because a runner may try a shard twice at the same time.
        temporary = self._output_dir / f".{name}.{uuid.uuid4().hex}.tmp"
        rejects = []
        try:
            with temporary.open("wb") as stream:
                writer = records.RecordWriter(stream)
                for row in rows:
                    try:
                        writer.write(self._example(*row))
                        Metrics.counter("build_examples", "written").inc()
                    except images.RejectedImage as error:
                        rejects.append((row[0], row[1], error.reason, error.detail))
                        Metrics.counter("build_examples", f"rejected/{error.reason}").inc()
                stream.flush()
                os.fsync(stream.fileno())
            sidecar = {
                "records": writer.records,
                "bytes": writer.bytes,
                "sha256": writer.sha256,
                "rejects": rejects,
            }
            manifest.write_text(_sidecar(self._output_dir, name), json.dumps(sidecar))
            if writer.records:
                temporary.replace(self._output_dir / name)
        finally:
            temporary.unlink(missing_ok=True)
        yield name

    def _example(self, photograph: str, path: str, patient: str, label: int) -> bytes:
        recipe = self._spec.recipe
        rgb = images.apply_recipe(build_plan.read_bytes(path), recipe).rgb
        return records.example(
            {
                records.IMAGE_ENCODED: records.encode_image(rgb, recipe.encoding),
                records.IMAGE_FORMAT: recipe.encoding,
                records.IMAGE_ID: photograph,
                records.IMAGE_PATIENT: patient,
                records.LABEL_PREFIX + self._spec.label_column: label,
            }
        )


def build(
    spec: specs.DatasetSpec,
    *,
    image_dir: str,
    labels: str,
    output_dir: Path,
    overwrite: bool = False,
    options: PipelineOptions | None = None,
) -> manifest.Manifest:
    """Builds the data set, or resumes its build, and returns its manifest.

    Args:
      spec: what to make of the photographs.
      image_dir: folder of the photographs. labels: CSV. Any file system that Beam knows.
      output_dir: a local or mounted folder that every worker sees.
      overwrite: delete what an earlier build left in `output_dir`.
      options: Beam's; `runners.create` says which runner they mean. None: this process.

    Raises:
      FileNotFoundError: CSV or folder missing, or a finished data set lacks a shard.
      ValueError: unusable input, too many rejects, or `output_dir` was built otherwise.
    """
    if "://" in str(output_dir):
        raise ValueError(f"--output_dir is {output_dir}; expected a local or mounted folder")
    plan = build_plan.make_plan(spec, labels=labels, image_dir=image_dir)
    if overwrite:
        _delete(output_dir)
    if _finished(output_dir, plan):
        shutil.rmtree(output_dir / _PROGRESS, ignore_errors=True)
        _LOG.info("%s is finished and up to date: nothing to do", output_dir)
        return manifest.load(output_dir)
    output_dir.mkdir(parents=True, exist_ok=True)
    _report_rejects(plan.rejects, plan, output_dir)  # Too many already? Then no work is done.
    shards = plan.shards()
    todo = _claim(output_dir, plan, list(shards))
    if todo:
        tasks = [(name, _rows(shards[name])) for name in todo]
        _run(tasks, spec, output_dir, options=options or PipelineOptions([]), total=len(plan.rows))
    return _finish(plan, shards, output_dir)


def _rows(rows: pd.DataFrame) -> list[Row]:
    return list(rows[["id", "path", "patient", "label"]].itertuples(index=False, name=None))


def _run(
    tasks: list[Task],
    spec: specs.DatasetSpec,
    output_dir: Path,
    *,
    options: PipelineOptions,
    total: int,
) -> None:
    runner = runners.create(options)
    is_local = isinstance(runner, FnApiRunner)
    with (
        _progress_bar(output_dir, total) if is_local else contextlib.nullcontext(),
        beam.Pipeline(runner=runner, options=options) as pipeline,
    ):
        (
            pipeline
            | "Shards" >> beam.Create(tasks, reshuffle=False)
            | "Distribute" >> beam.Reshuffle()
            | "WriteShard" >> beam.ParDo(WriteShard(spec, str(output_dir.resolve())))
        )


def _sidecar(output_dir: Path, shard: str) -> Path:
    return output_dir / _PROGRESS / f"{shard}.json"


def _read_sidecar(output_dir: Path, shard: str) -> dict[str, Any]:
    return json.loads(_sidecar(output_dir, shard).read_text(encoding="utf-8"))


def _is_done(output_dir: Path, shard: str) -> bool:
    if not _sidecar(output_dir, shard).is_file():
        return False
    sidecar, file = _read_sidecar(output_dir, shard), output_dir / shard
    if sidecar["rejects"]:
        return False  # What was rejected may have been mended.
    return file.is_file() and file.stat().st_size == sidecar["bytes"]


def _delete(output_dir: Path) -> None:
    """Deletes what builds made, and nothing else. The manifest first, the claim last."""
    (output_dir / manifest.FILE_NAME).unlink(missing_ok=True)
    for pattern in (_SHARD, _STRAY):
        _delete_files(output_dir, pattern)
    (output_dir / REJECTS_FILE).unlink(missing_ok=True)
    shutil.rmtree(output_dir / _PROGRESS, ignore_errors=True)


def _delete_files(folder: Path, name: re.Pattern[str]) -> None:
    for path in folder.glob("*"):
        if name.fullmatch(path.name):
            path.unlink()


def _finished(output_dir: Path, plan: build_plan.Plan) -> bool:
    """Whether the data set is there already.

    Raises:
      ValueError, FileNotFoundError: another one is, finished or not, or it is damaged.
    """
    for path in (output_dir / manifest.FILE_NAME, output_dir / _PROGRESS / _PLAN):
        if not path.is_file():
            continue
        earlier, now = json.loads(path.read_text(encoding="utf-8")), plan.contract()
        if earlier["fingerprint"] != now["fingerprint"]:
            raise ValueError(
                f"{output_dir} was built otherwise: {_differences(earlier, now)}. Choose another "
                "--output_dir, or pass --overwrite to delete what is there and build anew"
            )
    if not (output_dir / manifest.FILE_NAME).is_file():
        return False
    try:
        manifest.load(output_dir)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"{error} Pass --overwrite") from error
    return True


def _differences(earlier: dict[str, Any], now: dict[str, Any]) -> str:
    before, after = _flat(earlier), _flat(now)
    keys = [key for key in after if key != "fingerprint" and before.get(key) != after[key]]
    named = [f"{key} was {before.get(key)!r} and is {after[key]!r}" for key in keys]
    return "; ".join(named) or "the labels or photographs are not the same"


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _claim(output_dir: Path, plan: build_plan.Plan, shards: list[str]) -> list[str]:
    """Notes what is being built, tidies up, and returns the shards that are still to be built."""
    _delete_files(output_dir, _STRAY)
    (output_dir / _PROGRESS).mkdir(exist_ok=True)
    text = json.dumps(plan.contract(), indent=2, sort_keys=True)
    manifest.write_text(output_dir / _PROGRESS / _PLAN, text)
    todo = [name for name in shards if not _is_done(output_dir, name)]
    if len(todo) < len(shards):
        done = len(shards) - len(todo)
        _LOG.info("resuming: %d of %d shards were finished before", done, len(shards))
    for name in todo:
        _sidecar(output_dir, name).unlink(missing_ok=True)
    return todo


@contextlib.contextmanager
def _progress_bar(output_dir: Path, total: int) -> Iterator[None]:
    """Shows how many photographs are done, by the sidecars, while the body runs."""
    stop, counted = threading.Event(), set()

    def poll(bar: tqdm) -> None:
        for path in (output_dir / _PROGRESS).glob("*.tfrecord-*.json"):
            if path.name not in counted:
                counted.add(path.name)
                sidecar = json.loads(path.read_text(encoding="utf-8"))
                bar.update(sidecar["records"] + len(sidecar["rejects"]))

    def watch(bar: tqdm) -> None:
        while not stop.wait(_POLL_SECONDS):
            poll(bar)

    with tqdm(total=total, unit="photograph", disable=None) as bar:
        thread = threading.Thread(target=watch, args=(bar,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            poll(bar)


def _report_rejects(rejects: pd.DataFrame, plan: build_plan.Plan, output_dir: Path) -> None:
    """Writes rejects.csv, and fails if there are too many.

    Raises:
      ValueError: more than `max_reject_rate` of the rows, or all of them.
    """
    path = output_dir / REJECTS_FILE
    ordered = rejects.sort_values(["id", "reason"], kind="stable")
    manifest.write_text(path, ordered.to_csv(index=False, lineterminator="\n"))
    limit = plan.spec.max_reject_rate
    if len(rejects) > limit * plan.csv_rows or len(rejects) == plan.csv_rows:
        counts = ", ".join(
            f"{n} {reason}" for reason, n in rejects["reason"].value_counts().items()
        )
        raise ValueError(
            f"{len(rejects)} of {plan.csv_rows} rows were rejected, more than "
            f"config.dataset.max_reject_rate={limit} allows: {counts}; the first are "
            f"{', '.join(ordered['id'].head(5))}. {path} lists all with the reason. Mend them "
            "and pass --overwrite, or raise the limit and run the same command again"
        )


def _finish(
    plan: build_plan.Plan, shards: dict[str, pd.DataFrame], output_dir: Path
) -> manifest.Manifest:
    """Accounts for every row and writes the manifest, last."""
    sidecars = {name: _read_sidecar(output_dir, name) for name in shards}
    late = [row for sidecar in sidecars.values() for row in sidecar["rejects"]]
    late_table = pd.DataFrame(late, columns=list(build_plan.REJECT_COLUMNS), dtype=str)
    rejects = pd.concat([plan.rejects, late_table], ignore_index=True)
    _report_rejects(rejects, plan, output_dir)
    rows = plan.rows[~plan.rows["id"].isin(late_table["id"])]
    patients, shared = build_plan.count_patients(rows)
    written = sum(sidecar["records"] for sidecar in sidecars.values())
    if written != len(rows) or written + len(rejects) != plan.csv_rows:
        raise RuntimeError(
            f"{plan.csv_rows} rows, but {written} written and {len(rejects)} rejected: "
            f"were files in {output_dir} changed during the build?"
        )
    result = manifest.Manifest(
        dataset=plan.spec,
        fingerprint=plan.contract()["fingerprint"],
        libraries=dict(build_plan.LIBRARIES),
        rows=plan.csv_rows,
        written=written,
        rejected=build_plan.count_reasons(rejects),
        counts=build_plan.count_labels(rows, plan.spec.label_names),
        patients=patients,
        shared_patients=shared,
        twins=plan.twins,
        unlabelled=plan.unlabelled,
        shards=tuple(
            manifest.Shard(
                name=name,
                split=str(shards[name]["split"].iloc[0]),
                label=int(shards[name]["label"].iloc[0]),
                **{key: sidecar[key] for key in ("records", "bytes", "sha256")},
            )
            for name, sidecar in sidecars.items()
            if sidecar["records"]
        ),
    )
    manifest.write_text(output_dir / manifest.FILE_NAME, result.to_json())
    shutil.rmtree(output_dir / _PROGRESS)
    return result
