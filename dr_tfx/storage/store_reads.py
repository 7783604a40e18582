"""Reads of parts of objects that go on where the store or the network stumbles.

A store that is busy, a connection that breaks and an answer that is cut short are met by another
try, after a wait that doubles and that the store itself may name. What another try cannot mend ends
with a StoreError, one sentence that says what to do.
"""

import random
import threading
import time
from typing import Any

from dr_tfx.storage import store_clients, store_errors

PATIENCE = 300.0  # Seconds of tries until a store counts as gone,
UNPERMITTED = 30.0  # and until credentials that are refused do: another process may renew them.
_FIRST_WAIT = 0.25  # Seconds, doubled from try to try,
_LONGEST_WAIT = 20.0  # up to this.
_HOPELESS = (400, 404, 405, 410, 412, 416)
_AGAIN = "The same command again goes on with what is finished."


class StoreError(OSError):
    """An object store, or the way to it, does not give what is needed; the message says what."""


class StoreReader:
    """Reads from the objects below one address. Threads may share it.

    Args:
      address: a folder of an object store, such as `gs://bucket/data`.
    """

    def __init__(self, address: str) -> None:
        self.address = address.rstrip("/")
        self._lock = threading.Lock()
        self._opened: tuple[Any, str] | None = None
        self._stop = threading.Event()

    def read(self, name: str, start: int, end: int) -> bytes:
        """Return the bytes of an object from `start` up to `end`, all of them.

        Raises:
          StoreError: they cannot be had.
        """
        path, began, tries = f"{self.address}/{name}", time.monotonic(), 0
        stop = self._stop
        while True:
            tries += 1
            try:
                data = self._read(name, start, end)
                if len(data) == end - start:
                    return data
                error: Exception = EOFError(f"{len(data):,} of {end - start:,} bytes came")
            except Exception as raised:  # Every client has errors of its own.
                error = raised
            patience = _patience(error)
            if patience <= UNPERMITTED:
                self._forget()  # The client looks for credentials anew.
            wait = store_errors.asked_wait(error) or _wait(tries)
            if time.monotonic() - began + wait > patience:
                raise StoreError(_told(path, error, tries)) from error
            if stop.wait(wait):
                raise StoreError(f"{path} was not waited for any more.") from error

    def interrupt(self) -> None:
        """Let the threads that read now, and wait for another try, give up."""
        self._stop.set()
        self._stop = threading.Event()

    def _read(self, name: str, start: int, end: int) -> bytes:
        with self._lock:
            if self._opened is None:
                self._opened = store_clients.reader(self.address)
            store, folder = self._opened
        return store_clients.part(store, f"{folder.rstrip('/')}/{name}", start, end)

    def _forget(self) -> None:
        with self._lock:
            self._opened = None


def _patience(error: BaseException) -> float:
    """Return for how many seconds it is worth to try again."""
    status = store_errors.status(error)
    if status in store_errors.REFUSED:
        return UNPERMITTED
    # No package, no such kind of store, or a request that none understands.
    lacking = isinstance(error, ImportError | NotImplementedError | ValueError)
    return 0.0 if status in _HOPELESS or lacking else PATIENCE


def _wait(tries: int) -> float:
    """Return the seconds until the next try, a part of them drawn: many readers wait at once."""
    return min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (tries - 1)) * (0.5 + random.random() / 2)


def _told(path: str, error: Exception, tries: int) -> str:
    """Return a sentence about an object that cannot be read."""
    why = store_errors.why(error)
    status = store_errors.status(error)
    if status == 404:
        return f"{path} is not there any more; dataset.json beside it names it. {_AGAIN}"
    if status in store_errors.REFUSED:
        return (
            f"{path} may not be read ({why}): the credentials have expired, or do not reach that "
            f"far. Log in again{store_errors.log_in(path)}. {_AGAIN}"
        )
    counted = "1 try" if tries == 1 else f"{tries} tries"
    return f"{path} could not be read in {counted} ({why}). {_AGAIN}"
