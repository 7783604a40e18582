"""Intervals against scikit-learn, published values and simulated truths."""

import numpy as np
import pytest
from sklearn.metrics import (
    average_precision_score,
    precision_recall_curve,
    roc_auc_score,
    roc_curve,
)

from dr_tfx.statistics import metrics
from dr_tfx.statistics.intervals import PatientBootstrap


def _examples(n: int, *, seed: int = 0, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = (rng.random(n) < 0.3).astype(int)
    target[:2] = 0, 1
    return target, np.round(1 / (1 + np.exp(-rng.normal(size=n) - shift * target)), 2)


def _width(estimate: metrics.Estimate) -> float:
    return estimate.high - estimate.low


def test_figures_agree_with_scikit_learn_and_the_seed_decides_the_interval():
    target, score = _examples(500)
    patient = np.arange(500) // 2
    first, again, other = (
        PatientBootstrap(patient, resamples=200, seed=seed).ranking(target, score)
        for seed in (1, 1, 2)
    )
    assert first["auc"].value == pytest.approx(roc_auc_score(target, score), abs=1e-9)
    expected = average_precision_score(target, score)
    assert first["average_precision"].value == pytest.approx(expected, abs=1e-9)
    assert all(e.low < e.value < e.high for e in first.values())
    assert first == again != other


def test_every_resample_is_what_scikit_learn_says_of_its_weights():
    target, score = _examples(60)
    names = np.array([f"p{i // 3}" for i in range(60)])
    bootstrap = PatientBootstrap(names, resamples=7, seed=5)
    weights = bootstrap.sums(np.eye(60)).T.astype(int)  # (7, 60): how often each image is there.
    assert (weights.sum(axis=1) == 60).all()
    assert all((weights[:, names == p][:, 0] == weights[:, names == p].T).all() for p in set(names))
    ranked = bootstrap.ranking_samples(target, score)
    rates = bootstrap.rate_samples(target, score >= 0.6)
    for i, weight in enumerate(weights):
        t, s = np.repeat(target, weight), np.repeat(score, weight)
        assert ranked[0, i] == pytest.approx(roc_auc_score(t, s), abs=1e-9)
        assert ranked[1, i] == pytest.approx(average_precision_score(t, s), abs=1e-9)
        assert rates["sensitivity"][i] == pytest.approx(np.mean(s[t == 1] >= 0.6), abs=1e-12)


def test_blocks_change_nothing(monkeypatch):
    target, score = _examples(60)
    whole = PatientBootstrap(np.arange(60), resamples=50)
    expected = whole.ranking(target, score), whole.rates(target, score >= 0.6)
    monkeypatch.setattr("dr_tfx.statistics.intervals._BLOCK", 1)
    for before, after in zip(
        expected, (whole.ranking(target, score), whole.rates(target, score >= 0.6)), strict=True
    ):
        assert before.keys() == after.keys()
        for name in before:
            assert after[name] == pytest.approx(before[name], abs=1e-12)


def test_the_intervals_cover_the_truth():
    # Two normal classes one standard deviation apart: AUC = Phi(1 / sqrt 2) = .7602; at the middle
    # between them sensitivity = specificity = Phi(.5) = .6915, so J, LR and MCC follow.
    rng, trials = np.random.default_rng(3), 300
    target, rate = np.repeat([0, 1], 60), 0.691462
    truth = {
        "auc": 0.760250,
        "accuracy": rate,
        "balanced_accuracy": rate,
        "lr_positive": rate / (1 - rate),
        "mcc": 2 * rate - 1,
        "ppv": rate,
        "sensitivity": rate,
    }
    bootstrap = PatientBootstrap(np.arange(120), resamples=400)
    covered = dict.fromkeys(truth, 0)
    for _ in range(trials):
        score = rng.normal(size=120) + target
        found = bootstrap.ranking(target, score) | bootstrap.rates(target, score >= 0.5)
        for name, value in truth.items():
            covered[name] += found[name].low <= value <= found[name].high
    # .95 and four standard errors of 300 trials.
    assert all(0.90 <= count / trials <= 1 for count in covered.values()), covered


def test_a_rate_of_two_alike_eyes_is_covered_also_near_one():
    # 40 patients with two eyes that always agree, right with probability .97. As independent
    # images, Wilson's interval of 80 covers too seldom; percentiles of the bootstrap, too.
    rng, trials, covered, plain, percentile = np.random.default_rng(0), 300, 0, 0, 0
    bootstrap = PatientBootstrap(np.arange(80) // 2, resamples=400)
    everything = np.ones((80, 1), bool)
    for _ in range(trials):
        right = np.repeat(rng.random(40) < 0.97, 2)
        (found,) = bootstrap.proportions(right, everything)
        covered += found.low <= 0.97 <= found.high
        image = metrics.wilson(int(right.sum()), 80)
        plain += image.low <= 0.97 <= image.high
        mean = bootstrap.mean(right)
        percentile += mean.low <= 0.97 <= mean.high
    assert covered / trials >= 0.93
    assert max(plain, percentile) / trials < 0.90


def test_independent_images_have_nearly_wilsons_interval():
    right = np.random.default_rng(0).random(400) < 0.9
    (found,) = PatientBootstrap(np.arange(400)).proportions(right, np.ones((400, 1), bool))
    expected = metrics.wilson(int(right.sum()), 400)
    assert found == pytest.approx(expected, abs=0.003)
    assert _width(found) >= _width(expected) - 1e-12


@pytest.mark.parametrize("what", ["auc", "average_precision", "sensitivity", "f1", "mcc"])
def test_copied_eyes_do_not_narrow_the_interval_of_patients(what):
    target, score = (np.repeat(a, 2) for a in _examples(300))
    by_patient, by_image = (
        (b.ranking(target, score) | b.rates(target, score >= 0.6))[what]
        for b in (PatientBootstrap(np.arange(600) // 2), PatientBootstrap(np.arange(600)))
    )
    assert _width(by_patient) / _width(by_image) == pytest.approx(np.sqrt(2), rel=0.12)


def test_what_is_perfect_is_not_certain():
    target = np.repeat([0, 1], [30, 20])
    score = np.where(target == 1, 0.9, 0.1)
    bootstrap = PatientBootstrap(np.arange(50))
    found = bootstrap.rates(target, score >= 0.5)
    # By hand: n / (n + z2), z2 = 3.8415; what is made of both takes both lower ends.
    low = {"sensitivity": 20 / 23.8415, "specificity": 30 / 33.8415}
    for name, end in low.items():
        assert found[name] == pytest.approx((1, end, 1), abs=1e-4)
    expected = (low["sensitivity"] + low["specificity"]) / 2
    assert found["balanced_accuracy"] == pytest.approx((1, expected, 1), abs=1e-4)
    assert found["lr_positive"].low == pytest.approx(
        low["sensitivity"] / (1 - low["specificity"]), abs=1e-2
    )
    assert found["lr_positive"].to_dict()["value"] is None
    assert 0 < found["mcc"].low < 1 and 0 < found["f1"].low < 1
    ranked = bootstrap.ranking(target, score)
    # The end solves (1 - A)^2 = z2 V(A), Hanley and McNeil's variance at the mean of both sizes.
    end, star = ranked["auc"].low, 24
    variance = end * (1 - end) / 600
    variance *= 1 + star * (1 - end) / (2 - end) + star * end / (1 + end)
    assert (1 - end) ** 2 == pytest.approx(3.841459 * variance, rel=1e-6)
    assert 0.9 < end < 1
    reversed_ = bootstrap.ranking(target, 1 - score)["auc"]
    assert reversed_ == pytest.approx((0, 0, 1 - end))


@pytest.mark.parametrize(
    ("target", "score", "patient"),
    [
        ([0, 1], [0.2, 0.8], ["a", "b"]),
        ([0, 1, 0, 1, 1], [0.5] * 5, list("abcde")),
        ([0, 1, 0, 1, 1], [0.1, 0.7, 0.3, 0.2, 0.9], ["a"] * 5),
        ([0, 0, 0, 0, 1], [0.1, 0.7, 0.3, 0.2, 0.9], list("aabbc")),
        ([0, 1, 1, 1, 1], [0.0, 0.0, 1.0, 1.0, 1.0], list("abcde")),
    ],
)
def test_degenerate_input_has_wide_intervals(target, score, patient):
    bootstrap = PatientBootstrap(patient, resamples=100)
    ranked = bootstrap.ranking(target, score)
    rates = bootstrap.rates(target, np.asarray(score) >= 0.5)
    for estimate in [*ranked.values(), *rates.values()]:
        assert not estimate.low > estimate.value + 1e-12
        assert not estimate.high < estimate.value - 1e-12
    assert _width(rates["accuracy"]) > 0.3
    if len(set(score)) > 1:
        assert _width(ranked["auc"]) > 0.1


def test_a_constant_score_has_an_auc_of_a_half_for_certain():
    found = PatientBootstrap(np.arange(20), resamples=100).ranking([0, 1] * 10, [0.3] * 20)
    assert found["auc"] == (0.5, 0.5, 0.5)


def test_one_class_has_no_ranking():
    found = PatientBootstrap(["a", "b"]).ranking([1, 1], [0.1, 0.2])
    assert all(np.isnan(figure).all() for figure in found.values())


def test_patients_are_drawn_within_their_groups():
    group = np.repeat([0, 1, 2], [2, 5, 9])
    bootstrap = PatientBootstrap(np.arange(16), resamples=200, within=group)
    drawn = bootstrap.sums(group[:, None] == np.arange(3))
    assert (drawn == [[2], [5], [9]]).all()
    # What is the same within each group does not vary at all; over all patients it would.
    mean = bootstrap.mean(group == 1)
    assert (mean.low, mean.value, mean.high) == (5 / 16, 5 / 16, 5 / 16)
    whole = PatientBootstrap(np.arange(16), resamples=200).mean(group == 1)
    assert whole.low < 5 / 16 < whole.high


def test_one_group_is_no_group():
    values = np.arange(12.0)
    one = PatientBootstrap(np.arange(12) // 2, resamples=100, within=np.zeros(12))
    assert one.mean(values) == PatientBootstrap(np.arange(12) // 2, resamples=100).mean(values)


def test_bands_hold_the_curves_that_scikit_learn_draws_of_the_resamples():
    target, score = _examples(60)
    names = np.array([f"p{i // 3}" for i in range(60)])
    bootstrap, at = PatientBootstrap(names, resamples=40, seed=5), np.linspace(0, 1, 11)
    roc, precision_recall = [], []
    for weights in bootstrap.sums(np.eye(60)).T:
        given = {"sample_weight": weights, "drop_intermediate": False}
        alarmed, found, _ = roc_curve(target, score, **given)
        roc.append(np.interp(at, alarmed, found))
        precision, recall, _ = precision_recall_curve(target, score, **given)
        # Its last point is not one of the scores; it is where nothing is called.
        precision_recall.append(np.interp(at, recall[-2::-1], precision[-2::-1]))
    bands = bootstrap.bands(target, score, at)
    ends = np.quantile(roc, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(bands["roc"], ends, atol=1e-12)
    ends = np.quantile(precision_recall, [0.025, 0.975], axis=0)
    np.testing.assert_allclose(bands["precision_recall"][:, 1:], ends[:, 1:], atol=1e-12)
    one_class = PatientBootstrap(["a", "b"], resamples=3).bands([1, 1], [0.2, 0.3], at)
    assert one_class["roc"].shape == (2, 0)
