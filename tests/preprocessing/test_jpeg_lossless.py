"""JPEG Lossless against an encoder that follows the text of ITU-T T.81, sample by sample."""

import numpy as np
import pytest

from dr_tfx.preprocessing import jpeg_lossless

CATEGORIES = tuple(range(17))  # All with codes of 5 bits: their own number.


def encode(samples: np.ndarray, *, precision: int, predictor: int, shift=0, interval=0) -> bytes:
    """The frame of `samples` (height, width, components); restarts after so many rows."""
    height, width, count = samples.shape
    tables = b"".join(
        bytes([i, *(17 * (n == 5) for n in range(1, 17)), *CATEGORIES]) for i in range(count)
    )
    frame = bytes([precision, *height.to_bytes(2, "big"), *width.to_bytes(2, "big"), count])
    frame += b"".join(bytes([i, 0x11, 0]) for i in range(count))
    scan = bytes([count, *(b for i in range(count) for b in (i, i << 4)), predictor, 0, shift])
    restart = (interval * width).to_bytes(2, "big")
    parts = [
        codes(
            samples[row : row + (interval or height)].astype(int) >> shift,
            precision - shift,
            predictor,
        )
        for row in range(0, height, interval or height)
    ]
    data = parts[0] + b"".join(
        bytes([0xFF, 0xD0 + i % 8]) + part for i, part in enumerate(parts[1:])
    )
    segments = ((0xC4, tables), (0xC3, frame), (0xDD, restart), (0xDA, scan))
    return (
        b"\xff\xd8"
        + b"".join(bytes([255, m, *(len(s) + 2).to_bytes(2, "big")]) + s for m, s in segments)
        + data
        + b"\xff\xd9"
    )


def codes(x: np.ndarray, precision: int, predictor: int) -> bytes:
    """One part of a scan: annex H.1.2, figure H.1 and table H.1, then F.1.2.3's padding."""
    bits = ""
    for row, column, i in np.ndindex(*x.shape):
        a, b, c = (
            int(x[row - up, column - left, i]) if row >= up and column >= left else 0
            for up, left in ((0, 1), (1, 0), (1, 1))
        )
        if row == 0:
            guess = a if column else 1 << (precision - 1)
        elif column == 0:
            guess = b
        else:
            guess = [a, b, c, a + b - c, a + (b - c >> 1), b + (a - c >> 1), a + b >> 1][
                predictor - 1
            ]
        difference = (int(x[row, column, i]) - guess + 32767) % 65536 - 32767
        size = abs(difference).bit_length()
        bits += f"{size:05b}"
        if 0 < size < 16:
            bits += f"{difference if difference > 0 else difference + (1 << size) - 1:0{size}b}"
    bits += "1" * (-len(bits) % 8)
    return int(bits, 2).to_bytes(len(bits) // 8, "big").replace(b"\xff", b"\xff\0")


def drawn(height: int, width: int, components: int, *, precision: int) -> np.ndarray:
    """A walk from sample to sample with jumps to the lowest and the highest value."""
    rng = np.random.default_rng(height)
    walk = np.cumsum(rng.integers(-9, 10, (height, width, components)), axis=1)
    walk[rng.random(walk.shape) < 0.1] = rng.choice([0, (1 << precision) - 1])
    return walk % (1 << precision)


@pytest.mark.parametrize("predictor", range(1, 8))
@pytest.mark.parametrize("precision", [8, 12, 16])
def test_samples_are_those_of_the_encoder(precision, predictor):
    samples = drawn(9, 13, 1, precision=precision)
    samples[3, 4:6, 0] = 0, (1 << precision) - 1
    decoded = jpeg_lossless.decode(encode(samples, precision=precision, predictor=predictor))
    assert decoded.dtype == np.uint16
    np.testing.assert_array_equal(decoded, samples)


def test_colours_restarts_shifts_and_long_scans():
    colours = drawn(8, 5, 3, precision=8)
    np.testing.assert_array_equal(
        jpeg_lossless.decode(encode(colours, precision=8, predictor=1, interval=3)), colours
    )
    shifted = jpeg_lossless.decode(encode(colours, precision=8, predictor=4, shift=2))
    np.testing.assert_array_equal(shifted, colours >> 2 << 2)
    noise = np.random.default_rng(0).integers(0, 1 << 16, (150, 151, 1))  # 2 blocks of codes.
    np.testing.assert_array_equal(
        jpeg_lossless.decode(encode(noise, precision=16, predictor=1)), noise
    )


def test_damage_is_an_error():
    """Less data than the picture needs, more of it, and headers that make no sense."""
    samples = drawn(9, 13, 1, precision=12)
    frame = encode(samples, precision=12, predictor=1)
    start = frame.index(b"\xff\xda") + 10
    for end in (start, len(frame) // 2, len(frame) - 3, len(frame) - 2):
        with pytest.raises(ValueError, match="JPEG Lossless"):
            jpeg_lossless.decode(frame[:end] + b"\xff\xd9" * (end < len(frame) - 2))
    header = frame[: frame.index(b"\xff\xdd")]
    fewer = bytearray(frame)
    fewer[frame.index(b"\xff\xc3") + 6] = 8  # Rows.
    for damaged in (
        bytes(fewer),
        header,
        header[:-3],
        b"\xff\xd8",
        frame[:2] + frame[:40] + frame[40:],
    ):
        with pytest.raises(ValueError):
            jpeg_lossless.decode(damaged)
    twice = frame.replace(
        b"\xff\xc3", frame[frame.index(b"\xff\xc3") : frame.index(b"\xff\xdd")] + b"\xff\xc3"
    )
    with pytest.raises(ValueError, match="two headers"):
        jpeg_lossless.decode(twice)
