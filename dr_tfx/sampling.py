"""Which example comes when: shuffled streams, one a stratum, mixed in any proportion.

Everything is a pure function of (seed, place in the sequence), so that training can go on anywhere,
and nothing is held but a block of numbers. A stratum's stream is a chain of whole shuffled passes,
each its own permutation of the whole stratum (`RandomIndexShuffle`, a block cipher: no buffer, no
list; a short pass is sorted).

With `mix='random'` the streams are mixed as `sample_from_datasets` mixes data sets, each draw by
itself, but in blocks: that one draws 50,000 choices a second, on a core that reads 140,000 pictures
of 96 pixels in that time.
"""

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf

# Numbers that are drawn at a time. A stratum of at most so many is shuffled by sorting. Another
# value is another order for every run.
BLOCK = 4096
_PLACES = np.arange(BLOCK)  # In a block.


def epoch_examples(counts: Sequence[int], shares: Sequence[float]) -> int:
    """Length of an epoch: as long as the stratum takes that is seen slowest for its size.

    With two classes at 1:1 that is two times the larger one; with natural shares, all examples.
    """
    return round(max(count / share for count, share in zip(counts, shares, strict=True)))


def numbers(
    counts: Sequence[int],
    shares: np.ndarray,
    *,
    examples: int,
    seed: int,
    mix: str,
    first: int = 0,
) -> tf.data.Dataset:
    """The endless sequence of examples.

    Args:
      counts: examples of each stratum. Those of the first are numbered from 0, and so on.
      shares: float (epochs, strata), what part of an epoch each stratum is; the last row holds for
        all later epochs.
      examples: length of an epoch.
      seed: another seed, another sequence.
      mix: `random`: each draw by itself, with the shares as probabilities; `exact`: the shares hold
        by count in each epoch, and only the order is left to chance.
      first: place in the sequence to begin at.

    Returns:
      Blocks of it: int64 (n,), n at most BLOCK.
    """
    strata, starts = len(counts), np.cumsum([0, *counts[:-1]])
    bounds = np.cumsum(shares / shares.sum(axis=1, keepdims=True), axis=1)[:, :-1]
    begin, inside = divmod(first, BLOCK)

    def choose(block: tf.Tensor) -> tf.Tensor:
        """The stratum, int32 (BLOCK,), at every place of a block."""
        start, own_seed = block * BLOCK, (seed, strata)
        if mix == "exact":
            # Every multiple of 1 / examples once an epoch, in random order.
            place = tf.cast(_shuffled(start, BLOCK, count=examples, seed=own_seed), tf.float64)
            chance = (place + 0.5) / examples
        else:
            key = tf.random.experimental.stateless_fold_in(tf.constant(own_seed, tf.int32), block)
            chance = tf.random.stateless_uniform([BLOCK], key, dtype=tf.float64)
        epochs = tf.minimum((start + _PLACES) // examples, len(shares) - 1)
        above = chance[:, tf.newaxis] >= tf.gather(tf.constant(bounds, tf.float64), epochs)
        return tf.reduce_sum(tf.cast(above, tf.int32), axis=1)

    def use(used: tf.Tensor, chosen: tf.Tensor) -> tf.Tensor:
        """How many of each stratum, int64 (strata,), were used after a block."""
        return used + tf.math.bincount(chosen, minlength=strata, dtype=tf.int64)

    def fill(used: tf.Tensor, block: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        chosen = choose(block)
        places = tf.dynamic_partition(tf.range(BLOCK), chosen, strata)
        drawn = [
            starts[i] + _shuffled(used[i], tf.size(places[i]), count=count, seed=(seed, i))
            for i, count in enumerate(counts)
        ]
        skipped = tf.where(block == begin, inside, 0)
        return use(used, chosen), tf.dynamic_stitch(places, drawn)[skipped:]

    before = untuned(tf.data.Dataset.range(begin).map(choose))
    used = before.reduce(tf.zeros([strata], tf.int64), use)
    return untuned(tf.data.Dataset.range(begin, 2**62 // BLOCK).scan(used, fill))


def untuned(dataset: tf.data.Dataset) -> tf.data.Dataset:
    """The data set without tf.data's tuning, which is dear where elements are many and small.

    And where they are few: its thread sleeps twice as long each time, up to a minute, and whoever
    drops an iterator may wait until it wakes. An evaluation of 8 seconds took 10.
    """
    options = tf.data.Options()
    options.autotune.enabled = False
    return dataset.with_options(options)


def _shuffled(
    start: tf.Tensor, length: tf.Tensor | int, *, count: int, seed: tuple[int, int]
) -> tf.Tensor:
    """A piece, int64 (length,), of an endless chain of permutations of 0 .. count - 1."""
    length = tf.cast(length, tf.int64)
    positions = start + tf.range(tf.maximum(length, 1))  # The cipher refuses none at all.
    first, last = positions[0] // count, positions[-1] // count
    if count <= BLOCK:
        # The passes are made whole, by sorting noise: the cipher permutes 65,536 numbers at least,
        # and is applied again until one is below `count`.
        whole = tf.range(first * count, (last + 1) * count)
        key = tf.constant([*seed, 0], tf.int32)
        noise = _permute(whole % 2**31, key, 2**31 - 1, rounds=16)
        order = tf.argsort(tf.reshape(noise, (-1, count)), axis=1)
        numbers = tf.gather(tf.reshape(order, [-1]), positions - first * count)
        return tf.cast(numbers, tf.int64)[:length]
    # The cipher is weak where keys are alike: a pass's key is drawn from all by the cipher itself.
    passes = tf.range(first, last + 1)
    words = [
        _permute(passes, tf.constant([*seed, word], tf.int32), 2**31 - 1, rounds=16)
        for word in range(3)
    ]
    keys = tf.gather(tf.cast(tf.stack(words, 1), tf.int32), positions // count - first)
    return _permute(positions % count, keys, count - 1, rounds=4)[:length]


def _permute(index: tf.Tensor, key: tf.Tensor, last: int, *, rounds: int) -> tf.Tensor:
    """Where a permutation of 0 .. last puts int64 indices (n,); one key (3,), or (n, 3)."""
    # The public function over this adds a word to the key, which fails for more than one key.
    return tf.raw_ops.RandomIndexShuffle(
        index=index, seed=key, max_index=tf.constant(last, tf.int64), rounds=rounds
    )


def shares_by_epoch(
    first: np.ndarray, natural: np.ndarray, *, epochs: int, fade: int
) -> np.ndarray:
    """Shares (epochs, strata) that go linearly from `first` to `natural` within `fade` epochs.

    The first epoch has `first`, epoch `fade` and all after it `natural`; `fade=0` stays at `first`.
    """
    if not fade:
        return np.tile(first, (1, 1))
    part = np.minimum(np.arange(epochs) / fade, 1.0)[:, np.newaxis]
    return (1 - part) * first + part * natural


def steps(examples: int, batch_size: int) -> int:
    """Batches an epoch; all are whole."""
    return math.ceil(examples / batch_size)
