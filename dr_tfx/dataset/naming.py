"""Names of photographs and patients, which become parts of file names, tables, pages and output."""

import re

# Control characters, and those that turn the direction of what is written behind them.
UNSEEN = "[\x00-\x1f\x7f-\x9f\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff\ufff9-\ufffb]"


def printable(text: str) -> str:
    """Return a text in which every character that is not seen is written as its number."""
    if text.isascii() and text.isprintable():
        return text
    return re.sub(UNSEEN, lambda found: f"\\u{ord(found[0]):04x}", text)


def checked(name: bytes, *, is_path: bool) -> str:
    """Return a name that a file holds as UTF-8.

    Args:
      name: its bytes.
      is_path: whether it is used as a path within a folder.

    Raises:
      ValueError: it is no UTF-8, has characters that are not seen, or leads out of the folder. The
        message goes on where the caller has named it.
    """
    try:
        text = name.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name[:40]!r}; expected UTF-8") from error
    if printable(text) != text:
        raise ValueError(f"'{printable(text)[:80]}'; expected no control characters")
    if is_path and not {"", ".", ".."}.isdisjoint(text.split("/")):
        raise ValueError(f"{text[:80]!r}; expected a name, or folders and a name")
    return text
