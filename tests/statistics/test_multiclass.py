"""Figures of several classes are scikit-learn's, and intervals hold the figure's own resamples."""

import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    balanced_accuracy_score,
    cohen_kappa_score,
    log_loss,
    mean_absolute_error,
    roc_auc_score,
)

from dr_tfx.statistics import multiclass
from dr_tfx.statistics.intervals import PatientBootstrap

CLASSES = 5


def drawn(seed: int, n: int = 300):
    """Grades, probabilities that know something of them, and decisions."""
    rng = np.random.default_rng(seed)
    truth = rng.choice(CLASSES, n, p=[0.5, 0.1, 0.25, 0.1, 0.05])
    logits = rng.normal(size=(n, CLASSES)) - 0.4 * np.abs(truth[:, None] - np.arange(CLASSES))
    probability = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    return truth, probability, probability.argmax(axis=1)


@pytest.mark.parametrize("seed", range(3))
def test_figures_of_decisions_are_those_of_scikit_learn(seed):
    truth, _, decided = drawn(seed)
    counts = multiclass.confusion(truth, decided, CLASSES)
    for figure, expected in (
        (multiclass.accuracy, accuracy_score(truth, decided)),
        (multiclass.balanced_accuracy, balanced_accuracy_score(truth, decided)),
        (multiclass.mean_distance, mean_absolute_error(truth, decided)),
        (multiclass.quadratic_kappa, cohen_kappa_score(truth, decided, weights="quadratic")),
    ):
        assert figure(counts) == pytest.approx(expected, abs=1e-9)
    stacked = np.stack([counts, counts.T])
    assert multiclass.quadratic_kappa(stacked)[1] == multiclass.quadratic_kappa(counts.T)


def test_a_far_error_costs_the_square_of_a_near_one():
    assert multiclass.costs(CLASSES)[0].tolist() == [0, 1, 4, 9, 16]


def test_one_answer_has_no_kappa_and_one_grade_has_none_at_all():
    truth = np.array([0, 0, 1, 4])
    constant = multiclass.confusion(truth, np.full(4, 2), CLASSES)
    assert multiclass.quadratic_kappa(constant) == 0
    alone = multiclass.confusion([2, 2], [2, 2], CLASSES)
    assert np.isnan(multiclass.quadratic_kappa(alone))
    assert multiclass.balanced_accuracy(alone) == 1  # Of the one class that there is.


def test_ranking_and_likelihood_are_those_of_scikit_learn():
    truth, probability, _ = drawn(3)
    expected = roc_auc_score(truth, probability, multi_class="ovr", average="macro")
    assert multiclass.macro_auc(truth, probability) == pytest.approx(expected, abs=1e-12)
    assert multiclass.log_loss(truth, probability) == pytest.approx(log_loss(truth, probability))
    assert np.isnan(multiclass.macro_auc([1, 1], probability[:2]))


def test_the_ranked_probability_score_by_hand():
    # P(> 0) = .5 and P(> 1) = .2 against 1 and 0.
    scores = multiclass.ranked_probability_scores([1], [[0.5, 0.3, 0.2]])
    assert scores == pytest.approx([((0.5 - 1) ** 2 + 0.2**2) / 2])
    wrong = multiclass.ranked_probability_scores([0, 0], np.eye(5)[[1, 4]])
    assert wrong == pytest.approx([1 / 4, 1])


def test_probability_above_never_rises():
    rng = np.random.default_rng(0)
    probability = rng.dirichlet(np.full(CLASSES, 0.1), 500)
    above = multiclass.above(probability)
    assert above.shape == (500, CLASSES - 1)
    assert (np.diff(above, axis=1) <= 0).all() and (above <= 1).all() and (above >= 0).all()
    assert above[:, 0] == pytest.approx(1 - probability[:, 0])


def test_a_temperature_mends_probabilities_that_are_too_sure():
    rng = np.random.default_rng(1)
    right = rng.dirichlet(np.full(CLASSES, 0.7), 4000)
    truth = (rng.random(4000)[:, None] > right.cumsum(axis=1)).sum(axis=1)
    sure = multiclass.apply_temperature(right, 0.5)
    temperature = multiclass.fit_temperature(truth, sure)
    assert temperature == pytest.approx(2, abs=0.15)
    assert multiclass.apply_temperature(sure, 2.0) == pytest.approx(right, abs=1e-6)


def test_intervals_are_of_resamples_of_patients():
    truth, _, decided = drawn(4)
    patient = np.arange(len(truth)) // 2
    bootstrap = PatientBootstrap(patient, resamples=200)
    found = multiclass.ClassFigures(truth, CLASSES, bootstrap).decisions(decided)
    assert found["kappa"].value == pytest.approx(
        cohen_kappa_score(truth, decided, weights="quadratic"), abs=1e-9
    )
    # The same draws by hand: every resample is a list of patients, with all of their images.
    rng, values = np.random.default_rng(0), []
    for _ in range(200):
        drawn_patients = rng.integers(patient.max() + 1, size=patient.max() + 1)
        rows = np.concatenate([np.flatnonzero(patient == p) for p in drawn_patients])
        values.append(cohen_kappa_score(truth[rows], decided[rows], weights="quadratic"))
    low, high = np.quantile(values, [0.025, 0.975], method="inverted_cdf")
    assert (found["kappa"].low, found["kappa"].high) == pytest.approx((low, high), abs=1e-9)


def test_a_difference_from_itself_is_nothing_and_from_guessing_is_the_figure():
    truth, _, decided = drawn(5)
    figures = multiclass.ClassFigures(
        truth, CLASSES, PatientBootstrap(np.arange(len(truth)), resamples=100)
    )
    same = figures.differences(decided, decided)
    assert all(tuple(estimate) == (0, 0, 0) for estimate in same.values())
    from_one = figures.differences(decided, np.zeros_like(decided))
    assert from_one["kappa"] == pytest.approx(figures.decisions(decided)["kappa"], abs=1e-9)
