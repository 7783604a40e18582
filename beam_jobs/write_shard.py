"""One shard: reads, preprocesses and writes its photographs. All that a worker has to import.

A task is a name and a range of bytes in the job's list of rows, so that a pipeline of ten million
photographs is still a small message, and no image passes through a shuffle.
"""

import collections
import concurrent.futures
import json
import posixpath
import time
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import apache_beam as beam
import cv2
from apache_beam.metrics import Metrics

from beam_jobs import output, sources
from dr_tfx import images, records, specs

PROGRESS = "_progress"
ROWS_FILE = "rows.jsonl"
LIVE_SUFFIX = ".live"  # How far an unfinished shard is: examples and rejects so far.
_SIDECAR_SUFFIX = ".shard.json"  # What a finished shard holds.
_LIVE_SECONDS = 0.5


class Row(NamedTuple):
    """A row of the CSV that becomes an example."""

    id: str
    name: str  # Of the photograph, in its source.
    patient: str
    label: int


class Task(NamedTuple):
    """A shard to be written."""

    shard: str
    offset: int  # Of its first row in ROWS_FILE, in bytes.
    length: int


class WriteShard(beam.DoFn):
    """Writes one shard, then its sidecar; yields the shard's name."""

    def __init__(
        self, spec: specs.DatasetSpec, source: sources.Source, output_dir: str, *, threads: int
    ):
        """A writer.

        Args:
          spec: the data set's settings.
          source: of the photographs.
          output_dir: where shards go; every worker sees it.
          threads: photographs that one worker decodes at the same time.
        """
        self._spec, self._source, self._output_dir = spec, source, output_dir
        self._threads = threads

    def setup(self) -> None:
        """Keeps OpenCV to one thread: workers and their threads are the parallelism."""
        cv2.setNumThreads(1)

    def process(self, task: Task) -> Iterator[str]:
        """Reads, preprocesses and writes the rows of a shard, in their order.

        Dask tries again whatever a lost worker had finished: a shard with a sidecar is left alone.
        """
        if output.exists(sidecar_path(self._output_dir, task.shard)):
            yield task.shard
            return
        path = posixpath.join(self._output_dir, task.shard)
        rejects = []
        with (
            _Live(self._output_dir, task.shard) as live,
            concurrent.futures.ThreadPoolExecutor(self._threads) as pool,
            output.create(path) as stream,
        ):
            writer = records.RecordWriter(stream)
            rows = self._rows(task)
            # Twice the threads: one slow photograph then leaves no thread without work.
            for row, made in _in_order(pool, self._example, rows, ahead=2 * self._threads):
                if isinstance(made, images.RejectedImage):
                    rejects.append((row.id, self._source.path(row.name), made.reason, made.detail))
                    Metrics.counter("build_examples", f"rejected/{made.reason}").inc()
                else:
                    writer.write(made)
                    Metrics.counter("build_examples", "written").inc()
                live.say(writer.records, len(rejects))
        if not writer.records:
            output.delete(path)
        sidecar = {
            "records": writer.records,
            "bytes": writer.bytes,
            "sha256": writer.sha256,
            "rejects": rejects,
        }
        output.write_text(sidecar_path(self._output_dir, task.shard), json.dumps(sidecar))
        yield task.shard

    def _rows(self, task: Task) -> Iterator[Row]:
        path = posixpath.join(self._output_dir, PROGRESS, ROWS_FILE)
        for line in output.read(path, offset=task.offset, length=task.length).splitlines():
            yield Row(*json.loads(line))

    def _example(self, row: Row) -> bytes | images.RejectedImage:
        recipe = self._spec.recipe
        try:
            rgb = self._source.picture(row.name, recipe)
        except images.RejectedImage as error:
            return error
        return records.example(
            {
                records.IMAGE_ENCODED: records.encode_image(rgb, recipe.encoding),
                records.IMAGE_FORMAT: recipe.encoding,
                records.IMAGE_ID: row.id,
                records.IMAGE_PATIENT: row.patient,
                records.LABEL_PREFIX + self._spec.label_column: row.label,
            }
        )


def sidecar_path(output_dir: str, shard: str) -> str:
    """The file that says what a finished shard holds."""
    return posixpath.join(output_dir, PROGRESS, shard + _SIDECAR_SUFFIX)


def is_sidecar(name: str) -> bool:
    """Whether a file in PROGRESS is the sidecar of a shard."""
    return name.endswith(_SIDECAR_SUFFIX)


class _Live:
    """Tells whoever looks at the folder how far a shard is; nothing in an object store."""

    def __init__(self, output_dir: str, shard: str):
        self._path = posixpath.join(output_dir, PROGRESS, shard + LIVE_SUFFIX)
        self._next = time.monotonic() + _LIVE_SECONDS
        self._silent = output.is_remote(output_dir)

    def __enter__(self) -> "_Live":
        return self

    def say(self, written: int, rejected: int) -> None:
        if self._silent or time.monotonic() < self._next:
            return
        Path(self._path).write_text(f"{written} {rejected}")
        self._next = time.monotonic() + _LIVE_SECONDS

    def __exit__(self, *_: object) -> None:
        if not self._silent:
            output.delete(self._path)


def _in_order(
    pool: concurrent.futures.Executor,
    function: Callable[[Row], bytes | images.RejectedImage],
    rows: Iterable[Row],
    *,
    ahead: int,
) -> Iterator[tuple[Row, bytes | images.RejectedImage]]:
    """Rows and what the function makes of them, at most `ahead` of them begun and not yet given."""
    remaining = iter(rows)
    begun = collections.deque((row, pool.submit(function, row)) for row in islice(remaining, ahead))
    while begun:
        row, future = begun.popleft()
        made = future.result()
        begun.extend(
            (following, pool.submit(function, following)) for following in islice(remaining, 1)
        )
        yield row, made
