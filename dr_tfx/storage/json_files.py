"""JSON from files that others may have written: bounded, finite, and named when it is damaged."""

import json
import math
from pathlib import Path
from typing import Any

MOST_BYTES = 256 << 20  # Of a file; the manifest of ten million photographs has a tenth of this.


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
      ValueError: the text is too long, is no JSON, or is no object with finite numbers.
    """
    if len(text) > MOST_BYTES:
        raise ValueError(f"{where} has more than {MOST_BYTES:,} bytes; expected a small JSON file.")
    try:
        if isinstance(text, bytes):
            text = text.decode("utf-8")
        content = json.loads(text, parse_constant=_finite, parse_float=_finite)
    except RecursionError as error:
        raise ValueError(f"{where} is damaged: its brackets are nested too deeply.") from error
    except ValueError as error:
        raise ValueError(f"{where} is damaged or cut short, and no JSON: {error}.") from error
    if not isinstance(content, dict):
        raise ValueError(f"{where} is damaged: expected a JSON object, and got something else.")
    return content


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError(f"{text[:20]} is not a finite number")
    return number
