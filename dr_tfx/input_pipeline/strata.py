"""What training draws from: the training split by label, and what of it is one worker's."""

import collections
import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from dr_tfx import tasks
from dr_tfx.config import seeds, specs
from dr_tfx.dataset import manifest

_UNEQUAL = 1 / 40  # Of a worker's part: how far its ends move for it to be of whole shards.


class Strata(NamedTuple):
    """A worker's part of the training split, which is all of it if there is one worker.

    Attributes:
      labels: those that occur.
      shares: float (epochs, labels), what part of an epoch each is; one row for all epochs alike.
      steps: batches an epoch.
      batch: examples of every batch that are the worker's.
      seed: of its order and chance.
      shards: that it reads; the examples of all are numbered in this order.
      firsts: number of its first example of each label,
      counts: and how many it has, which follow.
    """

    labels: list[int]
    shares: np.ndarray
    steps: int
    batch: int
    seed: int
    shards: list[manifest.Shard]
    firsts: list[int]
    counts: list[int]


def of_worker(
    data: manifest.Manifest, experiment: specs.Experiment, *, worker: int = 0, workers: int = 1
) -> Strata:
    """What a worker draws from, and how much of each label.

    With `balance='oversample'` every class gets the same share, divided among its labels as they
    occur; with `none` every label keeps its own; `label_weights` overrules both.

    Of every label a worker has whole shards, unless that makes the parts unequal: examples of a
    smaller part are seen more often. So a shard at the border of two parts is divided where a label
    has few.

    Args:
      data: manifest of the data set.
      experiment: what to do.
      worker: which of the workers, from 0 on.
      workers: how many there are; the batch size is a multiple of it.

    Raises:
      ValueError: a class has no training example, or a label fewer than there are workers.
    """
    training = experiment.training
    by_label = collections.defaultdict[int, list[manifest.Shard]](list)
    for shard in data.shards_of("train"):
        by_label[shard.label].append(shard)
    labels = sorted(by_label)
    counts = [sum(shard.records for shard in by_label[label]) for label in labels]
    shares = _shares(labels, np.array(counts), experiment)
    seed = training.seed
    if workers > 1:
        seed = seeds.stable_hash("worker", seed, worker) % 2**31
    shards, firsts, own, passed = [], [], [], 0
    for label, count in zip(labels, counts, strict=True):
        if count < workers:
            raise ValueError(
                f"The training split has {count} examples of label "
                f"{data.dataset.label_names[label]!r}, which {workers} workers cannot share. "
                "Name fewer in TF_CONFIG."
            )
        starts = np.cumsum([0, *(shard.records for shard in by_label[label])])
        first, last = (_border(starts, i, workers) for i in (worker, worker + 1))
        mine = slice(
            np.searchsorted(starts, first, side="right") - 1, np.searchsorted(starts, last)
        )
        firsts.append(passed + first - int(starts[mine.start]))
        own.append(last - first)
        shards += by_label[label][mine]
        passed += int(starts[mine.stop] - starts[mine.start])
    return Strata(
        labels=labels,
        shares=shares,
        steps=math.ceil(epoch_examples(counts, shares[0]) / training.batch_size),
        batch=training.batch_size // workers,
        seed=seed,
        shards=shards,
        firsts=firsts,
        counts=own,
    )


def _border(starts: np.ndarray, number: int, parts: int) -> int:
    """Where a part begins: at one of the starts of shards, if that is near enough."""
    each = starts[-1] / parts
    start = starts[np.abs(starts - number * each).argmin()]
    return int(start if abs(start - number * each) <= _UNEQUAL * each else number * each)


def _shares(labels: Sequence[int], counts: np.ndarray, experiment: specs.Experiment) -> np.ndarray:
    """What part of an epoch each label is, float (epochs, labels)."""
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


def epoch_examples(counts: Sequence[int], shares: Sequence[float]) -> int:
    """Length of an epoch: as long as the label takes that is seen slowest for its size.

    With two classes at 1:1 that is two times the larger one; with natural shares, all examples.
    """
    return round(max(count / share for count, share in zip(counts, shares, strict=True)))
