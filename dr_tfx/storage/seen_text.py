"""Text that others chose, as it can be shown: names of photographs, patients and the like.

A name is data. Written as it is, one with an escape sequence runs in a terminal, one with a line
break ends a row, and one with a mark of direction looks like another.
"""

import logging
import re
from typing import Any

# Control characters, and those that turn the direction of what is written behind them.
UNSEEN = "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"
# And halves of characters, by which Python stands for bytes that are no UTF-8.
_ESCAPED = re.compile(f"{UNSEEN}|[\ud800-\udfff]")
_LONGEST = 200  # Bytes of a file's name, of which a disk takes 255, with an ending to come.


def printable(text: str) -> str:
    """Return a text in which every character that is not seen is written as its number."""
    if text.isascii() and text.isprintable():
        return text
    return _ESCAPED.sub(lambda found: f"\\u{ord(found[0]):04x}", text)


def lines(text: str) -> str:
    """Return a text of several lines, each of them `printable`."""
    return "\n".join(map(printable, text.split("\n")))


def in_logs() -> None:
    """Have the values of all messages that are logged from now on written by `lines`."""
    make = logging.getLogRecordFactory()

    def seen(*args: Any, **kwargs: Any) -> logging.LogRecord:
        record = make(*args, **kwargs)
        if isinstance(record.args, tuple):
            record.args = tuple(
                lines(value) if isinstance(value, str) else value for value in record.args
            )
        return record

    logging.setLogRecordFactory(seen)


def file_stem(text: str) -> str:
    """Return a text as the name of a file, without an ending: seen, short, and in no folder."""
    name = re.sub(r"[/\\]", "_", printable(text)).encode()[:_LONGEST].decode(errors="ignore")
    return f"_{name[1:]}" if name.startswith(".") else name or "_"
