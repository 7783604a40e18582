"""A split from its first example to its last, as judging needs it: in order and untouched.

Whole records are read anew in every pass, and each one's checksum is compared, by threads that are
a few batches ahead. Of a data set in an object store the split is fetched as a whole first.
"""

import collections
import dataclasses
import itertools
from collections.abc import Iterator, Mapping
from concurrent import futures
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest, patches, records
from dr_tfx.input_pipeline import loader, shard_check
from dr_tfx.machine import resources
from dr_tfx.tasks.kind import Kind

_MEMORY = 256e6  # Bytes of batches that are ahead, at most,
_MOST_AHEAD = 8  # and their number.
_THREADS = 4  # They wait for the disk, or decode PNG files; the model needs the cores, too.


class Batches:
    """A whole split in batches. Every pass over it reads the shards anew.

    A batch is a dict of arrays: `image`, uint8 RGB (batch, size, size, 3); each of the features by
    its name, masks uint8 (batch, size, size, 1) and numbers (batch,); and each of the texts by its
    key, a list of so many words. The last batch may be smaller.

    Args:
      data_dir: folder of the shards.
      data: their manifest.
      split: which of its splits.
      batch_size: examples of a batch.
      features: what is read besides the image.
      texts: IMAGE_ID or IMAGE_PATIENT of `records`, read besides.
      memory: bytes that batches ahead may take; there is one at least.

    Raises:
      ValueError: the data set has no such split, or a shard has other records than the manifest
        says; and in a pass, a record is damaged or lacks a feature. The message names the file.
      OSError: a shard is missing or cannot be read, now or in a pass.
    """

    def __init__(
        self,
        data_dir: Path,
        data: manifest.Manifest,
        split: str,
        *,
        batch_size: int,
        features: Mapping[str, records.Feature],
        texts: tuple[str, ...] = (),
        memory: float = _MEMORY,
    ) -> None:
        shards = data.shards_of(split)
        self._schema, self._texts = loader.schema_of(data, features), texts
        self._paths = [data_dir / shard.name for shard in shards]
        self._places = shard_check.places(data_dir, shards)
        self._ends = np.cumsum([shard.records for shard in shards])
        self._batch_size = batch_size
        fit = int(memory // (batch_size * self._schema.pixel_bytes))
        self._ahead = max(1, min(fit, _MOST_AHEAD))

    def __len__(self) -> int:
        """The number of batches."""
        return -(-self.examples // self._batch_size)

    @property
    def examples(self) -> int:
        """The number of examples of the split."""
        return int(self._ends[-1])

    def __iter__(self) -> Iterator[dict[str, Any]]:
        threads = min(self._ahead, _THREADS, resources.cores())
        pool = futures.ThreadPoolExecutor(threads, "in order")
        coming = (pool.submit(self._read, number) for number in range(len(self)))
        waiting = collections.deque(itertools.islice(coming, self._ahead))
        try:
            while waiting:
                batch = waiting.popleft().result()
                waiting.extend(itertools.islice(coming, 1))
                yield batch
        finally:
            pool.shutdown(cancel_futures=True)

    def _read(self, number: int) -> dict[str, Any]:
        """Return a batch."""
        first = number * self._batch_size
        numbers = np.arange(first, min(first + self._batch_size, self.examples))
        shapes = self._schema.shapes(len(numbers))
        batch: dict[str, Any] = {name: np.empty(*shape) for name, shape in shapes.items()}
        batch |= {key: [] for key in self._texts}
        shards = np.searchsorted(self._ends, numbers, side="right")
        for shard in np.unique(shards).tolist():
            path, rows = self._paths[shard], np.flatnonzero(shards == shard)
            before = int(self._ends[shard - 1]) if shard else 0
            with path.open("rb") as stream:
                for row in rows.tolist():
                    place = int(self._places[shard][numbers[row] - before])
                    self._fill(batch, row, path, stream.fileno(), place)
        return batch

    def _fill(self, batch: dict[str, Any], row: int, path: Path, file: int, place: int) -> None:
        """Read the record at a place of a file into a row of a batch."""
        schema = self._schema
        _, example, pictures = shard_check.read_record(
            path, file, place, schema=schema, texts=self._texts
        )
        for name, value in pictures.items():
            batch[name][row] = value
        for name in schema.numbers:
            batch[name][row] = example[name]
        for key in self._texts:
            batch[key].append(records.text_of(example, key))


@dataclasses.dataclass(frozen=True)
class Targets:
    """The validation split as batches of what the model sees and of what it should say.

    A batch is float32 pixels 0..255 and the targets of the task. Where training sees patches, these
    are patches side by side that cover each picture once.

    Attributes:
      batches: of the split.
      kind: the kind of task, which makes the targets.
      patches: the most patches of a batch, where training sees patches.
    """

    batches: Batches
    kind: Kind
    patches: int

    def __iter__(self) -> Iterator[tuple[tf.Tensor, tf.Tensor]]:
        for batch in self.batches:
            for part in self._parts(batch):
                arrays = {name: tf.constant(value) for name, value in part.items()}
                targets, _ = self.kind.model.encode(arrays)
                yield tf.cast(arrays[records.IMAGE], tf.float32), targets

    def _parts(self, batch: Mapping[str, np.ndarray]) -> Iterator[Mapping[str, np.ndarray]]:
        """Yield a batch of pictures as a whole, or in batches of patches."""
        spec = self.kind.data.patches
        if not spec:
            yield batch
            return
        cut = _in_patches(batch, spec)
        for first in range(0, len(cut[records.IMAGE]), self.patches):
            yield {name: value[first : first + self.patches] for name, value in cut.items()}


def validation(data_dir: Path, data: manifest.Manifest, experiment: specs.Experiment) -> Targets:
    """Return the validation split of a data set for the training of an experiment.

    Raises:
      ValueError, OSError: see `Batches`.
    """
    kind, training = tasks.of(experiment), experiment.training
    batches = Batches(
        data_dir,
        data,
        "validation",
        batch_size=experiment.evaluation.batch_size,
        features=kind.data.features,
        memory=min(_MEMORY, loader.memory_ahead(training)),
    )
    return Targets(batches, kind, training.batch_size)


def _in_patches(batch: Mapping[str, np.ndarray], spec: patches.Patches) -> dict[str, np.ndarray]:
    """Return the images and masks of a batch cut into patches, picture by picture, row by row.

    Args:
      batch: as `Batches` gives it.
      spec: height and width of a patch, which the pictures' are multiples of.
    """
    found, side = {}, spec.side
    for name in filter(records.has_geometry, batch):
        _, size, _, channels = batch[name].shape
        rows = batch[name].reshape(-1, size // side, side, size // side, side, channels)
        found[name] = rows.swapaxes(2, 3).reshape(-1, side, side, channels)
    return found
