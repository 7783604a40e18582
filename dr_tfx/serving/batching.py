"""Pictures of many requests pass the model together.

One thread has the model. While it reads some pictures, others arrive, and all that wait go together
next: a request that is alone waits for nobody, and many at once make full batches.
"""

import threading
import time
from collections.abc import Callable
from concurrent import futures
from typing import NamedTuple

import numpy as np

from dr_tfx.serving.served_model import Result, Work

_WEIGHT = 0.1  # Of the newest batch in the mean of the seconds that a picture takes.


class _Job(NamedTuple):
    work: Work
    most: int
    picture: np.ndarray
    result: "futures.Future[Result]"


class Batcher:
    """Collects pictures, and gives them to a model in batches.

    Attributes:
      seconds_each: the mean time of a picture in recent batches.
    """

    def __init__(self, observe: Callable[[int], None]):
        """Start the thread.

        Args:
          observe: is told the number of pictures of every batch.
        """
        self.seconds_each = 0.0
        self._observe = observe
        self._jobs: list[_Job] = []
        self._changed = threading.Condition()
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)
        self._thread.start()

    def submit(self, work: Work, picture: np.ndarray, *, most: int) -> "futures.Future[Result]":
        """Let a picture, uint8 RGB (size, size, 3), be read; a cancelled future is left out.

        Args:
          work: reads pictures; those of one function go together.
          picture: one of them.
          most: the most pictures that it takes at a time.
        """
        job = _Job(work, most, picture, futures.Future())
        with self._changed:
            if self._is_closed:
                raise RuntimeError("the batcher is closed")
            self._jobs.append(job)
            self._changed.notify()
        return job.result

    def close(self) -> None:
        """Finish what was submitted, and end the thread."""
        with self._changed:
            self._is_closed = True
            self._changed.notify()
        self._thread.join()

    @property
    def is_alive(self) -> bool:
        """Whether pictures are still read."""
        return self._thread.is_alive() and not self._is_closed

    def _run(self) -> None:
        while batch := self._next():
            wanted = [job for job in batch if job.result.set_running_or_notify_cancel()]
            if wanted:
                self._read(wanted)

    def _next(self) -> list[_Job]:
        """Wait for jobs, and return the first with those that go with it; none at the end.

        There are as many as a power of two, or the most: libraries keep memory for each size that
        they have met (oneDNN's primitives), and of any size there would be dozens.
        """
        with self._changed:
            while not self._wanted():
                if self._is_closed:
                    return []
                self._changed.wait()
            first = self._jobs[0]
            same = [job for job in self._jobs if job.work == first.work]
            batch = same[: min(first.most, 1 << (len(same).bit_length() - 1))]
            taken = set(map(id, batch))
            self._jobs = [job for job in self._jobs if id(job) not in taken]
            return batch

    def _wanted(self) -> bool:
        """Drop the jobs that nobody waits for, and return whether others are left."""
        self._jobs = [job for job in self._jobs if not job.result.cancelled()]
        return bool(self._jobs)

    def _read(self, batch: list[_Job]) -> None:
        start = time.perf_counter()
        try:
            results = batch[0].work(np.stack([job.picture for job in batch]))
        except Exception as error:  # It is told to those who wait, and the next batch is read.
            for job in batch:
                job.result.set_exception(error)
            return
        self._observe(len(batch))
        each = (time.perf_counter() - start) / len(batch)
        self.seconds_each += (_WEIGHT if self.seconds_each else 1) * (each - self.seconds_each)
        for job, result in zip(batch, results, strict=True):
            job.result.set_result(result)
