"""Raw photographs and a label CSV -> TFRecord shards and `dataset.json`, as an Apache Beam job.

The shard is the unit of work. Beam distributes the names of shards; one call of `WriteShard` reads,
preprocesses and writes one shard. No image passes through a shuffle, which a local runner would
keep in memory, and no byte depends on the runner or the number of workers.

`_progress/` holds the job's state: `plan.json` what is being built, `rows.jsonl` the rows of every
shard, and a sidecar for each finished shard, so that the same command again goes on with the
others. `dataset.json` is written last: a folder without it is not a data set.
"""

import errno
import json
import logging
import os
import posixpath
import re
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import pandas as pd
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs import build_plan, contact_sheet, output, progress, runners, sources, write_shard
from dr_tfx import manifest, specs, splits

REJECTS_FILE = "rejects.csv"
CONTACT_SHEET_FILE = "contact_sheet.png"

_LOG = logging.getLogger(__name__)
_PLAN = "plan.json"
_INPUTS = {
    "inputs.labels": "the label CSV's rows are not the same",
    "inputs.photographs": "the photographs (names or sizes) are not the same",
}
_SHARD = re.compile(rf"(?:{'|'.join(splits.SPLITS)})-\d+\.tfrecord-\d{{5,}}-of-\d{{5,}}")


def build(
    spec: specs.DatasetSpec,
    *,
    image_dir: str,
    labels: str,
    output_dir: str,
    overwrite: bool = False,
    options: PipelineOptions | None = None,
) -> manifest.Manifest:
    """Builds the data set, or resumes its build, and returns its manifest.

    Args:
      spec: what to make of the photographs.
      image_dir: folder of the photographs. labels: CSV. Any file system that Beam knows.
      output_dir: a folder or object store that every worker sees.
      overwrite: delete what an earlier build left in `output_dir`.
      options: Beam's; `runners.create` says which runner they mean. None: this process.

    Raises:
      FileNotFoundError: CSV or folder missing, or a finished data set lacks a shard.
      ValueError: unusable input, too many rejects, or `output_dir` was built otherwise.
    """
    options = options or PipelineOptions([])
    runners.check_folders(options, image_dir=image_dir, output_dir=output_dir)
    output_dir = output.absolute(output_dir)
    source = sources.open_source(image_dir)
    plan = build_plan.make_plan(spec, labels=labels, source=source)
    if overwrite:
        _delete(output_dir)
    if _finished(output_dir, plan):
        output.delete_folder(_in_progress(output_dir))
        _LOG.info("%s is finished and up to date: nothing to do", output_dir)
        return _load(output_dir)
    _report_rejects(plan.rejects, plan, output_dir)  # Too many already? Then no work is done.
    tasks, shards = _claim(output_dir, plan)
    if tasks:
        writer = write_shard.WriteShard(
            spec, source, output_dir, threads=runners.threads_per_worker(options)
        )
        with progress.bar(output_dir, total=len(plan.rows)):
            _run(tasks, writer, options, output_dir)
    return _finish(plan, shards, source, output_dir)


def _run(
    tasks: list[write_shard.Task],
    writer: write_shard.WriteShard,
    options: PipelineOptions,
    output_dir: str,
) -> None:
    # Large shards first: local runners deal them out in turn, and none is left over at the end.
    tasks = sorted(tasks, key=lambda task: -task.length)
    try:
        with beam.Pipeline(runner=runners.create(options), options=options) as pipeline:
            (
                pipeline
                | "Shards" >> beam.Create(tasks, reshuffle=False)
                | "Distribute" >> beam.Reshuffle()
                | "WriteShard" >> beam.ParDo(writer)
            )
    except Exception as error:  # Beam wraps a worker's error in one of its own, as text.
        if any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):
            raise OSError(
                f"no space left in {output_dir}: the shards that are finished are kept. Make room "
                "and run the same command again"
            ) from error
        raise


def _in_progress(output_dir: str, name: str = "") -> str:
    return posixpath.join(output_dir, write_shard.PROGRESS, name).rstrip("/")


def _read_sidecar(output_dir: str, shard: str) -> dict[str, Any]:
    return json.loads(output.read(write_shard.sidecar_path(output_dir, shard)))


def _delete(output_dir: str) -> None:
    """Deletes what builds made, and nothing else. The manifest first, the claim last."""
    output.delete_all(output_dir, re.compile(re.escape(manifest.FILE_NAME)))
    output.delete_all(output_dir, _SHARD)
    for name in (REJECTS_FILE, CONTACT_SHEET_FILE):
        output.delete_all(output_dir, re.compile(re.escape(name)))
    output.delete_temporary(output_dir)
    output.delete_folder(_in_progress(output_dir))


def _load(output_dir: str) -> manifest.Manifest:
    text = output.read(posixpath.join(output_dir, manifest.FILE_NAME)).decode()
    return manifest.parse(text, sizes=output.sizes(output_dir), where=output_dir)


def _finished(output_dir: str, plan: build_plan.Plan) -> bool:
    """Whether the data set is there already.

    Raises:
      ValueError, FileNotFoundError: another one is, finished or not, or it is damaged.
    """
    finished = posixpath.join(output_dir, manifest.FILE_NAME)
    for path in (finished, _in_progress(output_dir, _PLAN)):
        if not output.exists(path):
            continue
        earlier, now = json.loads(output.read(path)), plan.contract()
        if earlier["fingerprint"] != now["fingerprint"]:
            raise ValueError(
                f"{output_dir} was built otherwise: {_differences(earlier, now)}. Choose another "
                "--output_dir, or pass --overwrite to delete what is there and build anew"
            )
    if not output.exists(finished):
        return False
    try:
        _load(output_dir)
    except (ValueError, FileNotFoundError) as error:
        raise type(error)(f"{error} Pass --overwrite") from error
    return True


def _differences(earlier: dict[str, Any], now: dict[str, Any]) -> str:
    before, after = _flat(earlier), _flat(now)
    keys = [key for key in after if key != "fingerprint" and before.get(key) != after[key]]
    named = [
        _INPUTS.get(key, f"{key} was {before.get(key)!r} and is {after[key]!r}") for key in keys
    ]
    return "; ".join(named) or (
        "the split is not the same (other files are byte-identical, or another scikit-learn)"
    )


def _flat(settings: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested settings by dotted key."""
    flat: dict[str, Any] = {}
    for key, value in settings.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[prefix + key] = value
    return flat


def _claim(
    output_dir: str, plan: build_plan.Plan
) -> tuple[list[write_shard.Task], dict[str, tuple[str, int]]]:
    """Notes what is being built and tidies up.

    Returns:
      The shards that are still to be built, and the split and label of every shard by its name.
    """
    folder = _in_progress(output_dir)
    output.delete_temporary(output_dir)
    output.delete_temporary(folder)
    output.delete_all(folder, re.compile(rf".*{re.escape(write_shard.LIVE_SUFFIX)}"))
    text = json.dumps(plan.contract(), indent=2, sort_keys=True)
    output.write_text(_in_progress(output_dir, _PLAN), text)
    written, said = output.sizes(output_dir), output.sizes(folder)
    tasks, shards, offset = [], {}, 0
    with output.create(_in_progress(output_dir, write_shard.ROWS_FILE)) as stream:
        for name, rows in plan.shards():
            lines = "".join(f"{json.dumps(row)}\n" for row in _rows(rows)).encode()
            stream.write(lines)
            tasks.append(write_shard.Task(name, offset, len(lines)))
            shards[name] = (str(rows["split"].iloc[0]), int(rows["label"].iloc[0]))
            offset += len(lines)
    todo = [task for task in tasks if not _is_done(output_dir, task.shard, written, said)]
    if len(todo) < len(tasks):
        done = len(tasks) - len(todo)
        _LOG.info("resuming: %d of %d shards were finished before", done, len(tasks))
    redo = [write_shard.sidecar_path(output_dir, task.shard) for task in todo]
    output.delete(*(path for path in redo if posixpath.basename(path) in said))
    return todo, shards


def _rows(rows: pd.DataFrame) -> Iterator[write_shard.Row]:
    columns = rows[["id", "name", "patient", "label"]]
    return map(write_shard.Row._make, columns.itertuples(index=False, name=None))


def _is_done(output_dir: str, shard: str, written: dict[str, int], said: dict[str, int]) -> bool:
    if posixpath.basename(write_shard.sidecar_path(output_dir, shard)) not in said:
        return False
    sidecar = _read_sidecar(output_dir, shard)
    # What was rejected may have been mended.
    return not sidecar["rejects"] and written.get(shard) == sidecar["bytes"]


def _report_rejects(rejects: pd.DataFrame, plan: build_plan.Plan, output_dir: str) -> None:
    """Writes rejects.csv, and fails if there are too many.

    Raises:
      ValueError: more than `max_reject_rate` of the rows, or all of them.
    """
    path = posixpath.join(output_dir, REJECTS_FILE)
    ordered = rejects.sort_values(["id", "reason"], kind="stable")
    output.write_text(path, ordered.to_csv(index=False, lineterminator="\n"))
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
    plan: build_plan.Plan,
    shards: dict[str, tuple[str, int]],
    source: sources.Source,
    output_dir: str,
) -> manifest.Manifest:
    """Accounts for every row and writes the manifest, last."""
    said = output.sizes(_in_progress(output_dir))
    missing = [
        shard
        for shard in shards
        if posixpath.basename(write_shard.sidecar_path(output_dir, shard)) not in said
    ]
    if missing:
        raise ValueError(
            f"{len(missing)} of {len(shards)} shards are not written, {missing[0]} among them. Was "
            "the job not waited for (--no_wait_until_finish, --template_location)? Once it has "
            "ended, the same command again makes the data set of them"
        )
    sidecars = {name: _read_sidecar(output_dir, name) for name in shards}
    late = [row for sidecar in sidecars.values() for row in sidecar["rejects"]]
    late_table = pd.DataFrame(late, columns=list(build_plan.REJECT_COLUMNS), dtype=splits.TEXT)
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
        unlabelled=len(plan.unlabelled),
        inputs=plan.inputs,
        shards=tuple(
            manifest.Shard(
                name=name,
                split=shards[name][0],
                label=shards[name][1],
                **{key: sidecar[key] for key in ("records", "bytes", "sha256")},
            )
            for name, sidecar in sidecars.items()
            if sidecar["records"]
        ),
    )
    sheet = contact_sheet.of_labels(result, rows, source, folder=output_dir)
    output.write(posixpath.join(output_dir, CONTACT_SHEET_FILE), sheet)
    output.delete_temporary(output_dir)  # Of workers that were killed and replaced.
    output.write_text(posixpath.join(output_dir, manifest.FILE_NAME), result.to_json())
    output.delete_folder(_in_progress(output_dir))
    return result
