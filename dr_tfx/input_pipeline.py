"""Shards to batches: balanced, shuffled as a whole and bounded for training; in order otherwise.

What training sees at a step is a pure function of (seed, step), and of how many workers share it,
each with shards of its own. The order is a sequence of numbers (`sampling`), examples are read by
number (`shard_reader`), and nothing but the batches in flight is held in memory.
"""

import collections
import contextlib
import itertools
import math
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
import tensorflow as tf

from dr_tfx import (
    augmentation,
    batch_readers,
    heads,
    manifest,
    records,
    resources,
    sampling,
    shard_reader,
    specs,
    splits,
)

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
_UNEQUAL = 1 / 40  # Of a worker's part: how far its ends move for it to be of whole shards.


class Strata(NamedTuple):
    """The training split by label.

    Attributes:
      labels: those that occur.
      counts: examples of each.
      shares: float (epochs, labels), what part of an epoch each is; one row for all epochs alike.
    """

    labels: list[int]
    counts: list[int]
    shares: np.ndarray


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
    all of its label came once. They are mixed in the shares of `strata`. Every epoch is as long
    as the label takes that is seen slowest in the first one: with two at 1:1, two times the larger.

    Several workers share the shards, and give an equal part of every batch each, drawn like a batch
    of its own: what one sees, no other does.

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
      This worker's part of the batches, a dict: `image` uint8 (examples, size, size, 3), mirrored
      already; `target` float32 (examples, units); `weight` float32 (examples,), the factor of each
      loss; `draws` float32 (examples, augmentation.DRAWS), for `augmentation.augment`. And the
      number of batches an epoch.

    Raises:
      ValueError: a class has no training example, a label fewer than there are workers, or a shard
        is damaged.
    """
    training = experiment.training
    mixed = strata(data, experiment)
    examples = sampling.epoch_examples(mixed.counts, mixed.shares[0])
    steps = sampling.steps(examples, training.batch_size)
    part = _part(data, mixed.labels, seed=training.seed, worker=worker, workers=workers)
    reader = shard_reader.ShardReader(data_dir, part.shards, data.dataset.recipe)
    count = training.batch_size // workers
    processes, ahead = _reading(training, data.dataset.recipe, count)
    reading = batch_readers.BatchReaders(reader, batch_size=count, processes=processes)
    plans = _plans(mixed, part, experiment, shape=(steps, count), first_step=first_step)

    def asking() -> Iterator[dict[str, np.ndarray]]:
        """Asks for the pictures of one batch after the other; gives all else of it."""
        for numbers, flips, rest in plans:
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
    return result, steps


class _Part(NamedTuple):
    """What of the training split is a worker's.

    Attributes:
      seed: of its order and chance.
      shards: that it reads.
      firsts: number of its first example of each label, in the order of the shards.
      counts: its examples of each label.
    """

    seed: int
    shards: list[manifest.Shard]
    firsts: list[int]
    counts: list[int]


def _part(
    data: manifest.Manifest, labels: list[int], *, seed: int, worker: int, workers: int
) -> _Part:
    """A worker's part of every label: whole shards, unless that makes the parts unequal.

    Examples of a smaller part are seen more often. So a shard at the border of two parts is divided
    where a label has few.

    Raises:
      ValueError: there are fewer examples of a label than workers.
    """
    own = splits.stable_hash("worker", seed, worker) % 2**31 if workers > 1 else seed
    result = _Part(own, [], [], [])
    for label in labels:
        shards = [shard for shard in data.shards_of("train") if shard.label == label]
        starts = np.cumsum([0, *(shard.records for shard in shards)])
        each = starts[-1] / workers
        if each < 1:
            raise ValueError(
                f"The training split has {starts[-1]} examples of label "
                f"{data.dataset.label_names[label]!r}, which {workers} workers cannot share. "
                "Name fewer in TF_CONFIG."
            )
        borders = []
        for border in (worker * each, (worker + 1) * each):
            start = starts[np.abs(starts - border).argmin()]
            borders.append(int(start if abs(start - border) <= _UNEQUAL * each else border))
        first, last = borders
        mine = range(
            int(np.searchsorted(starts, first, "right")) - 1, int(np.searchsorted(starts, last))
        )
        before = sum(shard.records for shard in result.shards)
        result.firsts.append(before + first - int(starts[mine[0]]))
        result.counts.append(last - first)
        result.shards.extend(shards[i] for i in mine)
    return result


def _plans(
    mixed: Strata,
    part: _Part,
    experiment: specs.Experiment,
    *,
    shape: tuple[int, int],
    first_step: int,
) -> Iterator[tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]]:
    """Of each batch its examples' numbers, which of them are mirrored, and all but the pictures.

    Numbers are drawn when they are asked for: a thread that drew them ahead would take turns with
    those that read and train.

    Args:
      mixed: the training split.
      part: of it, whose shards' examples are numbered.
      experiment: what to do.
      shape: batches of an epoch, and examples of a batch.
      first_step: to begin at.
    """
    training, count = experiment.training, shape[1]
    first_block, inside = divmod(first_step, _BLOCK)
    order = sampling.numbers(
        part.counts,
        mixed.shares,
        examples=math.prod(shape),
        seed=part.seed,
        mix=training.mix,
        first=first_block * _BLOCK * count,
    )
    targets, weights = _targets_and_weights(mixed.labels, experiment)
    ends = np.cumsum(part.counts)
    skipped = np.array(part.firsts) - (ends - part.counts)
    blocks = order.batch(_BLOCK * count).as_numpy_iterator()
    for block, drawn in enumerate(blocks, first_block):
        stratum = np.searchsorted(ends, drawn, side="right").reshape(_BLOCK, count)
        numbers = drawn.reshape(_BLOCK, count) + skipped[stratum]
        chance = np.random.Generator(np.random.Philox(key=[part.seed, block]))
        draws = chance.random((_BLOCK, count, augmentation.DRAWS), np.float32)
        flips = augmentation.flips(draws, training.augmentation)
        target, weight = targets[stratum], weights[stratum]
        for i in range(inside, _BLOCK):
            rest = {"target": target[i], "weight": weight[i], "draws": draws[i]}
            yield numbers[i], flips[i], rest
        inside = 0


def _targets_and_weights(
    labels: list[int], experiment: specs.Experiment
) -> tuple[np.ndarray, np.ndarray]:
    """For each label what the model should say, float32 (labels, units), and the loss's factor."""
    task = experiment.task
    factors = experiment.training.class_weights or [1.0] * len(task.class_names)
    targets = heads.make(task).encode(tf.constant(labels, tf.int64)).numpy()
    return targets, np.array([factors[task.label_map[label]] for label in labels], np.float32)


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
    memory: float = _EVALUATION,
) -> tf.data.Dataset:
    """A whole split, in order, untouched; batches ahead take `memory` bytes at most, or are two.

    Returns:
      Batches of a dict: `image` uint8 (batch, size, size, 3), `label` int64 (batch,), `id` and
      `patient` string (batch,).
    """
    shards = data.shards_of(split)
    files = [str(data_dir / shard.name) for shard in shards]
    batches = tf.data.TFRecordDataset(files).batch(batch_size)
    # Declared, so that Keras does not take the end of the split for a mistake.
    count = sampling.steps(sum(shard.records for shard in shards), batch_size)
    batches = batches.apply(tf.data.experimental.assert_cardinality(count))
    # Half of the memory for those that are parsed, of which as many wait as are made at once.
    fit = memory / 2 // (batch_size * data.dataset.recipe.size**2 * 3)
    at_once = int(np.clip(fit, 1, _PARSED_AT_ONCE))
    parsed = batches.map(lambda batch: _parse(batch, data.dataset), at_once)
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
    head = heads.make(experiment.task)
    size = experiment.evaluation.batch_size
    memory = min(_EVALUATION, _memory_ahead(experiment.training))
    dataset = evaluation_dataset(data_dir, data, "validation", batch_size=size, memory=memory)
    return dataset.map(lambda x: (tf.cast(x["image"], tf.float32), head.encode(x["label"])))


def strata(data: manifest.Manifest, experiment: specs.Experiment) -> Strata:
    """What the training split holds of each label, and in which shares it is drawn.

    With `balance='oversample'` every class gets the same share, divided among its labels as they
    occur; with `none` every label keeps its own; `label_weights` overrules both.

    Raises:
      ValueError: a class has no training example.
    """
    training, task = experiment.training, experiment.task
    by_label = collections.Counter[int]()
    for shard in data.shards_of("train"):
        by_label[shard.label] += shard.records
    labels = sorted(by_label)
    counts = np.array([by_label[label] for label in labels])
    classes = np.array([task.label_map[label] for label in labels])
    by_class = np.bincount(classes, counts, minlength=len(task.class_names))
    if not by_class.all():
        raise ValueError(
            f"The training split has no example of class {task.class_names[by_class.argmin()]!r}; "
            "there is nothing to learn. Check labels.csv, config.task.label_map and "
            "config.dataset.split."
        )
    natural = counts / counts.sum()
    first = natural
    if training.label_weights:
        first = np.array(training.label_weights)[labels]
    elif training.balance == "oversample":
        first = counts / by_class[classes]
    shares = sampling.shares_by_epoch(first / first.sum(), natural, fade=training.anneal_epochs)
    return Strata(labels, counts.tolist(), shares)


def _parse(batch: tf.Tensor, dataset: specs.DatasetSpec) -> dict[str, tf.Tensor]:
    """A batch of serialized examples; parsing whole batches costs a fraction of one by one."""
    text = tf.io.FixedLenFeature([], tf.string)
    parsed = tf.io.parse_example(
        batch,
        {
            records.IMAGE_ENCODED: text,
            records.IMAGE_ID: text,
            records.IMAGE_PATIENT: text,
            records.LABEL_PREFIX + dataset.label_column: tf.io.FixedLenFeature([], tf.int64),
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
        "label": parsed[records.LABEL_PREFIX + dataset.label_column],
        "id": parsed[records.IMAGE_ID],
        "patient": parsed[records.IMAGE_PATIENT],
    }
