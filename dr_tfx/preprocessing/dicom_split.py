"""A DICOM file of several frames, cut into files of one frame each without decoding a pixel.

An Enhanced CT file is a whole series. Cut into frames it is what a folder of single slices would
be: each frame becomes a file with the elements of all, with its own item alone of the functional
groups (PS3.3 C.7.6.16), and with its pixels as they are stored. So whatever reads a file of one
frame reads a frame. Its place among the others is Concatenation Frame Offset Number (PS3.3
C.7.6.16.1), as where a series is told in several files.

A file is read in parts: the header once, and of the pixels those of one frame. pydicom decodes what
comes out, and is the judge of it.
"""

import dataclasses
import struct
from collections.abc import Callable
from typing import NamedTuple

from dr_tfx.preprocessing import dicom_elements, dicom_frames

Part = Callable[[int, int], bytes]
"""Reads a file: from an offset on, at most so many bytes."""

_MOST_FRAMES = 10_000  # A file that claims more is not cut.
_FIRST, _MOST = 1 << 14, 1 << 25  # Bytes of a header that are read at first, and at most.
_SYNTAX, _OFFSET, _FRAMES = 0x00020010, 0x00209228, 0x00280008
_SAMPLES, _MEANING, _ROWS, _COLUMNS = 0x00280002, 0x00280004, 0x00280010, 0x00280011
_BITS, _GROUPS = 0x00280100, 0x52009230  # Bits Allocated, Per-Frame Functional Groups Sequence.
_TABLE, _LENGTHS = 0x7FE00001, 0x7FE00002  # Extended Offset Table, and the lengths beside it.
_PIXELS = 0x7FE00010
_IMPLICIT, _BIG_ENDIAN = b"1.2.840.10008.1.2", b"1.2.840.10008.1.2.2"


class _Header(NamedTuple):
    """The header of a file, up to one of its elements."""

    data: bytes  # The file's beginning, in which all of this lies.
    layout: dicom_elements.Layout
    elements: dict[int, dicom_elements.Element]  # By their tags.
    ends: dict[int, int]  # Where each ends, but the last one that was asked for.

    def text(self, tag: int) -> bytes:
        element = self.elements[tag]
        return self.data[element.value : element.value + element.length].strip(b" \0")

    def number(self, tag: int, kind: str = "H") -> int:
        found = struct.unpack_from(
            f"{self.layout.order}{kind}", self.data, self.elements[tag].value
        )
        return int(found[0])


@dataclasses.dataclass(frozen=True)
class CutFile:
    """A DICOM file of several frames, without its pixels.

    Attributes:
      spans: where the pixels of each frame begin and end; of a compressed one, its fragments.
    """

    spans: list[tuple[int, int]]
    _layout: dicom_elements.Layout
    _beginning: bytes  # What a file says of itself.
    _elements: dict[int, bytes]  # Of all frames together.
    _groups: list[bytes]  # The item of each frame; empty if the file has none.
    _group_kind: bytes
    _pixel_kind: bytes
    _is_compressed: bool
    _first: int  # The place of the first frame in its series.

    def file(self, frame: int, part: Part) -> bytes:
        """Return the file of one frame.

        Args:
          frame: its place, from 0 on.
          part: reads the whole file.

        Raises:
          ValueError: there is no such frame, or nothing of it.
        """
        if not 0 <= frame < len(self.spans):
            raise ValueError(f"there is no frame {frame + 1}, only {len(self.spans)}")
        start, end = self.spans[frame]
        pixels = part(start, end - start) if end > start else b""
        if not pixels:
            raise ValueError(f"the file ends before frame {frame + 1}")
        own = {
            _FRAMES: self._written(_FRAMES, b"IS", b"1 "),
            _OFFSET: self._written(
                _OFFSET, b"UL", struct.pack(f"{self._layout.order}I", self._first + frame)
            ),
        }
        if self._groups:
            if frame >= len(self._groups):
                raise ValueError(f"nothing tells what the values of frame {frame + 1} mean")
            own[_GROUPS] = self._written(_GROUPS, self._group_kind, self._groups[frame])
        if self._is_compressed:
            table = self._written(dicom_elements.ITEM, b"", b"")
            pixels = table + pixels + self._written(dicom_elements.SEQUENCE_END, b"", b"")
        own[_PIXELS] = dicom_elements.written(
            _PIXELS, self._pixel_kind, pixels, self._layout, is_undefined=self._is_compressed
        )
        made = self._elements | own
        return self._beginning + b"".join(made[tag] for tag in sorted(made))

    def _written(self, tag: int, kind: bytes, value: bytes) -> bytes:
        return dicom_elements.written(tag, kind, value, self._layout)


def count(part: Part) -> int:
    """Return into how many frames a file is cut; 1 for one that stays as it is.

    That is a file of one frame, one that is damaged or no DICOM file, one of a transfer syntax that
    is not supported, or one that claims more than 10,000 frames. Only the beginning of the header
    is read.
    """
    try:
        header = _header(part, until=_FRAMES)
        frames = int(header.text(_FRAMES)) if _FRAMES in header.elements else 1
    except dicom_elements.DAMAGE:
        return 1
    return frames if 1 < frames <= _MOST_FRAMES else 1


def cut(part: Part) -> CutFile:
    """Read the header of a file of several frames.

    Raises:
      one of dicom_elements.DAMAGE: the file is damaged, or nothing tells where a compressed frame
        begins.
    """
    header = _header(part, until=_PIXELS)
    data, layout, elements, ends = header
    if not {_PIXELS, _FRAMES} <= {*elements}:
        raise ValueError("no frames")
    frames, groups, group_kind = int(header.text(_FRAMES)), [], b""
    if _GROUPS in elements:
        group = elements[_GROUPS]
        is_marked = group.length == dicom_elements.UNDEFINED
        found = dicom_elements.items(
            data, group.value, None if is_marked else ends[_GROUPS], layout.inside(group.kind)
        )
        groups, group_kind = [data[start:end] for start, end in found], group.kind
    is_compressed = elements[_PIXELS].length == dicom_elements.UNDEFINED
    where = _compressed(header, frames, part) if is_compressed else _stored(header, frames)
    own = {_FRAMES, _OFFSET, _GROUPS, _TABLE, _LENGTHS, _PIXELS}
    return CutFile(
        where,
        layout,
        data[: min(element.start for element in elements.values())],
        {tag: data[elements[tag].start : ends[tag]] for tag in elements.keys() - own},
        groups,
        group_kind,
        elements[_PIXELS].kind,
        is_compressed,
        header.number(_OFFSET, "I") if _OFFSET in elements else 0,
    )


def _header(part: Part, *, until: int) -> _Header:
    """Return the beginning of a file with all elements up to a tag, or the next one.

    Raises:
      one of dicom_elements.DAMAGE: it is damaged, no DICOM file, or of a transfer syntax that is
        not supported.
    """
    length = _FIRST
    while True:
        data = part(0, length)
        if data[128:132] != b"DICM":
            raise ValueError("no DICOM file")
        try:
            return _walked(data, until)
        except EOFError:
            if len(data) < length or length >= _MOST:
                raise
            length *= 4


def _walked(data: bytes, until: int) -> _Header:
    at, syntax, layout = 132, b"", dicom_elements.Layout()
    while data[at : at + 2] == b"\2\0":  # What the file says of itself is always written so.
        element = dicom_elements.read(data, at, layout)
        at = dicom_elements.end(data, element, layout)
        if element.tag == _SYNTAX:
            syntax = data[element.value : at].strip(b" \0")
    if not dicom_frames.is_supported(syntax.decode()):
        raise ValueError("a transfer syntax that is not supported")
    layout = dicom_elements.Layout(">" if syntax == _BIG_ENDIAN else "<", syntax != _IMPLICIT)
    header = _Header(data, layout, {}, {})
    while True:
        element = dicom_elements.read(data, at, layout)
        header.elements[element.tag] = element
        if element.tag == _PIXELS:  # They need not be in the data.
            return header
        at = header.ends[element.tag] = dicom_elements.end(data, element, layout)
        if element.tag >= until:
            return header


def _stored(header: _Header, frames: int) -> list[tuple[int, int]]:
    """Return where frames lie that are not compressed."""
    each = header.number(_SAMPLES) * header.number(_BITS) // 8
    each *= header.number(_ROWS) * header.number(_COLUMNS)
    if header.text(_MEANING) == b"YBR_FULL_422":  # Two pixels share their colour.
        each = each * 2 // 3
    pixels = header.elements[_PIXELS]
    return [
        (pixels.value + each * frame, pixels.value + min(each * (frame + 1), pixels.length))
        for frame in range(frames)
    ]


def _compressed(header: _Header, frames: int, part: Part) -> list[tuple[int, int]]:
    """Return where the fragments of each compressed frame lie.

    Raises:
      ValueError: neither a table nor the number of fragments tells where frames begin.
    """
    order = header.layout.order
    first = _fragment(part, header.elements[_PIXELS].value, order)
    if first is None:
        raise ValueError("no pixels")
    found, kind = part(first[0] + 8, first[1] - first[0] - 8), "I"
    if _TABLE in header.elements:
        found, kind = header.data[header.elements[_TABLE].value : header.ends[_TABLE]], "Q"
    if not found:
        return _one_each(first[1], frames, order, part)
    begun = [first[1] + at for (at,) in struct.iter_unpack(f"{order}{kind}", found)]
    if len(begun) != frames:
        raise ValueError(f"a table of {len(begun)} frames, where the file says {frames}")
    last = begun[-1]
    while following := _fragment(part, last, order):
        last = following[1]
    return [*zip(begun, [*begun[1:], last], strict=True)]


def _one_each(at: int, frames: int, order: str, part: Part) -> list[tuple[int, int]]:
    """Return the fragments from a place on, each of which is a frame; none where the file ends.

    Raises:
      ValueError: there are more of them than frames.
    """
    found: list[tuple[int, int]] = []
    while len(found) <= frames and (following := _fragment(part, at, order)):
        found.append(following)
        at = following[1]
    if len(found) > frames:
        raise ValueError(f"nothing tells which fragments belong to which of {frames} frames")
    return found + [(at, at)] * (frames - len(found))


def _fragment(part: Part, at: int, order: str) -> tuple[int, int] | None:
    """Return where the fragment ends that begins at a place, and None where none begins."""
    data = part(at, 8)
    if len(data) < 8:
        return None
    group, number, length = struct.unpack(f"{order}HHI", data)
    return (at, at + 8 + length) if group << 16 | number == dicom_elements.ITEM else None
