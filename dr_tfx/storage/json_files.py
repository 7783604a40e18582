"""JSON from files that others may have written: bounded, finite, and named when it is damaged."""

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

MOST_BYTES = 256 << 20  # Of a file; the manifest of ten million photographs has a tenth of this.

# Control characters but for tabs and line ends, overrides of the direction, and half characters.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff]")


def read(path: Path) -> dict[str, Any]:
    """Return the object that a JSON file holds.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the file is too large or damaged; names it.
    """
    return parse(bytes_of(path), where=str(path))


def bytes_of(path: Path) -> bytes:
    """Return the bytes of a file for `parse`, which refuses it if there are too many."""
    with path.open("rb") as stream:
        return stream.read(MOST_BYTES + 1)


def parse(text: str | bytes, *, where: str) -> dict[str, Any]:
    """Return the object of a JSON text. Its numbers are finite.

    Args:
      text: UTF-8, or already decoded.
      where: the file, for errors.

    Raises:
      ValueError: the text is too long, is no JSON, or is no object with finite numbers and texts
        that can be shown.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"{where} has more than {MOST_BYTES:,} bytes; expected a small JSON file.")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        content = json.loads(text, parse_constant=_finite, parse_float=_finite)
        hidden = next((found for found in _texts(content) if _HIDDEN.search(found)), None)
    except RecursionError as error:
        raise ValueError(f"{where} is damaged: its brackets are nested too deeply.") from error
    except ValueError as error:
        raise ValueError(f"{where} is damaged or cut short, and no JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{where} is damaged: expected a JSON object, and got something else.")
    if hidden is not None:
        raise ValueError(
            f"{where} holds {hidden[:40]!a}; expected no control characters, which would "
            "change what a terminal or a page shows."
        )
    return content


def _texts(value: Any) -> Iterator[str]:
    """Yield every text of a JSON value, names included."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        yield from value
        for item in value.values():
            yield from _texts(item)
    elif isinstance(value, list):
        for item in value:
            yield from _texts(item)


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number
