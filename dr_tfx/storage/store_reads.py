"""Reads of parts of objects that go on where the store or the network stumbles.

A store that is busy, a connection that breaks and an answer that is cut short are met by another
try, after a wait that doubles and that the store itself may name. What another try cannot mend ends
with a StoreError, one sentence that says what to do.
"""

import logging
import random
import threading
import time
from collections.abc import Iterator
from typing import Any

import fsspec

PATIENCE = 300.0  # Seconds of tries until a store counts as gone,
UNPERMITTED = 30.0  # and until credentials that are refused do: another process may renew them.
_FIRST_WAIT = 0.25  # Seconds, doubled from try to try,
_LONGEST_WAIT = 20.0  # up to this.
_REFUSED = (401, 403)
_HOPELESS = (400, 404, 405, 410, 412, 416)
# It prints the traces of errors that are told in a sentence here.
logging.getLogger("gcsfs").setLevel(logging.CRITICAL)
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
            wait = _asked_wait(error) or _wait(tries)
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
                # Neither a listing nor a part of an object may be an earlier one.
                settings = {"use_listings_cache": False, "skip_instance_cache": True}
                self._opened = fsspec.core.url_to_fs(self.address, **settings)
            store, folder = self._opened
        return store.cat_file(f"{folder.rstrip('/')}/{name}", start=start, end=end)

    def _forget(self) -> None:
        with self._lock:
            self._opened = None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    """Yield an error and those that it came from."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def _status(error: BaseException) -> int:
    """Return the number of HTTP that an error stands for; 0 if it is none, or has none."""
    for cause in _causes(error):
        if isinstance(cause, FileNotFoundError):
            return 404
        if isinstance(cause, PermissionError) or str(cause).startswith("Forbidden"):
            return 403
        answer = getattr(cause, "response", None)
        if isinstance(answer, dict):  # Amazon's.
            answer = answer.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
        for found in (answer, *(getattr(cause, key, 0) for key in ("status", "code"))):
            if str(found).isdigit() and (status := int(str(found))):
                return status
        if type(cause).__name__ == "RefreshError":  # Google's: the credentials are not renewed.
            return 401
    return 0


def _patience(error: BaseException) -> float:
    """Return for how many seconds it is worth to try again."""
    status = _status(error)
    if status in _REFUSED:
        return UNPERMITTED
    # No package, no such kind of store, or a request that none understands.
    lacking = isinstance(error, ImportError | NotImplementedError | ValueError)
    return 0.0 if status in _HOPELESS or lacking else PATIENCE


def _wait(tries: int) -> float:
    """Return the seconds until the next try, a part of them drawn: many readers wait at once."""
    return min(_LONGEST_WAIT, _FIRST_WAIT * 2.0 ** (tries - 1)) * (0.5 + random.random() / 2)


def _asked_wait(error: BaseException) -> float:
    """Return the seconds that a store asks to wait (the header Retry-After); 0 if it does not."""
    for cause in _causes(error):
        headers = getattr(cause, "headers", None) or {}
        answer = getattr(cause, "response", None)
        if isinstance(answer, dict):
            headers = answer.get("ResponseMetadata", {}).get("HTTPHeaders", {})
        named = {str(key).lower(): str(value) for key, value in dict(headers).items()}
        if (seconds := named.get("retry-after", "")).isdigit():
            return float(seconds)
    return 0.0


def _told(path: str, error: Exception, tries: int) -> str:
    """Return a sentence about an object that cannot be read."""
    why = " ".join(f"{type(error).__name__}: {error}".split())[:300].rstrip(".")
    status = _status(error)
    if status == 404:
        return f"{path} is not there any more; dataset.json beside it names it. {_AGAIN}"
    if status in _REFUSED:
        return (
            f"{path} may not be read ({why}): the credentials have expired, or do not reach that "
            f"far. Log in again (gcloud auth application-default login, aws sso login). {_AGAIN}"
        )
    counted = "1 try" if tries == 1 else f"{tries} tries"
    return f"{path} could not be read in {counted} ({why}). {_AGAIN}"
