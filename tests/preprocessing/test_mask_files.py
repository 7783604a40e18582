"""Tests of dr_tfx.preprocessing.mask_files."""

import cv2
import numpy as np
import pytest
from PIL import Image

from dr_tfx.preprocessing import geometry, mask_files

WHERE = np.zeros((20, 30), bool)
WHERE[3, 4] = WHERE[10:13, 8:20] = True


@pytest.fixture
def masks_dir(tmp_path):
    mask = WHERE.astype(np.uint8) * 255
    for kind, file in (("MA", "eye.png"), ("HE", "eye_HE.tif"), ("OD", "eye.png"), ("EX", "x.png")):
        (tmp_path / kind).mkdir()
        cv2.imwrite(str(tmp_path / kind / file), mask)
    return tmp_path


def test_masks_are_found_under_both_names(masks_dir):
    # The optic disc is no lesion.
    assert mask_files.open_folder(str(masks_dir)).kinds == ("EX", "HE", "MA")
    assert mask_files.open_folder(str(masks_dir), ("OD",)).kinds == ("OD",)
    folder = mask_files.open_folder(str(masks_dir), ("MA", "EX", "HE"))
    paths = folder.find("eye")
    assert {kind: file.path for kind, file in paths.items()} == {
        "MA": str(masks_dir / "MA" / "eye.png"),
        "HE": str(masks_dir / "HE" / "eye_HE.tif"),
    }
    masks = mask_files.read(paths, like=(40, 60))
    assert all((mask == WHERE).all() for mask in masks.values())
    (masks_dir / "MA" / "other.png").write_bytes(b"x")
    assert mask_files.open_folder(str(masks_dir), ("MA", "EX", "HE")).digest != folder.digest


def test_masks_that_do_not_fit_are_refused(masks_dir):
    paths = mask_files.open_folder(str(masks_dir)).find("eye")
    with pytest.raises(ValueError, match=r"30x20 pixels; the photograph has 40x60"):
        mask_files.read(paths, like=(60, 40))
    (masks_dir / "MA" / "eye.png").write_bytes(b"no picture")
    with pytest.raises(ValueError, match=r"MA.eye\.png cannot be read"):
        mask_files.read(paths, like=(20, 30))
    with pytest.raises(ValueError, match=r"no folder SE; it has EX, HE, MA, OD"):
        mask_files.open_folder(str(masks_dir), ("SE", "MA"))
    with pytest.raises(ValueError, match="no folder of lesion masks; it has none"):
        mask_files.open_folder(str(masks_dir / "none"))


def test_one_file_may_have_all_kinds_by_number(tmp_path):
    kinds = ("MA", "HE", "EX")
    numbers = np.zeros((20, 30), np.uint8)
    numbers[3, 4], numbers[10:13, 8:20] = 1, 3
    cv2.imwrite(str(tmp_path / "eye.png"), numbers)
    cv2.imwrite(str(tmp_path / "grey.png"), np.dstack([numbers] * 3))
    folder = mask_files.open_folder(str(tmp_path), kinds)
    for name in ("eye", "grey"):
        masks = mask_files.read(folder.find(name), like=(20, 30))
        assert list(masks) == list(kinds)
        assert all((masks[kind] == (numbers == k + 1)).all() for k, kind in enumerate(kinds))
    assert folder.find("other") == {}
    cv2.imwrite(str(tmp_path / "eye.png"), numbers * 2)
    with pytest.raises(ValueError, match=r"eye.png has the value 6; expected 0 for nothing and 1 "):
        mask_files.read(folder.find("eye"))
    cv2.imwrite(str(tmp_path / "eye.png"), np.dstack([numbers, 0 * numbers, numbers]))
    with pytest.raises(ValueError, match="is in colours; expected grey values or a palette, 0 for"):
        mask_files.read(folder.find("eye"))


@pytest.mark.parametrize("extension", ["png", "tif"])
def test_numbers_of_a_palette_are_its_places_whatever_its_colours(extension, tmp_path):
    """The first kind is grey, so that colours alone would be taken for numbers."""
    kinds, numbers = ("MA", "HE", "EX"), np.zeros((20, 30), np.uint8)
    numbers[3, 4], numbers[5:8, 2:9], numbers[10:13, 8:20] = 1, 2, 3
    for name, colours in (("eye", (9, 9, 9, 2, 2, 2, 0, 0, 0, 3, 3, 3)), ("voc", (0, 0, 0, 128))):
        picture = Image.fromarray(numbers, "P")
        picture.putpalette([*colours, *[70, 0, 128] * 9][:12])
        picture.save(tmp_path / f"{name}.{extension}")
    folder = mask_files.open_folder(str(tmp_path), kinds)
    for name in ("eye", "voc"):
        masks = mask_files.read(folder.find(name), like=(20, 30))
        assert all((masks[kind] == (numbers == k + 1)).all() for k, kind in enumerate(kinds))
    with pytest.raises(
        ValueError, match=r"eye\.\w+ has the value 3; expected 0 for nothing and 1 to"
    ):
        mask_files.read(mask_files.open_folder(str(tmp_path), kinds[:2]).find("eye"))


def palette() -> Image.Image:
    picture = Image.fromarray(WHERE.astype(np.uint8), "P")
    picture.putpalette([0, 0, 0, 128, 0, 0])
    return picture


def coloured(colours: np.ndarray, alpha: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([colours, alpha]).astype(np.uint8), "RGBA")


RED = np.dstack([WHERE * 255, WHERE * 0, WHERE * 0])
PICTURES = {
    "1 bit": Image.fromarray(WHERE),
    "0 and 1": Image.fromarray(WHERE.astype(np.uint8)),
    "0 and 255": Image.fromarray(WHERE.astype(np.uint8) * 255),
    "16 bits": Image.fromarray(WHERE.astype(np.uint16)),
    "palette": palette(),
    "red": Image.fromarray(RED.astype(np.uint8)),
    "red, wholly opaque": coloured(RED, np.full_like(WHERE, True) * 255),
    "black, opaque where it is": coloured(RED * 0, WHERE * 255),
    "white, opaque where it is": coloured(np.full_like(RED, 255), WHERE * 255),
}


@pytest.mark.parametrize("kind", PICTURES)
@pytest.mark.parametrize("extension", ["png", "tif"])
def test_a_mask_of_any_depth_says_the_same(kind, extension, tmp_path):
    (tmp_path / "EX").mkdir()
    path = tmp_path / "EX" / f"eye.{extension}"
    PICTURES[kind].save(path)
    mask = mask_files.read({"EX": mask_files.MaskFile(str(path))}, like=(20, 30))["EX"]
    assert mask.dtype == bool
    np.testing.assert_array_equal(mask, WHERE)


def test_a_stored_mask_holds_the_share_of_each_pixel():
    box = geometry.Box(0, -0.25, 1, 1.25)  # 30 x 20 pixels in a square of 30.
    found = mask_files.stored(WHERE, box, 10)
    padded = np.zeros((30, 30))
    padded[5:25] = WHERE
    shares = padded.reshape(10, 3, 10, 3).mean(axis=(1, 3))
    assert found.shape == (10, 10, 1) and found.dtype == np.uint8
    np.testing.assert_array_equal(found[..., 0], np.rint(254 * shares))
    assert found.max() == mask_files.COVERED < mask_files.UNKNOWN
