"""Recipes against independent OpenCV code, and files that must be refused."""

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
from dr_tfx.preprocessing import decoding
from tests.helpers.drawn import SHARED_DATA, draw, encode

REFERENCE = specs.Recipe(name="reference", size=96)
FUNDUS = specs.Recipe(name="fundus", size=64)
ORIGINALS = SHARED_DATA / "idrid" / "originals"


def published_preprocessing(path, size: int = 96) -> np.ndarray:
    """R1's table, written down without the library."""
    image = cv2.imread(str(path))
    lab = cv2.cvtColor(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), cv2.COLOR_RGB2LAB)
    lightness, a, b = cv2.split(lab)
    lightness = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(lightness)
    rgb = cv2.cvtColor(cv2.merge((lightness, a, b)), cv2.COLOR_LAB2RGB)
    return cv2.resize(rgb, (size, size))


@pytest.mark.parametrize("extension", [".jpeg", ".jpg", ".png", ".tif", ".tiff", ".bmp"])
@pytest.mark.parametrize("width, height", [(160, 120), (97, 211)])
def test_reference_is_bit_identical_to_the_published_recipe(tmp_path, extension, width, height):
    path = tmp_path / f"a{extension}"
    path.write_bytes(encode(draw(1, width=width, height=height), extension))
    made = decoding.apply_recipe(path.read_bytes(), REFERENCE).rgb
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made, published_preprocessing(path))


@pytest.mark.parametrize(
    "width, height, size",
    [
        (192, 192, 96),  # Half: OpenCV averages.
        (288, 288, 96),
        (192, 301, 96),
        (96, 96, 96),
        (1000, 777, 96),
        (50, 31, 224),  # Upwards.
        (1, 1, 16),
        (2, 900, 33),
        (1023, 1025, 512),
    ],
)
def test_reference_is_bit_identical_at_any_scale(tmp_path, width, height, size):
    path = tmp_path / "noise.png"
    noise = np.random.default_rng(width).integers(0, 256, (height, width, 3)).astype(np.uint8)
    path.write_bytes(encode(noise, ".png"))
    recipe = specs.Recipe(name="reference", size=size)
    made = decoding.apply_recipe(path.read_bytes(), recipe).rgb
    np.testing.assert_array_equal(made, published_preprocessing(path, size))


def test_reference_is_bit_identical_on_real_photographs():
    paths = sorted(ORIGINALS.glob("*.jpg"))[::14]
    if not paths:
        pytest.skip(f"no real photographs at {ORIGINALS}")
    for path in paths:
        made = decoding.apply_recipe(path.read_bytes(), REFERENCE).rgb
        np.testing.assert_array_equal(made, published_preprocessing(path))


def test_truncated_real_photograph_is_rejected():
    path = next(iter(sorted(ORIGINALS.glob("*.jpg"))), None)
    if path is None:
        pytest.skip(f"no real photographs at {ORIGINALS}")
    data = path.read_bytes()
    for recipe in (REFERENCE, FUNDUS):
        with pytest.raises(decoding.RejectedImage, match="unreadable"):
            decoding.apply_recipe(data[: len(data) // 2], recipe)


@pytest.mark.parametrize("center", [(130, 100), (200, 140), (90, 90)])
def test_retina_box_is_the_disc(center):
    image = draw(2, width=320, height=240, center=center, radius=80)
    expected = (center[0] - 80, center[1] - 80, center[0] + 81, center[1] + 81)
    # Rows and columns with little of the disc in them are cut: at most a few pixels a side.
    np.testing.assert_allclose(decoding.retina_box(image), expected, atol=4)


def test_dust_and_captions_do_not_move_the_box():
    image = draw(2, width=320, height=240, radius=80)
    before = decoding.retina_box(image)
    image[5:7, 5:7] = 255
    image[230:233, 300:304] = 200
    assert decoding.retina_box(image) == before


@pytest.mark.parametrize("size", [32, 64, 300])
def test_fundus_has_the_size_asked_for_and_the_disc_fills_it(size):
    data = encode(draw(3, width=320, height=240, center=(200, 130), radius=70))
    made = decoding.apply_recipe(data, specs.Recipe(size=size)).rgb
    assert (made.shape, made.dtype) == ((size, size, 3), np.uint8)
    middle = made[size // 2].max(axis=1)
    assert middle[size // 16] > 60 and middle[-1 - size // 16] > 60
    assert made[: size // 16, : size // 16].max() < 60  # Outside the disc.
    assert made[..., 0].mean() > made[..., 2].mean()  # RGB: the drawn disc is red.


def test_fundus_pads_what_is_cut_off_above_and_below():
    image = draw(4, width=320, height=200, radius=150)  # The camera cuts top and bottom.
    made = decoding.apply_recipe(encode(image), specs.Recipe(size=60)).rgb
    assert made[0].max() < 40 and made[-1].max() < 40 and made[30, 30].max() > 60


@pytest.mark.parametrize(
    "shape, size, expected", [((480, 640), 64, 4), ((480, 640), 60, 8), ((240, 320), 240, 1)]
)
def test_fundus_decodes_no_more_than_it_needs(monkeypatch, shape, size, expected):
    used = []
    decode = decoding.decode
    monkeypatch.setattr(
        decoding,
        "decode",
        lambda data, *, reduce=1: used.append(reduce) or decode(data, reduce=reduce),
    )
    data = encode(draw(5, width=shape[1], height=shape[0]))
    decoding.apply_recipe(data, specs.Recipe(size=size))
    assert used == [expected]
    assert min(decode(data, reduce=expected).shape[:2]) == min(shape) // expected


def saved(kind: str, mode: str, **options) -> bytes:
    """The drawn photograph as Pillow writes it, in one of its modes."""
    stream = io.BytesIO()
    Image.fromarray(draw(6)[..., ::-1]).convert(mode).save(stream, kind, **options)
    return stream.getvalue()


@pytest.mark.parametrize("name", ["reference", "fundus"])
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
def test_any_kind_of_pixels_is_read_as_pillow_reads_it(name, kind, mode, tolerance):
    data = saved(kind, mode)
    expected = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    np.testing.assert_allclose(decoding.decode(data)[..., ::-1], expected, atol=tolerance)
    made = decoding.apply_recipe(data, specs.Recipe(name=name, size=48)).rgb
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


@pytest.mark.parametrize("gate, kept", [("off", True), ("count", True), ("reject", False)])
@pytest.mark.parametrize("name", ["reference", "fundus"])
def test_the_gate_keeps_or_rejects_and_never_changes_pixels(name, gate, kept):
    nearly = np.full((120, 160, 3), 40, np.uint8)
    nearly[50:70, 70:90] = 200
    recipe = specs.Recipe(name=name, size=64, quality_gate=gate)
    for image, why in ((nearly * 0, "black"), (nearly, "no_retina"), (draw(3), "")):
        if kept or not why:
            made = decoding.apply_recipe(encode(image), recipe)
            assert made.ungradable == ("" if gate == "off" else why)
            other = specs.Recipe(name=name, size=64, quality_gate="off")
            np.testing.assert_array_equal(made.rgb, decoding.apply_recipe(encode(image), other).rgb)
            continue
        with pytest.raises(decoding.RejectedImage) as caught:
            decoding.apply_recipe(encode(image), recipe)
        assert caught.value.reason == f"ungradable:{why}" and "brightness" in caught.value.detail


def test_without_a_lit_field_fundus_keeps_the_whole_picture():
    image = np.zeros((120, 160, 3), np.uint8)
    image[50:70, 70:90] = 200
    assert decoding.retina_box(image) == (0, 0, 160, 120)


@pytest.mark.parametrize("recipe", [REFERENCE, FUNDUS], ids=["reference", "fundus"])
@pytest.mark.parametrize("extension", [".jpeg", ".png", ".bmp", ".tif"])
@pytest.mark.parametrize("fraction", [0, 0.02, 0.5, 0.95, 1])
def test_truncated_files_are_rejected(recipe, extension, fraction):
    data = encode(draw(7), extension)
    with pytest.raises(decoding.RejectedImage) as caught:
        decoding.apply_recipe(data[: int(len(data) * fraction) - 1], recipe)
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
        decoding.apply_recipe(data, FUNDUS)


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
        decoding.apply_recipe(data, FUNDUS)
    assert caught.value.reason == "too_large"
    assert tracemalloc.get_traced_memory()[1] < 20_000_000
    tracemalloc.stop()


def test_a_thin_picture_whose_square_is_huge_is_refused():
    thin = np.full((48, 16_000, 3), (40, 90, 200), np.uint8)
    with pytest.raises(decoding.RejectedImage) as caught:
        decoding.apply_recipe(encode(thin), FUNDUS)
    assert caught.value.reason == "too_large"


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


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The same file with an EXIF orientation."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


@pytest.mark.parametrize("orientation", TURNS)
def test_orientation_of_the_camera_is_applied(orientation):
    """Also where the decode is reduced, and before either recipe."""
    data = encode(draw(8, width=320, height=200, center=(80, 100), radius=70))
    tagged = with_orientation(data, orientation)
    for reduce in (1, 2, 4, 8):
        expected = TURNS[orientation](decoding.decode(data, reduce=reduce))
        np.testing.assert_array_equal(decoding.decode(tagged, reduce=reduce), expected)
    turned = encode(np.ascontiguousarray(TURNS[orientation](decoding.decode(data))), ".png")
    for size in (64, 224):  # At 224 pixels neither decode is reduced.
        recipe = specs.Recipe(name="reference", size=size)
        made, expected = (decoding.apply_recipe(d, recipe).rgb for d in (tagged, turned))
        np.testing.assert_array_equal(made, expected)


@pytest.mark.parametrize("orientation", [1, 3, 6])
@pytest.mark.parametrize("radius", [150, 300])  # The larger is cut off above and below.
@pytest.mark.parametrize("name", decoding.RECIPES)
def test_a_picture_tells_where_in_the_photograph_it_lies(name, radius, orientation):
    """A spot is found at the same place, also where the decode is reduced and rounds a side."""
    image = np.zeros((483, 645, 3), np.uint8)
    cv2.circle(image, (350, 240), radius, (30, 40, 200), -1)
    cv2.circle(image, (290, 180), 12, (30, 250, 30), -1)
    data = with_orientation(encode(image), orientation)

    def spot(bgr: np.ndarray) -> np.ndarray:
        """Its centre, x and y, in shares of the picture."""
        ys, xs = np.nonzero(bgr[..., 1] > 140)
        return np.array([(xs.mean() + 0.5) / bgr.shape[1], (ys.mean() + 0.5) / bgr.shape[0]])

    made = decoding.apply_recipe(data, specs.Recipe(name=name, size=100))
    left, top, right, bottom = made.box
    found = (left, top) + spot(made.rgb) * (right - left, bottom - top)
    np.testing.assert_allclose(found, spot(decoding.decode(data)), atol=0.004)


def dicom(pixels: np.ndarray, *, syntax: str = "1.2.840.10008.1.2.1", **elements) -> bytes:
    """A small DICOM file of `pixels` (height, width) or (height, width, 3)."""
    pydicom = pytest.importorskip("pydicom")
    dataset = pydicom.Dataset()
    dataset.file_meta = pydicom.dataset.FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.7"
    dataset.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsAllocated - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(dataset, name, value)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, dataset, enforce_file_format=True)
    return stream.getvalue()


RAMP = np.arange(0, 4096, 16, dtype=np.int16).reshape(16, 16)


def test_dicom_grey_goes_through_slope_and_window():
    """PS3.3 C.11.2.1.2: linear from centre - .5 - (width - 1) / 2, clipped at both ends."""
    window = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 40, "WindowWidth": 80}
    units = RAMP * 2.0 - 1000
    expected = np.clip(((units - 39.5) / 79 + 0.5) * 255, 0, 255)
    decoded = decoding.decode(dicom(RAMP, **window))
    assert decoded.shape == (16, 16, 3) and decoded.dtype == np.uint8
    np.testing.assert_allclose(decoded[..., 1], expected, atol=0.51)
    inverted = decoding.decode(dicom(RAMP, PhotometricInterpretation="MONOCHROME1", **window))
    np.testing.assert_array_equal(inverted, 255 - decoded)


def test_dicom_grey_without_a_window():
    grey = draw(6)[..., 1]
    np.testing.assert_array_equal(decoding.decode(dicom(grey)), np.dstack([grey] * 3))
    spread = decoding.decode(dicom(RAMP))[..., 0]
    np.testing.assert_allclose(spread, RAMP / RAMP.max() * 255, atol=0.51)
    assert decoding.decode(dicom(RAMP * 0 + 7)).max() == 0  # One level: nothing to spread.


def test_dicom_colours():
    rgb = np.ascontiguousarray(draw(6)[..., ::-1])
    np.testing.assert_array_equal(decoding.decode(dicom(rgb)), draw(6))
    wide = rgb.astype(np.uint16) * 16 + 5
    np.testing.assert_array_equal(decoding.decode(dicom(wide, BitsStored=12, HighBit=11)), draw(6))
    ycc = np.asarray(Image.fromarray(rgb).convert("YCbCr"))
    decoded = decoding.decode(dicom(ycc, PhotometricInterpretation="YBR_FULL"))
    np.testing.assert_allclose(decoded.astype(int), draw(6), atol=3)
    planes = dicom(np.ascontiguousarray(rgb.transpose(2, 0, 1)).reshape(rgb.shape))
    planes = planes.replace(b"\x28\0\x06\0US\x02\0\0\0", b"\x28\0\x06\0US\x02\0\x01\0")
    np.testing.assert_array_equal(decoding.decode(planes), draw(6))


def jpeg_dicom(**elements) -> bytes:
    encaps = pytest.importorskip("pydicom.encaps")
    return dicom(
        draw(6),
        syntax="1.2.840.10008.1.2.4.50",
        **{
            "PhotometricInterpretation": "YBR_FULL_422",
            "PixelData": encaps.encapsulate([encode(draw(6))]),
            **elements,
        },
    )


def test_dicom_holds_a_jpeg():
    decoded = decoding.decode(jpeg_dicom())
    np.testing.assert_allclose(decoded.astype(int), decoding.decode(encode(draw(6))), atol=3)
    with pytest.raises(decoding.RejectedImage, match="a frame of 160x120, not 20x10"):
        decoding.decode(jpeg_dicom(Columns=20, Rows=10))


def test_dicom_size_is_in_the_header(monkeypatch):
    data = dicom(draw(6)[..., ::-1], NumberOfFrames=3)
    pixels = pytest.importorskip("pydicom.pixels")
    monkeypatch.setattr(pixels, "pixel_array", lambda *_, **__: pytest.fail("was decoded"))
    assert decoding.image_size(data) == (160, 120)
    assert decoding.image_size(data[:-1000]) == (160, 120)


@pytest.mark.parametrize("name", ["reference", "fundus"])
def test_recipes_take_dicom_as_they_take_png(name):
    recipe = specs.Recipe(name=name, size=100)  # Not reduced: 160x120 pixels.
    made = decoding.apply_recipe(dicom(draw(6)[..., ::-1]), recipe).rgb
    np.testing.assert_array_equal(made, decoding.apply_recipe(encode(draw(6), ".png"), recipe).rgb)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: dicom(draw(6))[:-1], "DICOM"),
        (lambda: dicom(draw(6))[:200], "DICOM"),
        (lambda: jpeg_dicom()[:-900], "DICOM"),
        (lambda: dicom(RAMP.astype(np.int32)), "1 samples of 32 bits"),
        (lambda: dicom(RAMP, Rows=0), "DICOM"),
        (lambda: dicom(RAMP, NumberOfFrames=-1), "DICOM"),
        (lambda: dicom(RAMP, NumberOfFrames=1234).replace(b"1234", b"abcd"), "ValueError"),
        (lambda: dicom(RAMP, NumberOfFrames=1234).replace(b"1234", b"1\\2 "), "TypeError"),
        (lambda: dicom(RAMP, WindowCenter=1, WindowWidth=-1), "Window Width"),
        (lambda: dicom(RAMP, PhotometricInterpretation="PALETTE COLOR"), "PALETTE"),
        (lambda: dicom(RAMP, PatientName="1.2.840.10008.1.2.1.99"), "deflated"),
    ],
)
def test_dicom_that_cannot_be_used_is_rejected(make, words):
    with pytest.raises(decoding.RejectedImage, match=words) as caught:
        decoding.apply_recipe(make(), FUNDUS)
    assert caught.value.reason == "unreadable"


def test_dicom_without_pydicom_names_what_to_install(monkeypatch):
    data = dicom(draw(6))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(decoding.RejectedImage, match=r"pip install 'dr_tfx\[dicom\]'"):
        decoding.apply_recipe(data, FUNDUS)


def test_real_ct_slices_are_read():
    paths = sorted((SHARED_DATA / "ct_dicom").glob("*.dcm"))
    if not paths:
        pytest.skip(f"no CT slices at {SHARED_DATA}")
    for path in paths:
        decoded = decoding.decode(path.read_bytes())
        assert decoding.image_size(path.read_bytes()) == (512, 512) == decoded.shape[:2]
        assert decoded.min() == 0 and decoded.max() == 255 and 5 < decoded.mean() < 128


def test_damaged_files_are_rejected_or_give_a_picture():
    """Never another exception, a crash, a hang or a huge allocation. Native code: own process."""
    pytest.importorskip("pydicom")
    script = Path(__file__).with_name("fuzz_images.py")
    command = [sys.executable, str(script), "0", "600"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "accepted" in done.stdout and "unreadable" in done.stdout
