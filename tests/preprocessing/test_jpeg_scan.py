"""Bytes before the end marker of a JPEG file: stray ones, or pixels that were not needed."""

import io

import numpy as np
import pytest
import simplejpeg
from PIL import Image

from dr_tfx.preprocessing import jpeg, jpeg_scan
from tests.helpers.drawn import draw


def jpeg_of(mode: str = "RGB", height: int = 120, **options) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(draw(3)[:height, :, ::-1]).convert(mode).save(stream, "JPEG", **options)
    return stream.getvalue()


@pytest.mark.parametrize("stray", [b"", bytes(211), b"\xee" * 3, b"other stray bytes" * 5])
@pytest.mark.parametrize("subsampling", [0, 1, 2])
@pytest.mark.parametrize("mode, optimize", [("RGB", False), ("RGB", True), ("L", True)])
def test_stray_bytes_are_told(mode, optimize, subsampling, stray):
    data = jpeg_of(mode, optimize=optimize, subsampling=subsampling)
    assert jpeg_scan.ends_with_stray_bytes(data[:-2] + stray + data[-2:])


@pytest.mark.parametrize("mode, subsampling", [("RGB", 0), ("RGB", 2), ("L", 0)])
@pytest.mark.parametrize("rows", [16, 64])
def test_pixels_that_were_not_needed_are_no_stray_bytes(mode, subsampling, rows):
    """The header says that the picture is lower than it is, as if the decoder had been too fast."""
    data = bytearray(jpeg_of(mode, subsampling=subsampling, quality=95))
    at = data.index(b"\xff\xc0") + 5
    data[at : at + 2] = (120 - rows).to_bytes(2, "big")
    with pytest.raises(ValueError, match="extraneous bytes before marker 0xd9"):
        simplejpeg.decode_jpeg(bytes(data))
    assert not jpeg_scan.ends_with_stray_bytes(bytes(data))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xd8\xff\xd9",
        jpeg_of()[:-2],
        jpeg_of(progressive=True),
        jpeg_of(restart_marker_blocks=4),
        jpeg_of().replace(b"\xff\xc4", b"\xff\xe4"),
    ],
)
def test_what_cannot_be_told_is_no_stray_byte(data):
    assert not jpeg_scan.ends_with_stray_bytes(data)


def test_damaged_files_raise_nothing():
    rng, data = np.random.default_rng(0), jpeg_of()
    for _ in range(100):
        damaged = bytearray(data)
        for at in rng.integers(0, len(data), 4):
            damaged[at] = int(rng.integers(0, 256))
        assert jpeg_scan.ends_with_stray_bytes(bytes(damaged)) in (True, False)


def test_scans_are_counted_whatever_lies_in_between():
    thumbnail = jpeg_of("L", progressive=True)
    exif = b"Exif\0\0" + thumbnail  # Its scans are none of the photograph's.
    plain, several = jpeg_of(exif=exif), jpeg_of(exif=exif, progressive=True)
    assert [jpeg_scan.count_scans(data) for data in (plain, several)] == [1, 10]
    assert jpeg_scan.count_scans(jpeg_of(restart_marker_rows=1, quality=95)) == 1
    assert jpeg_scan.count_scans(plain + several) == 1  # What follows the end is not decoded.
    assert [jpeg_scan.count_scans(data) for data in (b"", b"\xff\xd8\xff")] == [0, 0]


def test_a_file_of_endless_scans_is_no_photograph():
    data = jpeg_of(progressive=True)
    last = data[data.rindex(b"\xff\xda") : -2]
    height, width = draw(3)[:120].shape[:2]
    bomb = data[:-2] + last * (jpeg.MAX_PASSED // (height * width)) + data[-2:]
    for look in (jpeg.decode, jpeg.check):
        look(data, width=width, height=height)
        with pytest.raises(ValueError, match="scans of .* pixels, which no photograph has"):
            look(bomb, width=width, height=height)
