"""Names of photographs and patients, which become parts of file names, tables, pages and output."""

from dr_tfx.storage import seen_text


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
    if seen_text.printable(text) != text:
        raise ValueError(f"'{seen_text.printable(text)[:80]}'; expected no control characters")
    if is_path and not {"", ".", ".."}.isdisjoint(text.split("/")):
        raise ValueError(f"{text[:80]!r}; expected a name, or folders and a name")
    return text
