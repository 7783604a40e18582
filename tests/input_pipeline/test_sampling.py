"""The order of examples: permutations, shares, and independence of where one begins."""

import itertools

import numpy as np
import pytest

from dr_tfx.input_pipeline import sampling

COUNTS = (20_000, 700, 31)  # The first is shuffled by the cipher, the others are sorted.


def first(count, *, shares, mix="random", examples=10_000, seed=3, skip=0):
    dataset = sampling.numbers(
        COUNTS, np.array(shares), examples=examples, seed=seed, mix=mix, first=skip
    )
    return next(iter(dataset.batch(count))).numpy()


@pytest.mark.parametrize("count", [700, 4097, 20_647, 30_000, 65_536])
def test_a_stream_is_made_of_whole_permutations_that_look_random(count):
    dataset = sampling.numbers([count], np.ones((1, 1)), examples=count, seed=3, mix="random")
    passes = next(iter(dataset.batch(6 * count))).numpy().reshape(6, count)
    order = np.arange(count)
    assert (np.sort(passes, axis=1) == order).all()
    # Of independent ones, a correlation times the root of their number is normal.
    unlike = [np.corrcoef([order, *passes])[np.triu_indices(7, 1)]]
    for step in (1, 2, 3):
        unlike.append([np.corrcoef(one[:-step], one[step:])[0, 1] for one in passes])
    scores = np.concatenate(unlike) * np.sqrt(count)
    assert np.abs(scores).max() < 4.5
    assert 0.6 < np.sqrt(np.mean(scores**2)) < 1.4
    # Mean distance of neighbours in a random permutation of n: (n + 1) / 3.
    assert np.abs(np.diff(passes[0])).mean() == pytest.approx((count + 1) / 3, rel=0.05)


def test_every_order_of_three_comes_equally_often():
    dataset = sampling.numbers([3], np.ones((1, 1)), examples=3, seed=0, mix="random")
    passes = next(iter(dataset.batch(18_000))).numpy().reshape(6000, 3)
    _, often = np.unique(passes, axis=0, return_counts=True)
    assert len(often) == 6
    # Chi square with 5 degrees of freedom; beyond 25.7 once in 10,000.
    assert ((often - 1000) ** 2 / 1000).sum() < 25.7


def test_shares_hold_within_sampling_error_and_neighbours_are_independent():
    numbers = first(30_000, shares=[[0.5, 0.3, 0.2]])
    stratum = np.searchsorted(np.cumsum(COUNTS), numbers, side="right")
    found = np.bincount(stratum) / 30_000
    assert np.abs(found - [0.5, 0.3, 0.2]).max() < 4 * np.sqrt(0.25 / 30_000)
    pairs = np.corrcoef(stratum[:-1], stratum[1:])[0, 1]
    assert abs(pairs) < 4 / np.sqrt(30_000)


def test_exact_shares_hold_by_count_in_every_epoch_in_another_order():
    numbers = first(30_000, shares=[[0.5, 0.3, 0.2]], mix="exact")
    epochs = np.searchsorted(np.cumsum(COUNTS), numbers, side="right").reshape(3, 10_000)
    assert [np.bincount(epoch).tolist() for epoch in epochs] == [[5000, 3000, 2000]] * 3
    assert not np.array_equal(epochs[0], epochs[1])
    first_half = np.bincount(epochs[0][:5000]) / 5000
    assert np.abs(first_half - [0.5, 0.3, 0.2]).max() < 0.03


@pytest.mark.parametrize("shares", [[[0.5, 0.3, 0.2]], [[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]])
@pytest.mark.parametrize("mix", ["random", "exact"])
def test_one_may_begin_anywhere(mix, shares):
    whole = first(12_000, shares=shares, mix=mix)
    for skip in (1, 4096, 9_999, 10_000, 10_500):
        part = first(1000, shares=shares, mix=mix, skip=skip)
        assert np.array_equal(part, whole[skip : skip + 1000])


@pytest.mark.parametrize("shares", [[[0.5, 0.3, 0.2]], [[0.5, 0.3, 0.2], [0.2, 0.2, 0.6]]])
@pytest.mark.parametrize("mix", ["random", "exact"])
def test_another_seed_mixes_otherwise(mix, shares):
    strata = [
        np.searchsorted(np.cumsum(COUNTS), first(12_000, shares=shares, mix=mix, seed=s), "right")
        for s in (3, 4, 2**31 - 2)
    ]
    for one, other in itertools.combinations(strata, 2):
        # Where shares change, epochs correlate by that alone.
        epoch = abs(np.corrcoef(one[:10_000], other[:10_000])[0, 1])
        assert epoch < 4 / np.sqrt(10_000)


def test_each_epoch_is_drawn_anew():
    shares = [[0.5, 0.3, 0.2], [0.3, 0.4, 0.3], [0.3, 0.4, 0.3]]
    numbers = first(30_000, shares=shares)
    epochs = np.searchsorted(np.cumsum(COUNTS), numbers, side="right").reshape(3, 10_000)
    found = np.array([np.bincount(epoch) / 10_000 for epoch in epochs])
    assert np.abs(found - shares).max() < 4 * np.sqrt(0.25 / 10_000)
    for one, other in ((0, 1), (1, 2), (0, 2)):
        assert abs(np.corrcoef(epochs[one], epochs[other])[0, 1]) < 4 / np.sqrt(10_000)


def test_shares_may_change_from_epoch_to_epoch_and_the_last_stays():
    numbers = first(4000, shares=[[1, 0, 0], [0, 1, 0]], examples=1000)
    stratum = np.searchsorted(np.cumsum(COUNTS), numbers, side="right").reshape(4, 1000)
    assert stratum.mean(axis=1).tolist() == [0, 1, 1, 1]


def test_a_stratum_without_a_share_never_comes():
    numbers = first(9000, shares=[[0, 1, 0]])
    assert numbers.min() >= 20_000 and numbers.max() < 20_700
    later = first(4000, shares=[[0, 1, 0]], skip=5000)
    assert np.array_equal(later, numbers[5000:])
