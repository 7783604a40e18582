"""Shards to batches: balanced, shuffled as a whole and bounded for training; in order otherwise.

What training sees at a step is a pure function of (seed, step), and of how many workers share it,
each with shards of its own. The order is a sequence of numbers (`sampling`), examples are read by
number (`shard_reader`), and nothing but the batches in flight is held in memory.
"""

import collections
import contextlib
import itertools
import math
from collections.abc import Generator, Iterator, Mapping
from pathlib import Path

import numpy as np
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest, records
from dr_tfx.input_pipeline import augmentation, batch_readers, sampling, shard_reader, strata
from dr_tfx.machine import resources

_MOST_READERS = 8  # Processes that read, a batch each.
# Batches that are drawn at a time: numbers, chance and targets, but no pictures. Another value is
# other chance for every run.
_BLOCK = 16
_SHARE = 1 / 20  # Of the memory that a run may use: for batches ahead.
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
) -> tuple[Generator[dict[str, np.ndarray], None, None], int]:
    """Endless training batches from `first_step` on, counted over all epochs.

    There is one stream per label, a chain of whole shuffled passes: no example comes twice before
    all of its label came once. They are mixed in the shares of `strata.of_worker`.

    Several workers share the shards, and each gives an equal part of every batch, drawn like a
    batch of its own: what one sees, no other does. A pass is one over the worker's part of a label.

    The next batches are read by processes of our own while one is used (`batch_readers`), the first
    ones from this call on; `close` ends them.

    Args:
      data_dir: where the shards are.
      data: their manifest.
      experiment: what to do.
      first_step: step to begin at.
      worker: which of the workers this is, from 0 on.
      workers: how many there are; the batch size is a multiple of it.

    Returns:
      This worker's part of the batches, each a dict: `image` uint8 (examples, size, size, 3),
      mirrored already; the features of the records that the task's targets are made of, by name;
      and `draws` float32 (examples, augmentation.DRAWS), for `augmentation.augment`. And the number
      of batches an epoch.

    Raises:
      ValueError: a class has no training example, a label fewer than there are workers, or a shard
        is damaged.
    """
    training = experiment.training
    mixed = strata.of_worker(data, experiment, worker=worker, workers=workers)
    reader = shard_reader.ShardReader(data_dir, mixed.shards, data.dataset.recipe)
    processes, ahead = _reading(training, data.dataset.recipe, mixed.batch)
    reading = batch_readers.BatchReaders(reader, batch_size=mixed.batch, processes=processes)

    def asking() -> Iterator[dict[str, np.ndarray]]:
        """Asks for the pictures of one batch after the other; gives all else of it."""
        for numbers, flips, rest in _plans(mixed, experiment, first_step):
            reading.ask(numbers, flips)
            yield rest

    def batches() -> Generator[dict[str, np.ndarray], None, None]:
        with contextlib.closing(reading):
            coming = asking()
            asked = collections.deque(itertools.islice(coming, ahead + 1))
            yield {}  # To nobody: from here on, `close` ends the processes.
            while True:
                yield {"image": reading.take(), **asked.popleft()}
                asked.append(next(coming))

    result = batches()
    next(result)
    return result, mixed.steps


def _plans(
    mixed: strata.Strata, experiment: specs.Experiment, first_step: int
) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
    """Of each batch its examples' numbers, which of them are mirrored, and all but the pictures.

    Numbers are drawn when they are asked for: a thread that drew them ahead would take turns with
    those that read and train.
    """
    training, shape = experiment.training, (_BLOCK, mixed.batch)
    first_block, inside = divmod(first_step, _BLOCK)
    order = sampling.numbers(
        mixed.counts,
        mixed.shares,
        examples=mixed.steps * mixed.batch,
        seed=mixed.seed,
        mix=training.mix,
        first=first_block * math.prod(shape),
    )
    (label,) = tasks.of(experiment).data.features
    labels = np.array(mixed.labels, np.int64)
    ends = np.cumsum(mixed.counts)
    passed = np.array(mixed.firsts) - (ends - mixed.counts)  # Others' examples before one's own.
    for block, drawn in enumerate(order.batch(math.prod(shape)).as_numpy_iterator(), first_block):
        stratum = np.searchsorted(ends, drawn.reshape(shape), side="right")
        numbers = drawn.reshape(shape) + passed[stratum]
        chance = np.random.Generator(np.random.Philox(key=[mixed.seed, block]))
        draws = chance.random((*shape, augmentation.DRAWS), np.float32)
        flips = augmentation.flips(draws, training.augmentation)
        for i in range(inside, _BLOCK):
            rest = {label: labels[stratum[i]], "draws": draws[i]}
            yield numbers[i], flips[i], rest
        inside = 0


def _reading(training: specs.Training, recipe: specs.Recipe, examples: int) -> tuple[int, int]:
    """How many processes read, and how many batches ahead, in a share of the run's memory."""
    # Raw pictures are copied, as fast as memory is; to decode a PNG file takes a core milliseconds.
    cores = resources.cores() // (2 if recipe.encoding == "raw" else 1)
    processes = max(1, min(_MOST_READERS, cores))
    batch = examples * recipe.size**2 * 3
    wanted = max(processes + 3, min(_MOST_SMALL, _SMALL // batch))
    ahead = max(1, int(min(wanted, _memory_ahead(training) // batch)))
    return min(processes, ahead), ahead


def _memory_ahead(training: specs.Training) -> float:
    """Bytes that batches ahead may take."""
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
    """A whole split, in order, untouched; batches ahead take `memory` bytes at most, or are two.

    Returns:
      Batches of a dict: `image` uint8 (batch, size, size, 3), `id` and `patient` string (batch,),
      and each of the features of the records by its name.
    """
    shards = data.shards_of(split)
    files = [str(data_dir / shard.name) for shard in shards]
    batches = tf.data.TFRecordDataset(files).batch(batch_size)
    # Declared, so that Keras does not take the end of the split for a mistake.
    count = math.ceil(sum(shard.records for shard in shards) / batch_size)
    batches = batches.apply(tf.data.experimental.assert_cardinality(count))
    # Half of the memory for those that are parsed, of which as many wait as are made at once.
    fit = memory / 2 // (batch_size * data.dataset.recipe.size**2 * 3)
    at_once = int(np.clip(fit, 1, _PARSED_AT_ONCE))
    parsed = batches.map(lambda batch: _parse(batch, data.dataset, features), at_once)
    options = tf.data.Options()
    options.autotune.ram_budget = int(memory / 2)  # A prefetch keeps to it untuned, too.
    return sampling.untuned(parsed.prefetch(tf.data.AUTOTUNE).with_options(options))


@contextlib.contextmanager
def damage_named(data_dir: Path) -> Iterator[None]:
    """Turns TensorFlow's complaint of a damaged shard into an error that says what to do.

    Raises:
      ValueError: a record's checksum is wrong, or a shard ends early.
    """
    try:
        yield
    except tf.errors.DataLossError as error:
        raise ValueError(
            f"A shard in {data_dir} is damaged or was changed after the build: {error.message}. "
            "Build the data set again with drtfx-build-examples --overwrite."
        ) from error


def validation_dataset(
    data_dir: Path, data: manifest.Manifest, experiment: specs.Experiment
) -> tf.data.Dataset:
    """The validation split as (pixels, targets) batches for Keras."""
    task = tasks.of(experiment)
    size = experiment.evaluation.batch_size
    memory = min(_EVALUATION, _memory_ahead(experiment.training))
    dataset = evaluation_dataset(
        data_dir,
        data,
        "validation",
        batch_size=size,
        features=task.data.features,
        memory=memory,
    )
    encode = task.model.encode
    return dataset.map(lambda x: (tf.cast(x["image"], tf.float32), encode(x)[0]))


def _parse(
    batch: tf.Tensor, dataset: specs.DatasetSpec, features: Mapping[str, records.Feature]
) -> dict[str, tf.Tensor]:
    """A batch of serialized examples; parsing whole batches costs a fraction of one by one."""
    text = tf.io.FixedLenFeature([], tf.string)
    parsed = tf.io.parse_example(
        batch,
        {
            records.IMAGE_ENCODED: text,
            records.IMAGE_ID: text,
            records.IMAGE_PATIENT: text,
            **{name: tf.io.FixedLenFeature([], f.dtype) for name, f in features.items()},
        },
    )
    size = dataset.recipe.size
    encoded = parsed[records.IMAGE_ENCODED]
    if dataset.recipe.encoding == "raw":
        images = tf.reshape(tf.io.decode_raw(encoded, tf.uint8), (-1, size, size, 3))
    else:
        images = tf.map_fn(
            lambda data: tf.ensure_shape(tf.io.decode_png(data, channels=3), (size, size, 3)),
            encoded,
            fn_output_signature=tf.uint8,
        )
    return {
        "image": images,
        "id": parsed[records.IMAGE_ID],
        "patient": parsed[records.IMAGE_PATIENT],
        **{name: parsed[name] for name in features},
    }
