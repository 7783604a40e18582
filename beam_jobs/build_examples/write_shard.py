"""One shard: reads, preprocesses and writes its photographs. All that a worker has to import.

A task is a name and a range of bytes in the job's list of rows, so that a pipeline of ten million
photographs is still a small message, and no image passes through a shuffle.
"""

import atexit
import collections
import concurrent.futures
import contextlib
import dataclasses
import gc
import hashlib
import json
import posixpath
from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import NamedTuple

import apache_beam as beam
import cv2
from apache_beam.metrics import Metrics

from beam_jobs.sources import folders
from dr_tfx.config import specs
from dr_tfx.dataset import records
from dr_tfx.preprocessing import decoding
from dr_tfx.storage import files

PROGRESS = "_progress"
ROWS_FILE = "rows.jsonl"
LIVE_SUFFIX = ".live"  # How far an unfinished shard is: examples and rejects so far.
_SIDECAR_SUFFIX = ".shard.json"  # What a finished shard holds.


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
        self, spec: specs.DatasetSpec, source: folders.Source, output_dir: str, *, threads: int
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
        """Makes the process a worker, which ends at once and leaves parallelism to its threads."""
        cv2.setNumThreads(1)
        # `resources.end_quickly`, which a worker does not bring along: the local runner waits for
        # one worker's end after the other's.
        atexit.register(gc.freeze)

    def process(self, task: Task) -> Iterator[str]:
        """Reads, preprocesses and writes the rows of a shard, in their order.

        Dask tries again whatever a lost worker had finished: a shard with a sidecar is left alone.
        """
        if files.exists(sidecar_path(self._output_dir, task.shard)):
            yield task.shard
            return
        path = posixpath.join(self._output_dir, task.shard)
        live = posixpath.join(self._output_dir, PROGRESS, task.shard + LIVE_SUFFIX)
        sidecar = Sidecar()
        with (
            contextlib.suppress(_NothingToKeep),
            files.Live(live) as said,
            concurrent.futures.ThreadPoolExecutor(self._threads) as pool,
            files.create(path) as stream,
        ):
            writer = records.RecordWriter(stream)
            rows = self._rows(task)
            # Twice the threads: one slow photograph then leaves no thread without work.
            for made in _in_order(pool, self._make, rows, ahead=2 * self._threads):
                sidecar.add(made)
                if made.example:
                    writer.write(made.example)
                said.say(sidecar.records, len(sidecar.rejects))
            if not sidecar.records:
                raise _NothingToKeep
        if not sidecar.records:
            files.delete(path)  # Of an earlier attempt.
        sidecar.bytes, sidecar.sha256 = writer.bytes, writer.sha256
        text = json.dumps(dataclasses.asdict(sidecar))
        files.write_text(sidecar_path(self._output_dir, task.shard), text)
        yield task.shard

    def _rows(self, task: Task) -> Iterator[Row]:
        path = posixpath.join(self._output_dir, PROGRESS, ROWS_FILE)
        for line in files.read(path, offset=task.offset, length=task.length).splitlines():
            yield Row(*json.loads(line))

    def _make(self, row: Row) -> "_Made":
        recipe = self._spec.recipe
        try:
            data = self._source.read(row.name)
        except decoding.RejectedImage as error:
            return _Made(row, reject=error)
        try:
            picture = self._source.prepare(data, recipe)
        except decoding.RejectedImage as error:
            return _Made(row, content_digest(data), reject=error)
        example = records.example(
            {
                records.IMAGE_ENCODED: records.encode_image(picture.rgb, recipe.encoding),
                records.IMAGE_FORMAT: recipe.encoding,
                records.IMAGE_ID: row.id,
                records.IMAGE_PATIENT: row.patient,
                records.LABEL_PREFIX + self._spec.label_column: row.label,
            }
        )
        # A split by hash looks for byte-identical files when all is done, the others before.
        digest = content_digest(data) if self._spec.split.method == "hash" else ""
        return _Made(row, digest, example, picture.ungradable)


class _NothingToKeep(Exception):
    """All photographs of a shard were rejected: there is to be no file."""


@dataclasses.dataclass
class _Made:
    """What became of one photograph."""

    row: Row
    digest: str = ""
    example: bytes = b""
    ungradable: str = ""
    reject: decoding.RejectedImage | None = None


@dataclasses.dataclass
class Sidecar:
    """What a finished shard holds, as a JSON file beside it."""

    records: int = 0
    bytes: int = 0
    sha256: str = ""
    # Id and digest of the records' photographs, where the split is by hash.
    digests: list[tuple[str, str]] = dataclasses.field(default_factory=list)
    # Id, name, reason, detail and digest of photographs that gave no example.
    rejects: list[tuple[str, str, str, str, str]] = dataclasses.field(default_factory=list)
    # Id, name and reason of photographs that were flagged and kept.
    ungradable: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)

    def add(self, made: _Made) -> None:
        """Accounts for one photograph, in Beam's counters too."""
        row, error = made.row, made.reject
        if error:
            self.rejects.append((row.id, row.name, error.reason, error.detail, made.digest))
            Metrics.counter("build_examples", f"rejected/{error.reason}").inc()
            return
        self.records += 1
        if made.digest:
            self.digests.append((row.id, made.digest))
        Metrics.counter("build_examples", "written").inc()
        if made.ungradable:
            self.ungradable.append((row.id, row.name, made.ungradable))
            Metrics.counter("build_examples", f"ungradable:{made.ungradable}").inc()


def content_digest(data: bytes) -> str:
    """128 bits of a photograph's bytes: equal for byte-identical files."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_sidecar(output_dir: str, shard: str) -> Sidecar:
    """The sidecar of a finished shard."""
    return Sidecar(**json.loads(files.read(sidecar_path(output_dir, shard))))


def sidecar_path(output_dir: str, shard: str) -> str:
    """The file that says what a finished shard holds."""
    return posixpath.join(output_dir, PROGRESS, shard + _SIDECAR_SUFFIX)


def shard_of(name: str) -> str:
    """The shard that a file in PROGRESS is the sidecar of; "" for other files."""
    return name.removesuffix(_SIDECAR_SUFFIX) if name.endswith(_SIDECAR_SUFFIX) else ""


def _in_order(
    pool: concurrent.futures.Executor,
    function: Callable[[Row], _Made],
    rows: Iterable[Row],
    *,
    ahead: int,
) -> Iterator[_Made]:
    """What the function makes of every row, at most `ahead` of them begun and not yet given."""
    remaining = iter(rows)
    begun = collections.deque(pool.submit(function, row) for row in islice(remaining, ahead))
    while begun:
        made = begun.popleft().result()
        begun.extend(pool.submit(function, row) for row in islice(remaining, 1))
        yield made
