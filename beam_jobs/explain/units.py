"""What the explain job is given, a split or raw photographs, in parts that a worker takes at once.

A part is the unit of work and of resume: a shard of the split, or PHOTOGRAPHS names. Parts travel
through the pipeline, pictures do not.
"""

import abc
import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Collection, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd
from apache_beam.metrics import Metrics

from beam_jobs.build_examples import label_table
from beam_jobs.sources import folders
from dr_tfx.config import specs
from dr_tfx.dataset import manifest, records, splits
from dr_tfx.preprocessing import decoding, recipes

PHOTOGRAPHS = 64  # Names a part: a minute or two, which is what an interruption may cost.


@dataclasses.dataclass(frozen=True)
class Item:
    """One photograph: where it is, and what is known of it."""

    id: str  # Unique, and fit for a file's name.
    name: str = ""  # In its source; "" in a data set.
    label: int | None = None  # None: not known.
    patient: str = ""


@dataclasses.dataclass(frozen=True)
class Part:
    """What one call of a worker explains."""

    name: str  # Of its files.
    records: int
    label: int | None = None  # Of all of a shard.
    items: tuple[Item, ...] = ()  # Raw photographs; empty for a shard, which names its own.

    def only(self, wanted: Collection[str]) -> "Part":
        """The same with these photographs alone; all of a shard, which is read as a whole."""
        items = tuple(item for item in self.items if item.id in wanted)
        return dataclasses.replace(self, items=items)


class Seen(NamedTuple):
    """One photograph as the model sees it."""

    item: Item
    picture: recipes.Picture


class Rejected(NamedTuple):
    """One photograph that the model does not see, and why."""

    item: Item
    error: decoding.RejectedImage


class Inputs(abc.ABC):
    """Gives the pictures of a part. Travels to the workers: small, and can be pickled."""

    is_raw: ClassVar[bool]

    @abc.abstractmethod
    def pictures(self, part: Part) -> Iterator[Seen | Rejected]:
        """Every photograph of a part, in order.

        Raises:
          ValueError: the data set is damaged.
        """

    @abc.abstractmethod
    def whole(self, seen: Seen) -> np.ndarray:
        """The photograph in full, uint8 RGB (height, width, 3).

        Raises:
          ValueError: it cannot be read any more.
        """

    def path(self, item: Item) -> str:
        """Where a person finds a photograph; "" in a data set."""
        del item
        return ""


@dataclasses.dataclass(frozen=True)
class Shards(Inputs):
    """The examples of a data set."""

    data_dir: Path
    size: int
    is_raw: ClassVar[bool] = False

    def pictures(self, part: Part) -> Iterator[Seen | Rejected]:
        path, count = self.data_dir / part.name, 0
        with path.open("rb") as stream:
            examples = records.read_images(stream, self.size)
            try:
                for name, rgb in examples:
                    count += 1
                    yield Seen(Item(name, label=part.label), recipes.Picture(rgb))
            except ValueError as error:
                raise ValueError(f"{path}: {error}") from error
        if count != part.records:
            raise ValueError(
                f"{path} has {count} records; {manifest.FILE_NAME} says {part.records}. "
                "Build the data set again."
            )

    def whole(self, seen: Seen) -> np.ndarray:
        return seen.picture.rgb


@dataclasses.dataclass(frozen=True)
class Photographs(Inputs):
    """Photographs as they come from the camera."""

    source: folders.Source
    recipe: specs.Recipe
    threads: int  # That read and decode at the same time.
    is_raw: ClassVar[bool] = True

    def pictures(self, part: Part) -> Iterator[Seen | Rejected]:
        with ThreadPoolExecutor(self.threads) as pool:
            # At most one part's pictures are waiting, each as small as the model's input.
            yield from pool.map(self._prepare, part.items)

    def _prepare(self, item: Item) -> Seen | Rejected:
        try:
            return Seen(item, self.source.prepare(self.source.read(item.name), self.recipe))
        except decoding.RejectedImage as error:
            Metrics.counter("explain", f"rejected/{error.reason}").inc()
            return Rejected(item, error)

    def whole(self, seen: Seen) -> np.ndarray:
        # Read again: keeping a batch of photographs in full would need gigabytes.
        try:
            return recipes.show(self.source.read(seen.item.name))
        except decoding.RejectedImage as error:
            raise ValueError(f"{self.path(seen.item)} has changed meanwhile: {error}") from error

    def path(self, item: Item) -> str:
        return self.source.path(item.name)


def parts_of_split(data: manifest.Manifest, split: str) -> list[Part]:
    """One part a shard.

    Raises:
      ValueError: no such split.
    """
    return [Part(s.name, s.records, label=s.label) for s in data.shards_of(split)]


def parts_of_source(
    source: folders.Source, spec: specs.DatasetSpec, *, labels: str, by_name: bool
) -> tuple[list[Part], dict[str, str]]:
    """Parts of PHOTOGRAPHS names each, sorted, and what tells these photographs from others.

    Args:
      source: of the photographs.
      spec: the columns of the labels, and the pattern of the patient.
      labels: a CSV, or "". A photograph that is not in it is explained and has no label.
      by_name: something else, such as masks, goes by the photographs' names as labels do.

    Returns:
      The parts, and digests of names and sizes, and of the labels.

    Raises:
      FileNotFoundError, ValueError: the CSV cannot be used, or names no photograph; or what goes by
        name would be mistaken, because two photographs share one.
    """
    found = sorted(source.names())
    stems = [label_table.identify(name) for name, _ in found]
    twice = next((s for s, n in collections.Counter(stems).items() if n > 1), None)
    if twice is not None and (labels or by_name):
        raise ValueError(
            f"two photographs are called {twice}: labels and masks go by name and would be "
            "mistaken. Give folders one at a time, or rename one"
        )
    known, digests = {}, {"photographs": _digest(found)}
    if labels:
        table = label_table.read(labels, spec, None)
        known = dict(zip(table.rows["id"], table.rows["label"].astype(int), strict=True))
        digests["labels"] = table.digest
        if not known.keys() & set(stems):
            raise ValueError(
                f"{labels} names none of the {len(found)} photographs; its first is "
                f"{next(iter(known))}, theirs {stems[0]}"
            )
    patients = splits.patients(pd.Series(stems, dtype=object), spec.patient_pattern)
    items = [
        Item(id_, name, known.get(stem), patient)
        for id_, stem, (name, _), patient in zip(
            _unique(stems), stems, found, patients, strict=True
        )
    ]
    count = -(-len(items) // PHOTOGRAPHS)
    batches = [items[i : i + PHOTOGRAPHS] for i in range(0, len(items), PHOTOGRAPHS)]
    return [
        Part(f"photographs-{i:05d}-of-{count:05d}", len(batch), items=tuple(batch))
        for i, batch in enumerate(batches)
    ], digests


def _digest(found: Sequence[tuple[str, int]]) -> str:
    digest = hashlib.sha256()
    for name, size in found:
        digest.update(f"{name}\0{size}\n".encode())
    return digest.hexdigest()


def _unique(stems: Sequence[str]) -> list[str]:
    """The stems, with -2, -3 ... where several photographs share one."""
    taken = set(stems)
    seen: set[str] = set()
    result = []
    for stem in stems:
        name = stem
        if stem in seen:
            name = next(n for n in (f"{stem}-{i}" for i in itertools.count(2)) if n not in taken)
            taken.add(name)
        seen.add(stem)
        result.append(name)
    return result
