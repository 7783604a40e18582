"""Files of every kind against Pillow, and files that must be refused."""

import io
import struct
import sys
import tracemalloc
import zlib

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
        ("WEBP", "RGB", 0),
        ("WEBP", "RGBA", 0),
        ("GIF", "L", 0),
        ("GIF", "P", 0),
        ("JPEG2000", "L", 0),
        ("JPEG2000", "RGB", 0),
        ("JPEG2000", "RGBA", 0),
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
@pytest.mark.parametrize("extension", [".jpeg", ".png", ".bmp", ".tif", ".webp", ".gif", ".jp2"])
@pytest.mark.parametrize("fraction", [0, 0.02, 0.5, 0.95, 1])
def test_truncated_files_are_rejected(at_least, extension, fraction):
    # After the pixels of a GIF file two bytes follow that say nothing.
    data = saved("GIF", "P")[:-2] if extension == ".gif" else encode(draw(7), extension)
    with pytest.raises(decoding.RejectedImage) as caught:
        decoding.decode(data[: int(len(data) * fraction) - 1], at_least=at_least)
    assert caught.value.reason == "unreadable"


def test_a_thumbnail_does_not_hide_that_a_jpeg_is_truncated():
    data = saved("JPEG", "RGB", restart_marker_blocks=4)
    thumbnail = b"Exif\0\0" + encode(draw(1, width=16, height=16))
    segment = b"\xff\xe1" + struct.pack(">H", len(thumbnail) + 2) + thumbnail
    whole = data[:2] + segment + b"\xff" + data[2:]  # A fill byte before the next marker.
    np.testing.assert_array_equal(decoding.decode(whole), decoding.decode(data))
    with pytest.raises(decoding.RejectedImage, match="Premature end of JPEG file"):
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


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "TIFF", "GIF", "WEBP", "JPEG2000"])
def test_what_is_left_of_a_file_is_not_called_another_format(kind):
    """Of a TIFF, whose table of contents is its end, most of the file may be there."""
    data = saved(kind, "RGB")
    for count in (16, len(data) // 2, len(data) - 10):
        with pytest.raises(decoding.RejectedImage, match=rf"^unreadable: {kind}: ") as refused:
            decoding.decode(data[:count])
        assert not isinstance(refused.value, decoding.UnknownFormat)


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


def gif_header(width: int, height: int) -> bytes:
    data = bytearray(saved("GIF", "P"))
    data[6:10] = struct.pack("<HH", width, height)
    return bytes(data)


def webp_header(width: int, height: int) -> bytes:
    data = bytearray(saved("WEBP", "RGB", lossless=True))
    at = data.index(b"VP8L") + 9
    data[at : at + 4] = struct.pack("<I", (width - 1) | (height - 1) << 14)
    return bytes(data)


def jp2_header(width: int, height: int, *, tile: int = 0) -> bytes:
    """The size is that of the codestream; the box around it says 160x120."""
    data = bytearray(saved("JPEG2000", "RGB"))
    at = data.index(b"\xff\x4f\xff\x51") + 8
    data[at : at + 8] = struct.pack(">II", width, height)
    if tile:
        data[at + 16 : at + 24] = struct.pack(">II", tile, tile)
    return bytes(data)


BOMBS = {
    "PNG": lambda: png_header(12_500, 12_500),
    "PNG beyond Pillow's own limit": lambda: png_header(60_000, 60_000),
    "BMP": lambda: bmp_header(30_000, 30_000),
    "JPEG": lambda: jpeg_header(65_000, 65_000),
    "TIFF": lambda: tiff_header(30_000, 30_000),
    "TIFF's tile": lambda: tiff_header(30, 30, tile=1 << 15),
    "GIF": lambda: gif_header(30_000, 30_000),
    "WebP": lambda: webp_header(16_000, 16_000),
    "JPEG 2000": lambda: jp2_header(30_000, 30_000),
    "JPEG 2000's tiles": lambda: jp2_header(1000, 1000, tile=1),
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


LOSSLESS = {
    "PNG": {},
    "TIFF": {},
    "TIFF, LZW": {"compression": "tiff_lzw"},
    "WEBP": {"lossless": True},
}


@pytest.mark.parametrize("kind", LOSSLESS)
@pytest.mark.parametrize("orientation", TURNS)
def test_orientation_in_lossless_formats_gives_what_the_upright_file_gives(kind, orientation):
    """With every recipe of photographs, and where a JPEG file would be reduced."""
    stored = draw(8, width=321, height=199, center=(80, 100), radius=70)
    exif, stream = Image.Exif(), io.BytesIO()
    exif[0x0112] = orientation
    Image.fromarray(stored[..., ::-1]).save(stream, kind.split(",")[0], exif=exif, **LOSSLESS[kind])
    turned = np.ascontiguousarray(TURNS[orientation](stored))
    for at_least in (None, 40):
        made = decoding.decode(stream.getvalue(), at_least=at_least)
        np.testing.assert_array_equal(made, turned)
    for recipe in RECIPES:
        made, expected = (
            recipes.apply_recipe(data, recipe)
            for data in (stream.getvalue(), encode(turned, ".png"))
        )
        np.testing.assert_array_equal(made.rgb, expected.rgb)
        assert made.box == expected.box


def grainy(seed: int = 0) -> np.ndarray:
    """A photograph of which a few thousand bytes say something, uint8 BGR (240, 320, 3)."""
    noise = np.random.default_rng(seed).integers(-9, 10, (240, 320, 3))
    return np.clip(draw(seed, width=320, height=240) + noise, 0, 255).astype(np.uint8)


def with_hole(data: bytes, length: int) -> bytes:
    """The bytes with zeros in their middle."""
    middle = len(data) // 2
    return data[:middle] + bytes(length) + data[middle + length :]


JPEG_DAMAGE = {
    "zeros": lambda d: with_hole(d, 4096),
    "begins again": lambda d: d[: len(d) // 3] + d,
    "cut": lambda d: d[: len(d) // 2] + b"\xff\xd9",
    "bytes are missing": lambda d: d[: len(d) // 2] + d[len(d) // 2 + 1000 :],
}


def photographs_to_damage() -> list[bytes]:
    """Drawn ones, and real ones where there are any."""
    real = sorted((SHARED_DATA / "idrid" / "originals").glob("*.jpg"))[:2]
    drawn = [encode(grainy()), encode(grainy(2))]
    for options in ({"progressive": True}, {"restart_marker_blocks": 8}):
        stream = io.BytesIO()
        Image.fromarray(grainy(2)[..., ::-1]).save(stream, "JPEG", **options)
        drawn.append(stream.getvalue())
    return [*drawn, *(path.read_bytes() for path in real)]


@pytest.mark.parametrize("damage", JPEG_DAMAGE.values(), ids=list(JPEG_DAMAGE))
@pytest.mark.parametrize("at_least", [None, 60])
def test_damage_that_libjpeg_warns_of_is_unreadable_in_its_words(damage, at_least):
    for data in photographs_to_damage():
        with pytest.raises(
            decoding.RejectedImage, match="Corrupt JPEG data|Premature end|SO[IS]"
        ) as e:
            decoding.decode(damage(data), at_least=at_least)
        assert e.value.reason == "unreadable"


def test_a_hole_in_a_cmyk_jpeg_is_unreadable():
    data = io.BytesIO()
    Image.fromarray(grainy()).convert("CMYK").save(data, "JPEG")
    assert decoding.decode(data.getvalue()).shape == (240, 320, 3)
    with pytest.raises(decoding.RejectedImage, match="Corrupt JPEG data"):
        decoding.decode(with_hole(data.getvalue(), 4096))


def test_stray_bytes_that_cost_no_pixel_are_accepted():
    whole = encode(grainy())
    scan = whole.index(b"\xff\xda")
    end = scan + 2 + int.from_bytes(whole[scan + 2 : scan + 4], "big")
    others = [
        whole + bytes(5000),
        whole[:-2] + bytes(211) + whole[-2:],
        whole[:-2] + b"stray" * 42 + b"!" + whole[-2:],
        # libjpeg warns of the last words of the scan's header, which some cameras get wrong.
        whole[: end - 3] + b"\0\0\0" + whole[end:],
    ]
    for at_least in (None, 60):
        for data in others:
            expected = decoding.decode(whole, at_least=at_least)
            np.testing.assert_array_equal(decoding.decode(data, at_least=at_least), expected)


def test_a_jpeg_is_decoded_as_opencv_does():
    """At each fraction, with any subsampling of the colours."""
    fractions = {240: 1, 120: 2, 60: 4, 30: 8}
    for sampling in (0x111111, 0x211111, 0x221111, 0x411111, 0x121111):
        options = [cv2.IMWRITE_JPEG_SAMPLING_FACTOR, sampling]
        data = cv2.imencode(".jpg", grainy()[:239], options)[1]
        for at_least, fraction in fractions.items():
            reduced = {1: 1, 2: 17, 4: 33, 8: 65}[fraction]  # cv2.IMREAD_REDUCED_COLOR_2 to _8
            made = decoding.decode(data.tobytes(), at_least=min(at_least, 239 // fraction))
            np.testing.assert_array_equal(made, cv2.imdecode(data, reduced))


@pytest.mark.parametrize("kind", ["tiff_lzw", "tiff_adobe_deflate", "packbits", "jpeg"])
def test_a_hole_in_a_tiff_is_unreadable(kind):
    stream = io.BytesIO()
    Image.fromarray(grainy()[..., ::-1]).save(stream, "TIFF", compression=kind)
    assert decoding.decode(stream.getvalue()).shape == (240, 320, 3)
    with pytest.raises(decoding.RejectedImage, match="unreadable: TIFF"):
        decoding.decode(with_hole(stream.getvalue(), 4096))


@pytest.mark.parametrize("extension", [".png", ".tif"])
@pytest.mark.parametrize("channels", [slice(None), 1], ids=["colour", "grey"])
@pytest.mark.parametrize("bits", [10, 12, 14])
def test_16_bits_of_which_few_are_used_are_spread_over_all_greys(extension, channels, bits):
    """As in a DICOM file of the same values that names no window, of all channels together."""
    values = draw(6)[..., channels].astype(np.uint16) * (1 << (bits - 8)) + 3
    data = encode(values, extension)
    decoded = decoding.decode(data)
    assert decoded.dtype == np.uint16 and decoding.is_spread(decoded)
    low, high = int(values.min()), int(values.max())
    expected = np.rint((values.astype(float) - low) / (high - low) * 255)
    expected = expected if values.ndim == 3 else np.dstack([expected] * 3)
    np.testing.assert_array_equal(decoding.displayed(decoded), expected)
    for recipe in RECIPES:
        made = recipes.apply_recipe(data, recipe)
        byte = recipes.apply_recipe(encode(expected.astype(np.uint8), ".png"), recipe)
        np.testing.assert_array_equal(made.rgb, byte.rgb)
        assert made.is_spread and not byte.is_spread
    if values.ndim == 2:
        scan = decoding.decode(dicom(values, BitsStored=bits, HighBit=bits - 1))
        assert decoding.is_spread(scan)
        np.testing.assert_array_equal(decoding.displayed(scan), expected)


def test_16_bits_that_are_used_are_not_spread():
    for extension in (".png", ".tif"):
        decoded = decoding.decode(encode(draw(6).astype(np.uint16) * 257, extension))
        np.testing.assert_allclose(decoded, draw(6), atol=1)
        assert decoded.dtype == np.uint8 and not decoding.is_spread(decoded)


@pytest.mark.parametrize("bits", [12, 16])
def test_16_bits_of_jpeg_2000(bits):
    values, stream = draw(6)[..., 1].astype(np.uint16) << (bits - 8), io.BytesIO()
    Image.fromarray(values).save(stream, "JPEG2000")
    shown = decoding.displayed(decoding.decode(stream.getvalue()))[..., 0]
    expected = values >> 8 if bits == 16 else np.rint(values / values.max() * 255)
    np.testing.assert_array_equal(shown, expected)


@pytest.mark.parametrize("kind", ["GIF", "WEBP"])
def test_the_first_frame_is_read(kind):
    first, second = (Image.fromarray(draw(seed)[..., ::-1]).quantize(32) for seed in (1, 2))
    stream = io.BytesIO()
    first.save(stream, kind, save_all=True, append_images=[second], lossless=True)
    expected = np.asarray(first.convert("RGB"))[..., ::-1]
    np.testing.assert_array_equal(decoding.decode(stream.getvalue()), expected)


def heic(image: Image.Image, **options) -> bytes:
    heif, stream = pytest.importorskip("pillow_heif"), io.BytesIO()
    heif.from_pillow(image).save(stream, quality=-1, chroma=444, matrix_coefficients=0, **options)
    return stream.getvalue()


@pytest.mark.parametrize("orientation", [1, 6])
def test_heic_is_read(orientation):
    image, exif = Image.fromarray(draw(6)[..., ::-1]), Image.Exif()
    exif[0x0112] = orientation
    data = heic(image, exif=exif.tobytes())
    assert data[4:8] == b"ftyp"
    expected = TURNS[orientation](draw(6))
    np.testing.assert_allclose(decoding.decode(data).astype(int), expected, atol=2)
    with pytest.raises(decoding.RejectedImage, match="unreadable"):
        decoding.decode(data[: len(data) // 2])


def test_heic_without_its_library_names_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "pillow_heif", None)
    with pytest.raises(decoding.RejectedImage, match=r"pip install 'dr_tfx\[heic\]'"):
        decoding.decode(b"\0\0\0\x18ftypheic" + bytes(99))


def test_a_reject_that_is_kept_does_not_keep_the_file():
    with pytest.raises(decoding.RejectedImage) as caught:
        decoding.decode(b"no photograph")
    kept = caught.value.alone()
    assert str(kept) == str(caught.value)
    assert (kept.__traceback__, kept.__cause__, kept.__context__) == (None, None, None)
