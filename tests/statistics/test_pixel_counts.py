"""Tests of dr_tfx.statistics.pixel_counts, against scikit-learn and by hand."""

import numpy as np
import pytest
from sklearn.metrics import average_precision_score, f1_score, jaccard_score

from dr_tfx.statistics import pixel_counts


def maps(seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Probabilities in whole steps, and a truth that they rank better than chance."""
    rng = np.random.default_rng(seed)
    truth = rng.uniform(size=(2, 30, 40)) < 0.1
    return np.clip(np.round(0.3 * truth + rng.uniform(0, 0.7, truth.shape), 2), 0, 0.99), truth


def counted(probability, share):
    return (pixel_counts.count(probability, amount) for amount in (share, 1 - share))


def test_the_area_is_that_of_scikit_learn():
    probability, truth = maps()
    found = pixel_counts.average_precision(*counted(probability, truth.astype(float)))
    expected = average_precision_score(truth.ravel(), probability.ravel())
    assert found == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("prevalence", [0.02, 0.002])
@pytest.mark.parametrize(("of_lesion", "of_other"), [(-4, -6), (-3, -7), (0, -5), (2, -8)])
def test_the_area_of_scores_that_are_no_steps_is_near_to_that_of_scikit_learn(
    prevalence, of_lesion, of_other
):
    """Most pixels have less than .01, as those of lesion models have; numbers are mean logits."""
    rng = np.random.default_rng(0)
    truth = rng.uniform(size=100_000) < prevalence
    logits = rng.normal(np.where(truth, of_lesion, of_other), np.where(truth, 1.5, 1.2))
    probability = 1 / (1 + np.exp(-logits))
    assert np.mean(probability < 0.01) > 0.6
    sides = pixel_counts.count_finely(probability, truth, ~truth)
    found = pixel_counts.average_precision(*sides)
    assert found == pytest.approx(average_precision_score(truth, probability), abs=0.005)
    for side, amount in zip(sides, (truth, ~truth), strict=True):
        expected = pixel_counts.count(probability, amount)
        np.testing.assert_array_equal(pixel_counts.in_steps(side), expected)


def test_partly_covered_pixels_count_as_their_parts():
    """As at four times the resolution, where every part is a pixel of its own."""
    probability, _ = maps()
    fine = np.random.default_rng(1).uniform(size=(2, 60, 80)) < 0.2
    share = fine.reshape(2, 30, 2, 40, 2).mean(axis=(2, 4))
    found = pixel_counts.average_precision(*counted(probability, share))
    large = probability.repeat(2, axis=1).repeat(2, axis=2)
    assert found == pytest.approx(average_precision_score(fine.ravel(), large.ravel()), abs=1e-12)


def test_the_threshold_of_the_best_dice_is_found():
    probability, truth = maps()
    lesion, other = counted(probability, truth.astype(float))
    dice = [f1_score(truth.ravel(), probability.ravel() >= i / 100) for i in range(1, 100)]
    step = pixel_counts.best_step(lesion, other)
    assert dice[step - 1] == pytest.approx(max(dice))
    overlap = pixel_counts.overlap(lesion.sum(), lesion[step:].sum(), other[step:].sum())
    marked = probability.ravel() >= step / 100
    assert overlap[0] == pytest.approx(max(dice))
    assert overlap[1] == pytest.approx(jaccard_score(truth.ravel(), marked))


def test_where_there_is_no_lesion_nothing_is_defined():
    lesion, other = np.zeros(pixel_counts.BINS), np.ones(pixel_counts.BINS)
    assert np.isnan(pixel_counts.average_precision(lesion, other))
    assert np.isnan(pixel_counts.overlap(0, 0, 3)).all()
    assert pixel_counts.best_step(lesion, other) == 50


def test_a_threshold_belongs_to_its_step():
    assert pixel_counts.bins_of([0, 0.009, 0.29, 0.57, 0.58, 0.999, 1]).tolist() == [
        *(0, 0, 29, 57, 58, 99, 99)
    ]
