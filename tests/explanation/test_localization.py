"""Measures of heat maps against masks against arithmetic done by hand, and by OpenCV."""

import numpy as np
import pytest

from dr_tfx.explanation import localization

EVERYWHERE = np.ones((10, 10), bool)


def lesion(*places, shape=(10, 10)):
    mask = np.zeros(shape, bool)
    for row, column in places:
        mask[row, column] = True
    return mask


def test_energy_is_the_share_of_the_map_on_lesions():
    heatmap = np.zeros((10, 10))
    heatmap[2, 3], heatmap[2, 4], heatmap[8, 8] = 1.0, 0.5, 0.5
    found = localization.LesionTarget(lesion((2, 3), (2, 4), (5, 5), (5, 6)), EVERYWHERE).measure(
        heatmap
    )
    assert found == (1.0, 0.04, pytest.approx(1.5 / 2.0), 0.04)  # Tolerance: a third of a pixel.


def test_a_hit_may_lie_beside_the_lesion():
    retina = np.ones((100, 100), bool)
    target = localization.LesionTarget(lesion((50, 50), shape=(100, 100)), retina)
    # A disc of 10,000 pixels is 112.8 wide, 3 % of it are 3.39: 37 pixels lie within that.
    assert target.hit_chance == 37 / 10_000 and target.area == 1 / 10_000
    for offset, hit in (((3, 1), 1.0), ((0, -3), 1.0), ((3, 2), 0.0), ((0, 4), 0.0)):
        heatmap = np.full((100, 100), 0.5)
        heatmap[50 + offset[0], 50 + offset[1]] = 1
        assert target.measure(heatmap).hit == hit, offset


def test_what_is_not_retina_does_not_count():
    retina = EVERYWHERE.copy()
    retina[:, 5:] = False
    heatmap = np.zeros((10, 10))
    heatmap[0, 0], heatmap[1, 1], heatmap[0, 9] = 0.25, 0.75, 1.0
    found = localization.LesionTarget(lesion((1, 1), (0, 9)), retina).measure(heatmap)
    assert found == (1.0, 1 / 50, 0.75, 1 / 50)
    with pytest.raises(ValueError, match="nothing to point at"):
        localization.LesionTarget(lesion((0, 9)), retina)


def test_a_map_without_evidence_points_nowhere():
    found = localization.LesionTarget(lesion((0, 0)), EVERYWHERE).measure(np.zeros((10, 10)))
    assert (found.hit, found.energy) == (0, 0)


def test_a_peak_on_the_surround_is_outside():
    y, x = np.mgrid[:224, :224] - 111.5
    retina = np.hypot(x, y) < 112
    for place, outside in (
        ((3, 3), False),
        ((0, 0), True),  # The middle of this cell is 24 pixels from the disc;
        ((6, 0), True),
        ((0, 1), True),  # of this one, 3;
        ((0, 2), False),  # and this one's is 11 pixels within.
        ((0, 3), False),
    ):
        heatmap = np.full((7, 7), 0.2, np.float32)
        heatmap[place] = 1
        assert localization.is_outside(heatmap, retina) == outside, place
    heatmap[0, 0] = heatmap[3, 3] = 2  # As high inside as outside.
    assert not localization.is_outside(heatmap, retina)
    assert not localization.is_outside(np.zeros((7, 7), np.float32), retina)
    assert not localization.is_outside(heatmap, np.zeros((8, 8), bool))
