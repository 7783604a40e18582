"""Measures of heat maps against masks against arithmetic done by hand, and by OpenCV."""

import cv2
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


@pytest.fixture
def masks_dir(tmp_path):
    mask = np.zeros((20, 30), np.uint8)
    mask[3, 4] = 255
    for kind, file in (("MA", "eye.png"), ("HE", "eye_HE.tif"), ("OD", "eye.png"), ("EX", "x.png")):
        (tmp_path / kind).mkdir()
        cv2.imwrite(str(tmp_path / kind / file), mask)
    return tmp_path


def test_masks_are_found_under_both_names(masks_dir):
    assert localization.kinds(masks_dir) == ("EX", "HE", "MA")  # The optic disc is no lesion.
    assert localization.kinds(masks_dir, ("OD",)) == ("OD",)
    paths = localization.find_masks(masks_dir, "eye", ("EX", "HE", "MA"))
    assert {kind: path.name for kind, path in paths.items()} == {
        "HE": "eye_HE.tif",
        "MA": "eye.png",
    }
    masks = localization.read_masks(paths, like=(40, 60))
    assert all((mask == lesion((3, 4), shape=(20, 30))).all() for mask in masks.values())


def test_masks_that_do_not_fit_are_refused(masks_dir):
    paths = localization.find_masks(masks_dir, "eye", ("HE", "MA"))
    with pytest.raises(ValueError, match=r"30x20 pixels; the photograph has 40x60"):
        localization.read_masks(paths, like=(60, 40))
    paths["MA"].write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"MA.eye\.png cannot be read"):
        localization.read_masks(paths, like=(20, 30))
    with pytest.raises(ValueError, match=r"no folder SE; it has EX, HE, MA, OD"):
        localization.kinds(masks_dir, ("SE", "MA"))
    with pytest.raises(ValueError, match="no folder of lesion masks; it has none"):
        localization.kinds(masks_dir / "none")
