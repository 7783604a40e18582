"""Every head means probabilities whose sums cannot rise, and TensorFlow's are NumPy's."""

import numpy as np
import pytest
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.config import typed
from dr_tfx.statistics import multiclass
from dr_tfx.tasks.grades import heads

GRADES = 5
HEADS = ("cumulative", "softmax", "regression")


def kind(head: str, **task):
    names = [str(k) for k in range(GRADES)]
    settings = {"kind": "grades", "head": head, **task}
    return tasks.of(tasks.from_config({"dataset": {"label_names": names}, "task": settings}))


def outputs(head: str) -> np.ndarray:
    """Outputs of every sort, sure and unsure."""
    rng = np.random.default_rng(0)
    values = rng.normal(scale=6, size=(500, heads.units(head, GRADES))).astype(np.float32)
    activation = {"cumulative": tf.sigmoid, "softmax": tf.nn.softmax, "regression": tf.identity}
    return activation[head](values).numpy()


@pytest.mark.parametrize("head", HEADS)
def test_probability_of_a_higher_grade_never_rises(head):
    probability = heads.probabilities(outputs(head), head, GRADES)
    assert (probability >= 0).all()
    assert probability.sum(axis=1) == pytest.approx(1, abs=1e-5)
    assert (np.diff(multiclass.above(probability), axis=1) <= 0).all()


@pytest.mark.parametrize("head", HEADS)
def test_the_model_means_what_the_scores_mean(head):
    given = outputs(head)
    np.testing.assert_allclose(
        kind(head).model.probabilities(tf.constant(given)),
        heads.probabilities(given, head, GRADES),
        atol=1e-5,
    )


def test_the_cumulative_head_multiplies_conditional_probabilities():
    # P(> 0) = .8, P(> 1 | > 0) = .5, then .25 and 1.
    probability = heads.probabilities([[0.8, 0.5, 0.25, 1.0]], "cumulative", GRADES)
    assert probability[0] == pytest.approx([0.2, 0.4, 0.3, 0.0, 0.1])
    assert heads.expected(probability)[0] == pytest.approx(0.8 + 0.4 + 0.1 + 0.1)


def test_a_regression_rises_with_its_number_and_keeps_it_within_the_scale():
    numbers = np.linspace(-3, 7, 101)[:, np.newaxis]
    expected = heads.expected(heads.probabilities(numbers, "regression", GRADES))
    assert (np.diff(expected) >= 0).all()
    inner = (numbers[:, 0] > 0.7) & (numbers[:, 0] < 3.3)
    assert expected[inner] == pytest.approx(numbers[inner, 0], abs=0.1)
    assert expected[[0, -1]] == pytest.approx([0, 4], abs=1e-3)


@pytest.mark.parametrize("head", HEADS)
@pytest.mark.parametrize("loss", ["focal", "cross_entropy", "cumulative", "squared_error"])
def test_every_loss_prefers_the_right_grade_and_the_nearer_of_two_wrong_ones(head, loss):
    task = kind(head)
    made = task.model.losses[loss](task.experiment.training)
    targets, good, bad = task.model.examples_of_sense()
    assert float(made(targets, good)) < float(made(targets, bad))
    if loss in ("cumulative", "squared_error"):
        near, far = (float(made(targets[:1], good[k : k + 1])) for k in (1, 4))
        assert near < far


@pytest.mark.parametrize("head", HEADS)
def test_gradients_are_finite_where_outputs_are_0_and_1(head):
    task = kind(head)
    targets, *_ = task.model.examples_of_sense()
    units = heads.units(head, GRADES)
    sure = np.eye(GRADES, units, dtype=np.float32) * (4 if head == "regression" else 1)
    for name, make in task.model.losses.items():
        given = tf.constant(sure)
        with tf.GradientTape() as tape:
            tape.watch(given)
            value = make(task.experiment.training)(targets, given)
        assert np.isfinite(value), name
        assert np.isfinite(tape.gradient(value, given)).all(), name


def test_a_cross_entropy_is_the_likelihood_of_the_grade():
    task = kind("cumulative")
    given = outputs("cumulative")[:50]
    truth = np.arange(50) % GRADES
    loss = task.model.losses["cross_entropy"](task.experiment.training)
    told = heads.probabilities(given, "cumulative", GRADES)[np.arange(50), truth]
    expected = -np.log(np.clip(told, 1e-7, 1)).mean()
    targets = np.eye(GRADES, dtype=np.float32)[truth]
    assert float(loss(targets, given)) == pytest.approx(expected, rel=1e-3)


def test_smoothing_gives_neighbours_a_share_by_their_distance():
    targets, weights = kind("softmax", smoothing=0.1).model.encode(
        {"label/level": tf.constant([0, 2], tf.int64)}
    )
    assert weights.numpy().tolist() == [1, 1]
    powers = np.array([1, 0.1, 0.01, 0.001, 0.0001])
    np.testing.assert_allclose(targets[0], powers / powers.sum(), rtol=1e-5)
    np.testing.assert_allclose(targets[1, 1], targets[1, 3])
    plain, _ = kind("softmax").model.encode({"label/level": tf.constant([3], tf.int64)})
    assert plain.numpy().tolist() == [[0, 0, 0, 1, 0]]


def test_what_heat_maps_explain_is_the_expected_grade():
    logits = tf.constant(np.random.default_rng(1).normal(size=(20, 4)), tf.float32)
    told = heads.expected(heads.probabilities(tf.sigmoid(logits), "cumulative", GRADES))
    np.testing.assert_allclose(kind("cumulative").model.explained(logits), told, atol=1e-5)


@pytest.mark.parametrize(
    ("task", "words"),
    [
        ({"refer_from": 5}, "config.task.refer_from is 5; expected a grade of 1 to 4"),
        ({"label_map": (0, 1, 2, 2, 2)}, "config.task.label_map is"),
        ({"smoothing": 1.0}, "config.task.smoothing is 1.0"),
        ({"head": "ordinal"}, "config.task.head is 'ordinal'"),
    ],
)
def test_settings_that_do_not_fit_are_refused(task, words):
    with pytest.raises(typed.ConfigError, match=words):
        kind(**{"head": "softmax", **task})
