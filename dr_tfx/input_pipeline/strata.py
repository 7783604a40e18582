"""The strata of the training split, their shares of an epoch, and what of them one worker reads."""

import collections
import dataclasses
import math
from collections.abc import Sequence

import numpy as np

from dr_tfx import tasks
from dr_tfx.config import seeds, specs
from dr_tfx.dataset import manifest

_UNEQUAL = 1 / 40  # Of a worker's part: how far its ends move for it to be of whole shards.


@dataclasses.dataclass(frozen=True)
class Strata:
    """The training split by its finest label.

    Attributes:
      shards: the shards of each label that occurs, by label, ascending.
      shares: the part of an epoch that each label is, float (epochs, labels); the last row holds
        for all later epochs.
      each: how often an example comes an epoch, for those of which only a part is seen.
    """

    shards: dict[int, list[manifest.Shard]]
    shares: np.ndarray
    each: int = 1

    @property
    def counts(self) -> list[int]:
        """The examples of each label."""
        return counts_of(self.shards)

    def steps(self, batch_size: int) -> int:
        """Return the batches of an epoch."""
        return math.ceil(self.each * epoch_examples(self.counts, self.shares[0]) / batch_size)


@dataclasses.dataclass(frozen=True)
class WorkerPart:
    """The part of every stratum that one worker draws from.

    Attributes:
      shards: the shards that it reads; the examples of all are numbered in this order.
      firsts: the number of its first example of each label.
      counts: how many examples it has of each label; their numbers follow that of the first.
      batch_size: its examples of every batch.
      seed: the seed of its order and chance; a single worker has the run's own.
    """

    shards: list[manifest.Shard]
    firsts: list[int]
    counts: list[int]
    batch_size: int
    seed: int


def of_training(data: manifest.Manifest, experiment: specs.Experiment) -> Strata:
    """Return the strata of the training split in the shares that the experiment asks for.

    With `balance='oversample'` every class gets the same share, divided among its labels as they
    occur; with `none` every label keeps its own; `label_weights` overrules both.

    Raises:
      ValueError: a class has no training example.
    """
    shards = by_label(data)
    shares = _shares(list(shards), np.array(counts_of(shards)), experiment)
    side = tasks.of(experiment).data
    return Strata(shards, shares, (side.patches.each if side.patches else 1) * side.views)


def by_label(data: manifest.Manifest) -> dict[int, list[manifest.Shard]]:
    """Return the shards of the training split by label, ascending."""
    found = collections.defaultdict[int, list[manifest.Shard]](list)
    for shard in data.shards_of("train"):
        found[shard.label].append(shard)
    return {label: found[label] for label in sorted(found)}


def part_of(
    strata: Strata, experiment: specs.Experiment, *, worker: int = 0, workers: int = 1
) -> WorkerPart:
    """Return what a worker draws from, which is everything if there is one worker.

    A worker has whole shards of every label, unless that makes the parts unequal: examples of a
    smaller part are seen more often. So a shard at the border of two parts is divided where a label
    has few.

    Args:
      strata: the strata of the training split.
      experiment: the settings of the run.
      worker: which of the workers, from 0 on.
      workers: how many there are; the batch size is a multiple of it.

    Raises:
      ValueError: a label has fewer examples than there are workers.
    """
    shards, firsts, counts, passed = [], [], [], 0
    for label, of_label in strata.shards.items():
        starts = np.cumsum([0, *(shard.records for shard in of_label)])
        if starts[-1] < workers:
            raise ValueError(
                f"The training split has {starts[-1]} examples of label "
                f"{experiment.dataset.label_names[label]!r}, which {workers} workers cannot share. "
                "Name fewer in TF_CONFIG."
            )
        first, last = (_border(starts, i, workers) for i in (worker, worker + 1))
        mine = slice(
            np.searchsorted(starts, first, side="right") - 1, np.searchsorted(starts, last)
        )
        firsts.append(passed + first - int(starts[mine.start]))
        counts.append(last - first)
        shards += of_label[mine]
        passed += int(starts[mine.stop] - starts[mine.start])
    seed = experiment.training.seed
    if workers > 1:
        seed = seeds.stable_hash("worker", seed, worker) % 2**31
    batch_size = experiment.training.batch_size // workers
    if batch_size % (views := tasks.of(experiment).data.views):
        raise ValueError(
            f"config.training.batch_size is {experiment.training.batch_size}, so that each of "
            f"{workers} workers has {batch_size} examples of it; expected a multiple of {views}, "
            "as each photograph is there so often."
        )
    return WorkerPart(shards, firsts, counts, batch_size, seed)


def epoch_examples(counts: Sequence[int], shares: Sequence[float]) -> int:
    """Return the length of an epoch: until the label that is seen slowest for its size was seen.

    With two classes at 1:1 that is two times the larger one; with natural shares, all examples.
    """
    return round(max(count / share for count, share in zip(counts, shares, strict=True)))


def counts_of(shards: dict[int, list[manifest.Shard]]) -> list[int]:
    """Return the examples of each label."""
    return [sum(shard.records for shard in of_label) for of_label in shards.values()]


def _border(starts: np.ndarray, number: int, parts: int) -> int:
    """Return where a part begins: at one of the starts of shards, if that is near enough."""
    each = starts[-1] / parts
    start = starts[np.abs(starts - number * each).argmin()]
    return int(start if abs(start - number * each) <= _UNEQUAL * each else number * each)


def _shares(labels: Sequence[int], counts: np.ndarray, experiment: specs.Experiment) -> np.ndarray:
    """Return the part of an epoch that each label is, float (epochs, labels)."""
    training, data = experiment.training, tasks.of(experiment).data
    groups = np.array([data.group_of[label] for label in labels])
    by_group = np.bincount(groups, counts, minlength=len(data.groups))
    if not by_group.all():
        raise ValueError(
            f"The training split has no example of class {data.groups[by_group.argmin()]!r}; "
            "there is nothing to learn. Check labels.csv, config.task and config.dataset.split."
        )
    natural = counts / counts.sum()
    first = natural
    if training.label_weights:
        first = np.array(training.label_weights)[labels]
    elif training.balance == "oversample":
        first = counts / by_group[groups]
    # Linearly: the first epoch has `first`, number `anneal_epochs` and all after it `natural`.
    part = np.linspace(0, 1, training.anneal_epochs + 1)[:, np.newaxis]
    return (1 - part) * first / first.sum() + part * natural
