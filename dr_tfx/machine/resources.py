"""Cores and memory: their number, the process tree's use and ceiling, malloc, cycles.

1 GB is 1e9 bytes. The module does not load TensorFlow, so that a command can call it before.
"""

import atexit
import ctypes
import gc
import os
import sys
import time

import psutil

GB = 1e9
SECONDS = 1.0  # The least time between two looks at the memory.
_MIB = 2**20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # From glibc's malloc.h.


class MemoryCeilingError(RuntimeError):
    """The process tree uses more memory than it may."""


def cores() -> int:
    """Return the cores that this process may use; all of them where the system does not say."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_quickly() -> None:
    """Let this process end without a last search for cycles among all its objects.

    The search takes 0.4 s where Beam is loaded and 1 s to 2 s with TensorFlow, and Beam's local
    runner waits for one worker after the other.
    """
    atexit.register(gc.freeze)


def tune_malloc() -> None:
    """Tune glibc's malloc for buffers of megabytes that are made and freed at every step.

    All threads get one heap, as with the environment's MALLOC_ARENA_MAX=1: a heap for every few
    threads would keep what each of tf.data's threads has freed, and give it to no other. What is
    freed is kept for the next step: given back to the system and taken anew, every page of it costs
    a fault, and together they cost as much as reading the images.

    The function has to be called before there are many threads, so before TensorFlow is loaded. It
    does nothing where there is no glibc.
    """
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, 1)
            mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)  # The largest value that glibc takes.
            mallopt(_M_TRIM_THRESHOLD, 128 * _MIB)


def tree_gb() -> float:
    """Return the memory of this process and all below it, in GB; shared pages count once.

    It is the sum of proportional set sizes, or of resident ones where a system has no others.
    """
    process = psutil.Process()
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            full = one.memory_full_info()
            total += getattr(full, "pss", 0) or full.rss
        except psutil.NoSuchProcess:  # The process has ended meanwhile.
            continue
        except psutil.AccessDenied:
            total += one.memory_info().rss
    return total / GB


class Memory:
    """Watch of the process tree's memory against a ceiling."""

    def __init__(self, limit_gb: float):
        self.limit_gb = limit_gb
        self.used_gb = 0.0
        self.peak_gb = 0.0  # The highest since `restart`.
        self._next = 0.0

    def restart(self, peak_gb: float = 0.0) -> None:
        """Begin a new peak, as every epoch does, with the peak that is known already."""
        self.peak_gb = max(peak_gb, self.used_gb)

    def exceeded(self) -> bool:
        """Return whether the ceiling is reached; look at most once in `SECONDS`.

        A look takes the system some 15 ms per GB, so looks become rarer with much memory: they
        never cost more than a fiftieth of the time.
        """
        now = time.monotonic()
        if now >= self._next:
            self.used_gb = tree_gb()
            self.peak_gb = max(self.peak_gb, self.used_gb)
            spent = time.monotonic() - now
            self._next = now + max(SECONDS, 50 * spent)
        return self.used_gb >= self.limit_gb

    def error(self, saved: str = "") -> MemoryCeilingError:
        """Return the error to raise when the ceiling is reached.

        Args:
          saved: a sentence that says what has been kept, or "".
        """
        return MemoryCeilingError(
            f"The run uses {self.used_gb:.2f} GB of memory, and config.training.max_memory_gb "
            f"allows {self.limit_gb:g} GB (1 GB = 1e9 bytes, over all of its processes). "
            f"{saved + ' ' if saved else ''}Lower config.training.batch_size or "
            "config.dataset.recipe.size, which make another run, or raise --max_memory_gb."
        )
