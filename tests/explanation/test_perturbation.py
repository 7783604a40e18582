"""Insertion and deletion on a picture whose score is known at every step."""

import numpy as np
import pytest

from dr_tfx.explanation import perturbation

SIZE = 40
QUARTER = (slice(0, 20), slice(0, 20))


@pytest.fixture
def rgb():
    """A chequerboard: blurred, no pixel stays what it was."""
    board = np.indices((SIZE, SIZE)).sum(axis=0) % 2
    return np.repeat(np.where(board, 180, 90).astype(np.uint8)[..., None], 3, axis=2)


def unchanged(rgb, where):
    """A model whose score is the share of pixels there that are as in the photograph."""
    return lambda batch: (batch == rgb).all(axis=-1)[:, *where].mean(axis=(1, 2))


def test_areas_are_those_by_hand(rgb):
    heatmap = np.zeros((SIZE, SIZE), np.float32)
    heatmap[QUARTER] = 1
    score = unchanged(rgb, QUARTER)
    (found,), random = perturbation.measure(rgb, [heatmap], score, seed=0)
    # After a tenth of the retina two fifths of its quarter are back, then four fifths, then all.
    assert found.insertion == pytest.approx(0.1 * (0.4 + 0.8 + 7 * 1 + 1 / 2))
    assert found.deletion == pytest.approx(0.1 * (1 / 2 + 0.6 + 0.2))
    assert random == pytest.approx((0.5, 0.5), abs=0.05)
    again, other = (perturbation.measure(rgb, [heatmap], score, seed=s)[1] for s in (0, 1))
    assert again == random != other


def test_an_empty_map_does_no_better_than_a_random_one(rgb):
    """Nor worse: reading order would take the upper left quarter first."""
    empty = np.zeros((SIZE, SIZE), np.float32)
    (found,), _ = perturbation.measure(rgb, [empty], unchanged(rgb, QUARTER), seed=3)
    assert found == pytest.approx((0.5, 0.5), abs=0.02)


def test_the_surround_has_no_order(rgb):
    rgb[:, 20:] = 0
    surround_first = np.zeros((SIZE, SIZE), np.float32)
    surround_first[:, 22:] = 1  # The field's edge is smoothed by two pixels.
    surround_first[QUARTER] = 0.5
    score = unchanged(rgb, QUARTER)
    (found,), _ = perturbation.measure(rgb, [surround_first], score, seed=0)
    # The quarter of the picture is half of the retina: a fifth of it at every step.
    assert found.insertion == pytest.approx(0.1 * (0.2 + 0.4 + 0.6 + 0.8 + 5 * 1 + 1 / 2), abs=0.02)
