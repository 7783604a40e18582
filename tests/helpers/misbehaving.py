"""An object store that misbehaves on purpose: `shaky://...`, its faults drawn with a seed.

It is what every client of a real store gives sooner or later: connections that break, answers that
come short or damaged, a server that is busy and says for how long, credentials that expire.
"""

import random
import threading
import time
from typing import ClassVar

import fsspec
from fsspec.spec import AbstractFileSystem


class Busy(Exception):
    """What a client makes of 429 and 503, with the headers of the answer."""

    def __init__(self, status: int):
        super().__init__(f"{status} from the store")
        self.status, self.headers = status, {"Retry-After": "0"}


class Expired(Exception):
    """What Amazon's client makes of credentials that are none any more."""

    response: ClassVar = {"ResponseMetadata": {"HTTPStatusCode": 403, "HTTPHeaders": {}}}


FAULTS = ("reset", "busy", "short", "flipped", "expired")


class Shaky(AbstractFileSystem):
    """Objects in memory, by their path without the scheme."""

    protocol = "shaky"
    objects: ClassVar[dict[str, bytes]] = {}
    chance: ClassVar[float] = 0.0  # Of a fault at each read,
    faults: ClassVar[tuple[str, ...]] = FAULTS  # which is one of these.
    drawn: ClassVar[random.Random] = random.Random(0)
    read: ClassVar[list[tuple[str, int, int]]] = []  # What was asked for.
    met: ClassVar[list[str]] = []  # The faults so far.
    pause: ClassVar[float] = 0.0  # Seconds of each read, one after the other, as a disk seeks.
    _lock: ClassVar = threading.Lock()

    @classmethod
    def begin(cls, objects: dict[str, bytes]) -> None:
        """Begin anew, without faults."""
        cls.objects, cls.chance, cls.faults = objects, 0.0, FAULTS
        cls.drawn, cls.read, cls.met, cls.pause = random.Random(0), [], [], 0.0

    def ls(self, path, detail=True, **_):
        folder = f"{self._strip_protocol(path)}/"
        return [
            {"name": name, "type": "file", "size": len(content)}
            for name, content in self.objects.items()
            if name.startswith(folder)
        ]

    def cat_file(self, path, start=None, end=None, **_):
        path = self._strip_protocol(path)
        with self._lock:
            self.read.append((path, start, end))
            fault = self.drawn.choice(self.faults) if self.drawn.random() < self.chance else ""
            self.met += [fault] * bool(fault)
            at = self.drawn.random()
            time.sleep(self.pause)
        if path not in self.objects:
            raise FileNotFoundError(path)
        data = self.objects[path][start:end]
        place = int(at * len(data))
        if fault == "reset":
            raise ConnectionResetError(104, "Connection reset by peer")
        if fault == "busy":
            raise Busy(429 if at < 0.5 else 503)
        if fault == "expired":
            raise Expired("ExpiredToken")
        if fault == "short":
            return data[:place]
        if fault == "flipped":
            return data[:place] + bytes([data[place] ^ 1]) + data[place + 1 :]
        return data


fsspec.register_implementation("shaky", Shaky, clobber=True)
