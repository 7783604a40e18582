"""The work on one shard: its photographs are read, preprocessed and written. Workers import this.

A shard's task is a name and a range of bytes in the job's list of rows, so that a pipeline of ten
million photographs is still a small message, and no image passes through a shuffle.
"""

import atexit
import base64
import collections
import concurrent.futures
import contextlib
import dataclasses
import errno
import gc
import hashlib
import json
import posixpath
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import NamedTuple

import apache_beam as beam
import cv2
import numpy as np
from apache_beam.metrics import Metrics

from beam_jobs.build_examples import lesion_masks
from dr_tfx.config import specs
from dr_tfx.dataset import records
from dr_tfx.preprocessing import decoding, mask_files, recipes
from dr_tfx.sources import folders
from dr_tfx.storage import files

PROGRESS = "_progress"
ROWS_FILE = "rows.jsonl"
LIVE_SUFFIX = ".live"  # Examples and rejects so far of an unfinished shard.
NO_SPACE_SUFFIX = ".no-space"  # An empty file: the disk was too full for the shard.
_SIDECAR_SUFFIX = ".shard.json"  # The contents of a finished shard.


class PlannedExample(NamedTuple):
    """A row of the CSV that becomes an example."""

    id: str
    name: str  # The photograph's, in its source.
    patient: str
    label: int
    before: str = ""  # The name of the slice before it, for a recipe that shows neighbours.
    after: str = ""

    @property
    def files(self) -> list[str]:
        """The names of all files that it is made of."""
        return [name for name in (self.name, self.before, self.after) if name]

    def line(self) -> str:
        """Return the row as a line of ROWS_FILE, without neighbours if there are none."""
        return json.dumps(self if self.before or self.after else self[:4]) + "\n"


class ShardTask(NamedTuple):
    """A shard to be written."""

    shard: str
    offset: int  # Bytes before its first row in ROWS_FILE.
    length: int


class WriteShard(beam.DoFn):
    """Writes one shard and then its sidecar, and yields the shard's name."""

    def __init__(
        self,
        spec: specs.DatasetSpec,
        source: folders.Source,
        output_dir: str,
        *,
        masks: mask_files.MaskFolder | None = None,
        threads: int,
    ):
        """Make a writer.

        Args:
          spec: the data set's settings.
          source: the photographs.
          output_dir: the folder of the shards, which every worker sees.
          masks: of the photographs; None if there are none.
          threads: photographs that one worker decodes at the same time.
        """
        self._spec, self._source, self._output_dir = spec, source, output_dir
        self._masks, self._threads = masks, threads

    def setup(self) -> None:
        """Leave parallelism to this job's threads, and let the process end at once."""
        cv2.setNumThreads(1)
        # The local runner waits for the end of one worker after the other.
        atexit.register(gc.freeze)

    def process(self, task: ShardTask) -> Iterator[str]:
        """Read, preprocess and write the rows of a shard, in their order.

        Dask repeats what a lost worker had finished, so a shard with a sidecar is left alone.

        Raises:
          OSError: the shard cannot be written. If the disk is full, a file whose name ends in
            NO_SPACE_SUFFIX says so to the driver, to which runners give an error as text only.
        """
        if not files.exists(sidecar_path(self._output_dir, task.shard)):
            try:
                self._write(task)
            except OSError as error:
                if error.errno in (errno.ENOSPC, errno.EDQUOT):
                    mark = posixpath.join(self._output_dir, PROGRESS, task.shard + NO_SPACE_SUFFIX)
                    with contextlib.suppress(OSError):  # The driver then gives the runner's text.
                        files.write(mark, b"")
                raise
        yield task.shard

    def _write(self, task: ShardTask) -> None:
        path = posixpath.join(self._output_dir, task.shard)
        live = posixpath.join(self._output_dir, PROGRESS, task.shard + LIVE_SUFFIX)
        lines = self._lines(task)
        sidecar = Sidecar(rows=content_digest(lines))
        with (
            contextlib.suppress(_NothingToKeep),
            files.Live(live) as said,
            concurrent.futures.ThreadPoolExecutor(self._threads) as pool,
            files.create(path) as stream,
        ):
            writer = records.RecordWriter(stream)
            rows = (PlannedExample(*json.loads(line)) for line in lines.splitlines())
            # With twice as many rows begun as threads, a slow photograph leaves no thread idle.
            for made in _in_order(pool, self._make, rows, ahead=2 * self._threads):
                sidecar.add(made)
                if made.example:
                    writer.write(made.example)
                said.say(sidecar.records, len(sidecar.rejects))
            if not sidecar.records:
                raise _NothingToKeep
        if not sidecar.records:
            files.delete(path)  # An earlier attempt may have left it.
        sidecar.bytes, sidecar.sha256 = writer.bytes, writer.sha256
        sidecar.frames = writer.frames
        text = json.dumps(dataclasses.asdict(sidecar))
        files.write_text(sidecar_path(self._output_dir, task.shard), text)

    def _lines(self, task: ShardTask) -> bytes:
        path = posixpath.join(self._output_dir, PROGRESS, ROWS_FILE)
        return files.read(path, offset=task.offset, length=task.length)

    def _make(self, row: PlannedExample) -> "_Made":
        recipe, digest = self._spec.recipe, ""
        seen = [self._source.modified(name) for name in row.files]
        beside = [row.before, row.after] if row.before or row.after else []
        neighbours = self._source.neighbours(beside, recipe)
        # A split by hash looks for byte-identical files after the build, others look before it.
        is_hashed = self._spec.split.method == "hash"
        try:
            with self._source.reading(row.name) as data:
                try:
                    picture = self._source.prepare(data, recipe, neighbours)
                    masks = self._stored_masks(row.name, picture)
                except decoding.RejectedImage:
                    digest = content_digest(data)
                    raise
                digest, size = content_digest(data) if is_hashed else "", len(data)
        except decoding.RejectedImage as error:
            return _Made(row, digest, reject=error.alone(), seen=seen)
        example = records.example(
            {
                **masks,
                records.IMAGE_ENCODED: records.encode_image(picture.rgb, recipe.encoding),
                records.IMAGE_FORMAT: recipe.encoding,
                records.IMAGE_ID: row.id,
                records.IMAGE_PATIENT: row.patient,
                records.LABEL_PREFIX + self._spec.label_column: row.label,
                records.PHOTOGRAPH_BYTES: size,
                records.PHOTOGRAPH_WIDTH: picture.sides[0],
                records.PHOTOGRAPH_HEIGHT: picture.sides[1],
            }
        )
        return _Made(
            row,
            digest,
            example,
            picture.ungradable,
            is_spread=picture.is_spread,
            pixels=records.digest(picture.rgb),
            fingerprint=picture.fingerprint,
            is_substituted=bool(picture.substituted),
            seen=seen,
        )

    def _stored_masks(self, name: str, picture: recipes.Picture) -> dict[str, bytes]:
        """Return the features of the masks of a photograph.

        Raises:
          RejectedImage: `mask`: one cannot be read, or has another shape than the photograph.
        """
        if self._masks is None:
            return {}
        size, encoding = self._spec.recipe.size, self._spec.recipe.encoding
        try:
            read = mask_files.read(lesion_masks.find(self._masks, name), like=picture.shape)
        except ValueError as error:
            raise decoding.RejectedImage("mask", str(error)) from error
        value = mask_files.UNKNOWN if self._spec.absent_masks == "unknown" else 0
        absent = np.full((size, size, 1), value, np.uint8)
        found = {
            kind: mask_files.stored(read[kind], picture.box, size) if kind in read else absent
            for kind in self._spec.masks
        }
        return {
            records.MASK_PREFIX + kind: records.encode_image(pixels, encoding)
            for kind, pixels in found.items()
        }


class _NothingToKeep(Exception):
    """All photographs of a shard were rejected, so that no file is to be made."""


@dataclasses.dataclass
class _Made:
    """The outcome of one photograph."""

    row: PlannedExample
    digest: str = ""
    example: bytes = b""
    ungradable: str = ""
    is_spread: bool = False
    reject: decoding.RejectedImage | None = None
    pixels: bytes = b""
    fingerprint: bytes = b""
    is_substituted: bool = False
    seen: Sequence[float] = ()


@dataclasses.dataclass
class Sidecar:
    """The contents of a finished shard, kept as a JSON file beside it."""

    rows: str = ""  # The digest of the lines of ROWS_FILE that the shard was made of.
    records: int = 0
    bytes: int = 0
    sha256: str = ""
    # Of each record: its bytes, and their checksum.
    frames: list[tuple[int, int]] = dataclasses.field(default_factory=list)
    # Of each record: id, patient, the digest of its pixels in hexadecimal, the fingerprint in
    # base64, and, if the split is by hash, the digest of the photograph's bytes.
    photographs: list[tuple[str, str, str, str, str]] = dataclasses.field(default_factory=list)
    # (id, name, reason, detail, digest) of each photograph that gave no example.
    rejects: list[tuple[str, str, str, str, str]] = dataclasses.field(default_factory=list)
    # (id, name, reason) of each photograph that was flagged and kept.
    ungradable: list[tuple[str, str, str]] = dataclasses.field(default_factory=list)
    spread: int = 0  # Photographs whose values were spread over all greys.
    substituted: int = 0  # Slices that stand in for a neighbour of theirs.
    # When the files of each row, one after the other, were last changed, as `Source.modified` told
    # before they were read. Times are compared with these and not with the clock, for a camera's
    # may be wrong.
    seen: list[float] = dataclasses.field(default_factory=list)

    def add(self, made: _Made) -> None:
        """Account for one photograph, in Beam's counters too."""
        row, error = made.row, made.reject
        self.seen.extend(made.seen)
        if error:
            self.rejects.append((row.id, row.name, error.reason, error.detail, made.digest))
            Metrics.counter("build_examples", f"rejected/{error.reason}").inc()
            return
        self.records += 1
        printed = base64.b64encode(made.fingerprint).decode()
        self.photographs.append((row.id, row.patient, made.pixels.hex(), printed, made.digest))
        Metrics.counter("build_examples", "written").inc()
        if made.is_spread:
            self.spread += 1
            Metrics.counter("build_examples", "spread").inc()
        if made.is_substituted:
            self.substituted += 1
            Metrics.counter("build_examples", "substituted").inc()
        if made.ungradable:
            self.ungradable.append((row.id, row.name, made.ungradable))
            Metrics.counter("build_examples", f"ungradable:{made.ungradable}").inc()


def content_digest(data: bytes) -> str:
    """Return a 128-bit hash of a photograph's bytes, in hexadecimal."""
    return hashlib.blake2b(data, digest_size=16).hexdigest()


def read_sidecar(output_dir: str, shard: str) -> Sidecar:
    """Read the sidecar of a finished shard."""
    return Sidecar(**json.loads(files.read(sidecar_path(output_dir, shard))))


def sidecar_path(output_dir: str, shard: str) -> str:
    """Return the path of the sidecar of a shard."""
    return posixpath.join(output_dir, PROGRESS, shard + _SIDECAR_SUFFIX)


def shard_of(name: str) -> str:
    """Return the shard whose sidecar has this file name; "" for other files in PROGRESS."""
    return name.removesuffix(_SIDECAR_SUFFIX) if name.endswith(_SIDECAR_SUFFIX) else ""


def _in_order(
    pool: concurrent.futures.Executor,
    function: Callable[[PlannedExample], _Made],
    rows: Iterable[PlannedExample],
    *,
    ahead: int,
) -> Iterator[_Made]:
    """Yield the function's result for every row; at most `ahead` rows are begun and not yielded."""
    remaining = iter(rows)
    begun = collections.deque(pool.submit(function, row) for row in islice(remaining, ahead))
    while begun:
        made = begun.popleft().result()
        begun.extend(pool.submit(function, row) for row in islice(remaining, 1))
        yield made
