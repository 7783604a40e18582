"""Known answers: published tables, intervals worked by hand, scikit-learn and simulation."""

import time

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from dr_tfx import metrics

NAMES = ("normal", "abnormal")
REFERENCE = [[4958, 205], [1398, 465]]  # A published confusion matrix, [[TN, FP], [FN, TP]].


def _examples(n: int, *, seed: int = 0, shift: float = 1.0) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    target = (rng.random(n) < 0.3).astype(int)
    target[:2] = 0, 1
    # Rounded, so that there are ties within and between the classes.
    return target, np.round(1 / (1 + np.exp(-rng.normal(size=n) - shift * target)), 2)


def test_the_published_table_comes_out_of_its_confusion_matrix_to_the_printed_digit():
    table = metrics.class_table(REFERENCE, NAMES)
    printed = {
        name: tuple(f"{row[key]:.4f}" for key in ("precision", "recall", "f1-score"))
        for name, row in table.items()
    }
    assert printed == {
        "normal": ("0.7801", "0.9603", "0.8608"),
        "abnormal": ("0.6940", "0.2496", "0.3672"),
        "macro avg": ("0.7370", "0.6049", "0.6140"),
        "weighted avg": ("0.7572", "0.7718", "0.7299"),
    }
    assert [row["support"] for row in table.values()] == [5163, 1863, 7026, 7026]
    rates = metrics.rates(REFERENCE)
    assert f"{rates['accuracy'].value:.2%}" == "77.18%"
    assert f"{rates['sensitivity'].value:.2%}" == "24.96%"
    assert rates["ppv"].value == table["abnormal"]["precision"]
    assert rates["npv"].value == table["normal"]["precision"]


def test_the_published_model_raises_the_alarm_it_deserves_and_no_other():
    auc = metrics.Estimate(0.69, 0.68, 0.70)
    found = metrics.alarms(REFERENCE, auc, class_names=NAMES, patients=[2600, 1000])
    assert len(found) == 1
    assert found[0].startswith("The sensitivity is 25.0 %")


@pytest.mark.parametrize(
    ("successes", "trials", "low", "high"),
    [
        # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3.
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
        # By hand: z2 = 3.8415; 10/10 has low = 10 / (10 + z2); 5/10 has centre 1/2 and
        # half width 1.95996 sqrt(.25/10 + z2/400) / (1 + z2/10) = .2634.
        (10, 10, 0.7225, 1.0),
        (5, 10, 0.2366, 0.7634),
    ],
)
def test_wilson_against_published_values(successes, trials, low, high):
    estimate = metrics.wilson(successes, trials)
    assert estimate.value == successes / trials
    assert (estimate.low, estimate.high) == (
        pytest.approx(low, abs=5e-5),
        pytest.approx(high, abs=5e-5),
    )


def test_wilson_without_trials_is_undefined_and_bad_counts_are_refused():
    assert metrics.wilson(0, 0).to_dict() == {"value": None, "low": 0.0, "high": 1.0}
    with pytest.raises(ValueError, match="3 successes in 2 trials"):
        metrics.wilson(3, 2)


def test_auc_agrees_with_scikit_learn_and_the_seed_decides_the_interval():
    target, score = _examples(500)
    patient = np.arange(500) // 2
    first = metrics.auc_interval(target, score, patient, resamples=200, seed=1)
    assert first.value == pytest.approx(roc_auc_score(target, score), abs=1e-9)
    assert first.low < first.value < first.high
    assert first == metrics.auc_interval(target, score, patient, resamples=200, seed=1)
    assert first != metrics.auc_interval(target, score, patient, resamples=200, seed=2)


def test_every_resample_is_scikit_learns_weighted_auc(monkeypatch):
    target, score = _examples(60)
    patient = np.array([f"p{i // 3}" for i in range(60)])
    drawn = np.random.default_rng(5).integers(20, size=(20, 7))  # What the function draws itself.
    expected = []
    for column in drawn.T:
        weight = np.bincount(column, minlength=20)[np.arange(60) // 3]
        expected.append(roc_auc_score(target, score, sample_weight=weight))
    quantiles = {}
    real = np.quantile
    monkeypatch.setattr(np, "quantile", lambda v, q: quantiles.update(v=v) or real(v, q))
    metrics.auc_interval(target, score, patient, resamples=7, seed=5)
    np.testing.assert_allclose(quantiles["v"], expected, atol=1e-9)


def test_the_bootstrap_covers_the_truth():
    # Two normal classes one standard deviation apart: AUC = Phi(1 / sqrt 2) = .7602.
    rng, covered = np.random.default_rng(3), 0
    target = np.repeat([0, 1], 60)
    for trial in range(200):
        estimate = metrics.auc_interval(
            target, rng.normal(size=120) + target, np.arange(120), resamples=300, seed=trial
        )
        covered += estimate.low <= 0.76025 <= estimate.high
    assert 0.90 <= covered / 200 <= 0.99


def test_copied_eyes_do_not_narrow_the_interval_of_patients():
    target, score = (np.repeat(a, 2) for a in _examples(300))
    by_patient = metrics.auc_interval(target, score, np.arange(600) // 2)
    by_image = metrics.auc_interval(target, score, np.arange(600))
    ratio = (by_patient.high - by_patient.low) / (by_image.high - by_image.low)
    assert ratio == pytest.approx(np.sqrt(2), rel=0.12)


def test_one_class_has_no_auc():
    with pytest.raises(ValueError, match=r"got classes \[1\]"):
        metrics.auc_interval([1, 1], [0.1, 0.2], ["a", "b"])


def test_the_reference_grid_has_41_exact_thresholds():
    values = metrics.grid_values((0.30, 0.70, 0.01))
    assert values.tolist() == [round(0.01 * i, 2) for i in range(30, 71)]
    with pytest.raises(ValueError, match="step > 0"):
        metrics.grid_values((0.3, 0.7, 0.0))


def test_threshold_table_agrees_with_the_confusion_matrix_at_every_threshold():
    target, score = _examples(400)
    table = metrics.threshold_table(target, score, metrics.grid_values((0.0, 1.0, 0.01)))
    for row in table.itertuples():
        rates = metrics.rates(metrics.confusion_matrix(target, score, row.threshold))
        for name in ("accuracy", "sensitivity", "specificity"):
            assert getattr(row, name) == pytest.approx(rates[name].value, abs=1e-12)


def test_rules_choose_what_they_promise():
    target = [0, 0, 0, 0, 0, 0, 1, 1]
    score = [0.1, 0.1, 0.1, 0.1, 0.35, 0.35, 0.35, 0.55]
    grid = (0.30, 0.70, 0.01)
    # Accuracy: .36 to .55 all err once; the lowest wins. Youden: from .1 up to .35, J = 1 - 2/6.
    assert metrics.choose_threshold(target, score, rule="accuracy", grid=grid) == 0.36
    youden = metrics.choose_threshold(target, score, rule="youden", grid=grid)
    assert youden == pytest.approx(0.225)
    with pytest.raises(ValueError, match="unknown threshold rule 'f1'"):
        metrics.choose_threshold(target, score, rule="f1", grid=grid)


def test_youden_survives_a_constant_score():
    assert metrics.choose_threshold([0, 1], [0.4, 0.4], rule="youden", grid=(0.3, 0.7, 0.1)) == 0.4


@pytest.mark.parametrize(
    ("confusion", "auc", "patients", "words"),
    [
        (
            [[735, 0], [265, 0]],
            (0.7, 0.68, 0.72),
            (500, 200),
            "100.0 % of the decisions are 'normal'",
        ),
        (
            [[30, 705], [2, 263]],
            (0.7, 0.68, 0.72),
            (500, 200),
            "96.8 % of the decisions are 'abnormal'",
        ),
        ([[600, 135], [65, 200]], (0.5, 0.47, 0.53), (500, 200), "compatible with guessing"),
        ([[600, 135], [65, 200]], (0.2, 0.17, 0.23), (500, 200), "labels reversed"),
        ([[600, 135], [130, 135]], (0.7, 0.68, 0.72), (500, 200), "not clearly above 0.735"),
        ([[30, 5], [3, 12]], (0.9, 0.8, 0.97), (20, 9), "9 patients with 'abnormal' images"),
        ([[30, 5], [3, 12]], (0.9, 0.8, 0.97), (20, 9), "AUC 0.900 (0.800–0.970)"),
    ],
)
def test_alarms(confusion, auc, patients, words):
    found = metrics.alarms(confusion, metrics.Estimate(*auc), class_names=NAMES, patients=patients)
    assert any(words in sentence for sentence in found), found


def test_a_good_model_on_enough_patients_raises_no_alarm():
    auc = metrics.Estimate(0.95, 0.94, 0.96)
    assert not metrics.alarms([[690, 45], [30, 235]], auc, class_names=NAMES, patients=[400, 180])


def test_a_rare_class_alone_is_no_collapse():
    # 96 % normal and 95.5 % of the decisions normal is what a good model does.
    auc = metrics.Estimate(0.98, 0.97, 0.99)
    confusion = [[9500, 100], [50, 350]]
    assert not metrics.alarms(confusion, auc, class_names=NAMES, patients=[4800, 300])


def test_two_thousand_resamples_of_seven_thousand_images_take_less_than_a_second():
    target, score = _examples(7000)
    started = time.process_time()
    metrics.auc_interval(target, score, np.arange(7000) // 2)
    assert time.process_time() - started < 1
