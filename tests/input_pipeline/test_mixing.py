"""Mixtures: pictures and targets of two examples in the same shares, whatever the kind of task."""

import numpy as np
import pytest
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.input_pipeline import mixing
from dr_tfx.tasks.binary import model as binary
from dr_tfx.tasks.multilabel import model as multilabel
from tests.helpers import datasets

LABEL = "label/level"


def batch(count=64, seed=0):
    rng = np.random.default_rng(seed)
    images = rng.integers(0, 256, (count, 8, 8, 3)).astype(np.uint8)
    return {"image": images, LABEL: rng.integers(0, 3, count)}, rng.random((count, 2), np.float32)


def test_pictures_and_targets_are_mixed_in_the_same_shares():
    before, draws = batch()
    after = mixing.mix(before, draws, specs.Augmentation(mixup=1.0))
    # The beta distribution of (1, 1) is uniform: the draw is the share, or the rest of it.
    shares = np.maximum(draws[:, 0], 1 - draws[:, 0])
    np.testing.assert_allclose(after[mixing.SHARE], shares, atol=1e-6)
    partners = np.argsort(draws[:, 1])
    wide = shares[:, None, None, None]
    expected = wide * before["image"] + (1 - wide) * before["image"][partners]
    assert after["image"].dtype == np.uint8
    assert np.abs(after["image"] - expected).max() <= 0.51
    assert np.array_equal(after[LABEL], before[LABEL])

    experiment = datasets.experiment(class_weights=(1.0, 3.0), balance="none")
    encode = tasks.of(experiment).model.encode
    found, factors = mixing.targets({k: tf.constant(v) for k, v in after.items()}, encode)
    positive = (before[LABEL] > 0).astype(float)
    wanted = shares * positive + (1 - shares) * positive[partners]
    np.testing.assert_allclose(found[:, 0], wanted, atol=1e-6)
    np.testing.assert_allclose(factors, 1 + 2 * wanted, atol=1e-5)
    plain, _ = mixing.targets({k: tf.constant(v) for k, v in before.items()}, encode)
    assert np.array_equal(plain[:, 0], positive)


def test_a_square_of_the_partner_has_the_share_of_its_area():
    count, size = 400, 8
    before, draws = batch(count)
    before["image"] = np.broadcast_to(
        np.arange(count)[:, None, None, None] % 256, (count, size, size, 3)
    ).astype(np.uint8)
    after = mixing.mix(before, draws, specs.Augmentation(cutmix=1.0))
    partners = np.argsort(draws[:, 1])
    corners = set()
    for i, (image, partner) in enumerate(zip(after["image"], partners, strict=True)):
        other = (image == partner % 256).all(axis=-1)
        assert (other | (image == i % 256).all(axis=-1)).all()
        if i % 256 == partner % 256:
            continue
        assert after[mixing.SHARE][i] == pytest.approx(1 - other.mean()) and other.mean() <= 0.5
        rows, columns = np.flatnonzero(other.any(axis=1)), np.flatnonzero(other.any(axis=0))
        assert len(rows) == len(columns) and other.sum() == len(rows) ** 2  # A square.
        if len(rows) == 4:
            corners.add((rows[0], columns[0]))
    assert corners == {(top, left) for top in range(5) for left in range(5)}  # Anywhere.
    assert np.array_equal(after[mixing.OTHER + LABEL], before[LABEL][partners])
    # Sides are whole pixels, rounded down.
    sides = np.floor(size * np.sqrt(1 - np.maximum(draws[:, 0], 1 - draws[:, 0])))
    np.testing.assert_allclose(after[mixing.SHARE], 1 - (sides / size) ** 2, rtol=1e-6)


def test_a_picture_is_mixed_once():
    with pytest.raises(typed.ConfigError, match=r"mixup is 0\.2 and cutmix 1"):
        tasks.from_config({"training": {"augmentation": {"mixup": 0.2, "cutmix": 1.0}}})


def test_the_smaller_alpha_is_the_less_is_mixed():
    before, draws = batch(2000)
    few, many = (
        mixing.mix(before, draws, specs.Augmentation(mixup=alpha))[mixing.SHARE]
        for alpha in (0.1, 2.0)
    )
    assert few.min() >= 0.5 and (few > 0.99).mean() > 0.5 > (many > 0.99).mean()


def test_a_target_of_two_examples_has_the_loss_of_both_and_counts_as_the_larger():
    outputs, share = tf.constant([[0.2, 0.7]]), 0.7
    loss = multilabel.ColumnLoss(np.array([0.4, 0.6]), gamma=2.0)
    one, other = tf.constant([[1.0, 0.0]]), tf.constant([[1.0, 1.0]])
    mixed = loss(share * one + (1 - share) * other, outputs)
    expected = share * loss(one, outputs) + (1 - share) * loss(other, outputs)
    np.testing.assert_allclose(mixed, expected, rtol=1e-6)

    scores = np.array([[0.1], [0.2], [0.3], [0.9]], np.float32)
    hard = np.array([[0], [1], [0], [1]], np.float32)
    soft = np.abs(hard - np.array([[0.3], [0.2], [0.4], [0.0]], np.float32))
    for metric in binary.BinaryModel(datasets.experiment()).metrics.values():
        found = []
        for targets in (hard, soft):
            made = metric()
            made.update_state(targets, scores)
            found.append(float(made.result()))
        assert found[0] == found[1]


@pytest.mark.parametrize("name", ["mixup", "cutmix"])
def test_maps_are_not_mixed(name):
    settings = {"kind": "masks"}
    config = {
        "task": settings,
        "dataset": {"masks": ("MA",)},
        "training": {"augmentation": {name: 0.2}},
    }
    with pytest.raises(typed.ConfigError, match=name + r" is 0\.2; where two pictures are mixed"):
        tasks.from_config(config)
