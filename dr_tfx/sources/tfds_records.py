"""Records of tf.train.Example whose small features are read, and whose photographs are passed over.

A message is walked by its lengths (https://protobuf.dev/programming-guides/encoding), because to
parse it would read the photographs of a whole data set only to list them.
"""

import mmap
import os
import struct
from collections.abc import Collection, Iterator
from typing import NamedTuple

from dr_tfx.sources import folders
from dr_tfx.storage import checksums, files

_HEADER, _CRC = 12, 4  # Bytes before a record and after it.
_TEXTS, _NUMBERS = 1, 3  # Fields of tensorflow.Feature: bytes_list and int64_list.
_FIXED = {1: 8, 5: 4}  # Wire type -> bytes.


class FoundRecord(NamedTuple):
    """A record of a file, as far as it was read."""

    offset: int
    size: int  # Bytes of its photograph.
    values: dict[str, str]  # The features that were asked for and have one text or whole number.


def scan(path: str, image: str, wanted: Collection[str]) -> Iterator[FoundRecord]:
    """Yield the records of a TFRecord file, in their order.

    Args:
      path: the file.
      image: the feature that holds the photograph.
      wanted: other features.

    Raises:
      ValueError: the file is cut short or damaged, or holds no messages of tf.train.Example.
    """
    if not os.path.getsize(path):
        return  # It cannot be mapped.
    names = {image, *wanted}
    with (
        open(path, "rb") as stream,
        mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data,
    ):
        at = 0
        while at < len(data):
            begin = at + _HEADER
            end = begin + _length(data[at:begin])
            if end + _CRC > len(data):
                raise ValueError("it ends within a record")
            found = _features(data, begin, end, names)
            photograph = found.pop(image, None)
            size = photograph.stop - photograph.start if isinstance(photograph, slice) else 0
            values = {
                name: data[value].decode(errors="replace")
                if isinstance(value, slice)
                else str(value)
                for name, value in found.items()
            }
            yield FoundRecord(at, size, values)
            at = end + _CRC


def photograph(path: str, offset: int, image: str) -> bytes:
    """Return the photograph of the record that begins at an offset of a file.

    Raises:
      RejectedImage: `too_large`: the record is larger than any photograph.
      ValueError: the record is damaged, or holds no photograph.
    """
    length = _length(files.read(path, offset=offset, length=_HEADER))
    folders.check_bytes(length)
    data = files.read(path, offset=offset + _HEADER, length=length + _CRC)
    record, crc = data[:length], data[length:]
    if checksums.masked_crc(record) != crc:
        raise ValueError("its record has another checksum than when it was written")
    place = _features(record, 0, length, {image}).get(image)
    if not isinstance(place, slice):
        raise ValueError(f"its record has no single {image}")
    return record[place]


def _length(header: bytes) -> int:
    """Return the length of the record with this header."""
    if len(header) < _HEADER or checksums.masked_crc(header[:8]) != header[8:]:
        raise ValueError("it is damaged, or no TFRecord file")
    return int(struct.unpack("<Q", header[:8])[0])


def _features(
    data: bytes | mmap.mmap, at: int, end: int, wanted: Collection[str]
) -> dict[str, int | slice]:
    """Return the wanted features with one value: a whole number, or the place of bytes."""
    found = {}
    try:
        for _, begin, stop in _fields(data, at, end):  # The features of the example.
            for _, first, last in _fields(data, begin, stop):  # One of them: its name and value.
                entry = {field: slice(*place) for field, *place in _fields(data, first, last)}
                name = data[entry[1]].decode() if 1 in entry else ""
                if name in wanted and 2 in entry:
                    values = list(_values(data, entry[2].start, entry[2].stop))
                    if len(values) == 1:
                        found[name] = values[0]
    except (IndexError, UnicodeDecodeError) as error:
        raise ValueError("a record is no tf.train.Example") from error
    return found


def _values(data: bytes | mmap.mmap, at: int, end: int) -> Iterator[int | slice]:
    """Yield the values of a feature. Fractions are passed over."""
    for kind, begin, stop in _fields(data, at, end):
        for _, first, last in _fields(data, begin, stop):
            if kind == _TEXTS:
                yield slice(first, last)
            while kind == _NUMBERS and first < last:
                number, first = _varint(data, first)
                yield number - (1 << 64) if number >> 63 else number


def _fields(data: bytes | mmap.mmap, at: int, end: int) -> Iterator[tuple[int, int, int]]:
    """Yield the number of each field of a message, and where its content begins and ends."""
    while at < end:
        tag, at = _varint(data, at)
        kind, stop = tag & 7, at
        if kind == 0:
            _, stop = _varint(data, at)
        elif kind == 2:
            length, at = _varint(data, at)
            stop = at + length
        else:
            stop = at + _FIXED.get(kind, end)
        if stop > end:
            raise ValueError("a record is no tf.train.Example")
        yield tag >> 3, at, stop
        at = stop


def _varint(data: bytes | mmap.mmap, at: int) -> tuple[int, int]:
    """Return a number of seven bits in each byte, the lowest first, and where it ends."""
    number = shift = 0
    while True:
        byte = data[at]
        number |= (byte & 0x7F) << shift
        at, shift = at + 1, shift + 7
        if byte < 0x80:
            return number, at
        if shift > 63:
            raise ValueError("a record is no tf.train.Example")
