"""The figures of an epoch on the validation split, computed once more by NumPy and scikit-learn."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from dr_tfx.training import validation
from tests.helpers import datasets

COUNT, BATCH = 40, 7  # The last batch is smaller.


def examples(targets: np.ndarray) -> tuple[tf.data.Dataset, np.ndarray]:
    """Return batches, and the mean of each image, float64 (n,)."""
    images = np.random.default_rng(1).uniform(0, 255, (COUNT, 4, 4, 3)).astype(np.float32)
    batches = tf.data.Dataset.from_tensor_slices((images, targets[:, None])).batch(BATCH)
    return batches, images.astype(float).mean((1, 2, 3))


def judge(slope: float) -> keras.Model:
    """Return a model whose probability is the sigmoid of `slope` times the image's mean."""
    images = keras.Input((4, 4, 3))
    means = keras.layers.GlobalAveragePooling2D()(images)
    start = keras.initializers.Constant(slope / 3)
    score = keras.layers.Dense(1, activation="sigmoid", kernel_initializer=start)(means)
    return keras.Model(images, score)


def test_figures_are_exact_even_where_all_scores_lie_within_a_thousandth():
    targets = np.random.default_rng(2).integers(0, 2, COUNT).astype(np.float32)
    batches, means = examples(targets)
    slope = 2e-5
    found = validation.Validation(
        judge(slope), datasets.experiment(loss="cross_entropy", metrics=["kappa"]), batches
    ).figures(lambda: False)
    scores = 1 / (1 + np.exp(-slope * means))
    assert np.ptp(scores) < 1e-3
    by_histogram = keras.metrics.AUC(num_thresholds=1000)
    by_histogram.update_state(targets, scores)
    exact = roc_auc_score(targets, scores)
    assert abs(float(by_histogram.result()) - exact) > 0.01  # What this is all about.
    assert found == pytest.approx(
        {
            "loss": -np.mean(np.log(np.where(targets == 1, scores, 1 - scores))),
            "auc": exact,
            "accuracy": np.mean(targets == (scores > 0.5)),
            "predicted_positive": np.mean(scores > 0.5),
            "kappa": 0.0,  # All are called positive.
        },
        rel=1e-5,
    )


def test_every_pass_begins_anew():
    batches, _ = examples(np.arange(COUNT, dtype=np.float32) % 2)
    pass_over = validation.Validation(judge(0.01), datasets.experiment(), batches)
    assert pass_over.figures(lambda: False) == pass_over.figures(lambda: False)


def test_a_judge_within_a_strategy_gives_the_same_figures():
    """Its batches are filled up to one size, of which the figures must show nothing."""
    batches, _ = examples(np.arange(COUNT, dtype=np.float32) % 2)
    with tf.distribute.OneDeviceStrategy("/cpu:0").scope():
        within = judge(0.01)
    found, expected = (
        validation.Validation(model, datasets.experiment(), batches).figures(lambda: False)
        for model in (within, judge(0.01))
    )
    assert found == pytest.approx(expected, rel=1e-6)


def test_it_ends_in_the_middle_when_asked_to():
    asked = []

    def ended() -> bool:
        asked.append(None)
        return len(asked) == 2

    batches, _ = examples(np.zeros(COUNT, np.float32))
    assert validation.Validation(judge(1), datasets.experiment(), batches).figures(ended) is None
    assert len(asked) == 2


def test_no_area_under_the_curve_without_both_classes():
    batches, _ = examples(np.zeros(COUNT, np.float32))
    found = validation.Validation(judge(0.01), datasets.experiment(), batches).figures(
        lambda: False
    )
    assert np.isnan(found["auc"]) and np.isfinite(found["loss"])
