"""DICOM files: the values that they hold, and how they are displayed, by the standard's words."""

import base64
import importlib.util
import io
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dr_tfx.preprocessing import decoding, dicom_frames
from dr_tfx.preprocessing.dicom import Scan
from tests.helpers import dicom_files
from tests.helpers.dicom_files import dicom, jpeg_dicom
from tests.helpers.drawn import SHARED_DATA, draw, encode

RAMP = np.arange(0, 4096, 16, dtype=np.int16).reshape(16, 16)
# The values of the fixture `lossless_frame`, by libjpeg-turbo 3 and by OpenJPH.
LOSSLESS = (
    "/9j/4AAQSkZJRgABAQAAAQABAAD/wwALDAAJAAwBAREA/8QAFgABAQEAAAAAAAAAAAAAAAAABgkM/9oACAEBAAEAAM/+oUKF"
    "ChQoUKFCiyChQoUKFChQoUKLIKFChQoUKFChQosgoUKNWvleFChQoUKLIKFChQoUKFChQosgoUKFCjOz6OhQoUKLIKFChQoU"
    "KFChQosgoUKFChQoUKFCiyChQoUKFChQoUKP/9k="
)
HIGH_THROUGHPUT = (
    "/0//UQApQAAAAAAMAAAACQAAAAAAAAAAAAAADAAAAAkAAAAAAAAAAAABDwEB/1AACAACAAAACv9SAAwAAgABAAUEBEAB/1wA"
    "EyCIkJCQkJCQkJCQkJCQiIiI/2QAFwABT3BlbkpQSCBWZXIgMC4yNi4zLv+QAAoAAAAAAMMAAf+TwAAm+/EFB3QAAMAAE0AA"
    "E0AAEoDK/gIHdABg+AOHdACJAQd0AMAAE8AAE0AAEoCidP0CA3QATIwAQjQAiAIHdADAABacAAFVAABVgJe8i0SfVBMmSTj+"
    "AQLcAYC/mACXmJSR9QBg+rUAMWUoJ4niEMB9lQDAAC2YAAWjAACtq1Y5nVV7uHDhouM4ARWJckB4wiUQgG/dAKsMYFVc5KNd"
    "/BAW4CiAt9gArWqVL/riB3ghAG/XAP/Z"
)


def shown(data: bytes) -> np.ndarray:
    """As a viewer shows it, uint8 BGR."""
    return decoding.displayed(decoding.decode(data))


def test_the_values_of_the_file_are_decoded_and_no_window():
    """PS3.3 C.11.1.1.2: units = slope x stored value + intercept."""
    stored = np.array([[-1024, -1, 0, 2047]], np.int16)
    window = {"WindowCenter": 40, "WindowWidth": 80, "PhotometricInterpretation": "MONOCHROME1"}
    scan = decoding.decode(dicom(stored, RescaleSlope=1.5, RescaleIntercept=-24.5, **window))
    assert isinstance(scan, Scan)
    np.testing.assert_array_equal(scan.values, [[-1560.5, -26, -24.5, 3046]])
    plain = decoding.decode(dicom(stored, **window))
    np.testing.assert_array_equal(plain.values, stored)
    assert plain.values.dtype == np.int16 and plain.unit == ""


@pytest.mark.parametrize("bits, kind", [(12, np.uint16), (16, np.uint16), (16, np.int16)])
def test_any_number_of_bits_is_read(bits, kind):
    low = -(2**15) if kind is np.int16 else 0
    stored = np.array([[low, low + 1, 7, low + 2**bits - 1]]).astype(kind)
    elements = {"BitsStored": bits, "HighBit": bits - 1}
    for data in (
        dicom(stored, **elements),
        dicom(stored, syntax="1.2.840.10008.1.2", **elements),  # Implicit value representations.
    ):
        np.testing.assert_array_equal(decoding.decode(data).values, stored)


@pytest.mark.parametrize(
    "elements, unit",
    [
        (dicom_files.HEAD_CT, "HU"),
        ({**dicom_files.HEAD_CT, "RescaleType": "US"}, "US"),
        ({"RescaleSlope": 1, "RescaleIntercept": 0, "RescaleType": "HU"}, "HU"),
        ({"RescaleSlope": 1, "RescaleIntercept": 0, "Modality": "MR"}, ""),
        ({"Modality": "CT"}, ""),
    ],
)
def test_the_unit_is_known_where_the_file_tells(elements, unit):
    assert decoding.decode(dicom(RAMP, **elements)).unit == unit


def test_look_up_tables_are_applied():
    """Values by a table of squares; then their display by a table of 255 minus the value."""
    stored = np.arange(16, dtype=np.uint8).reshape(4, 4)
    squares = dicom_files.lookup_table([i * i for i in range(256)], bits=16)
    scan = decoding.decode(dicom(stored, ModalityLUTSequence=squares))
    np.testing.assert_array_equal(scan.values, stored.astype(int) ** 2)
    negative = dicom_files.lookup_table([255 - i for i in range(256)], bits=8)
    decoded = shown(dicom(stored, VOILUTSequence=negative, WindowCenter=1, WindowWidth=2))
    np.testing.assert_array_equal(decoded[..., 0], 255 - stored)


def test_dicom_grey_goes_through_slope_and_window():
    """PS3.3 C.11.2.1.2: linear from centre - .5 - (width - 1) / 2, clipped at both ends."""
    window = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 40, "WindowWidth": 80}
    units = RAMP * 2.0 - 1000
    expected = np.clip(((units - 39.5) / 79 + 0.5) * 255, 0, 255)
    decoded = shown(dicom(RAMP, **window))
    assert decoded.shape == (16, 16, 3) and decoded.dtype == np.uint8
    np.testing.assert_allclose(decoded[..., 1], expected, atol=0.51)
    inverted = shown(dicom(RAMP, PhotometricInterpretation="MONOCHROME1", **window))
    np.testing.assert_array_equal(inverted, 255 - decoded)


def test_the_first_of_several_frames_means_what_its_groups_say():
    """PS3.3 C.7.6.16.2.9 and .10: enhanced CT has no slope and window but these."""
    pydicom = pytest.importorskip("pydicom")

    def item(**elements):
        made = pydicom.Dataset()
        for name, value in elements.items():
            setattr(made, name, value)
        return made

    slope = item(RescaleSlope=2, RescaleIntercept=-1000, RescaleType="HU")
    windows = [item(WindowCenter=center, WindowWidth=80) for center in (40, 400)]
    data = dicom(
        RAMP,
        PixelData=np.stack([RAMP, RAMP + 1]).tobytes(),
        NumberOfFrames=2,
        SharedFunctionalGroupsSequence=[item(PixelValueTransformationSequence=[slope])],
        PerFrameFunctionalGroupsSequence=[item(FrameVOILUTSequence=[each]) for each in windows],
    )
    scan = decoding.decode(data)
    np.testing.assert_array_equal(scan.values, RAMP * 2.0 - 1000)
    assert scan.unit == "HU"
    one = {"RescaleSlope": 2, "RescaleIntercept": -1000, "WindowCenter": 40, "WindowWidth": 80}
    np.testing.assert_array_equal(shown(data), shown(dicom(RAMP, **one)))


def test_dicom_grey_without_a_window():
    grey = draw(6)[..., 1]
    np.testing.assert_array_equal(shown(dicom(grey)), np.dstack([grey] * 3))
    spread = shown(dicom(RAMP))[..., 0]
    np.testing.assert_allclose(spread, RAMP / RAMP.max() * 255, atol=0.51)
    assert shown(dicom(RAMP * 0 + 7)).max() == 0  # One level: nothing to spread.


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


def test_a_palette_gives_its_colours():
    """PS3.3 C.7.6.3.1.5: a stored value is the place of its colour in three tables."""
    rng = np.random.default_rng(3)
    tables = {name: rng.integers(0, 2**16, 256).astype("<u2") for name in ("Red", "Green", "Blue")}
    stored = rng.integers(0, 256, (9, 7)).astype(np.uint8)
    elements: dict = {"PhotometricInterpretation": "PALETTE COLOR"}
    for name, table in tables.items():
        elements[f"{name}PaletteColorLookupTableDescriptor"] = [256, 0, 16]
        elements[f"{name}PaletteColorLookupTableData"] = table.tobytes()
    expected = [tables[name][stored] // 256 for name in ("Blue", "Green", "Red")]
    np.testing.assert_array_equal(decoding.decode(dicom(stored, **elements)), np.dstack(expected))


def test_values_are_the_same_from_raw_jpeg_2000_and_rle():
    encaps = pytest.importorskip("pydicom.encaps")
    values = (RAMP.astype(np.uint16) * 13) % 4096
    stream = io.BytesIO()
    Image.fromarray(values).save(stream, "JPEG2000", irreversible=False, no_jp2=True)
    jpeg_2000 = dicom(
        values,
        syntax="1.2.840.10008.1.2.4.90",
        PixelData=encaps.encapsulate([stream.getvalue()]),
        **dicom_files.HEAD_CT,
    )
    rle = dicom_files.dataset(values, **dicom_files.HEAD_CT)
    rle.compress("1.2.840.10008.1.2.5")
    for data in (dicom(values, **dicom_files.HEAD_CT), jpeg_2000, dicom_files.written(rle)):
        np.testing.assert_array_equal(decoding.decode(data).values, values - 1024.0)
    with pytest.raises(decoding.RejectedImage, match="a frame of 16x16, not 8x32"):
        wrong = {"Rows": 32, "Columns": 8, "PixelData": encaps.encapsulate([stream.getvalue()])}
        decoding.decode(dicom(values, syntax="1.2.840.10008.1.2.4.90", **wrong))


def test_frames_of_lossless_syntaxes_hold_the_values(lossless_frame):
    """By three encoders: libjpeg-turbo 3, CharLS and OpenJPH. Half of a frame is damage."""
    values, syntax, frame = lossless_frame
    encaps = pytest.importorskip("pydicom.encaps")

    def read(frame: bytes, **elements) -> np.ndarray:
        elements = {"PixelData": encaps.encapsulate([frame]), **elements}
        return decoding.decode(dicom(values, syntax=syntax, **elements)).values

    np.testing.assert_array_equal(read(frame), values)
    np.testing.assert_array_equal(read(frame + b"\xff"), values)  # As GE pads to even lengths.
    with pytest.raises(decoding.RejectedImage, match="a frame of 12x9, not 9x12"):
        read(frame, Rows=12, Columns=9)
    for half in (frame[: len(frame) // 2], frame[: len(frame) // 2] + bytes(len(frame) // 2)):
        with pytest.raises(decoding.RejectedImage, match="DICOM"):
            read(half)


@pytest.fixture(params=["JPEG Lossless", "JPEG-LS", "HTJ2K"])
def lossless_frame(request) -> tuple[np.ndarray, str, bytes]:
    """Values of 12 bits, a transfer syntax, and a frame that holds them."""
    values = np.add.outer(np.arange(9) * 400, np.arange(12) * 40).astype(np.uint16)
    values[3, 4], values[5, 6] = 4095, 0
    if request.param == "JPEG Lossless":
        return values, "1.2.840.10008.1.2.4.70", base64.b64decode(LOSSLESS)
    if request.param == "HTJ2K":
        return values, "1.2.840.10008.1.2.4.201", base64.b64decode(HIGH_THROUGHPUT)
    jpeg_ls = pytest.importorskip("jpeg_ls", reason="pyjpegls is not installed: [dicom]")
    return values, "1.2.840.10008.1.2.4.80", bytes(jpeg_ls.encode_array(values))


def test_no_codestream_of_a_frame_is_larger_than_the_file_says():
    """A JP2 file around the codestream, with the header of another one in front."""
    stream = io.BytesIO()
    Image.new("L", (16, 9)).save(stream, "JPEG2000")
    frame = stream.getvalue()
    assert dicom_frames.size(frame) == (16, 9)
    start = frame.index(b"\xff\x4f\xff\x51")
    bomb = frame[start : start + 8] + (60000).to_bytes(4, "big") * 2 + bytes(8)
    for hidden in (frame[:start] + bomb + frame[start:], frame + bomb):
        assert dicom_frames.size(hidden) == (60000, 60000)
    with pytest.raises(ValueError, match="no JPEG header"):
        dicom_frames.size(b"\xff\xd8\xff\xe0")


def test_every_file_of_pydicom_is_decoded_or_rejected_with_a_reason():
    """Its own test files: structures without pixels, damage, compression, segments, doses.

    And those of the wheel pydicom-data, where it is installed.
    """
    pydicom = pytest.importorskip("pydicom")
    folders = [Path(pydicom.__file__).parent / "data" / "test_files"]
    if more := importlib.util.find_spec("data_store"):
        folders += map(Path, more.submodule_search_locations or [])
    paths = sorted(p for f in folders for p in f.rglob("*") if p.is_file() and p.suffix != ".pyc")
    rejected = {}
    for path in paths:
        try:
            shown(path.read_bytes())
        except decoding.RejectedImage as error:
            rejected[path.name] = error
    assert len(paths) > len(rejected) > 0
    assert not any("jls" in name.lower() or "jpegls" in name.lower() for name in rejected)
    # The name of a Python error tells what nobody foresaw, here a codestream that Pillow refuses.
    unforeseen = {name for name, error in rejected.items() if "Error: " in error.detail}
    assert unforeseen <= {"GDCMJ2K_TextGBR.dcm"}
    for name, words in (
        ("rtplan.dcm", "no picture in it: RT Plan Storage has no pixels"),
        ("JPGExtended.dcm", "lossy JPEG of more than 8 bits a sample is not supported"),
        ("image_dfl.dcm", "deflated files are not supported"),
    ):
        assert words in str(rejected[name])


def test_dicom_holds_a_jpeg():
    decoded = decoding.decode(jpeg_dicom(draw(6), encode(draw(6))))
    np.testing.assert_allclose(decoded.astype(int), decoding.decode(encode(draw(6))), atol=3)
    with pytest.raises(decoding.RejectedImage, match="a frame of 160x120, not 20x10"):
        decoding.decode(jpeg_dicom(draw(6), encode(draw(6)), Columns=20, Rows=10))


def test_damage_in_the_jpeg_of_a_dicom_file_is_unreadable():
    jpeg = encode(np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8))
    middle = len(jpeg) // 2
    assert decoding.decode(jpeg_dicom(draw(6), jpeg)).shape == (120, 160, 3)
    with pytest.raises(decoding.RejectedImage, match="Corrupt JPEG data"):
        decoding.decode(jpeg_dicom(draw(6), jpeg[:middle] + bytes(4096) + jpeg[middle + 4096 :]))


def test_dicom_size_is_in_the_header(monkeypatch):
    data = dicom(draw(6)[..., ::-1], NumberOfFrames=3)
    pixels = pytest.importorskip("pydicom.pixels")
    monkeypatch.setattr(pixels, "pixel_array", lambda *_, **__: pytest.fail("was decoded"))
    assert decoding.image_size(data) == (160, 120)
    assert decoding.image_size(data[:-1000]) == (160, 120)


@pytest.mark.parametrize(
    "make, words",
    [
        (lambda: dicom(draw(6))[:-1], "DICOM"),
        (lambda: dicom(draw(6))[:200], "DICOM"),
        (lambda: jpeg_dicom(draw(6), encode(draw(6)))[:-900], "DICOM"),
        (lambda: dicom(RAMP.astype(np.int32)), "1 samples of 32 bits"),
        (lambda: dicom(RAMP, Rows=0), "DICOM"),
        (lambda: dicom(RAMP, NumberOfFrames=-1), "DICOM"),
        (lambda: dicom(RAMP, NumberOfFrames=1234).replace(b"1234", b"abcd"), "invalid literal"),
        (lambda: dicom(RAMP, NumberOfFrames=1234).replace(b"1234", b"1\\2 "), "TypeError"),
        (lambda: dicom(RAMP, WindowCenter=1, WindowWidth=-1), "Window Width"),
        (lambda: dicom(RAMP, PhotometricInterpretation="PALETTE COLOR"), "Palette|LUT"),
        (lambda: dicom(RAMP, PhotometricInterpretation="HSV"), "HSV"),
        (lambda: dicom(RAMP, PatientName="1.2.840.10008.1.2.1.99"), "deflated"),
    ],
)
def test_dicom_that_cannot_be_used_is_rejected(make, words):
    with pytest.raises(decoding.RejectedImage, match=words) as caught:
        shown(make())
    assert caught.value.reason == "unreadable"


def test_a_frame_that_would_take_gigabytes_is_too_large():
    with pytest.raises(decoding.RejectedImage, match="too_large: a frame of 162,000,000 bytes"):
        shown(dicom(RAMP, Rows=9000, Columns=9000))


def test_dicom_without_pydicom_names_what_to_install(monkeypatch):
    data = dicom(draw(6))
    monkeypatch.setitem(sys.modules, "pydicom", None)
    with pytest.raises(decoding.RejectedImage, match=r"pip install 'dr_tfx\[dicom\]'"):
        decoding.decode(data)


def test_real_ct_slices_are_read():
    paths = sorted((SHARED_DATA / "ct_dicom").glob("*.dcm"))
    if not paths:
        pytest.skip(f"no CT slices at {SHARED_DATA}")
    for path in paths:
        decoded = shown(path.read_bytes())
        assert decoding.image_size(path.read_bytes()) == (512, 512) == decoded.shape[:2]
        assert decoded.min() == 0 and decoded.max() == 255 and 5 < decoded.mean() < 128
