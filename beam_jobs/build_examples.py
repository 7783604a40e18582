"""Raw photographs and a label CSV -> TFRecord shards and `dataset.json`, as an Apache Beam job.

The shard is the unit of work. Beam distributes the names of shards; one call of `WriteShard` reads,
preprocesses and writes one shard. No image passes through a shuffle, which a local runner would
keep in memory, and no byte depends on the runner or the number of workers.

`_progress/` holds the job's state: `plan.json` what is being built, `rows.jsonl` the rows of every
shard, and a sidecar for each finished shard, so that the same command again goes on with the
others. `dataset.json` is written last: a folder without it is not a data set.
"""

import concurrent.futures
import contextlib
import errno
import functools
import json
import logging
import os
import posixpath
import re
import signal
import threading
from collections.abc import Iterator
from typing import Any

import apache_beam as beam
import numpy as np
import pandas as pd
import pyarrow as pa
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs import (
    build_plan,
    contact_sheet,
    find_source,
    label_table,
    output,
    progress,
    runners,
    sources,
    twin_files,
    write_shard,
)
from dr_tfx import images, manifest, specs, splits

REJECTS_FILE = "rejects.csv"
UNLABELLED_FILE = "unlabelled.csv"
CONTACT_SHEET_FILE = "contact_sheet.png"
UNGRADABLE_FILE = "ungradable.png"

_LOG = logging.getLogger(__name__)
_PLAN = "plan.json"
_READERS = 16  # Threads that look at what an earlier attempt left; they mostly wait.
_BESIDE = (REJECTS_FILE, UNLABELLED_FILE, CONTACT_SHEET_FILE, UNGRADABLE_FILE)
_INPUTS = {
    "inputs.labels": "the label CSV's rows are not the same",
    "inputs.photographs": "the photographs (names or sizes) are not the same",
    "inputs.contents": "the contents of the photographs are not the same",
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
    source = find_source.open_photographs(image_dir, spec.recipe)
    plan = build_plan.make_plan(spec, labels=labels, source=source)
    # Too many already? Then no work is done, and a data set that is there is left as it is.
    is_there = output.exists(posixpath.join(output_dir, manifest.FILE_NAME))
    _report_rejects(plan.rejects, plan, output_dir, write=not is_there)
    if overwrite:
        _delete(output_dir)
    if _finished(output_dir, plan):
        _check_unchanged(output_dir, plan, source)
        _forget(output_dir)
        _LOG.info("%s is finished and up to date: nothing to do", output_dir)
        return _load(output_dir)
    tasks, shards = _claim(output_dir, plan, source)
    if tasks:
        writer = write_shard.WriteShard(
            spec, source, output_dir, threads=runners.threads_per_worker(options)
        )
        with progress.of_build(output_dir, total=len(plan.rows)):
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
        with (
            _watch_workers(),
            beam.Pipeline(runner=runners.create(options), options=options) as pipeline,
        ):
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


@contextlib.contextmanager
def _watch_workers() -> Iterator[None]:
    """Ends the body when a worker process of this machine dies; Beam would wait for it for ever.

    Beam notices in a thread of its own, whose exception goes no further.

    Raises:
      OSError: one did.
    """
    died: list[str] = []
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        said = str(arguments.exc_value)
        if not said.startswith("Worker subprocess exited"):
            before(arguments)
        elif not died:
            died.append(said)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    is_main = threading.current_thread() is threading.main_thread()
    threading.excepthook = hook if is_main else before
    try:
        yield
    except KeyboardInterrupt:
        if not died:
            raise
        raise OSError(
            f"a worker was killed, for want of memory perhaps: {died[0]}. What is finished is "
            "kept: run the same command again, with fewer workers"
        ) from None
    finally:
        threading.excepthook = before


def _in_progress(output_dir: str, name: str = "") -> str:
    return posixpath.join(output_dir, write_shard.PROGRESS, name).rstrip("/")


def _delete(output_dir: str) -> None:
    """Deletes what builds made, and nothing else. The manifest first, the claim last."""
    output.delete_all(output_dir, re.compile(re.escape(manifest.FILE_NAME)))
    output.delete_all(output_dir, _SHARD)
    for name in _BESIDE:
        output.delete_all(output_dir, re.compile(re.escape(name)))
    output.delete_temporary(output_dir)
    _forget(output_dir)


def _forget(output_dir: str) -> None:
    """Deletes the job's state, the claim last: no sidecar may be taken for another build's."""
    output.delete_all(_in_progress(output_dir), re.compile(rf"(?!{re.escape(_PLAN)}$).*"))
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


def _check_unchanged(output_dir: str, plan: build_plan.Plan, source: sources.Source) -> None:
    """Looks for photographs that were changed since without changing their size.

    Raises:
      ValueError: one was.
    """
    built = output.modified(posixpath.join(output_dir, manifest.FILE_NAME))
    for chunk in splits.chunks(plan.rows["name"]) if built else ():
        for name in chunk:
            if source.modified(name) > built:
                raise ValueError(
                    f"{source.path(name)} was changed after {output_dir} was built. Choose "
                    "another --output_dir, or pass --overwrite to build anew"
                )


def _differences(earlier: dict[str, Any], now: dict[str, Any]) -> str:
    before, after = manifest.flat(earlier), manifest.flat(now)
    keys = [key for key in after if key != "fingerprint" and before.get(key) != after[key]]
    named = [
        _INPUTS.get(key, f"{key} was {before.get(key)!r} and is {after[key]!r}") for key in keys
    ]
    return "; ".join(named) or ("the split is not the same: another version of scikit-learn?")


def _claim(
    output_dir: str, plan: build_plan.Plan, source: sources.Source
) -> tuple[list[write_shard.Task], dict[str, tuple[str, int]]]:
    """Notes what is being built and tidies up.

    Returns:
      The shards that are still to be built, and the split and label of every shard by its name.
    """
    folder = _in_progress(output_dir)
    if not output.exists(_in_progress(output_dir, _PLAN)):
        _forget(output_dir)
    output.delete_temporary(output_dir)
    output.delete_temporary(folder)
    output.delete_all(folder, re.compile(rf".*{re.escape(write_shard.LIVE_SUFFIX)}"))
    text = json.dumps(plan.contract(), indent=2, sort_keys=True)
    output.write_text(_in_progress(output_dir, _PLAN), text)
    tasks, shards, offset = [], {}, 0
    changed = set()  # Shards that are older than one of their photographs.
    with output.create(_in_progress(output_dir, write_shard.ROWS_FILE)) as stream:
        for name, rows in plan.shards():
            lines = "".join(f"{json.dumps(row)}\n" for row in _rows(rows)).encode()
            stream.write(lines)
            tasks.append(write_shard.Task(name, offset, len(lines)))
            shards[name] = (str(rows["split"].iloc[0]), int(rows["label"].iloc[0]))
            built = output.modified(write_shard.sidecar_path(output_dir, name))
            if built and any(source.modified(photograph) > built for photograph in rows["name"]):
                changed.add(name)
            offset += len(lines)
    done = _done(output_dir, source, changed)
    todo = [task for task in tasks if task.shard not in done]
    if done:
        kept = len(tasks) - len(todo)
        _LOG.info("resuming: %d of %d shards were finished before", kept, len(tasks))
    return todo, shards


def _done(output_dir: str, source: sources.Source, changed: set[str]) -> set[str]:
    """The shards that are finished and not `changed`; the sidecars of others are deleted."""
    written, said = output.sizes(output_dir), output.sizes(_in_progress(output_dir))
    shards = [shard for name in said if (shard := write_shard.shard_of(name))]

    def is_done(shard: str) -> bool:
        sidecar = write_shard.read_sidecar(output_dir, shard)
        if shard in changed or written.get(shard, 0) != sidecar.bytes:
            return False
        # What was rejected may have been mended since.
        return all(_digest(source, name) == digest for _, name, _, _, digest in sidecar.rejects)

    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        is_whole = dict(zip(shards, pool.map(is_done, shards), strict=True))
    damaged = [shard for shard in shards if not is_whole[shard]]
    output.delete(*(write_shard.sidecar_path(output_dir, shard) for shard in damaged))
    return set(shards) - set(damaged)


def _digest(source: sources.Source, name: str) -> str:
    try:
        return write_shard.content_digest(source.read(name))
    except images.RejectedImage:
        return ""


def _rows(rows: pd.DataFrame) -> Iterator[write_shard.Row]:
    columns = rows[["id", "name", "patient", "label"]]
    return map(write_shard.Row._make, columns.itertuples(index=False, name=None))


def _report_rejects(
    rejects: pd.DataFrame, plan: build_plan.Plan, output_dir: str, *, write: bool = True
) -> None:
    """Writes rejects.csv, and fails if there are too many.

    Raises:
      ValueError: more than `max_reject_rate` of the rows, or all of them.
    """
    path = posixpath.join(output_dir, REJECTS_FILE)
    ordered = rejects.sort_values(["id", "reason"], kind="stable")
    if write:
        output.write_text(path, ordered.to_csv(index=False, lineterminator="\n"))
    limit = plan.spec.max_reject_rate
    if len(rejects) > limit * plan.csv_rows or len(rejects) == plan.csv_rows:
        counts = ", ".join(
            f"{n} {reason}" for reason, n in rejects["reason"].value_counts().items()
        )
        listed = f"{path} lists all with the reason. " if write else ""
        raise ValueError(
            f"{len(rejects)} of {plan.csv_rows} rows were rejected, more than "
            f"config.dataset.max_reject_rate={limit} allows: {counts}; the first are "
            f"{', '.join(ordered['id'].head(5))}. {listed}Mend them and pass --overwrite, or raise "
            "the limit and run the same command again"
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
    sidecars, digests = {}, _Digests()
    read = functools.partial(write_shard.read_sidecar, output_dir)
    with concurrent.futures.ThreadPoolExecutor(_READERS) as pool:
        for shard, sidecar in zip(shards, pool.map(read, shards), strict=True):
            digests.take(sidecar)
            sidecars[shard] = sidecar
    rejects = pd.concat([plan.rejects, _late_rejects(sidecars, source)], ignore_index=True)
    _report_rejects(rejects, plan, output_dir)
    late = [row[0] for sidecar in sidecars.values() for row in sidecar.rejects]
    rows = plan.rows[~plan.rows["id"].isin(late)]
    patients, shared = build_plan.count_patients(rows)
    written = sum(sidecar.records for sidecar in sidecars.values())
    if written != len(rows) or written + len(rejects) != plan.csv_rows:
        raise RuntimeError(
            f"{plan.csv_rows} rows, but {written} written and {len(rejects)} rejected: "
            f"were files in {output_dir} changed during the build?"
        )
    flagged = _flagged(sidecars)
    twins = plan.twins
    if plan.spec.split.method == "hash":
        twins = twin_files.describe(rows, twin_files.group(*digests.table()))
        twin_files.warn(twins)
    result = manifest.Manifest(
        dataset=plan.spec,
        fingerprint=plan.contract()["fingerprint"],
        libraries=dict(build_plan.LIBRARIES),
        rows=plan.csv_rows,
        written=written,
        rejected=label_table.count_reasons(rejects),
        ungradable=label_table.count_reasons(flagged[flagged["fate"] == "kept"]),
        counts=build_plan.count_labels(rows, plan.spec.label_names),
        patients=patients,
        shared_patients=shared,
        twins=twins,
        unlabelled=len(plan.unlabelled),
        inputs=plan.inputs,
        shards=tuple(
            manifest.Shard(
                name=shard,
                split=shards[shard][0],
                label=shards[shard][1],
                records=sidecar.records,
                bytes=sidecar.bytes,
                sha256=sidecar.sha256,
            )
            for shard, sidecar in sidecars.items()
            if sidecar.records
        ),
    )
    sheet = contact_sheet.of_labels(result, rows, source, folder=output_dir)
    output.write(posixpath.join(output_dir, CONTACT_SHEET_FILE), sheet)
    if len(flagged):
        gallery = contact_sheet.of_ungradable(flagged, source)
        output.write(posixpath.join(output_dir, UNGRADABLE_FILE), gallery)
    if len(plan.unlabelled):
        listed = plan.unlabelled.to_csv(index=False, header=["name"], lineterminator="\n")
        output.write_text(posixpath.join(output_dir, UNLABELLED_FILE), listed)
    output.delete_temporary(output_dir)  # Of workers that were killed and replaced.
    output.write_text(posixpath.join(output_dir, manifest.FILE_NAME), result.to_json())
    _forget(output_dir)
    return result


class _Digests:
    """Ids and digests of all photographs, in some forty bytes each."""

    def __init__(self) -> None:
        self._ids: list[pa.Array] = []
        self._digests = [np.empty((0, 2), np.uint64)]

    def take(self, sidecar: write_shard.Sidecar) -> None:
        """Moves them here from a sidecar."""
        if sidecar.digests:
            ids, digests = zip(*sidecar.digests, strict=True)
            self._ids.append(pa.array(ids, pa.large_string()))
            packed = np.frombuffer(bytes.fromhex("".join(digests)), np.uint64)
            self._digests.append(packed.reshape(-1, 2))
            sidecar.digests = []

    def table(self) -> tuple[pd.Series, np.ndarray]:
        """Ids, and digests uint64 (ids, 2)."""
        ids = pd.array(pa.chunked_array(self._ids, pa.large_string()), dtype=splits.TEXT)
        return pd.Series(ids), np.concatenate(self._digests)


def _late_rejects(sidecars: dict[str, write_shard.Sidecar], source: sources.Source) -> pd.DataFrame:
    """What the workers rejected: REJECT_COLUMNS."""
    rows = [
        (photograph, source.path(name), reason, detail)
        for sidecar in sidecars.values()
        for photograph, name, reason, detail, _ in sidecar.rejects
    ]
    return pd.DataFrame(rows, columns=list(label_table.REJECT_COLUMNS), dtype=splits.TEXT)


def _flagged(sidecars: dict[str, write_shard.Sidecar]) -> pd.DataFrame:
    """What the quality gate flagged: id, name, reason and whether it was kept or rejected."""
    rows = [
        (photograph, name, f"ungradable:{why}", "kept")
        for sidecar in sidecars.values()
        for photograph, name, why in sidecar.ungradable
    ] + [
        (photograph, name, reason, "rejected")
        for sidecar in sidecars.values()
        for photograph, name, reason, _, _ in sidecar.rejects
        if reason.startswith("ungradable:")
    ]
    return pd.DataFrame(rows, columns=["id", "name", "reason", "fate"], dtype=splits.TEXT)
