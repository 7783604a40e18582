"""The encoding of text that does not say it, and the names of the files in an archive."""

import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Sequence

_IS_UTF8 = 0x800  # A bit of a member's flags.
_UNICODE_PATH = 0x7075  # Info-ZIP's extra field: the name in UTF-8 beside one in another encoding.
_ZIP = "cp437"  # The encoding of names that are not marked as UTF-8, by the rules of .zip files.
_ENOUGH = 0.5  # Share of usual characters in an encoding that the archive does not name.


def names(members: Sequence[zipfile.ZipInfo]) -> tuple[list[str], str]:
    """Return the names of an archive's members, as paths that stay below a folder.

    Windows writes names in the encoding of its country and, for some tools, with backslashes.
    Names that are not marked as UTF-8 are decoded alike, by the encoding that decodes all of them
    and makes the most usual letters of them. As `unzip` does, `..`, drives and a leading `/` are
    dropped.

    Returns:
      The names in the members' order; and the encoding that was found, "" where all names are
      ASCII, or are what the archive says they are.
    """
    given = [_marked(member) for member in members]
    unmarked = [raw for raw in given if isinstance(raw, bytes) and not raw.isascii()]
    encoding = guess(unmarked)
    spelt = [raw if isinstance(raw, str) else raw.decode(encoding) for raw in given]
    return [_below(name) for name in spelt], encoding if unmarked and encoding != _ZIP else ""


def _marked(member: zipfile.ZipInfo) -> str | bytes:
    """Return a member's name as text where the archive says its encoding, else its bytes."""
    if member.flag_bits & _IS_UTF8:
        return member.filename
    raw, at = member.filename.encode(_ZIP), 0
    while at + 9 <= len(member.extra):
        kind, length = struct.unpack_from("<HH", member.extra, at)
        field = member.extra[at + 4 : at + 4 + length]
        if kind == _UNICODE_PATH and field[1:5] == struct.pack("<I", zlib.crc32(raw)):
            return field[5:].decode(errors="replace")
        at += 4 + length
    return raw


def guess(raw: Sequence[bytes]) -> str:
    """Return the likeliest encoding of texts: utf-8, cp949, cp932, or cp437 if it is none of them.

    It decodes all of them, and makes the most usual letters of them.
    """
    text = b"\n".join(raw)
    try:
        text.decode()
        return "utf-8"
    except UnicodeDecodeError:
        shares = {encoding: _share(text, encoding) for encoding in _USUAL}
    best = max(shares, key=lambda encoding: shares[encoding])
    return best if shares[best] >= _ENOUGH else _ZIP


def _share(text: bytes, encoding: str) -> float:
    """Return the share of usual characters among those beyond ASCII; 0 if some do not decode."""
    try:
        beyond = [character for character in text.decode(encoding) if not character.isascii()]
    except UnicodeDecodeError:
        return 0.0
    return sum(map(_USUAL[encoding], beyond)) / max(len(beyond), 1)


def _is_korean(character: str) -> bool:
    """Tell whether this is one of the 2,350 syllables of KS X 1001, of the 11,172 of cp949."""
    # Python writes the other syllables in this encoding too, with eight bytes each.
    return "가" <= character <= "힣" and len(character.encode("euc-kr")) == 2


def _is_japanese(character: str) -> bool:
    return "\u3005" <= character <= "\u30ff" or "\u4e00" <= character <= "\u9fff"


def _is_latin(character: str) -> bool:
    return unicodedata.category(character).startswith("L") and character < "\u0250"


_USUAL: dict[str, Callable[[str], bool]] = {
    "cp949": _is_korean,
    "cp932": _is_japanese,
    _ZIP: _is_latin,
}


def _below(name: str) -> str:
    parts = name.replace("\\", "/").split("/")
    if len(parts[0]) == 2 and parts[0].endswith(":"):
        del parts[0]
    kept = [part for part in parts if part not in ("", ".", "..")]
    # A folder's name ends with a separator, and keeps it.
    return "/".join(kept) + ("/" if kept and not parts[-1] else "")
