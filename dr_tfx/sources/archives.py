"""Photographs in .zip archives, which are read where they lie: nothing is unpacked to a disk."""

import collections
import contextlib
import dataclasses
import errno
import functools
import logging
import os
import posixpath
import shlex
import stat
import struct
import threading
import uuid
import zipfile
import zlib
from collections.abc import Iterator
from typing import IO, Any, BinaryIO, NamedTuple, cast

from dr_tfx.preprocessing import decoding
from dr_tfx.sources import folders, refusals, spelling, trees
from dr_tfx.storage import files

_LOG = logging.getLogger(__name__)
_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1  # A bit of a member's flags.
_PACKED = (".zip", ".7z", ".rar", ".tar", ".gz", ".tgz")  # Archives, which may lie in an archive.
_SHOWN = 3  # Names or folders in a message.
_MOST_TABLE = 1 << 30  # Bytes of a table of contents: ten million photographs.
_BLOCK = 1 << 20  # Bytes that are hashed at a time.
_OPEN = 32  # Archives that a process keeps open.
# zipfile raises these for damaged archives; UnicodeDecodeError and NotImplementedError are some.
_DAMAGED = (
    zipfile.BadZipFile,
    EOFError,
    MemoryError,
    OverflowError,
    RuntimeError,
    ValueError,
    struct.error,
)
_OPENING = threading.Lock()
_INFLATING = threading.Lock()


class _Bounded:
    """A file that is not read by the gigabyte, however long its table claims to be."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream

    def read(self, size: int = -1) -> bytes:
        if size > _MOST_TABLE:
            raise ValueError(f"its table of contents claims {size:,} bytes")
        return self._stream.read(size)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)


class _OpenArchive(NamedTuple):
    """An open archive."""

    file: zipfile.ZipFile
    lock: threading.Lock  # For opening members.
    members: dict[str, zipfile.ZipInfo]  # By the path that `spelling` makes of a name.
    repeated: list[str]  # Names of several members with different contents.
    encoding: str  # That of the names, if the archive does not say it.


@dataclasses.dataclass(frozen=True)
class Archive(folders.Tree):
    """The photographs of a .zip archive or of a folder in it, any number of folders down."""

    file: str
    folder: str = ""  # In the archive; "" for all of it.
    # Distinguishes an archive that was opened anew, perhaps replaced, from the one still open.
    opened: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)

    def entries(self) -> Iterator[trees.Entry]:
        members, above = self._open().members, self._inside("")
        yield from trees.sort_out(
            [
                (name.removeprefix(above), member.file_size)
                for name, member in members.items()
                if name.startswith(above)
            ]
        )

    def member(self, name: str) -> zipfile.ZipInfo:
        """Return the archive's own description of a photograph."""
        return self._open().members[self._inside(name)]

    def read(self, name: str) -> bytes:
        with self._open_photograph(name) as (stream, size):
            return stream.read(size)

    def blocks(self, name: str) -> Iterator[bytes]:
        with self._open_photograph(name) as (stream, size):
            while size > 0 and (block := stream.read(min(_BLOCK, size))):
                size -= len(block)
                yield block

    def part(self, name: str, offset: int, length: int) -> bytes:
        if offset == 0:
            with self._open_photograph(name) as (stream, size):
                return stream.read(min(length, size))
        with _INFLATING:
            return _inflated(self, name)[offset : offset + length]

    def size(self, name: str) -> int:
        member = self._open().members.get(self._inside(name))
        return member.file_size if member else 0

    @contextlib.contextmanager
    def _open_photograph(self, name: str) -> Iterator[tuple[IO[bytes], int]]:
        """Open a photograph for reading, and give the most bytes that are to be read of it.

        Raises:
          RejectedImage, OSError: as `read`, in the body too.
        """
        archive, lock, *_ = self._open()
        try:
            member = self.member(name)
        except KeyError:
            raise decoding.RejectedImage(
                "unreadable", "there is no item named so in its archive"
            ) from None
        if stat.S_ISLNK(member.external_attr >> 16):
            raise decoding.RejectedImage(
                "unreadable", "a symbolic link: the archive does not hold its file"
            )
        folders.check_bytes(member.file_size)
        try:
            with lock:  # zipfile counts the readers of a file when it opens one, without a lock.
                stream = archive.open(member)
            try:
                # Without a length, a member that claims to be small may inflate to 2 GB.
                yield stream, member.file_size + 1
            finally:
                with lock:
                    stream.close()
        except (*_DAMAGED, zlib.error, OSError) as error:
            # EINVAL: a damaged offset lies outside the file. Others may be the disk's fault.
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            raise decoding.RejectedImage(
                "unreadable", f"damaged in its archive: {error}"
            ) from error

    def path(self, name: str) -> str:
        return posixpath.join(self.file, self._inside(name))

    def modified(self, name: str) -> float:
        return files.modified(self.file)

    def _inside(self, name: str) -> str:
        """Return the path in the archive of a path below the folder."""
        return posixpath.join(self.folder, name)

    def _open(self) -> _OpenArchive:
        with _OPENING:
            return _open_zip(self.file, self.opened, os.getpid())


def open_archive(file: str, *, given: str = "", folder: str = "") -> Archive:
    """Return the photographs of a .zip archive on a disk or in an object store.

    Args:
      file: the archive.
      given: the archive as a person has written it, for errors; `file` if not given.
      folder: a folder in the archive; "" for all of it.

    Raises:
      ValueError: the archive is damaged or encrypted, is compressed by an unusual method, has two
        contents for one name, or holds no photograph.
      FileNotFoundError: the archive has no such folder.
    """
    archive, given = Archive(file, folder), given or file
    _check_whole(file, given)
    try:
        opened = archive._open()
    except _DAMAGED as error:
        raise refusals.UnusableInput(
            "{file} is not a whole .zip archive: {error}. Was its download cut short? Fetch it "
            "again; `unzip -t {quoted}` tells whether it is whole",
            file=given,
            error=error or type(error).__name__,
            quoted=shlex.quote(given),
        ) from error
    listed = [entry.name for entry in archive.entries() if not entry.left_out]
    if not listed:
        raise _nothing_in(archive, opened, given)
    if opened.encoding:
        example = next(name for name in opened.members if not name.isascii())
        _LOG.warning(
            "%s: names are not marked as UTF-8 and were read as %s, such as %s",
            given,
            opened.encoding,
            example,
        )
    repeated = set(opened.repeated)
    for name in listed:
        member = archive.member(name)
        what = (
            "is encrypted"
            if member.flag_bits & _ENCRYPTED
            else f"is compressed by method {member.compress_type}, neither stored nor deflated"
            if member.compress_type not in _COMPRESSIONS
            else "is there twice, with different contents"
            if archive._inside(name) in repeated
            else ""
        )
        if what:
            raise refusals.UnusableInput(
                "{file}: {member} {what}. Unpack it and pass the folder as {image_dir}",
                file=given,
                member=archive._inside(name),
                what=what,
            )
    return archive


def _check_whole(file: str, given: str) -> None:
    """Refuse the last part of an archive in parts, which may have the table of all of them.

    Raises:
      ValueError: it is such a part.
    """
    with files.open_file(file) as stream:
        stream.seek(0, os.SEEK_END)
        stream.seek(max(stream.tell() - (1 << 16), 0))
        _, found, end = stream.read().rpartition(b"PK\5\6")  # Its last record.
    part = int.from_bytes(end[:2], "little") if found and len(end) > 2 else 0
    if 0 < part < 0xFFFF:  # In zip64, that stands for a number elsewhere.
        raise refusals.UnusableInput(
            "{file} is the last of {parts} parts of an archive. Put the others, {first} and so on, "
            "beside it, join them and pass the whole one: {join}",
            file=given,
            parts=part + 1,
            first=posixpath.basename(given)[: -len(".zip")] + ".z01",
            join=command_to_join(given),
        )


def command_to_join(given: str) -> str:
    """Return the command that makes one archive of the parts x.z01, x.z02, ..., x.zip."""
    whole = posixpath.join(posixpath.dirname(given), "whole.zip")
    return f"zip -s 0 {shlex.quote(given)} --out {shlex.quote(whole)}"


def _nothing_in(archive: Archive, opened: _OpenArchive, given: str) -> refusals.UnusableInput:
    """Return an error that says what an archive, or its folder, holds instead of photographs."""
    inside = [name for name in opened.members if name.startswith(archive._inside(""))]
    if archive.folder and not inside:
        count = collections.Counter(
            posixpath.dirname(name) for name in opened.members if trees.is_photograph(name)
        )
        return refusals.MissingInput(
            "{file} has no folder {folder!r}. {others}",
            file=given,
            folder=archive.folder,
            others="Its photographs are in "
            + ", ".join(f"{name!r} ({n:,})" for name, n in count.most_common(_SHOWN))
            if count
            else "It holds no photographs",
        )
    if masks := archive.left_out():
        why, count_masks = masks.most_common(1)[0]
        return refusals.UnusableInput(
            "{file} holds no photographs, only {count} pictures {why}. Pass that folder itself, as "
            "{image_dir}={file}/FOLDER, if they are photographs",
            file=given,
            count=count_masks,
            why=why,
        )
    packed = any(name.lower().endswith(_PACKED) for name in inside)
    return refusals.UnusableInput(
        "{file} holds no photographs ({known}), only {members}"
        + (". An archive within an archive has to be unpacked" if packed else ""),
        file=given,
        known=", ".join(decoding.EXTENSIONS),
        members=", ".join(inside[:_SHOWN]) or "nothing at all",
    )


@functools.lru_cache(maxsize=1)
def _inflated(archive: Archive, name: str) -> bytes:
    """Return the bytes of the photograph of which parts are read, of which a process keeps one.

    What lies in the middle of a compressed member is reached through all that lies before it.
    """
    return archive.read(name)


@functools.lru_cache(maxsize=_OPEN)
def _open_zip(file: str, opened: str, process: int) -> _OpenArchive:
    """Return the open archive.

    A process opens an archive once, because its table of contents may take long to read. A forked
    process opens its own, because it must not share its parent's position in the file.
    """
    stream = files.open_file(file)
    try:
        archive = zipfile.ZipFile(cast(BinaryIO, _Bounded(stream)))
        names, encoding = spelling.names(archive.infolist())
    except BaseException:
        stream.close()
        raise
    members: dict[str, zipfile.ZipInfo] = {}
    repeated = []
    for name, member in zip(names, archive.infolist(), strict=True):
        if not name or name.endswith("/"):
            continue
        earlier = members.setdefault(name, member)
        if (earlier.CRC, earlier.file_size) != (member.CRC, member.file_size):
            repeated.append(name)
    return _OpenArchive(archive, threading.Lock(), members, repeated, encoding)
