"""The strata of training, their shares of an epoch, and the part of each worker."""

import itertools

import numpy as np
import pytest

from dr_tfx.dataset import manifest
from dr_tfx.input_pipeline import strata
from tests.helpers import datasets


def data_set(*records, experiment):
    """A manifest of training shards: for each label how many records every shard has."""
    shards = tuple(
        manifest.Shard(f"train-{label}-{part}", "train", label, count, 0, "")
        for label, parts in enumerate(records)
        for part, count in enumerate(parts)
    )
    return manifest.Manifest(
        dataset=experiment.dataset,
        fingerprint="test",
        libraries={},
        rows=0,
        written=0,
        rejected={},
        counts={},
        patients={},
        shared_patients=0,
        twins=(),
        unlabelled=0,
        shards=shards,
    )


def parts_of(data, experiment, workers):
    mixed = strata.of_training(data, experiment)
    return [strata.part_of(mixed, experiment, worker=i, workers=workers) for i in range(workers)]


def examples_of(part):
    """(Shard, number of the example in it) of all that a worker has, by label."""
    numbered = [(shard.name, i) for shard in part.shards for i in range(shard.records)]
    return [
        numbered[first : first + count]
        for first, count in zip(part.firsts, part.counts, strict=True)
    ]


def test_length_of_an_epoch():
    assert strata.epoch_examples([20_647, 7_453], [0.5, 0.5]) == 41_294  # The published count.
    assert strata.epoch_examples([30, 10], [0.75, 0.25]) == 40


def test_one_worker_has_everything():
    experiment = datasets.experiment(batch_size=10)
    data = data_set([10, 8], [7], [5, 3, 1], experiment=experiment)
    mixed = strata.of_training(data, experiment)
    part = strata.part_of(mixed, experiment)
    assert part.shards == list(data.shards)
    assert (part.firsts, part.counts) == ([0, 18, 25], [18, 7, 9])
    assert (part.batch_size, part.seed) == (10, experiment.training.seed)
    assert (mixed.counts, mixed.steps(10)) == ([18, 7, 9], 4)
    # Half for the first class, half for the second, of which the labels are 7 : 9.
    assert np.allclose(mixed.shares, [[0.5, 0.5 * 7 / 16, 0.5 * 9 / 16]])


def test_workers_have_whole_shards_of_which_only_those_of_a_label_with_few_are_divided():
    experiment = datasets.experiment(batch_size=12)
    data = data_set([10] * 80, [10] * 78 + [1], [10, 10], experiment=experiment)
    parts = parts_of(data, experiment, 3)
    assert [part.batch_size for part in parts] == [4, 4, 4]
    # 800 / 3 = 266.7, 781 / 3 = 260.3: to the next ten, which is within a fortieth.
    assert [part.counts for part in parts] == [[270, 260, 6], [260, 260, 7], [270, 261, 7]]
    names = [{shard.name for shard in part.shards} for part in parts]
    shared = set.union(*(a & b for a, b in itertools.combinations(names, 2)))
    assert shared == {"train-2-0", "train-2-1"}


@pytest.mark.parametrize("workers", [2, 3, 5, 7, 16])
@pytest.mark.parametrize("seed", range(5))
def test_workers_have_all_examples_and_none_another_has(seed, workers):
    chance = np.random.default_rng(seed)
    sizes = [chance.integers(1, 600, chance.integers(16, 200)), chance.integers(20, 90, 2), [16]]
    experiment = datasets.experiment(batch_size=workers)
    data = data_set(*(map(int, label) for label in sizes), experiment=experiment)
    parts = parts_of(data, experiment, workers)
    assert len({part.seed for part in parts}) == workers
    for label, of_label in enumerate(zip(*map(examples_of, parts), strict=True)):
        expected = [
            (shard.name, i)
            for shard in data.shards
            if shard.label == label
            for i in range(shard.records)
        ]
        assert list(itertools.chain(*of_label)) == expected
        equal = len(expected) / workers
        assert all(abs(len(own) - equal) <= max(1, equal / 20) for own in of_label)
    for part in parts:
        opened = {name for own in examples_of(part) for name, _ in own}
        assert opened == {shard.name for shard in part.shards}


def test_more_workers_than_a_label_has_examples_are_refused():
    experiment = datasets.experiment()
    data = data_set([24], [6], [3], experiment=experiment)
    with pytest.raises(ValueError, match="3 examples of label 'c', which 4 workers cannot share"):
        parts_of(data, experiment, 4)
