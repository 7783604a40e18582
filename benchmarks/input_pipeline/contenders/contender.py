"""The interface of a contender: its job, the examples to write, and the batches to give."""

import dataclasses
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import synthetic_examples

SHUFFLE = 1024  # Examples of each class in the buffer of contenders that shuffle in a buffer.

Batches = Iterator[Any]
"""None once, as soon as the libraries are imported, so that what a contender takes from there on
counts as its own; then pairs of images, float32 (batch, size, size, 3), and classes (batch,)."""


@dataclasses.dataclass(frozen=True)
class Job:
    """The examples that a contender writes, and the way in which it reads them."""

    folder: str  # Holds a folder for every storage format.
    count: int
    size: int
    batch_size: int = 64
    augmented: bool = False
    workers: int = 0
    encoding: str = "raw"

    def path(self, name: str) -> Path:
        """Return the folder of the storage format of this name."""
        return Path(self.folder) / name

    def examples(self) -> Iterator[tuple[int, np.ndarray, int]]:
        """Yield (number, uint8 image, label) of every example."""
        pictures = synthetic_examples.pictures(self.count, self.size)
        labels = synthetic_examples.labels(self.count).tolist()
        return zip(itertools.count(), pictures, labels, strict=False)

    def classes(self) -> np.ndarray:
        """Return the class of every example, 0 or 1, as int64 (count,)."""
        return np.minimum(synthetic_examples.labels(self.count), 1)

    def parts(self) -> Iterator[tuple[int, int, Iterator[tuple[int, np.ndarray]]]]:
        """Yield (class, part number, examples): at least four parts a class, 512 examples each."""
        totals, pictures = np.bincount(self.classes()).tolist(), self.examples()
        for c, total in enumerate(totals):
            length = min(synthetic_examples.SHARD, -(-total // 4))
            for part in range(-(-total // length)):
                chosen = itertools.islice(pictures, min(length, total - part * length))
                yield c, part, ((number, picture) for number, picture, _ in chosen)


@dataclasses.dataclass(frozen=True)
class Contender:
    """A way of storing and reading examples; a row of the table for every number of workers."""

    name: str
    kind: str  # `memory`: all examples in memory; `mapped`: pages of a file; `bounded`.
    write: Callable[[Job], None]
    read: Callable[[Job], Batches]
    needs: tuple[str, ...] = ()  # Modules that `pip install -e '.[bench]'` brings.
    workers: tuple[int, ...] = (0,)

    def missing(self) -> list[str]:
        """Return the names of the modules that are needed and not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]
