"""JPEG Lossless, ITU-T T.81, process 14, as scanners compress slices: the pixels, or the damage.

Of the libraries that decode it, one ends the process on damaged frames (GDCM), one is under the GPL
(pylibjpeg-libjpeg), and libjpeg-turbo fills what is missing without a word. A sample is a Huffman
code and its difference from neighbours that were decoded before (annex H). Codes are looked up at
all bits of a block at once, so that only the way from code to code is a loop.
"""

import itertools
import re
from typing import NamedTuple

import numpy as np

_FRAME, _TABLES, _RESTARTS, _SCAN = 0xC3, 0xC4, 0xDD, 0xDA
_BLOCK = 1 << 15  # Bytes of codes that are looked up at once.
_NO_CODE = 64  # Bits to go on by where there is no code: more than any code and its difference.
_MARKER = re.compile(rb"\xff+[\x01-\xfe]")
_RESTART = re.compile(rb"\xff+[\xd0-\xd7]")


class _Header(NamedTuple):
    precision: int
    height: int
    width: int
    codes: list[np.ndarray]  # Of each component, from `_codes`.
    rows: int  # In each part of the scan that can be decoded by itself.
    predictor: int
    shift: int
    start: int  # Bytes before the codes.


def decode(data: bytes) -> np.ndarray:
    """Return the samples of a frame, uint16 (height, width, components).

    Raises:
      ValueError: the frame is damaged, or not JPEG Lossless with all components in one scan.
    """
    try:
        header = _read_header(data)
    except LookupError as error:
        raise ValueError("a damaged header of JPEG Lossless") from error
    end = next((m for m in _MARKER.finditer(data, header.start) if not _RESTART.match(m[0])), None)
    if end is None:
        raise ValueError("premature end of JPEG Lossless data")
    parts = _RESTART.split(data[header.start : end.start()])
    starts = range(0, header.height, header.rows)
    if len(parts) != len(starts):
        raise ValueError(f"{len(parts)} parts of JPEG Lossless data, expected {len(starts)}")
    samples = np.empty((header.height, header.width, len(header.codes)), np.uint16)
    for start, part in zip(starts, parts, strict=True):
        rows = samples[start : start + header.rows]
        rows[...] = _differences(part, header.codes, rows.size).reshape(rows.shape)
        for component in range(rows.shape[2]):
            _undo_prediction(rows[..., component], header)
    return samples << header.shift


def _read_header(data: bytes) -> _Header:
    """Return what the markers before the codes say.

    Raises:
      ValueError, LookupError: damage, or a process that is not supported.
    """
    tables: dict[int, np.ndarray] = {}
    components: list[int] = []
    precision = height = width = restart = 0
    at = 2
    while True:
        found = _MARKER.match(data, at)
        if found is None:
            raise LookupError
        marker, at = found[0][-1], found.end()
        length = int.from_bytes(data[at : at + 2], "big")
        segment, at = data[at + 2 : at + length], at + length
        if marker == _TABLES:
            while segment:
                end = 17 + sum(segment[1:17])
                tables[segment[0]], segment = _codes(segment[1:end]), segment[end:]
        elif marker == _FRAME:
            if components:
                raise ValueError("two headers of one frame")  # Sizes that nobody looked at.
            precision = segment[0]
            height, width = (int.from_bytes(segment[i : i + 2], "big") for i in (1, 3))
            components = [segment[6 + 3 * i] for i in range(segment[5])]
            if any(segment[7 + 3 * i] != 0x11 for i in range(segment[5])):
                raise ValueError("subsampled JPEG Lossless is not supported")
        elif marker == _RESTARTS:
            restart = int.from_bytes(segment[:2], "big")
        elif marker == _SCAN:
            break
    chosen = {segment[1 + 2 * i]: segment[2 + 2 * i] >> 4 for i in range(segment[0])}
    predictor, _, shift = segment[-3:]
    if list(chosen) != components or not components:
        raise ValueError("JPEG Lossless of several scans is not supported")
    if not (1 <= predictor <= 7 and 2 <= precision <= 16 and shift < precision and height * width):
        raise LookupError
    if restart % width:
        raise ValueError("JPEG Lossless with restarts within a row is not supported")
    codes = [tables[chosen[component]] for component in components]
    rows = restart // width or height
    return _Header(precision, height, width, codes, rows, predictor, shift, at)


def _codes(table: bytes) -> np.ndarray:
    """Return, for each of the 65,536 ways in which 16 bits may begin: 32 x code bits + category.

    The table has how many codes there are of each length, and their categories (T.81, C.2), which
    are the bits of the difference after the code; 0 where there is no such code.
    """
    categories = iter(table[16:])
    ways = np.zeros(1 << 16, np.uint16)
    at = 0
    for bits, count in enumerate(table[:16], start=1):
        for category in itertools.islice(categories, count):
            end = at + (1 << (16 - bits))
            if category > 16 or end > len(ways):
                raise LookupError
            ways[at:end] = 32 * bits + category
            at = end
    return ways


def _differences(part: bytes, codes: list[np.ndarray], count: int) -> np.ndarray:
    """Return the differences, modulo 65,536, uint16 (count,), of one part of the scan.

    Raises:
      ValueError: there is no such code, or more or less data than differences.
    """
    stuffed = np.frombuffer(part.replace(b"\xff\x00", b"\xff"), np.uint8)
    data = np.concatenate([stuffed, np.zeros(_BLOCK + 5, np.uint8)])
    differences = np.empty(count, np.uint16)
    done = at = 0  # Differences that are known; the bit after them.
    while done < count and at < 8 * len(stuffed):
        first = at >> 3
        words = np.zeros(_BLOCK, np.int64)  # The 40 bits from each byte on.
        for i in range(5):
            words = words << 8 | data[first + i : first + i + _BLOCK]
        turns = [(done + i) % len(codes) for i in range(len(codes))]
        steps = {id(codes[i]): _steps(words, codes[i]) for i in turns}
        places, end = _walk([steps[id(codes[i])] for i in turns], at & 7, most=count - done)
        for turn, component in enumerate(turns):
            mine = slice(done + turn, done + len(places), len(codes))
            differences[mine] = _values(words, codes[component], places[turn :: len(codes)])
        done, at = done + len(places), 8 * first + end
    # The last byte is filled up. Some encoders write one more, of zeros or of ones.
    is_empty = np.isin(stuffed[-(-at // 8) :], (0, 255)).all()
    if done < count or at > 8 * len(stuffed) or not is_empty:
        raise ValueError("damaged JPEG Lossless data")
    return differences


def _steps(words: np.ndarray, codes: np.ndarray) -> bytes:
    """Return for each bit how many there are to the next code, if a code begins here."""
    after = np.where(codes & 31 == 16, 0, codes & 31)  # A difference of 32,768 is its category.
    step = np.where(codes == 0, _NO_CODE, (codes >> 5) + after).astype(np.uint8)
    return step[words[:, None] >> (24 - np.arange(8)) & 0xFFFF].tobytes()


def _walk(steps: list[bytes], at: int, *, most: int) -> tuple[np.ndarray, int]:
    """Return the bits of a block at which codes begin, at most so many, and the bit after them."""
    places: list[int] = []
    for step in itertools.cycle(steps):
        if at >= len(step) or len(places) == most:
            break
        places.append(at)
        at += step[at]
    return np.array(places, np.int64), at


def _values(words: np.ndarray, codes: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the differences that begin at these bits, uint16, modulo 65,536 (T.81, table H.2).

    Raises:
      ValueError: no code begins at one of them.
    """
    word, left = words[places >> 3], 24 - (places & 7)
    code = codes[word >> left & 0xFFFF].astype(np.int64)
    if not code.all():
        raise ValueError("damaged JPEG Lossless data: no such code")
    category = code & 31
    bits = np.where(category == 16, 0, category)
    value = word >> (left + 16 - (code >> 5) - bits) & ((1 << bits) - 1)
    low = (value << 1) >> bits == 0  # The first bit is 0: the difference is negative.
    value = np.where(low, value - (1 << bits) + 1, value)
    return np.where(category == 16, 1 << 15, value).astype(np.uint16)


def _undo_prediction(rows: np.ndarray, header: _Header) -> None:
    """Turn the differences of one component, uint16 (height, width), into samples, in place."""
    rows[0, :1] += np.uint16(1 << (header.precision - header.shift - 1))
    np.cumsum(rows[0], out=rows[0], dtype=np.uint16)
    for above, row in itertools.pairwise(rows):
        row[:1] += above[:1]
        _undo_row(row, above, header.predictor)


def _undo_row(row: np.ndarray, above: np.ndarray, predictor: int) -> None:
    """Turn differences into samples but for the first one, which is one already, in place.

    Predictors are those of T.81, table H.1, of the samples to the left, above, and above that one.
    """
    up, corner = above[1:].astype(np.int32), above[:-1].astype(np.int32)
    if predictor in (2, 3):
        row[1:] += above[1:] if predictor == 2 else above[:-1]
    elif predictor in (1, 4, 5):
        slope = up - corner
        row[1:] += (slope * 0 if predictor == 1 else slope >> (predictor - 4)).astype(np.uint16)
        np.cumsum(row, out=row, dtype=np.uint16)
    else:
        left, samples = int(row[0]), []
        for difference, b, c in zip(row[1:].tolist(), up.tolist(), corner.tolist(), strict=True):
            guess = b + (left - c >> 1) if predictor == 6 else left + b >> 1
            left = difference + guess & 0xFFFF
            samples.append(left)
        row[1:] = samples
