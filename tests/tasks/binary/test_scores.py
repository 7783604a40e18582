"""The probability of class 1 over several views, and the words by which a decision is told."""

import numpy as np
import pandas as pd
import pytest
from scipy import special

from dr_tfx import tasks
from dr_tfx.tasks.binary.scores import combine
from tests.helpers import datasets


@pytest.mark.parametrize("how", ["probability", "logit"])
def test_views_are_combined_as_scipy_does(how):
    views = np.random.default_rng(4).beta(0.3, 0.3, (50, 5)).clip(1e-6, 1 - 1e-6)
    expected = {
        "probability": views.mean(axis=1),
        "logit": special.expit(special.logit(views).mean(axis=1)),
    }
    assert np.allclose(combine(views, how), expected[how], atol=1e-12)


def test_certain_views_give_a_probability_all_the_same():
    assert combine(np.array([[0.0, 1.0]]), "logit") == pytest.approx(0.5)
    certain = combine(np.array([[1.0, 1.0], [0.0, 0.0]]), "logit")
    assert np.isfinite(certain).all() and certain[0] > 1 - 1e-6 and certain[1] < 1e-6


@pytest.fixture
def scores():
    return tasks.of(datasets.experiment()).scores


TABLE = pd.DataFrame({"score": [0.1, 0.3, 0.3, 0.9]})


def test_the_rule_names_the_class_and_the_threshold(scores):
    assert scores.rule(datasets.fitted(0.3)) == (
        "The decision is 'positive' from a score of 0.300 up."
    )
    assert "from a score of 0.500 up" in scores.rule(None)


def test_a_decision_is_as_wrong_as_its_score_is_far_from_the_threshold(scores):
    groups = np.array([1, 1, 0, 0])  # Missed, correct, a false alarm at the threshold, and one.
    wrongness = scores.wrongness(TABLE, groups, datasets.fitted(0.3))
    np.testing.assert_allclose(wrongness, [0.2, 0, 0, 0.6], atol=1e-12)
    np.testing.assert_allclose(scores.wrongness(TABLE, groups, None), [0.4, 0.2, -0.2, 0.4])


def test_the_figures_have_the_published_names(scores):
    names = [scores.figure_name(group) for group in (0, 1)]
    assert names == ["gradcam_normal.png", "gradcam_abnormal.png"]


def test_the_reading_agrees_with_the_rule(scores):
    readings = scores.read(TABLE, datasets.fitted(0.3))
    assert [r.decision for r in readings] == ["negative", "positive", "positive", "positive"]
    assert [r.number for r in readings] == TABLE["score"].tolist()
    assert [tuple(r.answer) for r in readings] == [scores.answer_names] * 4
    assert [r.is_suspected for r in readings] == [False, True, True, True]
    for reading in readings:
        told = reading.probabilities
        assert (
            told["positive"] == reading.answer["probability"] == pytest.approx(1 - told["negative"])
        )
