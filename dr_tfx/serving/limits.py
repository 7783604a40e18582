"""What a request may ask for, and how much is taken at once; more is refused with a status.

The work that was taken is bounded by numbers of photographs and of bytes, so that the memory is
bounded too, however many clients there are.
"""

import collections
import contextlib
import dataclasses
import math
import time
from collections.abc import Iterator

_CLIENTS = 10_000  # Whose rate is remembered.
_MINUTE = 60.0
_WAIT = 1  # Seconds after which a refused client may try again, at least.


@dataclasses.dataclass(frozen=True)
class Limits:
    """The limits of a server.

    Attributes:
      megabytes: the most that a photograph may have, in millions of bytes.
      megapixels: likewise, in millions of pixels.
      photographs: the most in a request.
      seconds: the most that a request may take, its upload included.
      queue: the most photographs that are in work at once.
      requests_per_minute: of one client; 0 for any number.
    """

    megabytes: int = 64
    megapixels: int = 64
    photographs: int = 32
    seconds: int = 60
    queue: int = 256
    requests_per_minute: int = 0

    @property
    def bytes(self) -> int:
        """The most bytes of a photograph."""
        return self.megabytes * 1_000_000

    @property
    def body(self) -> int:
        """The most bytes of a request: one photograph of the largest size, or several smaller."""
        return 2 * self.bytes

    @property
    def held(self) -> int:
        """The most bytes of requests that are held at once."""
        return 8 * self.body


class Refused(Exception):
    """A request that is not taken.

    Attributes:
      status: of the answer.
      why: what a person should know.
      after: seconds after which the client may try again; None if that would not help.
    """

    def __init__(self, status: int, why: str, *, after: int | None = None):
        super().__init__(why)
        self.status, self.why, self.after = status, why, after


class Admission:
    """Counts what is in work, and refuses more.

    It is used in one thread, that of the event loop.

    Attributes:
      photographs: those that are in work.
      bytes: the most that the requests in work may hold.
    """

    def __init__(self, limits: Limits):
        self.photographs, self.bytes = 0, 0
        self._limits = limits

    @contextlib.contextmanager
    def held(self, size: int, *, seconds_each: float) -> Iterator[None]:
        """Hold so many bytes of a request.

        Args:
          size: the bytes.
          seconds_each: the time of a photograph, for the hint when to try again.

        Raises:
          Refused: too many are held already.
        """
        if self.bytes + size > self._limits.held:
            raise self._full(seconds_each)
        self.bytes += size
        try:
            yield
        finally:
            self.bytes -= size

    @contextlib.contextmanager
    def taken(self, count: int, *, seconds_each: float) -> Iterator[None]:
        """Take so many photographs into work.

        Raises:
          Refused: too many are in work already.
        """
        if self.photographs + count > self._limits.queue:
            raise self._full(seconds_each)
        self.photographs += count
        try:
            yield
        finally:
            self.photographs -= count

    def _full(self, seconds_each: float) -> Refused:
        after = max(_WAIT, math.ceil(self.photographs * seconds_each))
        why = f"{self.photographs} photographs are in work; try again in {after} s"
        return Refused(429, why, after=after)


class Rate:
    """Bounds the requests of each client by a token bucket that holds those of a minute."""

    def __init__(self, per_minute: int):
        self._per_minute = per_minute
        self._left: collections.OrderedDict[str, tuple[float, float]] = collections.OrderedDict()

    def check(self, client: str, now: float | None = None) -> None:
        """Count a request.

        Args:
          client: its address.
          now: the time in seconds; that of the monotonic clock if not given.

        Raises:
          Refused: there were too many within a minute.
        """
        if not self._per_minute:
            return
        now = time.monotonic() if now is None else now
        left, then = self._left.pop(client, (float(self._per_minute), now))
        each = _MINUTE / self._per_minute
        left = min(float(self._per_minute), left + (now - then) / each)
        self._left[client] = (left - 1 if left >= 1 else left, now)
        if len(self._left) > _CLIENTS:
            self._left.popitem(last=False)
        if left < 1:
            after = max(_WAIT, math.ceil((1 - left) * each))
            why = f"more than {self._per_minute} requests in a minute; try again in {after} s"
            raise Refused(429, why, after=after)
