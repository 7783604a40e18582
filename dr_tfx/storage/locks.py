"""One writer at a time in a folder: a lock that names its process, and ends with it.

The lock is the file `.lock` in the folder. The operating system holds it (`flock`) for as long as
the process lives, so that a kill leaves nothing that has to be cleared. The file says who holds it,
and its time is renewed while that process lives: where a shared disk does not pass locks from one
machine to another, the time tells a writer from what a killed one left.

In an object store there is no lock, because it has none to offer: nothing is written there.
"""

import contextlib
import datetime
import errno
import fcntl
import json
import os
import socket
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import psutil

from dr_tfx.storage import files

FILE = ".lock"
BEAT = 15.0  # Seconds between two signs of life,
SILENCE = 90.0  # and without any, until a process on another machine counts as gone.

_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP)


@contextlib.contextmanager
def held(folder: str | Path) -> Iterator[None]:
    """Keep every other process from writing into a folder during the body.

    The folder is made if it is missing, and removed again if it is empty at the end. Unfinished
    files that a killed writer left directly in it are deleted.

    Raises:
      OSError: another process writes into the folder, or it cannot be written at all.
    """
    if files.is_remote(os.fspath(folder)):
        yield
        return
    place = Path(folder)
    made = _make(place)
    try:
        file = _acquire(place)
        try:
            files.delete_temporary(str(place))
            with _signs_of_life(file):
                yield
        finally:
            # It is removed before it is let go, so that nobody takes a file that is gone.
            with contextlib.suppress(OSError):
                os.unlink(place / FILE)
            os.close(file)
    finally:
        for empty in made:
            with contextlib.suppress(OSError):
                empty.rmdir()


def clear(folder: str | Path) -> None:
    """Remove what a process left that was killed in a folder that it had finished.

    Nothing happens if another process writes into the folder, or this one may not.
    """
    if os.path.exists(os.path.join(folder, FILE)):
        with contextlib.suppress(OSError), held(folder):
            pass


def _make(folder: Path) -> list[Path]:
    """Make a folder, and return those of it and its parents that were missing, the inner first."""
    missing = [path for path in (folder, *folder.parents) if not path.exists()]
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except FileExistsError as error:
        raise NotADirectoryError(
            errno.ENOTDIR, "This is a file; expected a folder", str(folder)
        ) from error
    except OSError as error:
        raise _about(folder, error) from error
    return missing


def _about(folder: Path, error: OSError) -> OSError:
    """Return an error of the system as one about the folder, which is what a person knows."""
    return OSError(error.errno, os.strerror(error.errno or 0), str(folder))


class _Holder(NamedTuple):
    """The process that a lock file names."""

    host: str
    process: int
    command: str
    since: str

    def told(self) -> str:
        return f"process {self.process} on {self.host} ({self.command}, since {self.since})"


def _acquire(folder: Path) -> int:
    """Lock the file of a folder, write who holds it, and return its descriptor."""
    path = folder / FILE
    while True:
        try:
            file = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise _about(folder, error) from error
        try:
            system_locks = _flock(file, folder)
            if os.fstat(file).st_nlink:
                _refuse_the_living(file, folder, system_locks=system_locks)
                _sign(file, folder)
                return file
        except BaseException:
            os.close(file)
            raise
        os.close(file)  # Its holder removed it just now: another one has to be made.


def _flock(file: int, folder: Path) -> bool:
    """Lock a file; return False where the file system has no locks.

    Raises:
      BlockingIOError: another process holds the lock.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = _holder(file)
        who = holder.told() if holder else "another process"
        raise BlockingIOError(
            f"{folder} is in use: {who} writes into it, and a second writer would spoil it. Wait "
            "until it has ended, or choose another folder"
        ) from None
    except OSError as error:
        if error.errno in _NO_LOCKS:
            return False
        raise
    return True


def _refuse_the_living(file: int, folder: Path, *, system_locks: bool) -> None:
    """Refuse a lock that the system gave, if its file is of a process that may still write.

    Raises:
      BlockingIOError: the process on another machine gave a sign of life a short while ago, or,
        where the file system has no locks, the one on this machine lives.
    """
    holder = _holder(file)
    if holder is None or (holder.host == socket.gethostname() and system_locks):
        return  # A holder on this machine would have kept the lock.
    if holder.host == socket.gethostname():
        if holder.process != os.getpid() and not psutil.pid_exists(holder.process):
            return
        silent = 0.0
    else:
        # Both times are those of the disk's own clock.
        before = os.fstat(file)
        os.utime(file)
        silent = os.fstat(file).st_mtime - before.st_mtime
        if silent >= SILENCE:
            return
        os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    raise BlockingIOError(
        f"{folder} is in use: {holder.told()} gave a sign of life {silent:.0f} s ago. If it was "
        f"killed, give the command again {SILENCE:.0f} s after its end, or delete {folder / FILE}"
    )


def _holder(file: int) -> _Holder | None:
    """Return who a lock file names; None if it names nobody yet."""
    try:
        holder = _Holder(**json.loads(os.pread(file, 4096, 0)))
    except (ValueError, TypeError, RecursionError):
        return None
    return holder if isinstance(holder.process, int) else None


def _sign(file: int, folder: Path) -> None:
    """Write into a lock file who holds it."""
    now = datetime.datetime.now().astimezone().isoformat(" ", "seconds")
    name = Path(sys.argv[0] or "python").name
    holder = _Holder(socket.gethostname(), os.getpid(), name, now)
    try:
        os.ftruncate(file, 0)
        os.pwrite(file, json.dumps(holder._asdict()).encode(), 0)
    except OSError as error:
        raise _about(folder, error) from error


@contextlib.contextmanager
def _signs_of_life(file: int) -> Iterator[None]:
    """Renew the time of a lock file during the body."""
    ended = threading.Event()

    def beat() -> None:
        while not ended.wait(BEAT):
            with contextlib.suppress(OSError):
                os.utime(file)

    thread = threading.Thread(target=beat, name="lock", daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
