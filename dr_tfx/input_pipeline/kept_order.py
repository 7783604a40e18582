"""Places in the order of examples, kept on the disk, so that a run goes on without a long wait.

The order is a pure function, but to go on at a place takes what comes before it to be drawn, some
3 us a number. What is kept is the state of tf.data's iterator every now and then: the latest one
before the place is taken up, and the few numbers between are drawn. Without such a file, or with a
damaged one, all are drawn, and the order is the same.
"""

import itertools
import re
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from absl import logging

from dr_tfx.config import seeds
from dr_tfx.input_pipeline import sampling

_EVERY = 64  # Blocks from one place that is kept to the next, at least: it takes 50 ms.
_KEPT = 3  # Places: the last checkpoint of a run may be older than the last of them.
# What an iterator's state may raise where it is damaged, or where it cannot be written.
_FAILURES = (tf.errors.OpError, OSError, ValueError, AssertionError)


class Order(NamedTuple):
    """What `sampling.numbers` makes an order of, and how many of them are a block."""

    counts: Sequence[int]
    shares: np.ndarray
    examples: int
    seed: int
    mix: str
    length: int

    def blocks(self, first: int) -> tf.data.Dataset:
        """Return the endless blocks from a number on."""
        numbers = sampling.numbers(
            self.counts,
            self.shares,
            examples=self.examples,
            seed=self.seed,
            mix=self.mix,
            first=first * self.length,
        )
        return numbers.batch(self.length)

    def name(self) -> str:
        """Return what tells the states of this order's iterators from those of others."""
        return str(seeds.stable_hash(*self._replace(shares=self.shares.tolist()), tf.__version__))


class Kept(NamedTuple):
    """Where places in an order are kept, and how often.

    Attributes:
      folder: of this worker alone.
      every: blocks from one place that is kept to the next.
    """

    folder: Path
    every: int


def kept_in(folder: Path | None, between: int) -> Kept | None:
    """Return where places are kept, if anywhere, and that they are at least so many blocks apart.

    Args:
      folder: of this worker alone.
      between: blocks from one checkpoint of the run to the next.
    """
    return Kept(folder, max(_EVERY, between)) if folder else None


def blocks(order: Order, *, first: int, kept: Kept | None) -> Iterator[np.ndarray]:
    """Yield the blocks of an order without end, int64 (length,).

    Args:
      order: of the numbers.
      first: the number of the block to begin at.
      kept: where places are kept; None: nowhere.
    """
    made, at, iterator = _taken_up(order, first, kept) if kept else (first, first, None)
    iterator = iterator or iter(order.blocks(first))
    for block in itertools.count(at):
        if kept and block % kept.every == 0 and block > at:
            _keep(iterator, _path(kept, order, made, block), order, kept)
        numbers = next(iterator)
        if block >= first:
            yield numbers.numpy()


def _taken_up(order: Order, first: int, kept: Kept) -> tuple[int, int, Any]:
    """Return where the data set begins, where its iterator is, and the iterator, or None."""
    for made, at in _places(kept, order):
        if at <= first:
            path, iterator = _path(kept, order, made, at), iter(order.blocks(made))
            try:
                tf.train.Checkpoint(iterator=iterator).read(str(path)).assert_consumed()
            except _FAILURES as error:
                logging.info("%s is damaged (%s), and not needed.", path, error)
                continue
            return made, at, iterator
    return first, first, None


def _keep(iterator: Any, path: Path, order: Order, kept: Kept) -> None:
    """Write down where the iterator is, if there is room, and delete what is too old."""
    try:
        kept.folder.mkdir(parents=True, exist_ok=True)
        tf.train.Checkpoint(iterator=iterator).write(str(path))
        newest = [_path(kept, order, *place) for place in _places(kept, order)[:_KEPT]]
        names = tuple(f"{one.name}." for one in newest)
        for file in kept.folder.iterdir():
            if not file.name.startswith(names):
                shutil.rmtree(file) if file.is_dir() else file.unlink()
    except _FAILURES as error:
        logging.info("%s cannot be written (%s), and is not needed.", path, error)


def _places(kept: Kept, order: Order) -> list[tuple[int, int]]:
    """Return the places that are kept, the last first: where its data set begins, and the block."""
    names = [file.name for file in kept.folder.glob("*.index")]
    found = [re.fullmatch(rf"{order.name()}-(\d+)-(\d+)\.index", name) for name in names]
    places = [(int(place[1]), int(place[2])) for place in found if place]
    return sorted(places, key=lambda place: place[1], reverse=True)


def _path(kept: Kept, order: Order, made: int, block: int) -> Path:
    return kept.folder / f"{order.name()}-{made}-{block}"
