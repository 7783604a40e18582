"""The characters of a CSV: its bytes, unpacked, and the encoding in which they are meant."""

import codecs
import contextlib
import csv
import gzip
import io
import itertools
import re
import unicodedata
import zlib
from collections.abc import Iterator
from typing import BinaryIO

import pandas as pd

from dr_tfx.sources import refusals, spelling
from dr_tfx.storage import files

MAX_LINE = 1 << 20  # Characters of a line.
UTF8 = "UTF-8"
_NAMES = {  # Python's name of an encoding -> ours.
    "utf-8": UTF8,
    "utf-8-sig": UTF8,
    "utf-16": "UTF-16",
    "cp949": "cp949 (Korean, EUC-KR)",
    "cp932": "cp932 (Japanese, Shift-JIS)",
}
_MARKS = {  # The bytes that a file of each encoding begins with.
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_BLOCK = 1 << 20  # Bytes that are decoded at a time.
_SAMPLE = 1000  # Lines beyond ASCII that tell the encoding.
_SEEN_NUL = "␀"  # Unicode's picture of it.
_NOTHING = re.compile(
    r"^[ \t]*[,;\t|][,;\t| ]*(?=\r?$)", re.MULTILINE
)  # A row of separators alone.
_GZIPPED = b"\x1f\x8b"


def encoding_of(path: str) -> str:
    """Return the encoding of a CSV: that of its mark, UTF-8, or the likeliest other.

    The file is read once, so that a line without an end is found before it takes memory.

    Raises:
      ValueError: it is in none that is known, or a line is too long.
    """
    with explained(path, f"{UTF8} CSV"), unpacked(path) as stream:
        start = stream.read(len(codecs.BOM_UTF8))
        marked = [encoding for mark, encoding in _MARKS.items() if start.startswith(mark)]
        encoding = marked[0] if marked else "utf-8"
        stream.seek(0)
        decoder = codecs.getincrementaldecoder(encoding)()
        since_line = 0  # Bytes since the last line ended.
        try:
            while block := stream.read(_BLOCK):
                end = max(block.rfind(b"\n"), block.rfind(b"\r"))
                since_line = len(block) - end - 1 if end >= 0 else since_line + len(block)
                if since_line > 2 * MAX_LINE:
                    raise ValueError(f"a line has more than {MAX_LINE:,} characters")
                decoder.decode(block)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            stream.seek(0)
            lines = iter(lambda: stream.readline(_BLOCK), b"")
            beyond = (line for line in lines if not line.isascii())
            encoding = spelling.guess(list(itertools.islice(beyond, _SAMPLE)))
            if marked:
                raise
            if encoding not in _NAMES:
                raise refusals.UnusableInput(
                    "{file} is text in none of the encodings that are read: UTF-8, UTF-16 with "
                    "its mark, cp949 (EUC-KR) and Shift-JIS. Save it as UTF-8",
                    file=path,
                ) from None
        return encoding


class SeenText(io.TextIOWrapper):
    """The text of a CSV, in which NUL is a character that is seen, and an empty row a blank line.

    Some versions of pandas end a value at NUL, and take the name before it for another's. A row of
    separators alone says nothing, and pandas would refuse one that has more than the header.
    """

    def read(self, size: int | None = -1, /) -> str:
        """Return as much as is asked for, and the rest of its last line."""
        text = super().read(size)
        return _seen(text if text.endswith("\n") or not text else text + super().readline())

    # The types of the two last methods differ from those that typeshed gives the class.
    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        return _seen(super().readline(size))

    def __next__(self) -> str:  # type: ignore[override]
        return _seen(super().__next__())


def _seen(text: str) -> str:
    return _NOTHING.sub("", text.replace("\0", _SEEN_NUL))


def composed(text: str) -> str:
    """Return a value without spaces around it, in composed Unicode, as keyboards write it.

    macOS decomposes Korean and accents, and what looks equal would differ.
    """
    return unicodedata.normalize("NFC", text.strip())


def name_of(encoding: str) -> str:
    """Return the name of an encoding that a person knows."""
    return _NAMES[encoding]


@contextlib.contextmanager
def unpacked(path: str) -> Iterator[BinaryIO | gzip.GzipFile]:
    """Open the bytes of a CSV, unpacked if it is packed with gzip."""
    with files.open_file(path) as stream:
        is_packed = stream.read(len(_GZIPPED)) == _GZIPPED
        stream.seek(0)
        if not is_packed:
            yield stream
            return
        with gzip.GzipFile(fileobj=stream) as inside:
            yield inside


@contextlib.contextmanager
def explained(path: str, what: str) -> Iterator[None]:
    """Turn the errors of reading a table into one sentence that names the file."""
    try:
        yield
    except refusals.UnusableInput:
        raise
    except pd.errors.EmptyDataError as error:
        raise refusals.UnusableInput(
            "{file} is empty; expected a CSV with a header", file=path
        ) from error
    except (ValueError, OSError, EOFError, csv.Error, zlib.error, pd.errors.ParserWarning) as error:
        why = (
            "rows have more fields than its header"
            if isinstance(error, pd.errors.ParserWarning)
            else getattr(error, "strerror", None) or error  # The path is not repeated.
        )
        raise refusals.UnusableInput(
            "{file} cannot be read as a {what}: {why}", file=path, what=what, why=why
        ) from error
