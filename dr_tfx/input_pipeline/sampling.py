"""The order of training examples: shuffled streams, one a stratum, mixed in any proportion.

Everything is a pure function of (seed, place in the sequence), so that training can go on anywhere;
a mix by chance also depends on the global seed, which `train` derives from the same. Memory holds
no more than a block of numbers a stratum. A stratum's stream is a chain of whole shuffled passes,
each its own permutation of the whole stratum (`RandomIndexShuffle`, a block cipher, which needs
neither a buffer nor a list; a short pass is sorted). `sample_from_datasets` mixes the streams,
which are of numbers: over streams of images, the usual way, each stream would need a buffer to
shuffle in, and be shuffled only as far as that reaches.
"""

import functools
from collections.abc import Callable, Sequence

import numpy as np
import tensorflow as tf

as_it_is = tf.autograph.experimental.do_not_convert
"""Marks a data set's function, in which no branch or loop is looked for: that takes time."""

# Numbers that a stream makes at a time. A stratum of at most so many is shuffled by sorting, so
# another value is another order.
BLOCK = 4096


def numbers(
    counts: Sequence[int],
    shares: np.ndarray,
    *,
    examples: int,
    seed: int,
    mix: str,
    first: int = 0,
) -> tf.data.Dataset:
    """Return the endless sequence of examples.

    Args:
      counts: examples of each stratum. Those of the first are numbered from 0, those of the next
        follow.
      shares: float (epochs, strata), the part of an epoch that each stratum is; the last row holds
        for all later epochs.
      examples: length of an epoch.
      seed: another seed gives another sequence; where chance mixes, so does another global seed.
      mix: `random` draws each example by itself, with the shares as probabilities; with `exact` the
        shares hold by count in each epoch, and only the order is left to chance.
      first: place in the sequence to begin at; each place before it takes some 3 us.

    Returns:
      A data set of int64 numbers.
    """
    shares = shares / shares.sum(axis=1, keepdims=True)
    starts = np.cumsum([0, *counts[:-1]])
    streams = [
        _stream(start, count, seed=(seed, i))
        for i, (start, count) in enumerate(zip(starts, counts, strict=True))
    ]
    if mix == "exact":
        choices = _exact_choices(shares, examples=examples, seed=(seed, len(counts)))
        mixed = tf.data.Dataset.choose_from_datasets(streams, choices)
    elif len(shares) == 1:
        mixed = tf.data.Dataset.sample_from_datasets(streams, shares[0], seed=seed)
    else:
        choices = _random_choices(shares, examples=examples, seed=seed)
        mixed = tf.data.Dataset.choose_from_datasets(streams, choices)
    return untuned(mixed.skip(first))


def _stream(start: int, count: int, *, seed: tuple[int, int]) -> tf.data.Dataset:
    """Return the endless numbers of a stratum: a permutation of all of them a pass."""
    return _of_blocks(lambda block: start + _shuffled(block, count, seed=seed))


def _exact_choices(shares: np.ndarray, *, examples: int, seed: tuple[int, int]) -> tf.data.Dataset:
    """Return endless strata, int64, of which each epoch holds its shares by count."""
    bounds = tf.constant(np.cumsum(shares, axis=1)[:, :-1], tf.float64)

    def choose(block: tf.Tensor) -> tf.Tensor:
        # Every multiple of 1 / examples comes once an epoch, in random order.
        place = (tf.cast(_shuffled(block, examples, seed=seed), tf.float64) + 0.5) / examples
        epochs = tf.minimum(_places(block) // examples, len(shares) - 1)
        above = place[:, tf.newaxis] >= tf.gather(bounds, epochs)
        return tf.reduce_sum(tf.cast(above, tf.int64), axis=1)

    return _of_blocks(choose)


def _random_choices(shares: np.ndarray, *, examples: int, seed: int) -> tf.data.Dataset:
    """Return endless strata, int64, drawn with each epoch's own shares.

    `sample_from_datasets` takes a data set of weights too, one row a draw, at several times the
    cost.
    """
    strata = [tf.data.Dataset.from_tensors(np.int64(i)).repeat() for i in range(shares.shape[1])]
    epochs = [
        tf.data.Dataset.sample_from_datasets(strata, own, seed=seed + number)
        for number, own in enumerate(shares)
    ]
    return functools.reduce(
        tf.data.Dataset.concatenate, [epoch.take(examples) for epoch in epochs[:-1]] + epochs[-1:]
    )


def _of_blocks(numbers: Callable[[tf.Tensor], tf.Tensor]) -> tf.data.Dataset:
    """Return the numbers that a function gives for each of the endless blocks."""
    return tf.data.Dataset.range(2**62 // BLOCK).map(as_it_is(numbers)).unbatch()


def _places(block: tf.Tensor) -> tf.Tensor:
    """Return the places of a block in an endless sequence, int64 (BLOCK,)."""
    return block * BLOCK + tf.range(BLOCK, dtype=tf.int64)


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """Return the data set without tf.data's tuning.

    Tuning is dear where elements are many and small. Where they are few, its thread sleeps twice as
    long each time, up to a minute, and whoever drops an iterator may wait until it wakes: an
    evaluation of 8 seconds took 10.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _shuffled(block: tf.Tensor, count: int, *, seed: tuple[int, int]) -> tf.Tensor:
    """Return a block, int64 (BLOCK,), of an endless chain of permutations of 0 .. count - 1."""
    places = _places(block)
    first, last = places[0] // count, places[-1] // count
    if count <= BLOCK:
        # The passes are made whole, by sorting noise: the cipher permutes 65,536 numbers at least,
        # and is applied again until one is below `count`.
        whole = tf.range(first * count, (last + 1) * count)
        key = tf.constant([*seed, 0], tf.int32)
        noise = _permute(whole % 2**31, key, 2**31 - 1)
        order = tf.argsort(tf.reshape(noise, (-1, count)), axis=1)
        return tf.cast(tf.gather(tf.reshape(order, [-1]), places - first * count), tf.int64)
    # The cipher is weak where keys are alike: a pass's key is drawn from all by the cipher itself.
    passes = tf.range(first, last + 1)
    words = [_permute(passes, tf.constant([*seed, word], tf.int32), 2**31 - 1) for word in range(3)]
    keys = tf.gather(tf.cast(tf.stack(words, 1), tf.int32), places // count - first)
    return _permute(places % count, keys, count - 1)


def _permute(index: tf.Tensor, key: tf.Tensor, last: int) -> tf.Tensor:
    """Return where a permutation of 0 .. last puts int64 indices (n,); a key is (3,), or (n, 3)."""
    # The public function over this adds a word to the key, which fails for more than one key. And
    # its 4 rounds are too few: of 60,000 numbers, neighbours and whole passes are correlated.
    return tf.raw_ops.RandomIndexShuffle(
        index=index, seed=key, max_index=tf.constant(last, tf.int64), rounds=16
    )
