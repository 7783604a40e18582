"""The probability of class 1 over several views."""

import numpy as np
import pytest
from scipy import special

from dr_tfx.tasks.binary import scores


@pytest.mark.parametrize("how", ["probability", "logit"])
def test_views_are_combined_as_scipy_does(how):
    views = np.random.default_rng(4).beta(0.3, 0.3, (50, 5)).clip(1e-6, 1 - 1e-6)
    expected = {
        "probability": views.mean(axis=1),
        "logit": special.expit(special.logit(views).mean(axis=1)),
    }
    assert np.allclose(scores.combine(views, how), expected[how], atol=1e-12)


def test_certain_views_give_a_probability_all_the_same():
    assert scores.combine(np.array([[0.0, 1.0]]), "logit") == pytest.approx(0.5)
    certain = scores.combine(np.array([[1.0, 1.0], [0.0, 0.0]]), "logit")
    assert np.isfinite(certain).all() and certain[0] > 1 - 1e-6 and certain[1] < 1e-6
