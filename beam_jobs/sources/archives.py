"""Photographs in .zip archives, which are read where they lie: nothing is unpacked to a disk."""

import dataclasses
import errno
import functools
import os
import posixpath
import shlex
import struct
import threading
import uuid
import zipfile
import zlib
from collections.abc import Iterator

from beam_jobs.sources import folders, refusals
from dr_tfx.preprocessing import decoding
from dr_tfx.storage import files

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1  # A bit of a member's flags.
# zipfile raises these for damaged archives; UnicodeDecodeError and NotImplementedError are some.
_DAMAGED = (zipfile.BadZipFile, EOFError, OverflowError, RuntimeError, ValueError, struct.error)
_OPENING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Archive(folders.Source):
    """The photographs of a .zip archive, in whatever folders it has."""

    file: str
    # Distinguishes an archive that was opened anew, perhaps replaced, from the one still open.
    opened: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)

    def names(self) -> Iterator[tuple[str, int]]:
        for member in self.members():
            yield member.filename, member.file_size

    def members(self) -> Iterator[zipfile.ZipInfo]:
        """Yield the archive's own description of each of its photographs."""
        for member in self._open()[0].infolist():
            hidden = member.filename.startswith("__MACOSX/")
            if folders.is_photograph(member.filename) and not member.is_dir() and not hidden:
                yield member

    def read(self, name: str) -> bytes:
        archive, lock = self._open()
        try:
            member = archive.getinfo(name)
            folders.check_bytes(member.file_size)
            with lock:  # zipfile counts the readers of a file when it opens one, without a lock.
                stream = archive.open(member)
            try:
                # Without a length, a member that claims to be small may inflate to 2 GB.
                return stream.read(member.file_size + 1)
            finally:
                with lock:
                    stream.close()
        except decoding.RejectedImage:  # It is a ValueError, which is among those below.
            raise
        except (*_DAMAGED, zlib.error, KeyError, OSError) as error:
            # EINVAL: a damaged offset lies outside the file. Others may be the disk's fault.
            if isinstance(error, OSError) and error.errno != errno.EINVAL:
                raise
            raise decoding.RejectedImage(
                "unreadable", f"damaged in its archive: {error}"
            ) from error

    def path(self, name: str) -> str:
        return posixpath.join(self.file, name)

    def modified(self, name: str) -> float:
        return files.modified(self.file)

    def _open(self) -> tuple[zipfile.ZipFile, threading.Lock]:
        with _OPENING:
            return _open_zip(self.file, self.opened, os.getpid())


def open_archive(file: str) -> Archive:
    """Return the photographs of a .zip archive on a disk or in an object store.

    Raises:
      ValueError: the archive is damaged or encrypted, is compressed by an unusual method, or holds
        no photograph.
    """
    archive = Archive(file)
    try:
        members = list(archive.members())
    except _DAMAGED as error:
        raise refusals.UnusableInput(
            "{file} is not a whole .zip archive: {error}. Was its download cut short? Fetch it "
            "again; `unzip -t {quoted}` tells whether it is whole",
            file=file,
            error=error,
            quoted=shlex.quote(file),
        ) from error
    if not members:
        raise refusals.UnusableInput(
            "{file} holds no photographs ({known}), only {members}. An archive within an archive "
            "has to be unpacked",
            file=file,
            known=", ".join(decoding.EXTENSIONS),
            members=_first_members(archive),
        )
    for member in members:
        what = (
            "is encrypted"
            if member.flag_bits & _ENCRYPTED
            else f"is compressed by method {member.compress_type}, neither stored nor deflated"
            if member.compress_type not in _COMPRESSIONS
            else ""
        )
        if what:
            raise refusals.UnusableInput(
                "{file}: {member} {what}. Unpack it and pass the folder as {image_dir}",
                file=file,
                member=member.filename,
                what=what,
            )
    return archive


def _first_members(archive: Archive) -> str:
    names = archive._open()[0].namelist()[:3]
    return ", ".join(names) or "nothing at all"


@functools.lru_cache(maxsize=1)
def _open_zip(file: str, opened: str, process: int) -> tuple[zipfile.ZipFile, threading.Lock]:
    """Return the open archive and the lock for opening its members.

    A process opens an archive once, because its table of contents may take long to read. A forked
    process opens its own, because it must not share its parent's position in the file.
    """
    return zipfile.ZipFile(files.open_file(file)), threading.Lock()
