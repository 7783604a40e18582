"""The bytes before a JPEG file's end marker: the rest of a picture, or stray ones.

Where bytes remain after the last pixel, libjpeg gives one warning for two things. Some cameras
leave a few bytes before the end marker, which costs nothing. Or the decoder lost its place at a
damage, found it again further on, as Huffman codes let it, and had all pixels too early: then half
of the picture is scrambled. In the first case the codes end with the padding that ITU-T T.81,
F.1.2.3 asks for, and what follows is no picture. In the second one, what follows is the codes of
more pixels, whole ones, up to the padding before the end marker.
"""

import itertools
import re
from typing import NamedTuple

MAX_BYTES = 16 << 20  # About a minute is needed for so many.
_BASELINE = (0xC0, 0xC1)
_BLOCK = 64
_MARKER = re.compile(rb"\xff[\x01-\xcf\xd8-\xfe]")  # None is a stuffed zero or a restart.
_SCAN, _END, _WITHOUT_LENGTH = 0xDA, 0xD9, (0x01, 0xD8)

# Of each of the 65,536 ways in which 16 bits may begin with a code: the bits of the code and of the
# value after it, times 128, plus the coefficients that they fill; 0 where there is no such code.
_Codes = list[int]


class _Layout(NamedTuple):
    units: int  # The number of minimum coded units (MCUs) in the picture.
    blocks: list[tuple[_Codes, _Codes]]  # The codes of each block in one: DC and AC.
    start: int  # Bytes before the scan.


def count_scans(data: bytes) -> int:
    """Return the number of scans in a JPEG file, each of which a decoder makes a pass for."""
    scans, at = 0, 2
    while found := _MARKER.search(data, at):
        marker, at = data[found.start() + 1], found.end()
        if marker == _END:
            break
        if marker not in _WITHOUT_LENGTH:
            at += int.from_bytes(data[at : at + 2], "big")
        scans += marker == _SCAN
    return scans


def ends_with_stray_bytes(data: bytes) -> bool:
    """Return whether what follows the last pixel, up to the end marker, is none of the picture.

    Args:
      data: a JPEG file that libjpeg decodes with no other warning than of extraneous bytes.

    Returns:
      False also where it cannot be told: in files that are progressive, have restart markers, or
      more than MAX_BYTES.
    """
    try:
        layout = _read_layout(data)
        end = data.index(b"\xff\xd9", layout.start)
        if end > MAX_BYTES:
            return False
        # A byte FF is followed by a stuffed zero. Padding lets the last codes be looked up.
        scan = data[layout.start : end].replace(b"\xff\x00", b"\xff")
        at, last = 0, 8 * len(scan)
        scan += b"\xff\xff\xff"
        for _ in range(layout.units):
            at = _skip_unit(scan, at, layout.blocks)
    except (ValueError, LookupError):
        return False
    if at > last or not _is_padding(scan, at, -(-at // 8) * 8):
        return False
    try:
        while at < last:
            at = _skip_unit(scan, at, layout.blocks)
            if last - at in range(8) and _is_padding(scan, at, last):
                return False
    except ValueError:
        pass  # No code.
    return True


def _read_layout(data: bytes) -> _Layout:
    """Return how the only scan of a file is coded.

    Raises:
      ValueError, LookupError: the file is of another kind, or damaged.
    """
    tables: dict[int, bytes] = {}
    sampling: dict[int, tuple[int, int]] = {}
    width = height = 0
    at = 2
    while True:
        at = data.index(b"\xff", at)
        marker, length = data[at + 1], int.from_bytes(data[at + 2 : at + 4], "big")
        if marker == 0xFF:
            at += 1
            continue
        segment = data[at + 4 : at + 2 + length]
        if marker == 0xC4:
            while segment:
                end = 17 + sum(segment[1:17])
                tables[segment[0]], segment = segment[1:end], segment[end:]
        elif marker in _BASELINE:
            height, width = (int.from_bytes(segment[i : i + 2], "big") for i in (1, 3))
            for i in range(6, 6 + 3 * segment[5], 3):
                sampling[segment[i]] = (segment[i + 1] >> 4, segment[i + 1] & 15)
        elif 0xC0 < marker <= 0xCF or (marker == 0xDD and any(segment)):
            raise ValueError("progressive, lossless or arithmetic coding, or restart markers")
        elif marker == 0xDA:
            break
        at += 2 + length
    names = list(segment[1 : 1 + 2 * segment[0] : 2])
    if names != list(sampling):
        raise ValueError("several scans")
    if len(names) == 1:  # Then a unit is one block, whatever the sampling.
        sampling = {names[0]: (1, 1)}
    blocks = []
    for name, chosen in zip(names, segment[2 : 2 + 2 * segment[0] : 2], strict=True):
        dc, ac = chosen >> 4, 16 | chosen & 15
        codes = (_codes(tables[dc], is_dc=True), _codes(tables[ac], is_dc=False))
        blocks += [codes] * (sampling[name][0] * sampling[name][1])
    across, down = (8 * max(each) for each in zip(*sampling.values(), strict=True))
    return _Layout(-(-width // across) * -(-height // down), blocks, at + 2 + length)


def _codes(table: bytes, *, is_dc: bool) -> _Codes:
    """Return the codes of a table: how many there are of each length, and symbols (T.81, C.2)."""
    symbols, codes = iter(table[16:]), []
    for bits, count in enumerate(table[:16], start=1):
        for symbol in itertools.islice(symbols, count):
            run, size = (0, symbol) if is_dc else (symbol >> 4, symbol & 15)
            filled = run + 1 if is_dc or size or run == 15 else _BLOCK  # An AC code 0: no more.
            codes += [(bits + size) * 128 + filled] * (1 << (16 - bits))
    return (codes + [0] * (1 << 16))[: 1 << 16]


def _skip_unit(scan: bytes, at: int, blocks: list[tuple[_Codes, _Codes]]) -> int:
    """Return the bit after the unit that begins at a bit.

    Raises:
      ValueError: there is no such code.
    """
    for dc, ac in blocks:
        filled, codes = 0, dc
        while filled < _BLOCK:
            window = int.from_bytes(scan[at >> 3 : (at >> 3) + 3], "big")
            code = codes[(window >> (8 - (at & 7))) & 0xFFFF]
            if not code:
                raise ValueError(f"no code at bit {at}")
            at += code >> 7
            filled += code & 127
            codes = ac
    return at


def _is_padding(scan: bytes, at: int, end: int) -> bool:
    """Return whether the bits between two places, at most 7, are all ones."""
    window = int.from_bytes(scan[at >> 3 : (at >> 3) + 2], "big")
    return all(window >> (15 - bit) & 1 for bit in range(at & 7, (at & 7) + end - at))
