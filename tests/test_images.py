"""Recipes against independent OpenCV code, and files that must be refused."""

import struct
import zlib

import cv2
import numpy as np
import pytest
from conftest import SHARED_DATA, draw, encode

from dr_tfx import images, specs

REFERENCE = specs.Recipe(name="reference", size=96)
FUNDUS = specs.Recipe(name="fundus", size=64)
ORIGINALS = SHARED_DATA / "idrid" / "originals"


def published_preprocessing(path) -> np.ndarray:
    """R1's table, written down without the library."""
    image = cv2.imread(str(path))
    lab = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), cv2.COLOR_RGB2LAB)
    lightness, a, b = cv2.split(lab)
    lightness = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(lightness)
    rgb = cv2.cvtColor(cv2.merge((lightness, a, b)), cv2.COLOR_LAB2RGB)
    return cv2.resize(rgb, (96, 96))


@pytest.mark.parametrize("extension", images.EXTENSIONS)
@pytest.mark.parametrize("width, height", [(160, 120), (97, 211)])
def test_reference_is_bit_identical_to_the_published_recipe(tmp_path, extension, width, height):
    path = tmp_path / f"a{extension}"
    path.write_bytes(encode(draw(1, width=width, height=height), extension))
    made = images.apply_recipe(path.read_bytes(), REFERENCE)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, published_preprocessing(path))


def test_reference_is_bit_identical_on_real_photographs():
    paths = sorted(ORIGINALS.glob("*.jpg"))[::14]
    if not paths:
        pytest.skip(f"no real photographs at {ORIGINALS}")
    for path in paths:
        made = images.apply_recipe(path.read_bytes(), REFERENCE)
        np.testing.assert_array_equal(made, published_preprocessing(path))


def test_truncated_real_photograph_is_rejected():
    path = next(iter(sorted(ORIGINALS.glob("*.jpg"))), None)
    if path is None:
        pytest.skip(f"no real photographs at {ORIGINALS}")
    data = path.read_bytes()
    for recipe in (REFERENCE, FUNDUS):
        with pytest.raises(images.RejectedImage, match="unreadable"):
            images.apply_recipe(data[: len(data) // 2], recipe)


@pytest.mark.parametrize("center", [(130, 100), (200, 140), (90, 90)])
def test_retina_box_is_the_disc(center):
    image = draw(2, width=320, height=240, center=center, radius=80)
    expected = (center[0] - 80, center[1] - 80, center[0] + 81, center[1] + 81)
    # Rows and columns with little of the disc in them are cut: at most a few pixels a side.
    np.testing.assert_allclose(images.retina_box(image), expected, atol=4)


def test_dust_and_captions_do_not_move_the_box():
    image = draw(2, width=320, height=240, radius=80)
    before = images.retina_box(image)
    image[5:7, 5:7] = 255
    image[230:233, 300:304] = 200
    assert images.retina_box(image) == before


@pytest.mark.parametrize("size", [32, 64, 300])
def test_fundus_has_the_size_asked_for_and_the_disc_fills_it(size):
    data = encode(draw(3, width=320, height=240, center=(200, 130), radius=70))
    made = images.apply_recipe(data, specs.Recipe(size=size))
    assert (made.shape, made.dtype) == ((size, size, 3), np.uint8)
    middle = made[size // 2].max(axis=1)
    assert middle[size // 16] > 60 and middle[-1 - size // 16] > 60
    assert made[: size // 16, : size // 16].max() < 60  # Outside the disc.
    assert made[..., 0].mean() > made[..., 2].mean()  # RGB: the drawn disc is red.


def test_fundus_pads_what_is_cut_off_above_and_below():
    image = draw(4, width=320, height=200, radius=150)  # The camera cuts top and bottom.
    made = images.apply_recipe(encode(image), specs.Recipe(size=60))
    assert made[0].max() < 40 and made[-1].max() < 40 and made[30, 30].max() > 60


@pytest.mark.parametrize(
    "shape, size, expected", [((480, 640), 64, 4), ((480, 640), 60, 8), ((240, 320), 240, 1)]
)
def test_fundus_decodes_no_more_than_it_needs(monkeypatch, shape, size, expected):
    used = []
    decode = images.decode
    monkeypatch.setattr(
        images,
        "decode",
        lambda data, *, reduce=1: used.append(reduce) or decode(data, reduce=reduce),
    )
    data = encode(draw(5, width=shape[1], height=shape[0]))
    images.apply_recipe(data, specs.Recipe(size=size))
    assert used == [expected]
    assert min(decode(data, reduce=expected).shape[:2]) == min(shape) // expected


@pytest.mark.parametrize("name", ["reference", "fundus"])
@pytest.mark.parametrize(
    "convert",
    [
        lambda bgr: bgr[..., 1],
        lambda bgr: np.dstack([bgr, np.full(bgr.shape[:2], 128, np.uint8)]),
        lambda bgr: bgr.astype(np.uint16) * 257,
    ],
    ids=["grey", "alpha", "16 bits"],
)
def test_any_kind_of_pixels_is_read(name, convert):
    data = encode(convert(draw(6)), ".png")
    made = images.apply_recipe(data, specs.Recipe(name=name, size=48))
    assert (made.shape, made.dtype) == ((48, 48, 3), np.uint8)


def test_black_and_nearly_black_pictures_have_no_retina():
    nearly = np.zeros((120, 160, 3), np.uint8)
    nearly[50:70, 70:90] = 200
    for image in (np.zeros((120, 160, 3), np.uint8), nearly):
        with pytest.raises(images.RejectedImage) as caught:
            images.apply_recipe(encode(image), FUNDUS)
        assert caught.value.reason == "no_retina" and caught.value.detail


@pytest.mark.parametrize("recipe", [REFERENCE, FUNDUS], ids=["reference", "fundus"])
@pytest.mark.parametrize("extension", [".jpeg", ".png", ".bmp", ".tif"])
@pytest.mark.parametrize("fraction", [0, 0.02, 0.5, 0.95])
def test_truncated_files_are_rejected(recipe, extension, fraction):
    data = encode(draw(7), extension)
    with pytest.raises(images.RejectedImage) as caught:
        images.apply_recipe(data[: int(len(data) * fraction)], recipe)
    assert caught.value.reason == "unreadable"


@pytest.mark.parametrize("data", [b"", b"no photograph at all", b"\xff\xd8\xff" + bytes(500)])
def test_garbage_is_rejected(data):
    with pytest.raises(images.RejectedImage, match="unreadable"):
        images.apply_recipe(data, FUNDUS)


@pytest.mark.parametrize("side", [12_500, 60_000])  # Below and above Pillow's own limit.
def test_too_many_pixels_are_refused_by_the_header(side, monkeypatch):
    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    data = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(images.RejectedImage) as caught:
        images.apply_recipe(data, FUNDUS)
    assert caught.value.reason == "too_large"


def test_orientation_of_the_camera_is_applied():
    """EXIF orientation 6: turn by 90 degrees clockwise; also where the decode is reduced."""
    image = draw(8, width=320, height=200, center=(80, 100), radius=70)
    data = encode(image)
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 6, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    tagged = data[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + data[2:]
    for reduce in (1, 2):
        turned = cv2.rotate(images.decode(data, reduce=reduce), cv2.ROTATE_90_CLOCKWISE)
        np.testing.assert_array_equal(images.decode(tagged, reduce=reduce), turned)
