"""Paired differences against the published formula, pair by pair, and against simulation."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from dr_tfx.statistics.differences import delong, paired_differences


def _two_scores(n: int, *, seed: int, gain: float = 0.0) -> tuple[np.ndarray, ...]:
    """Targets and two scores of a common part; the first is better by `gain`. With ties."""
    rng = np.random.default_rng(seed)
    target = (rng.random(n) < 0.4).astype(int)
    target[:2] = 0, 1
    common = rng.normal(size=n) + target
    first = common + gain * target + rng.normal(size=n) / 2
    return target, np.round(first, 1), np.round(common + rng.normal(size=n) / 2, 1)


def _pairwise(target, first, second) -> tuple[float, float]:
    """DeLong et al. 1988, equations (5) to (8), with the kernel 1, 1/2, 0 written out."""
    components = []
    for score in (first, second):
        kernel = np.array(
            [
                [1.0 if x > y else 0.5 if x == y else 0.0 for y in score[target == 0]]
                for x in score[target == 1]
            ]
        )
        components.append((kernel.mean(axis=1), kernel.mean(axis=0), kernel.mean()))
    s10 = np.cov(components[0][0], components[1][0])
    s01 = np.cov(components[0][1], components[1][1])
    s = s10 / (target == 1).sum() + s01 / (target == 0).sum()
    contrast = np.array([1, -1])
    return components[0][2] - components[1][2], float(contrast @ s @ contrast)


@pytest.mark.parametrize("seed", range(4))
def test_delong_is_the_formula_pair_by_pair(seed):
    target, first, second = _two_scores(40, seed=seed, gain=0.5)
    found, p = delong(target, first, second)
    value, variance = _pairwise(target, first, second)
    assert value == pytest.approx(roc_auc_score(target, first) - roc_auc_score(target, second))
    half = norm.ppf(0.975) * np.sqrt(variance)
    assert found == pytest.approx((value, value - half, value + half), abs=1e-9)
    assert p == pytest.approx(2 * (1 - norm.cdf(abs(value) / np.sqrt(variance))), abs=1e-9)
    # Every image its own patient is the same; copies of every image make no one surer.
    assert delong(target, first, second, np.arange(40))[0] == pytest.approx(found, abs=1e-12)
    copies = delong(*(np.repeat(a, 2) for a in (target, first, second)), np.arange(80) // 2)[0]
    assert copies == pytest.approx(found, abs=1e-12)


def test_eyes_of_both_classes_in_one_patient_count_together():
    # Obuchowski 1997: with clusters of both classes the covariance of their parts enters. The
    # bootstrap over patients knows nothing of the formula.
    rng = np.random.default_rng(1)
    patient = np.repeat(np.arange(400), 2)
    target = (rng.random(800) < 0.4).astype(int)
    common = target + np.repeat(rng.normal(size=400), 2)
    first, second = (common + rng.normal(size=800) * s for s in (0.5, 1.0))
    found, _ = delong(target, first, second, patient)
    resampled = paired_differences(target, first, second, patient, thresholds=(0.5, 0.5))["auc"]
    assert resampled.value == pytest.approx(found.value, abs=1e-12)
    assert resampled.high - resampled.low == pytest.approx(found.high - found.low, rel=0.1)


def test_under_no_difference_one_in_twenty_is_significant():
    p = [delong(*_two_scores(100, seed=seed))[1] for seed in range(400)]
    # .05 and four standard errors of 400 trials.
    assert 0.02 <= np.mean(np.array(p) < 0.05) <= 0.095


def test_differences_of_rates_are_those_of_the_rates():
    target, first, second = _two_scores(200, seed=0, gain=1.0)
    found = paired_differences(
        target, first, second, np.arange(200), thresholds=(0.8, 0.5), resamples=300
    )
    decided = first >= 0.8, second >= 0.5
    right = [np.mean(d[target == 1]) for d in decided], [np.mean(~d[target == 0]) for d in decided]
    assert found["sensitivity"].value == pytest.approx(right[0][0] - right[0][1])
    assert found["specificity"].value == pytest.approx(right[1][0] - right[1][1])
    assert found["auc"].low > 0  # A gain of a whole standard deviation.
    for estimate in found.values():
        assert estimate.low <= estimate.value <= estimate.high


def test_paired_intervals_cover_the_true_difference():
    # At .5 both scores find Phi(.5 / sqrt 1.25) of the positives: the true difference is 0.
    covered = 0
    for seed in range(200):
        target, first, second = _two_scores(120, seed=seed)
        found = paired_differences(
            target, first, second, np.arange(120), thresholds=(0.5, 0.5), resamples=200
        )
        covered += found["auc"].low <= 0 <= found["auc"].high
    assert 0.90 <= covered / 200 <= 0.99


def test_a_score_does_not_differ_from_itself():
    target, first, _ = _two_scores(50, seed=0)
    assert delong(target, first, first) == ((0, 0, 0), 1)
    found = paired_differences(target, first, first, np.arange(50), thresholds=(0.5, 0.5))
    assert set(found.values()) == {(0, 0, 0)}


def test_degenerate_pairs_do_not_crash():
    assert delong([0, 1], [0.1, 0.9], [0.9, 0.1]) == ((1, -1, 1), 1)
    assert delong([0, 1] * 5, [0.3] * 10, [0.3] * 10) == ((0, 0, 0), 1)
    assert delong([0, 1] * 5, [0.1, 0.9] * 5, [0.3] * 10, ["one"] * 10)[1] == 1
    paired_differences([0, 1], [0.1, 0.9], [0.9, 0.1], ["a", "a"], thresholds=(0.5, 0.5))
    for judge in (
        lambda: delong([1, 1], [0.1, 0.9], [0.9, 0.1]),
        lambda: paired_differences([0, 0], [0, 1], [0, 1], ["a", "b"], thresholds=(0.5, 0.5)),
    ):
        with pytest.raises(ValueError, match="got classes"):
            judge()
