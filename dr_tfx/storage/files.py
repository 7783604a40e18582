"""Files of a job's folder, on a disk or in an object store: each whole, or not there.

A file is written under a temporary name, flushed to the disk and then renamed, so that neither a
kill nor a full disk leaves something that looks finished. Paths are strings; what has a scheme
(`gs://bucket/x`) goes through Beam's file systems.
"""

import contextlib
import os
import posixpath
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from apache_beam.io.filesystem import CompressionTypes
from apache_beam.io.filesystems import FileSystems

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
_LIVE_SECONDS = 0.2
_AS_IT_IS = {"compression_type": CompressionTypes.UNCOMPRESSED}


def is_remote(path: str) -> bool:
    """Whether a path belongs to an object store and not to a folder of this machine."""
    return "://" in path


def absolute(path: str) -> str:
    """The path as a worker that was started in another folder has to know it."""
    return path.rstrip("/") if is_remote(path) else str(Path(path).resolve())


@contextlib.contextmanager
def create(path: str) -> Iterator[BinaryIO]:
    """A binary stream whose content is at `path` once the body has ended without an error.

    The folder is made if need be.
    """
    folder, name = posixpath.split(path)
    # Unique, because a runner may try a task twice at the same time.
    temporary = posixpath.join(folder, f".{name}.{uuid.uuid4().hex}.tmp")
    try:
        with FileSystems.create(temporary, **_AS_IT_IS) as stream:
            yield stream
            if not is_remote(path):
                stream.flush()
                os.fsync(stream.fileno())
        FileSystems.rename([temporary], [path])
    except BaseException:
        with contextlib.suppress(OSError):  # Beam's errors are OSErrors too.
            delete(temporary)
        raise


def write(path: str, data: bytes) -> None:
    """Writes a file."""
    with create(path) as stream:
        stream.write(data)


def write_text(path: str, text: str) -> None:
    """Writes a UTF-8 file."""
    write(path, text.encode())


def read(path: str, *, offset: int = 0, length: int = -1) -> bytes:
    """A file's bytes, or `length` of them from `offset` on."""
    with open_file(path) as stream:
        stream.seek(offset)
        return stream.read(length) if length >= 0 else stream.read()


def open_file(path: str) -> BinaryIO:
    """A file for reading, with `seek`."""
    return FileSystems.open(path, **_AS_IT_IS) if is_remote(path) else Path(path).open("rb")


def exists(path: str) -> bool:
    """Whether there is such a file; of folders, only those on a disk exist."""
    return FileSystems.exists(path) if is_remote(path) else Path(path).exists()


def modified(path: str) -> float:
    """When a file of a disk was last changed, in seconds since 1970; 0 where it is not known."""
    try:
        return 0.0 if is_remote(path) else os.stat(path).st_mtime
    except OSError:
        return 0.0


def sizes(folder: str) -> dict[str, int]:
    """Name -> bytes of the files in a folder; none where there is no such folder."""
    if is_remote(folder):
        (found,) = FileSystems.match([f"{folder}/*"])
        return {posixpath.basename(file.path): file.size_in_bytes for file in found.metadata_list}
    if not Path(folder).is_dir():
        return {}
    found = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # Renamed or deleted by a worker just now.
                if entry.is_file():
                    found[entry.name] = entry.stat().st_size
    return found


def delete(*paths: str) -> None:
    """Deletes files. Those of a disk may be gone already."""
    if remote := [path for path in paths if is_remote(path)]:
        FileSystems.delete(remote)
    for path in paths:
        if not is_remote(path):
            Path(path).unlink(missing_ok=True)


def delete_all(folder: str, pattern: re.Pattern[str]) -> None:
    """Deletes the files of a folder whose whole name matches."""
    names = [name for name in sizes(folder) if pattern.fullmatch(name)]
    delete(*(posixpath.join(folder, name) for name in names))


def delete_temporary(folder: str) -> None:
    """Deletes what a killed writer left."""
    delete_all(folder, _TEMPORARY)


def delete_folder(folder: str) -> None:
    """Deletes a folder and the files in it."""
    delete_all(folder, re.compile(".*", re.DOTALL))
    if not is_remote(folder):
        with contextlib.suppress(FileNotFoundError):
            Path(folder).rmdir()


class Live:
    """A file of some counts, for whoever looks at the folder while a piece of work is being done.

    It is gone when the work is over. In an object store, where every word costs money, there is
    none.
    """

    def __init__(self, path: str):
        self._path, self._silent = path, is_remote(path)
        self._next = time.monotonic() + _LIVE_SECONDS

    def __enter__(self) -> "Live":
        return self

    def say(self, *counts: int) -> None:
        """Writes the counts down, a few times a second at most."""
        if self._silent or time.monotonic() < self._next:
            return
        Path(self._path).write_text(" ".join(map(str, counts)))
        self._next = time.monotonic() + _LIVE_SECONDS

    def __exit__(self, *_: object) -> None:
        if not self._silent:
            delete(self._path)


def read_live(path: str) -> list[int]:
    """What a `Live` has said; nothing where it has not begun, or has just ended."""
    try:
        return [int(count) for count in read(path).split()]
    except (OSError, ValueError):
        return []
