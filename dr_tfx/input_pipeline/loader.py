"""Shards to batches: balanced, shuffled as a whole and bounded for training; in order otherwise.

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
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest, patches, records
from dr_tfx.input_pipeline import (
    augmentation,
    batch_readers,
    kept_order,
    mixing,
    parsing,
    sampling,
    shard_check,
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
_EVALUATION = 256e6  # Bytes that an evaluation has ahead, at most,
_PARSED_AT_ONCE = 2  # and batches of it that are parsed at once.


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
    batch = examples * _pixel_bytes(schema)
    wanted = max(processes + 3, min(_MOST_SMALL, _SMALL // batch))
    ahead = max(1, int(min(wanted, _memory_ahead(training) // batch)))
    return min(processes, ahead), ahead


def _pixel_bytes(schema: records.Schema) -> int:
    """Return the bytes of the image and the masks of an example, or of a patch of it."""
    return schema.side**2 * sum(schema.channels.values())


def _memory_ahead(training: specs.Training) -> float:
    """Return the bytes that batches ahead may take."""
    return training.max_memory_gb * 1e9 * _SHARE


def evaluation_dataset(
    data_dir: Path,
    data: manifest.Manifest,
    split: str,
    *,
    batch_size: int,
    features: Mapping[str, records.Feature],
    memory: float = _EVALUATION,
) -> tf.data.Dataset:
    """Return a whole split, in order and untouched.

    Args:
      data_dir: folder of the shards.
      data: their manifest.
      split: which of its splits.
      batch_size: examples of a batch; the last one may be smaller.
      features: what is read besides the image.
      memory: bytes that batches ahead may take; they are two at least.

    Returns:
      Batches of a dict: `image` uint8 (batch, size, size, 3), `id` and `patient` string (batch,),
      and each of the features by its name, masks uint8 (batch, size, size, 1) and numbers (batch,).

    Raises:
      ValueError: the data set has no such split, or a shard has other records than the manifest
        says. Damage that is met later is TensorFlow's error; see `damage_named`.
    """
    shards, schema = data.shards_of(split), schema_of(data, features)
    shard_check.check(data_dir, shards)
    files = [str(data_dir / shard.name) for shard in shards]
    batches = tf.data.TFRecordDataset(files).batch(batch_size)
    # The count is declared, so that Keras does not take the end of the split for a mistake.
    count = math.ceil(sum(shard.records for shard in shards) / batch_size)
    batches = batches.apply(tf.data.experimental.assert_cardinality(count))
    # Half of the memory is for those that are parsed, of which as many wait as are made at once.
    fit = memory / 2 // (batch_size * _pixel_bytes(schema))
    at_once = int(np.clip(fit, 1, _PARSED_AT_ONCE))
    # As it is: to look for branches and loops in it takes half a second at every start.
    parse = tf.autograph.experimental.do_not_convert(lambda batch: _parse(batch, schema))
    parsed = batches.map(parse, at_once)
    options = tf.data.Options()
    options.autotune.ram_budget = int(memory / 2)  # A prefetch keeps to it untuned, too.
    return sampling.untuned(parsed.prefetch(tf.data.AUTOTUNE).with_options(options))


def _parse(batch: tf.Tensor, schema: records.Schema) -> dict[str, tf.Tensor]:
    """Return a batch of serialized examples as `evaluation_dataset` has it."""
    parsed = parsing.parse(batch, schema, _TEXTS)
    names = dict(zip(("id", "patient"), _TEXTS, strict=True))
    return {**{short: parsed.pop(key) for short, key in names.items()}, **parsed}


_TEXTS = (records.IMAGE_ID, records.IMAGE_PATIENT)
_OF_DATA = (  # What TensorFlow raises where a file or a record is not what it has to be.
    *(records.DamagedRecord, UnicodeDecodeError),  # Its own message has bytes of the record.
    *(tf.errors.DataLossError, tf.errors.FailedPreconditionError),
    *(tf.errors.InvalidArgumentError, tf.errors.NotFoundError, tf.errors.OutOfRangeError),
    *(tf.errors.PermissionDeniedError, tf.errors.UnknownError),
)


@contextlib.contextmanager
def damage_named(
    data_dir: Path,
    data: manifest.Manifest,
    split: str,
    features: Mapping[str, records.Feature],
) -> Iterator[None]:
    """Turn an error about what `evaluation_dataset` reads into one that names file and record.

    The arguments are those of `evaluation_dataset`. After an error that may be one, the split is
    read once more.

    Raises:
      ValueError: a shard or a record is damaged.
      OSError: a shard is missing, or cannot be read.
    """
    try:
        yield
    except _OF_DATA as error:
        schema = schema_of(data, features)

        def parse(serialized: bytes) -> None:
            try:
                _parse(tf.constant([serialized]), schema)
            except _OF_DATA as refused:
                raise records.DamagedRecord("is none that TensorFlow can decode") from refused

        try:
            shard_check.find_damage(
                data_dir, data.shards_of(split), schema, texts=_TEXTS, parse=parse
            )
        except (ValueError, OSError) as found:
            raise found from error
        raise


def validation_dataset(
    data_dir: Path, data: manifest.Manifest, experiment: specs.Experiment
) -> tf.data.Dataset:
    """Return the validation split as (float32 pixels 0..255, targets) batches for Keras.

    Where training sees patches, these are patches side by side that cover each picture once.
    """
    task = tasks.of(experiment)
    dataset = evaluation_dataset(
        data_dir,
        data,
        "validation",
        batch_size=experiment.evaluation.batch_size,
        features=task.data.features,
        memory=min(_EVALUATION, _memory_ahead(experiment.training)),
    )
    encode = task.model.encode
    if spec := task.data.patches:
        dataset = dataset.map(lambda batch: _in_patches(batch, spec.side)).unbatch()
        dataset = dataset.batch(experiment.training.batch_size)
    return dataset.map(lambda x: (tf.cast(x["image"], tf.float32), encode(x)[0]))


def _in_patches(batch: Mapping[str, tf.Tensor], side: int) -> dict[str, tf.Tensor]:
    """Return the images and masks of a batch cut into patches, picture by picture, row by row.

    Args:
      batch: as `evaluation_dataset` gives it.
      side: height and width of a patch, which the pictures' are multiples of.
    """
    found = {}
    for name in filter(records.has_geometry, batch):
        size, channels = batch[name].shape[1], batch[name].shape[3]
        rows = tf.reshape(batch[name], [-1, size // side, side, size // side, side, channels])
        found[name] = tf.reshape(tf.transpose(rows, [0, 1, 3, 2, 4, 5]), [-1, side, side, channels])
    return found
