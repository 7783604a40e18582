"""Single lesions and false marks, against SciPy's labels at every threshold."""

import numpy as np
import pytest
from scipy import ndimage

from dr_tfx.statistics import lesion_counts
from dr_tfx.statistics.pixel_counts import BINS

TOUCHING = np.ones((3, 3))  # By a corner, too.


def by_scipy(truth, marked):
    """The lesions that are found, and the false marks."""
    labels, _ = ndimage.label(truth, TOUCHING)
    marks, count = ndimage.label(marked, TOUCHING)
    found, false = set(), 0
    for number in range(1, count + 1):
        mark = marks == number
        if truth[mark].sum() >= 0.2 * mark.sum():
            found |= set(labels[mark & truth])
        else:
            false += 1
    return len(found), false


@pytest.mark.parametrize("seed", range(2))
def test_parts_are_those_of_scipy_at_every_threshold(seed):
    smooth = [
        ndimage.gaussian_filter(np.random.default_rng(2 * seed + i).normal(size=(90, 70)), 2)
        for i in range(2)
    ]
    truth = smooth[0] > np.quantile(smooth[0], 0.95)
    both = smooth[1] / smooth[1].max() + 0.8 * smooth[0] / smooth[0].max()
    steps = np.clip(70 * both, 0, 99).astype(int)
    found, false = lesion_counts.count(truth, steps)
    assert found[0] == ndimage.label(truth, TOUCHING)[1] > 3 and false[0] == 0
    for step in range(1, BINS):
        assert (found[step], false[step]) == by_scipy(truth, steps >= step)
    assert false.max() > 3 and found[1:].max() > 3


def test_a_map_that_is_full_finds_nothing_and_an_empty_one_neither():
    truth = np.zeros((20, 20), bool)
    truth[3:6, 3:6] = truth[10, 10] = True
    for step, marks in ((99, 1), (0, 0)):
        found, false = lesion_counts.count(truth, np.full((20, 20), step))
        assert found[0] == 2 and not found[1:].any()
        assert (false[1:] == marks).all()
    found, false = lesion_counts.count(truth, np.where(truth, 50, 0))
    assert found[1:].tolist() == [2] * 50 + [0] * 49 and not false.any()


def test_the_mean_sensitivity_is_read_off_the_curve():
    """Ten lesions in two images: 0.5, 1 and 3 false marks an image find 2, 5 and 9."""
    found, false = np.zeros(BINS), np.zeros(BINS)
    found[0] = 10
    for steps, lesions, marks in ((30, 9, 6), (30, 5, 2), (30, 2, 1)):
        first = int(np.flatnonzero(found == 0)[0])
        found[first : first + steps], false[first : first + steps] = lesions, marks
    got = lesion_counts.sensitivity_at(found, false, np.array(2.0))
    # From step 91 on nothing is marked.
    assert got == pytest.approx(np.mean([0, 0, 0.2, 0.5, 0.5, 0.9, 0.9]))
    assert np.isnan(lesion_counts.sensitivity_at(found * 0, false, np.array(2.0)))


def test_the_largest_mark_is_what_is_left_of_specks():
    marked = np.zeros((20, 30), bool)
    marked[2:4, 2:4] = marked[10:15, 8:20] = marked[15, 20] = marked[0, 29] = True
    expected = np.zeros_like(marked)
    expected[10:15, 8:20] = expected[15, 20] = True  # It touches by a corner.
    assert np.array_equal(lesion_counts.largest(marked), expected)
    assert not lesion_counts.largest(np.zeros((5, 5), bool)).any()
