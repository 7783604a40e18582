"""A share of memory that all threads of a process have together."""

import contextlib
import threading
from collections.abc import Iterator


class Budget:
    """So many bytes, of which each thread takes what it needs, and waits where others have them."""

    def __init__(self, total: int):
        """Make a budget of `total` bytes."""
        self._total, self._taken, self._changed = total, 0, threading.Condition()

    @contextlib.contextmanager
    def taken(self, size: int) -> Iterator[None]:
        """Take so many bytes for the body. Whoever needs more than there are has all of them."""
        size = min(size, self._total)
        with self._changed:
            self._changed.wait_for(lambda: self._taken + size <= self._total)
            self._taken += size
        try:
            yield
        finally:
            with self._changed:
                self._taken -= size
                self._changed.notify_all()
