"""Known answers: published tables, intervals worked by hand, scikit-learn."""

import numpy as np
import pytest
from sklearn import metrics as theirs

from dr_tfx.statistics import metrics

NAMES = ("normal", "abnormal")
REFERENCE = [[4958, 205], [1398, 465]]  # A published confusion matrix, [[TN, FP], [FN, TP]].


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


def test_every_rate_agrees_with_scikit_learn():
    rng = np.random.default_rng(0)
    for _ in range(20):
        counts = rng.integers(1, 30, size=(2, 2))
        pair = np.repeat([0, 0, 1, 1], counts.ravel()), np.repeat([0, 1, 0, 1], counts.ravel())
        recall = theirs.recall_score(*pair), theirs.recall_score(*pair, pos_label=0)
        lr = theirs.class_likelihood_ratios(*pair)
        expected = {
            "accuracy": theirs.accuracy_score(*pair),
            "balanced_accuracy": theirs.balanced_accuracy_score(*pair),
            "f1": theirs.f1_score(*pair),
            "kappa": theirs.cohen_kappa_score(*pair, weights="quadratic"),
            "lr_negative": lr[1],
            "lr_positive": lr[0],
            "mcc": theirs.matthews_corrcoef(*pair),
            "npv": theirs.precision_score(*pair, pos_label=0),
            "ppv": theirs.precision_score(*pair),
            "sensitivity": recall[0],
            "specificity": recall[1],
        }
        assert metrics.rate_values(*counts.ravel()) == pytest.approx(expected, abs=1e-9)


def test_rates_of_a_collapsed_model_are_undefined_rather_than_wrong():
    rates = metrics.rate_values(735, 0, 265, 0)
    assert (rates["mcc"], rates["kappa"], rates["f1"]) == (0, 0, 0)
    assert np.isnan(rates["ppv"]) and np.isnan(rates["lr_positive"])
    assert rates["lr_negative"] == 1
    perfect = metrics.rate_values(7, 0, 0, 3)
    assert np.isposinf(perfect["lr_positive"]) and perfect["lr_negative"] == 0
    assert metrics.Estimate(np.inf, 2.0, np.inf).to_dict() == {
        "value": None,
        "low": 2.0,
        "high": None,
    }


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
