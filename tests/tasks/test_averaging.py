"""The layers that give calibrated probabilities, computed with NumPy, for every kind and head."""

import numpy as np
import pandas as pd
import pytest
from scipy.special import expit, logit, softmax

from dr_tfx import tasks
from dr_tfx.statistics import multiclass
from dr_tfx.tasks.classes.fitting import ClassesFitted
from dr_tfx.tasks.grades import heads
from tests.helpers import datasets

ACTIVATIONS = {
    "linear": lambda x: x,
    "sigmoid": expit,
    "softmax": lambda x: softmax(x, axis=1),
    "softplus": lambda x: np.logaddexp(0, x),
}
TEMPERATURE = 1.7
FITTED = ClassesFitted("validation", TEMPERATURE)


def network(units, spread=1.0):
    """Return hidden features of 50 images, and kernel and bias of an output layer."""
    rng = np.random.default_rng(units)
    return rng.normal(size=(50, 6)), spread * rng.normal(size=(6, units)), rng.normal(size=units)


def through(layers, x):
    for kernel, bias, activation in layers:
        x = ACTIVATIONS[activation](x @ kernel + bias)
    return x


def of(kind, **task):
    labels = {"label_names": ["a", "b", "c", "d"]}
    loss = {"grades": "cumulative", "classes": "cross_entropy"}.get(kind, "focal")
    settings = {"dataset": labels, "task": {"kind": kind, **task}, "training": {"loss": loss}}
    return tasks.of(tasks.from_config(settings))


def test_a_binary_probability_is_that_of_the_scaled_logit():
    x, kernel, bias = network(1)
    kind = of("binary", label_map=(0, 0, 1, 1))
    expected = expit((x @ kernel + bias) * datasets.SCALING[0] + datasets.SCALING[1])
    fitted = datasets.fitted(0.5)
    found = through(kind.averaging.layers(kernel, bias, fitted), x)
    np.testing.assert_allclose(found, expected, atol=1e-12)


def test_classes_are_calibrated_as_their_temperature_was_fitted():
    x, kernel, bias = network(4)
    plain = softmax(x @ kernel + bias, axis=1)
    found = through(of("classes").averaging.layers(kernel, bias, FITTED), x)
    np.testing.assert_allclose(found, multiclass.apply_temperature(plain, TEMPERATURE), atol=1e-12)


def test_the_probabilities_of_several_labels_stay_as_they_are():
    x, kernel, bias = network(3)
    kind = tasks.of(tasks.defaults("multilabel"))
    assert kind.averaging.columns(pd.DataFrame(), None) == {}
    found = through(kind.averaging.layers(kernel, bias, None), x)
    np.testing.assert_allclose(found, expit(x @ kernel + bias), atol=1e-12)


@pytest.mark.parametrize(
    ("head", "activation"),
    [("softmax", "softmax"), ("cumulative", "sigmoid"), ("regression", "linear")],
)
@pytest.mark.parametrize("spread", [0.3, 1.0])
def test_the_grades_of_every_head_become_calibrated_probabilities(head, activation, spread):
    x, kernel, bias = network(heads.units(head, 4), spread)
    kind = of("grades", head=head)
    plain = heads.probabilities(ACTIVATIONS[activation](x @ kernel + bias), head, 4)
    found = through(kind.averaging.layers(kernel, bias, FITTED), x)
    np.testing.assert_allclose(found.sum(axis=1), 1, atol=1e-12)
    sure = plain.min(axis=1) > 1e-12  # Nearer to 0, differences of float64 have no digits.
    expected = multiclass.apply_temperature(plain[sure], TEMPERATURE)
    assert sure.sum() > 10
    np.testing.assert_allclose(found[sure], expected, atol=1e-4 if head == "regression" else 1e-9)
    settings = kind.averaging.settings()
    assert settings.task.head == "softmax" and tasks.of(settings).check() is None


@pytest.mark.parametrize("kind", ["binary", "classes", "grades"])
def test_a_table_of_predictions_is_calibrated_like_the_outputs(kind):
    task = of(kind, **({"label_map": (0, 0, 1, 1)} if kind == "binary" else {}))
    rng = np.random.default_rng(0)
    if kind == "binary":
        outputs = rng.uniform(0.1, 0.9, (9, 1, 1))
        slope, intercept = datasets.SCALING
        expected = expit(logit(outputs[:, 0]) * slope + intercept)
        fitted = datasets.fitted(0.5)
    else:
        outputs = rng.uniform(0.1, 0.9, (9, 1, 3 if kind == "grades" else 4))
        told = task.scores.probabilities(outputs[:, 0])
        expected, fitted = multiclass.apply_temperature(told, TEMPERATURE), FITTED
    table = pd.DataFrame(task.scores.columns(outputs))
    found = pd.DataFrame(task.averaging.columns(table, fitted))
    assert list(found) == list(table)
    np.testing.assert_allclose(found[[c for c in found if "/" in c]], expected, atol=1e-9)
