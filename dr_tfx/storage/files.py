"""Files of a job's folder, on a disk or in an object store, each of them whole or not there.

A file of a disk is written under a temporary name, flushed to the disk and then renamed, and an
object of a store appears when its upload is completed, so that neither a kill nor a full disk
leaves something that looks finished. Paths without a scheme go to the operating system. Paths with
a scheme (`gs://bucket/x`) go through the store's client (`store_clients`).
"""

import concurrent.futures
import contextlib
import errno
import os
import posixpath
import re
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from dr_tfx.storage import store_clients, store_errors

_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{32}\.tmp")
_LIVE_SECONDS = 0.2
_DELETERS = 16  # Threads that delete objects; they mostly wait.
_OF_DISKS = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EIO)
_RANGE_NOT_SATISFIABLE = 416  # HTTP's answer to a request for bytes behind the end of an object.


def is_remote(path: str) -> bool:
    """Tell whether a path belongs to an object store and not to a folder of this machine."""
    return "://" in path


def absolute(path: str) -> str:
    """Return the path in the form that a worker which was started in another folder needs."""
    return path.rstrip("/") if is_remote(path) else os.path.realpath(path)


@contextlib.contextmanager
def create(path: str | Path) -> Iterator[BinaryIO]:
    """Open a binary stream whose content is at `path` once the body has ended without an error.

    The folder is made if it is missing. After an error or a kill, `path` is what it was before.
    """
    place = os.fspath(path)
    with _upload(place) if is_remote(place) else _replacement(place) as stream:
        yield stream


def write(path: str | Path, data: bytes) -> None:
    """Write a file whole or not at all."""
    with create(path) as stream:
        stream.write(data)


def write_text(path: str | Path, text: str) -> None:
    """Write a UTF-8 file whole or not at all, with the line ends that the text has."""
    write(path, text.encode())


def read(path: str, *, offset: int = 0, length: int = -1) -> bytes:
    """Return the bytes of a file, or at most `length` of them from `offset` on.

    Raises:
      FileNotFoundError: there is no such file.
    """
    if not is_remote(path):
        with Path(path).open("rb") as stream:
            stream.seek(offset)
            return stream.read(length)
    with _errors(path):
        store, key = store_clients.client(path)
        try:
            if length >= 0:
                return store_clients.part(store, key, offset, offset + length)
            return store.cat_file(key, start=offset or None)
        except Exception as error:
            if store_errors.status(error) == _RANGE_NOT_SATISFIABLE:
                return b""
            raise


def open_file(path: str) -> BinaryIO:
    """Open a file for reading; the stream has `seek`.

    Raises:
      FileNotFoundError: there is no such file.
    """
    if not is_remote(path):
        return Path(path).open("rb")
    with _errors(path):
        store, key = store_clients.client(path)
        return store.open(key, "rb")


def exists(path: str) -> bool:
    """Tell whether there is such a file. A folder exists on a disk, but not in an object store."""
    if not is_remote(path):
        return Path(path).exists()
    try:
        with _errors(path):
            store, key = store_clients.fresh(path)
            return store.info(key)["type"] == "file"
    except FileNotFoundError:
        return False


def modified(path: str) -> float:
    """Return when a file of a disk was last changed, in seconds since 1970; 0 if unknown."""
    try:
        return 0.0 if is_remote(path) else os.stat(path).st_mtime
    except OSError:
        return 0.0


def size_on_disk(path: str) -> int:
    """Return the bytes of a file of a disk; 0 if unknown."""
    try:
        return 0 if is_remote(path) else os.stat(path).st_size
    except (OSError, ValueError):
        return 0


def sizes(folder: str) -> dict[str, int]:
    """Return name -> bytes of the files in a folder; an empty dict if there is no such folder."""
    if is_remote(folder):
        try:
            with _errors(folder):
                store, key = store_clients.fresh(folder)
                found = store.ls(key, detail=True)
        except FileNotFoundError:
            return {}
        return {
            posixpath.basename(entry["name"]): int(entry["size"])
            for entry in found
            if entry["type"] == "file" and entry["name"].strip("/") != key.strip("/")
        }
    if not Path(folder).is_dir():
        return {}
    by_name = {}
    with os.scandir(folder) as entries:
        for entry in entries:
            with contextlib.suppress(FileNotFoundError):  # A worker renamed or deleted it just now.
                if entry.is_file():
                    by_name[entry.name] = entry.stat().st_size
    return by_name


def below(folder: str) -> dict[str, int]:
    """Return path below the folder -> bytes of a store's objects, any number of folders down."""
    with _errors(folder):
        store, key = store_clients.fresh(folder)
        above = f"{key.strip('/')}/"
        return {
            name.lstrip("/").removeprefix(above): int(entry["size"])
            for name, entry in store.find(key, detail=True).items()
            if name.lstrip("/").startswith(above)
        }


def matches(pattern: str) -> dict[str, int]:
    """Return path -> bytes of the objects of a store that match a pattern (`*`, `?`, `[`, `**`)."""
    with _errors(pattern):
        store, key = store_clients.fresh(pattern)
        scheme = pattern.partition("://")[0]
        return {
            f"{scheme}://{name.lstrip('/')}": int(entry["size"])
            for name, entry in store.glob(key, detail=True).items()
            if entry["type"] == "file"
        }


def delete(*paths: str) -> None:
    """Delete files. Some of them may be gone already."""
    for path in paths:
        if not is_remote(path):
            Path(path).unlink(missing_ok=True)
    if remote := [path for path in paths if is_remote(path)]:
        with concurrent.futures.ThreadPoolExecutor(_DELETERS) as pool:
            list(pool.map(_delete_object, remote))


def delete_all(folder: str, pattern: re.Pattern[str]) -> None:
    """Delete the files of a folder whose whole name matches."""
    names = [name for name in sizes(folder) if pattern.fullmatch(name)]
    delete(*(posixpath.join(folder, name) for name in names))


def delete_temporary(folder: str) -> None:
    """Delete the unfinished files that a killed writer left in a folder."""
    delete_all(folder, _TEMPORARY)


def delete_folder(folder: str) -> None:
    """Delete a folder and the files in it."""
    delete_all(folder, re.compile(".*", re.DOTALL))
    if not is_remote(folder):
        with contextlib.suppress(FileNotFoundError):
            Path(folder).rmdir()


class Live:
    """A file of some counts, to be read while a piece of work is being done.

    The file is deleted when the work is over. In an object store, where every request costs money,
    none is written.
    """

    def __init__(self, path: str):
        self._path, self._silent = path, is_remote(path)
        self._next = time.monotonic() + _LIVE_SECONDS

    def __enter__(self) -> "Live":
        return self

    def say(self, *counts: int) -> None:
        """Write the counts, a few times a second at most."""
        if self._silent or time.monotonic() < self._next:
            return
        Path(self._path).write_text(" ".join(map(str, counts)))
        self._next = time.monotonic() + _LIVE_SECONDS

    def __exit__(self, *_: object) -> None:
        if not self._silent:
            delete(self._path)


def read_live(path: str) -> list[int]:
    """Return the counts of a `Live`; an empty list if it has not begun, or has just ended."""
    try:
        return [int(count) for count in read(path).split()]
    except (OSError, ValueError):
        return []


@contextlib.contextmanager
def _replacement(path: str) -> Iterator[BinaryIO]:
    """Open a new file of a disk that takes the place of `path` at the end."""
    folder, name = os.path.split(path)
    Path(folder).mkdir(parents=True, exist_ok=True)
    # The name is unique, because a runner may try a task twice at the same time.
    temporary = Path(folder) / f".{name}.{uuid.uuid4().hex}.tmp"
    try:
        with named(path), temporary.open("wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        temporary.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


@contextlib.contextmanager
def named(path: str | Path) -> Iterator[None]:
    """Give this path to the body's errors about the disk that name no file.

    Writing to a full disk fails without a name, and some libraries give the reason as text only.

    Raises:
      OSError: the body found no space, or the disk can no longer be written.
    """
    try:
        yield
    except OSError as error:
        full = "No space left on device" in str(error)
        code = errno.ENOSPC if full else error.errno
        if error.filename or code not in _OF_DISKS:
            raise
        raise OSError(code, os.strerror(code), os.fspath(path)) from error


@contextlib.contextmanager
def _upload(path: str) -> Iterator[BinaryIO]:
    """Open a new object, which is there once it is committed."""
    with _errors(path):
        stream = store_clients.upload(path)
    try:
        yield stream
        with _errors(path):
            stream.close()
            stream.commit()
    except BaseException:
        # The body's error is the one to report; a store drops an upload that nobody completes.
        with contextlib.suppress(Exception):
            stream.discard()
        raise


@contextlib.contextmanager
def _errors(path: str) -> Iterator[None]:
    """Turn the errors of a store's client into OSErrors that name the path.

    Raises:
      FileNotFoundError: the body found no such object or bucket.
      OSError: any other error of the body; also a missing package.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(2, "No such object", path) from error
    except ImportError as error:
        raise OSError(store_clients.lacking(path, error)) from error
    except Exception as error:
        if isinstance(error, OSError) and (error.errno in _OF_DISKS or path in str(error)):
            raise  # It is told already.
        raise OSError(store_errors.told(path, error)) from error


def _delete_object(path: str) -> None:
    with contextlib.suppress(FileNotFoundError), _errors(path):
        store, key = store_clients.client(path)
        store.rm_file(key)
