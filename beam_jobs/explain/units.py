"""The inputs of the explain job, a split or raw photographs, and their parts.

A part is the unit of work and of resume: a shard of the split, or PHOTOGRAPHS names of raw ones.
Parts travel through the pipeline, pictures do not.
"""

import abc
import collections
import dataclasses
import hashlib
import itertools
from collections.abc import Collection, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pandas as pd
from apache_beam.metrics import Metrics

from beam_jobs.build_examples import (
    frame_rows,
    label_table,
    photograph_names,
    photograph_table,
    slice_tags,
)
from dr_tfx.config import specs
from dr_tfx.dataset import manifest, records, splits
from dr_tfx.input_pipeline import shard_check
from dr_tfx.preprocessing import decoding, recipes
from dr_tfx.sources import folders
from dr_tfx.storage import seen_text

PHOTOGRAPHS = 64  # Names in a part: an interruption costs a minute or two.


@dataclasses.dataclass(frozen=True)
class PartItem:
    """One photograph of a part: where it is, and what is known about it."""

    id: str  # Unique, and usable as the name of a file.
    name: str = ""  # The name in its source; "" in a data set.
    label: int | None = None  # None: the label is not known.
    patient: str = ""
    # Names of the slices before and after it, "" for none, for a recipe that shows them.
    neighbours: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class HeatmapPart:
    """The photographs that one call of a worker explains."""

    name: str  # A part of the names of its files.
    records: int
    shard: manifest.Shard | None = None  # Of a data set.
    items: tuple[PartItem, ...] = ()  # Raw photographs; empty for a shard, which holds its own.

    def only(self, wanted: Collection[str]) -> "HeatmapPart":
        """Return the part with these photographs alone. A shard is always read as a whole."""
        items = tuple(item for item in self.items if item.id in wanted)
        return dataclasses.replace(self, items=items)


class PreparedItem(NamedTuple):
    """One photograph as the model sees it."""

    item: PartItem
    picture: recipes.Picture


class RejectedItem(NamedTuple):
    """One photograph that gives no picture, and the reason."""

    item: PartItem
    error: decoding.RejectedImage


class ExplainInputs(abc.ABC):
    """Gives the pictures of a part. It travels to the workers: it is small and can be pickled."""

    is_raw: ClassVar[bool]

    @abc.abstractmethod
    def pictures(self, part: HeatmapPart) -> Iterator[PreparedItem | RejectedItem]:
        """Yield every photograph of a part, in order.

        Raises:
          ValueError: the data set is damaged.
        """

    @abc.abstractmethod
    def whole(self, prepared: PreparedItem) -> np.ndarray:
        """Return the photograph in full, uint8 RGB (height, width, 3).

        Raises:
          ValueError: it cannot be read any more.
        """

    def path(self, item: PartItem) -> str:
        """Return the place where a person finds a photograph, as it is shown; "" in a data set."""
        del item
        return ""


@dataclasses.dataclass(frozen=True)
class SplitInputs(ExplainInputs):
    """The examples of a data set, of which each part is a shard."""

    data_dir: Path
    schema: records.Schema
    is_raw: ClassVar[bool] = False

    def pictures(self, part: HeatmapPart) -> Iterator[PreparedItem | RejectedItem]:
        assert part.shard
        (places,) = shard_check.places(self.data_dir, [part.shard])
        path, texts = self.data_dir / part.name, [records.IMAGE_ID]
        with path.open("rb") as stream:
            for place in places.tolist():
                _, example, found = shard_check.read_record(
                    path, stream.fileno(), place, schema=self.schema, texts=texts
                )
                name = records.text_of(example, records.IMAGE_ID)
                item = PartItem(name, label=part.shard.label)
                yield PreparedItem(item, recipes.Picture(found[records.IMAGE]))

    def whole(self, prepared: PreparedItem) -> np.ndarray:
        return prepared.picture.rgb


@dataclasses.dataclass(frozen=True)
class PhotographInputs(ExplainInputs):
    """Photographs as they come from the camera."""

    source: folders.Source
    recipe: specs.Recipe
    threads: int  # Threads that read and decode at the same time.
    is_raw: ClassVar[bool] = True

    def pictures(self, part: HeatmapPart) -> Iterator[PreparedItem | RejectedItem]:
        with ThreadPoolExecutor(self.threads) as pool:
            # At most one part's pictures are waiting, each as small as the model's input.
            yield from pool.map(self._prepare, part.items)

    def _prepare(self, item: PartItem) -> PreparedItem | RejectedItem:
        try:
            neighbours = self.source.neighbours(item.neighbours, self.recipe)
            with self.source.reading(item.name) as data:
                picture = self.source.prepare(data, self.recipe, neighbours)
        except decoding.RejectedImage as error:
            Metrics.counter("explain", f"rejected/{error.reason}").inc()
            return RejectedItem(item, error.alone())
        return PreparedItem(item, picture)

    def whole(self, prepared: PreparedItem) -> np.ndarray:
        # The photograph is read again: a batch of them in full would need gigabytes.
        try:
            with self.source.reading(prepared.item.name) as data:
                return recipes.show(data)
        except decoding.RejectedImage as error:
            raise ValueError(
                f"{self.path(prepared.item)} has changed since it was explained: {error}"
            ) from error

    def path(self, item: PartItem) -> str:
        return seen_text.printable(self.source.path(item.name))


def parts_of_split(data: manifest.Manifest, split: str) -> list[HeatmapPart]:
    """Return one part for each shard of a split.

    Raises:
      ValueError: there is no such split.
    """
    return [HeatmapPart(shard.name, shard.records, shard) for shard in data.shards_of(split)]


def parts_of_source(
    source: folders.Source, spec: specs.DatasetSpec, *, labels: str, by_name: bool
) -> tuple[list[HeatmapPart], dict[str, str]]:
    """Divide photographs into parts of PHOTOGRAPHS names, sorted.

    Args:
      source: the photographs.
      spec: names the columns of the labels, and the pattern of the patient.
      labels: a CSV, or "". A photograph that is not in it is explained and has no label.
      by_name: whether something else, such as masks, is found by the photographs' names.

    Returns:
      The parts; and digests of the names and sizes, and of the labels, which tell these
      photographs from others.

    Raises:
      FileNotFoundError, ValueError: the CSV cannot be used, or names no photograph; or two
        photographs share a name by which labels or masks are found.
    """
    found = photograph_table.read(source)
    names, stems = found["name"].tolist(), found["stem"].tolist()
    digests = {"photographs": _digest(list(zip(names, found["size"], strict=True)))}
    if by_name:
        _check_names(s for s, n in collections.Counter(stems).items() if n > 1)
    labels_of: dict[str, int] = {}
    if labels:
        # These rows need not say what those of the model's own data set say besides.
        plain = specs.Split(method="external")
        asked = dataclasses.replace(spec, patient_column="", split=plain)
        table = label_table.read(labels, asked, source)
        table = frame_rows.expand(table, found, source)
        table = photograph_table.with_zeros(table, found)
        located = photograph_table.locate(table, found, source)
        rows, rejects = located.found, located.rejects
        _check_names(rejects["id"][rejects["reason"] == "ambiguous_image"])
        labels_of = dict(zip(rows["name"], rows["label"].astype(int), strict=True))
        digests["labels"] = table.digest
        if not labels_of:
            raise ValueError(
                f"{labels} names none of the {len(found)} photographs; its first name is "
                f"{table.paths.iloc[0]}, the first photograph {names[0]}"
            )
    ids = pd.Series(_ids(names, stems), dtype=splits.TEXT)
    patients = splits.patients(ids, spec.patient_pattern)
    beside: Iterable[tuple[str, ...]] = itertools.repeat((), len(names))
    if recipes.takes_neighbours(spec.recipe):
        beside = slice_tags.neighbours(found["name"], source).itertuples(index=False, name=None)
    each = zip(ids, names, patients, beside, strict=True)
    items = [
        PartItem(id_, name, labels_of.get(name), patient, of_slice)
        for id_, name, patient, of_slice in each
    ]
    return _parts(items), digests


def _check_names(twice: Iterable[str]) -> None:
    """Refuse names that several photographs have."""
    for name in twice:
        raise ValueError(
            f"two photographs are called {name}: labels and masks go by name and would be "
            "mistaken. Give folders one at a time, or rename one"
        )


def _parts(items: Sequence[PartItem]) -> list[HeatmapPart]:
    count = -(-len(items) // PHOTOGRAPHS)
    batches = [items[i : i + PHOTOGRAPHS] for i in range(0, len(items), PHOTOGRAPHS)]
    return [
        HeatmapPart(f"photographs-{i:05d}-of-{count:05d}", len(batch), items=tuple(batch))
        for i, batch in enumerate(batches)
    ]


def _digest(found: Sequence[tuple[str, int]]) -> str:
    digest = hashlib.sha256()
    for name, size in found:
        digest.update(f"{name}\0{size}\n".encode())
    return digest.hexdigest()


def _ids(names: Sequence[str], stems: Sequence[str]) -> list[str]:
    """Return an id for each photograph, as a build has them: its stem, or as much as it takes.

    Names that are one in composed Unicode get -2, -3 ... besides.
    """
    several = {stem for stem, n in collections.Counter(stems).items() if n > 1}
    paths = [photograph_names.normalise(name) for name in names]
    longer = photograph_names.distinct(
        path for path, stem in zip(paths, stems, strict=True) if stem in several
    )
    ids = [longer.get(path, stem) for path, stem in zip(paths, stems, strict=True)]
    taken = set(ids)
    seen: set[str] = set()
    result = []
    for id_ in ids:
        name = id_
        if id_ in seen:
            name = next(n for n in (f"{id_}-{i}" for i in itertools.count(2)) if n not in taken)
            taken.add(name)
        seen.add(id_)
        result.append(name)
    return result
