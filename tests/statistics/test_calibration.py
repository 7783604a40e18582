"""Calibration against scikit-learn, hand-made tables and scores whose truth is known."""

import numpy as np
import pytest
from scipy.special import expit, logit
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import brier_score_loss, log_loss

from dr_tfx.statistics import calibration
from dr_tfx.statistics.intervals import PatientBootstrap


def _drawn(n: int, *, seed: int = 0, boldness: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    """Targets, and scores whose logits are too large by `boldness`."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=n) * 1.5 - 1
    target = (rng.random(n) < expit(logits)).astype(int)
    return target, expit(boldness * logits)


def test_the_scaling_is_logistic_regressions_of_the_smoothed_targets():
    target, score = _drawn(2000, boldness=2.5)
    found = calibration.fit(target, score)
    # Each image counts for both classes: by Platt's target, and by what it lacks of 1.
    positive, negative = target.sum(), (1 - target).sum()
    wanted = np.where(target == 1, (positive + 1) / (positive + 2), 1 / (negative + 2))
    model = LogisticRegression(C=np.inf, tol=1e-10, max_iter=1000)
    model.fit(
        np.tile(logit(score), 2)[:, None],
        np.repeat([1, 0], 2000),
        sample_weight=np.r_[wanted, 1 - wanted],
    )
    assert found == pytest.approx((model.coef_[0, 0], model.intercept_[0]), rel=1e-3)
    assert found.slope == pytest.approx(1 / 2.5, rel=0.15)
    after = found(score)
    assert calibration.log_loss(target, after) < calibration.log_loss(target, score)
    assert (np.diff(after[np.argsort(score)]) >= 0).all()


def test_figures_agree_with_scikit_learn():
    target, score = _drawn(500)
    found = calibration.assess(target, score, PatientBootstrap(np.arange(500)))
    assert found["brier"]["value"] == pytest.approx(brier_score_loss(target, score), abs=1e-9)
    assert found["log_loss"] == pytest.approx(log_loss(target, score), abs=1e-9)
    assert found["brier"]["low"] < found["brier"]["value"] < found["brier"]["high"]


def test_the_error_of_a_table_made_by_hand():
    # Ten scores of .2 with 4 positives, ten of .7 with 7: two bins, |.4 - .2| / 2 + 0.
    score = np.repeat([0.2, 0.7], 10)
    target = np.r_[np.repeat([1, 0], [4, 6]), np.repeat([1, 0], [7, 3])]
    found = calibration.assess(target, score, PatientBootstrap(np.arange(20)))
    assert found["ece"] == pytest.approx(0.1)
    assert [row["images"] for row in found["bins"]] == [10, 10]
    assert [row["mean_score"] for row in found["bins"]] == pytest.approx([0.2, 0.7])
    assert [row["rate"]["value"] for row in found["bins"]] == [0.4, 0.7]
    # Were .2 and .7 right, the error would be E|B(10, .2) - 2| / 20 + E|B(10, .7) - 7| / 20 =
    # 1.2080 / 20 + ..., by the binomial distribution.
    from scipy.stats import binom

    k = np.arange(11)
    chance = sum(binom.pmf(k, 10, p) @ np.abs(k - 10 * p) for p in (0.2, 0.7)) / 20
    assert found["ece_if_calibrated"]["value"] == pytest.approx(chance, rel=0.05)


def test_ten_bins_of_equal_size_whatever_the_scores():
    target, score = _drawn(1000)
    found = calibration.assess(target, score**4, PatientBootstrap(np.arange(1000)))
    assert [row["images"] for row in found["bins"]] == [100] * 10
    highs = [row["high"] for row in found["bins"]]
    assert highs == sorted(highs) and highs[-1] == (score**4).max()


def test_right_probabilities_err_no_more_than_chance_explains():
    inside = 0
    for seed in range(100):
        target, score = _drawn(200, seed=seed)
        found = calibration.assess(target, score, PatientBootstrap(np.arange(200), resamples=100))
        inside += found["ece"] <= found["ece_if_calibrated"]["high"]
        if seed == 0:
            assert not calibration.notes(target, 1.0, found)
    assert inside >= 92  # 97.5 expected.


def test_scores_of_classes_made_equally_frequent_become_probabilities():
    target, score = _drawn(1500)
    shifted = expit(logit(score) + 1.5)  # As if the positives had been seen 4.5 times as often.
    everyone = PatientBootstrap(np.arange(1500), resamples=100)
    (note,) = calibration.notes(target, 1.0, calibration.assess(target, shifted, everyone))
    assert "more than chance explains" in note and "Do not read the scores as prob" in note
    found = calibration.fit(target, shifted)
    assert found == pytest.approx((1, -1.5), abs=0.2)
    assert not calibration.notes(
        target, found.slope, calibration.assess(target, found(shifted), everyone)
    )


@pytest.mark.parametrize(
    ("target", "score", "expected"),
    [
        ([0, 1], [0.5, 0.5], (0.5, 0.5)),  # Nothing to tell by.
        ([0, 1], [0.4, 0.6], (1 / 3, 2 / 3)),  # Wholly separated: Platt's targets.
        ([0, 1], [0.0, 1.0], None),
        ([0, 1], [0.6, 0.4], (0.5, 0.5)),  # The wrong way round: as flat as may be.
        ([0, 1], [1.0, 0.0], None),
    ],
)
def test_degenerate_scores_have_a_scaling(target, score, expected):
    found = calibration.fit(target, score)
    after = found(score)
    if expected:
        assert after == pytest.approx(expected, abs=0.006)
    assessed = calibration.assess(target, after, PatientBootstrap(["a", "b"], resamples=100))
    assert np.isfinite([assessed["ece"], assessed["log_loss"], *found, *after]).all()
    notes = calibration.notes(target, found.slope, assessed)
    is_reversed = score[0] > score[1]
    assert any("end of its range" in note for note in notes) == (is_reversed or 0 in score)


def test_referring_the_uncertain_leaves_the_easy():
    # Threshold .5; distance grows with the number, and only the nearest three are wrong.
    p = 0.5 + np.array([0.01, -0.02, 0.03, -0.1, 0.2, -0.3, 0.35, -0.4, 0.45, -0.49])
    target = np.array([0, 1, 0, 0, 1, 0, 1, 0, 1, 0])
    curve = calibration.referral_curve(
        target, p >= 0.5, np.abs(p - 0.5), PatientBootstrap(np.arange(10))
    )
    at = {row["fraction"]: row for row in curve}
    assert at[0]["accuracy"]["value"] == 0.7 and at[0]["images"] == 10
    assert at[0.1]["accuracy"]["value"] == pytest.approx(7 / 9)
    assert at[0.3]["accuracy"]["value"] == 1 and at[0.3]["images"] == 7
    assert at[0.3]["majority_rate"] == pytest.approx(4 / 7)
    # Of the four that are left, two are positive; none of them can be told to be always right.
    assert at[0.6]["sensitivity"] == pytest.approx({"value": 1, "low": 0.3424, "high": 1}, abs=1e-4)
    assert [row["images"] for row in curve] == sorted(
        (row["images"] for row in curve), reverse=True
    )
    assert curve[-1]["images"] >= 1


def test_certainty_is_alike_on_both_sides_of_any_threshold():
    found = calibration.certainty([0.0, 0.4, 0.8, 0.9, 1.0], 0.8)
    assert found == pytest.approx([1, 0.5, 0, 0.5, 1])
    for end in (0.0, 1.0):
        assert np.isfinite(calibration.certainty([0.0, 1.0], end)).all()


def test_two_images_have_a_referral_curve():
    curve = calibration.referral_curve(
        [0, 1], [False, True], [0.1, 0.1], PatientBootstrap(["a", "b"])
    )
    assert [row["images"] for row in curve][-1] == 1
    assert curve[-1]["sensitivity"]["value"] in (None, 1.0)
