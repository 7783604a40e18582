"""Shards to batches of training: balanced, shuffled as a whole, and bounded in memory.

What training sees at a step is a pure function of (seed, step), and of how many workers share it,
each with shards of its own. The order is a sequence of numbers (`sampling`), examples are read by
number (`shard_reader`), and nothing but the batches in flight is held in memory.
"""

import collections
import contextlib
import dataclasses
import itertools
import math
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import numpy as np

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest, patches, records
from dr_tfx.input_pipeline import (
    augmentation,
    batch_readers,
    kept_order,
    mixing,
    shard_reader,
    strata,
)
from dr_tfx.machine import resources
from dr_tfx.tasks.kind import VIEW_OF

_MOST_READERS = 8  # Processes that read, a batch each.
# Batches whose numbers and draws are made at a time. Another value is other chance for every run.
_BLOCK = 16
_SHARE = 1 / 20  # The share of the memory that a run may use, for batches ahead.
# Small batches are used as fast as they are read: the more wait, the less does one side wait for
# the other while a block is drawn or the system gives a core away.
_SMALL = 24e6  # Bytes of small batches that are read ahead,
_MOST_SMALL = 12  # and how many at most.


def train_batches(
    data_dir: Path,
    data: manifest.Manifest,
    experiment: specs.Experiment,
    *,
    first_step: int = 0,
    worker: int = 0,
    workers: int = 1,
    kept_in: Path | None = None,
) -> tuple[Generator[dict[str, np.ndarray], None, None], int]:
    """Return endless training batches from `first_step` on, counted over all epochs.

    There is one stream per label, a chain of whole shuffled passes: no example comes twice before
    all of its label came once. They are mixed in the shares of `strata.of_training`.

    Several workers share the shards, and each gives an equal part of every batch, drawn like a
    batch of its own: what one sees, no other does. A pass is one over the worker's part of a label.

    The next batches are read by processes of our own while one is used (`batch_readers`), the first
    ones from this call on; `close` ends them.

    Args:
      data_dir: folder of the shards.
      data: their manifest.
      experiment: the settings of the run.
      first_step: step to begin at.
      worker: which of the workers this is, from 0 on.
      workers: how many there are; the batch size is a multiple of it.
      kept_in: a folder of this worker alone for places in its order, which later calls take up.

    Returns:
      This worker's part of the batches, and the number of batches an epoch. A batch is a dict of
      arrays by name: `image` uint8 (examples, size, size, 3); the features of the records that the
      task's targets are made of, masks uint8 (examples, size, size, 1) and numbers (examples,); and
      `draws` float32 (examples, augmentation.DRAWS), for `augmentation.augment`. Images and masks
      are mirrored already, and images compressed and mixed; see `mixing.targets`. Of tasks that
      learn from patches, they are as large as these.

    Raises:
      ValueError: a class has no training example, a label fewer than there are workers, or a shard
        is damaged or lacks a feature.
    """
    mixed = strata.of_training(data, experiment)
    part = strata.part_of(mixed, experiment, worker=worker, workers=workers)
    side = tasks.of(experiment).data
    schema = dataclasses.replace(schema_of(data, side.features), patches=side.patches)
    reader = shard_reader.ShardReader(data_dir, part.shards, schema)
    processes, ahead = _reading(experiment.training, schema, part.batch_size)
    readers = batch_readers.BatchReaders(reader, batch_size=part.batch_size, processes=processes)
    plans = _plans(mixed, part, experiment, first_step, kept_in)
    batches = _read_ahead(readers, plans, ahead, experiment)
    next(batches)
    return batches, mixed.steps(experiment.training.batch_size)


def schema_of(data: manifest.Manifest, features: Mapping[str, records.Feature]) -> records.Schema:
    """Return what to read of the records of a data set: the image and these features.

    Its label is one of those that have a name.
    """
    recipe, label = data.dataset.recipe, records.LABEL_PREFIX + data.dataset.label_column
    found = dict(features)
    if label in found:
        found[label] = dataclasses.replace(found[label], values=len(data.dataset.label_names))
    return records.Schema(recipe.size, recipe.encoding, found)


# Numbers, flips, draws and those for the patches of a batch.
_Plan = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]


def _read_ahead(
    readers: batch_readers.BatchReaders,
    plans: Iterator[_Plan],
    ahead: int,
    experiment: specs.Experiment,
) -> Generator[dict[str, np.ndarray], None, None]:
    """Yield an empty dict once the first batches are asked for, then the planned batches."""
    spec, views = experiment.training.augmentation, tasks.of(experiment).data.views

    def asked() -> Iterator[np.ndarray]:
        """Ask for one batch after the other; yield its draws."""
        for numbers, flips, draws, of_patches in plans:
            qualities = augmentation.qualities(draws, spec)
            readers.ask(numbers, flips, of_patches, qualities)
            yield draws

    with contextlib.closing(readers):
        coming = asked()
        waiting = collections.deque(itertools.islice(coming, ahead + 1))
        yield {}  # It is taken by `train_batches`: `close` ends what has begun, and no sooner.
        while True:
            batch, draws = readers.take(), waiting.popleft()
            if spec.mixup or spec.cutmix:
                batch = mixing.mix(batch, draws[:, 15:17], spec)
            if views > 1:
                batch = {**batch, VIEW_OF: np.arange(len(draws), dtype=np.int32) // views}
            yield {**batch, "draws": draws}
            waiting.append(next(coming))


def _plans(
    mixed: strata.Strata,
    part: strata.WorkerPart,
    experiment: specs.Experiment,
    first_step: int,
    kept_in: Path | None,
) -> Iterator[_Plan]:
    """Yield of every batch the numbers of its examples, which are mirrored, and their chance.

    Numbers are drawn when they are asked for: a thread that drew them ahead would take turns with
    those that read and train.
    """
    training, views = experiment.training, tasks.of(experiment).data.views
    drawn_at_once, shape = part.batch_size // views, (_BLOCK, part.batch_size)
    first_block, inside = divmod(first_step, _BLOCK)
    order = kept_order.Order(
        part.counts,
        mixed.shares,
        examples=mixed.steps(training.batch_size) * drawn_at_once,
        seed=part.seed,
        mix=training.mix,
        length=_BLOCK * drawn_at_once,
    )
    kept = kept_order.kept_in(kept_in, math.ceil(training.checkpoint_steps / _BLOCK))
    ends = np.cumsum(part.counts)
    passed = np.array(part.firsts) - (ends - part.counts)  # Others' examples before one's own.
    blocks = kept_order.blocks(order, first=first_block, kept=kept)
    for block, drawn in enumerate(blocks, first_block):
        stratum = np.searchsorted(ends, drawn, side="right")
        numbers = np.repeat(drawn + passed[stratum], views).reshape(shape)
        chance = np.random.Generator(np.random.Philox(key=[part.seed, block]))
        draws = chance.random((*shape, augmentation.EARLIER), np.float32)
        of_patches = chance.random((*shape, patches.DRAWS), np.float32)
        later = augmentation.DRAWS - augmentation.EARLIER
        draws = np.concatenate([draws, chance.random((*shape, later), np.float32)], axis=-1)
        flips = augmentation.flips(draws, training.augmentation)
        for i in range(inside, _BLOCK):
            yield numbers[i], flips[i], draws[i], of_patches[i]
        inside = 0


def _reading(training: specs.Training, schema: records.Schema, examples: int) -> tuple[int, int]:
    """Return how many processes read, and how many batches ahead, in a share of the run's memory.

    Args:
      training: the settings of the run.
      schema: what is read of every record.
      examples: examples of a batch.
    """
    # Raw images are copied, as fast as memory is; to decode a PNG file takes a core milliseconds.
    cores = resources.cores() // (2 if schema.encoding == "raw" else 1)
    processes = max(1, min(_MOST_READERS, cores))
    batch = examples * schema.pixel_bytes
    wanted = max(processes + 3, min(_MOST_SMALL, _SMALL // batch))
    ahead = max(1, int(min(wanted, memory_ahead(training) // batch)))
    return min(processes, ahead), ahead


def memory_ahead(training: specs.Training) -> float:
    """Return the bytes that batches ahead may take."""
    return training.max_memory_gb * 1e9 * _SHARE
