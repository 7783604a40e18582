"""Files of every kind against Pillow, and files that must be refused."""

import io
import struct
import subprocess
import sys
import tracemalloc
import zlib
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding, recipes
from tests.helpers.dicom_files import dicom
from tests.helpers.drawn import SHARED_DATA, draw, encode, with_orientation

RECIPES = [specs.Recipe(name=name, size=48) for name in ("reference", "fundus")]


def saved(kind: str, mode: str, **options) -> bytes:
    """The drawn photograph as Pillow writes it, in one of its modes."""
    stream = io.BytesIO()
    Image.fromarray(draw(6)[..., ::-1]).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize(
    "kind, mode, tolerance",
    [
        ("JPEG", "L", 0),
        ("JPEG", "RGB", 2),
        ("JPEG", "CMYK", 6),
        ("PNG", "1", 0),
        ("PNG", "L", 0),
        ("PNG", "LA", 0),
        ("PNG", "P", 0),
        ("PNG", "RGBA", 0),
        ("TIFF", "1", 0),
        ("TIFF", "L", 0),
        ("TIFF", "P", 0),
        ("TIFF", "RGBA", 0),
        ("BMP", "1", 0),
        ("BMP", "L", 0),
        ("BMP", "P", 0),
    ],
)
def test_any_kind_of_pixels_is_read_as_pillow_reads_it(kind, mode, tolerance):
    data = saved(kind, mode)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    np.testing.assert_allclose(decoding.decode(data)[..., ::-1], expected, atol=tolerance)
    for recipe in RECIPES:
        made = recipes.apply_recipe(data, recipe).rgb
        assert (made.shape, made.dtype) == ((48, 48, 3), np.uint8)


@pytest.mark.parametrize("extension", [".png", ".tif"])
@pytest.mark.parametrize("channels", [slice(None), 1], ids=["colour", "grey"])
def test_16_bits_become_their_upper_8(extension, channels):
    wide = draw(6)[..., channels].astype(np.uint16) * 256 + 3
    decoded = decoding.decode(encode(wide, extension))
    expected = wide // 256 if wide.ndim == 3 else np.dstack([wide // 256] * 3)
    np.testing.assert_allclose(decoded, expected, atol=1)  # libtiff's colours are 1/257 instead.


def test_the_first_page_is_read():
    first, second = (Image.fromarray(draw(seed)[..., ::-1]) for seed in (1, 2))
    stream = io.BytesIO()
    first.save(stream, "TIFF", save_all=True, append_images=[second])
    np.testing.assert_array_equal(decoding.decode(stream.getvalue()), draw(1))


def test_truncated_real_photograph_is_rejected():
    path = next(iter(sorted((SHARED_DATA / "idrid" / "originals").glob("*.jpg"))), None)
    if path is None:
        pytest.skip(f"no real photographs at {SHARED_DATA}")
    data = path.read_bytes()
    for at_least in (None, 64):
        with pytest.raises(decoding.RejectedImage, match="unreadable"):
            decoding.decode(data[: len(data) // 2], at_least=at_least)


@pytest.mark.parametrize("at_least", [None, 48])
@pytest.mark.parametrize("extension", [".jpeg", ".png", ".bmp", ".tif"])
@pytest.mark.parametrize("fraction", [0, 0.02, 0.5, 0.95, 1])
def test_truncated_files_are_rejected(at_least, extension, fraction):
    data = encode(draw(7), extension)
    with pytest.raises(decoding.RejectedImage) as caught:
        decoding.decode(data[: int(len(data) * fraction) - 1], at_least=at_least)
    assert caught.value.reason == "unreadable"


def test_a_thumbnail_does_not_hide_that_a_jpeg_is_truncated():
    data = saved("JPEG", "RGB", restart_marker_blocks=4)
    thumbnail = b"Exif\0\0" + encode(draw(1, width=16, height=16))
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = data[:2] + segment + b"\xff" + data[2:]  # A fill byte before the next marker.
    np.testing.assert_array_equal(decoding.decode(whole), decoding.decode(data))
    with pytest.raises(decoding.RejectedImage, match="end-of-image"):
        decoding.decode(whole[:-1])


def test_a_chunk_that_claims_gigabytes_is_not_read(monkeypatch):
    data = bytearray(saved("PNG", "RGB"))
    data[33:37] = b"\xff\xff\xff\xf0"  # The length of the chunk after IHDR.
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("was decoded"))
    with pytest.raises(decoding.RejectedImage, match="IEND"):
        decoding.decode(bytes(data))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "BMP"])
def test_what_follows_a_complete_picture_does_not_matter(kind):
    data = saved(kind, "RGB")
    after = data + b"\xff\xd8 garbage" * 9
    np.testing.assert_array_equal(decoding.decode(after), decoding.decode(data))


@pytest.mark.parametrize("data", [b"", b"no photograph at all", b"\xff\xd8\xff" + bytes(500)])
def test_garbage_is_rejected(data):
    with pytest.raises(decoding.RejectedImage, match="unreadable"):
        decoding.decode(data)


def png_header(width: int, height: int) -> bytes:
    def chunk(kind: bytes, content: bytes) -> bytes:
        crc = struct.pack(">I", zlib.crc32(kind + content))
        return struct.pack(">I", len(content)) + kind + content + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", b"") + chunk(b"IEND", b"")


def bmp_header(width: int, height: int) -> bytes:
    data = bytearray(saved("BMP", "RGB"))
    data[18:26] = struct.pack("<ii", width, height)
    return bytes(data)


def jpeg_header(width: int, height: int) -> bytes:
    data = bytearray(saved("JPEG", "RGB"))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(data)


def tiff_header(width: int, height: int, *, tile: int = 0) -> bytes:
    entries = [(256, 4, width), (257, 4, height), (258, 3, 8), (259, 3, 1), (262, 3, 1)]
    entries += [(277, 3, 1)]
    if tile:
        entries += [(322, 4, tile), (323, 4, tile), (324, 4, 8), (325, 4, 8)]
    else:
        entries += [(273, 4, 8), (278, 4, height), (279, 4, 8)]
    packed = [struct.pack("<HHII", t, kind, 1, value) for t, kind, value in sorted(entries)]
    return b"II*\0" + struct.pack("<IH", 8, len(packed)) + b"".join(packed) + bytes(4)


def dicom_header(width: int, height: int, *, frames: int = 1) -> bytes:
    return dicom(np.zeros((1, 1), np.uint8), Columns=width, Rows=height, NumberOfFrames=frames)


BOMBS = {
    "PNG": lambda: png_header(12_500, 12_500),
    "PNG beyond Pillow's own limit": lambda: png_header(60_000, 60_000),
    "BMP": lambda: bmp_header(30_000, 30_000),
    "JPEG": lambda: jpeg_header(65_000, 65_000),
    "TIFF": lambda: tiff_header(30_000, 30_000),
    "TIFF's tile": lambda: tiff_header(30, 30, tile=1 << 15),
    "DICOM": lambda: dicom_header(60_000, 60_000),
    "DICOM's frames": lambda: dicom_header(1000, 1000, frames=200),
}


@pytest.mark.parametrize("make", BOMBS.values(), ids=list(BOMBS))
def test_too_many_pixels_are_refused_by_the_header(make, monkeypatch):
    data = make()
    monkeypatch.setattr(cv2, "imdecode", lambda *_: pytest.fail("was decoded"))
    tracemalloc.start()
    with pytest.raises(decoding.RejectedImage) as caught:
        decoding.decode(data)
    assert caught.value.reason == "too_large"
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


# Each orientation of EXIF as what has to be done to the stored pixels.
TURNS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a),
}


@pytest.mark.parametrize("orientation", TURNS)
def test_orientation_of_the_camera_is_applied(orientation):
    """Also where the decode is reduced, and before a recipe."""
    data = encode(draw(8, width=320, height=200, center=(80, 100), radius=70))
    tagged = with_orientation(data, orientation)
    for at_least in (None, 100, 50, 25):
        expected = TURNS[orientation](decoding.decode(data, at_least=at_least))
        np.testing.assert_array_equal(decoding.decode(tagged, at_least=at_least), expected)
    turned = encode(np.ascontiguousarray(TURNS[orientation](decoding.decode(data))), ".png")
    for size in (64, 224):  # At 224 pixels neither decode is reduced.
        recipe = specs.Recipe(name="reference", size=size)
        made, expected = (recipes.apply_recipe(d, recipe).rgb for d in (tagged, turned))
        np.testing.assert_array_equal(made, expected)


def test_damaged_files_are_rejected_or_give_a_picture():
    """Never another exception, a crash, a hang or a huge allocation. Native code: own process."""
    pytest.importorskip("pydicom")
    script = Path(__file__).with_name("fuzz_images.py")
    command = [sys.executable, str(script), "0", "600"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "accepted" in done.stdout and "unreadable" in done.stdout
