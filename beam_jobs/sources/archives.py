"""Photographs in .zip archives, which are read as they are: nothing is unpacked to a disk."""

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

from beam_jobs.sources import folders
from dr_tfx.preprocessing import decoding
from dr_tfx.storage import files

_COMPRESSIONS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_ENCRYPTED = 0x1  # A bit of a member's flags.
# What zipfile raises of damaged archives, UnicodeDecodeError and NotImplementedError among them.
_DAMAGED = (zipfile.BadZipFile, EOFError, OverflowError, RuntimeError, ValueError, struct.error)
_OPENING = threading.Lock()


@dataclasses.dataclass(frozen=True)
class Archive(folders.Source):
    """The photographs of a .zip archive, in whatever folders it has."""

    file: str
    # Tells an archive that was opened again, maybe since replaced, from the one that is kept open.
    opened: str = dataclasses.field(default_factory=lambda: uuid.uuid4().hex)

    def names(self) -> Iterator[tuple[str, int]]:
        for member in self.members():
            yield member.filename, member.file_size

    def members(self) -> Iterator[zipfile.ZipInfo]:
        """What the archive says of its photographs."""
        for member in self._open()[0].infolist():
            hidden = member.filename.startswith("__MACOSX/")
            if folders.is_photograph(member.filename) and not member.is_dir() and not hidden:
                yield member

    def read(self, name: str) -> bytes:
        archive, lock = self._open()
        try:
            member = archive.getinfo(name)
            folders.check_bytes(member.file_size)
            with lock:  # Opening counts the readers of the file, which threads must not do at once.
                stream = archive.open(member)
            try:
                # Without a length, 2 GB may be inflated of a member that says to be small.
                return stream.read(member.file_size + 1)
            finally:
                with lock:
                    stream.close()
        except decoding.RejectedImage:  # A ValueError too.
            raise
        except (*_DAMAGED, zlib.error, KeyError, OSError) as error:
            # No place in a file is EINVAL; another OSError may be the fault of the disk.
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
    """The photographs of a .zip archive on a disk or wherever Beam can read.

    Raises:
      ValueError: it is damaged or encrypted, packed in another way, or holds no photograph.
    """
    archive = Archive(file)
    try:
        members = list(archive.members())
    except _DAMAGED as error:
        raise ValueError(
            f"{file} is not a whole .zip archive: {error}. Was its download cut short? Fetch it "
            f"again; `unzip -t {shlex.quote(file)}` tells whether it is whole"
        ) from error
    if not members:
        raise ValueError(
            f"{file} holds no photographs ({', '.join(decoding.EXTENSIONS)}), only "
            f"{_first_members(archive)}. An archive within an archive has to be unpacked"
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
            raise ValueError(
                f"{file}: {member.filename} {what}. Unpack it and pass the folder as --image_dir"
            )
    return archive


def _first_members(archive: Archive) -> str:
    names = archive._open()[0].namelist()[:3]
    return ", ".join(names) or "nothing at all"


@functools.lru_cache(maxsize=1)
def _open_zip(file: str, opened: str, process: int) -> tuple[zipfile.ZipFile, threading.Lock]:
    """The archive, open: once a process, for its table of contents may take long to read.

    A forked process may not read with its parent's file position, so that it opens its own.
    """
    return zipfile.ZipFile(files.open_file(file)), threading.Lock()
