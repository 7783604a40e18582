"""Cores and memory: how many, how much the process tree takes, a ceiling, malloc and cycles.

1 GB is 1e9 bytes. Knows nothing of TensorFlow, so that a command can call it before loading that.
"""

import atexit
import ctypes
import gc
import os
import sys
import time

import psutil

GB = 1e9
SECONDS = 1.0  # Between two looks, at least.
_MIB = 2**20
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD, _M_ARENA_MAX = -1, -3, -8  # Of glibc's malloc.h.


class MemoryCeilingError(RuntimeError):
    """The process tree uses more memory than it may."""


def cores() -> int:
    """Cores that this process may use, where the system tells; else all of the machine."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_quickly() -> None:
    """Has this process end without a last search for cycles among all its objects.

    It takes 0.4 s where Beam is loaded and 1 s to 2 s with TensorFlow, and Beam's local runner
    waits for one worker after the other.
    """
    atexit.register(gc.freeze)


def tune_malloc() -> None:
    """Makes glibc's malloc fit for buffers of megabytes that are made and freed at every step.

    One heap for all threads, as the environment's MALLOC_ARENA_MAX=1 does: a heap for every few
    threads keeps what each of tf.data's threads has freed, and none gives it to the others. And
    what is freed is kept for the next step: given back to the system and taken anew, every page of
    it costs a fault, and together they cost as much as reading the pictures.

    Has to be called before there are many threads, so before TensorFlow is loaded; does nothing
    where there is no glibc.
    """
    if sys.platform.startswith("linux"):
        mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
        if mallopt is not None:
            mallopt(_M_ARENA_MAX, 1)
            mallopt(_M_MMAP_THRESHOLD, 32 * _MIB)  # The most that it takes.
            mallopt(_M_TRIM_THRESHOLD, 128 * _MIB)


def tree_gb() -> float:
    """Memory of this process and all below it, in GB; what they share is counted once.

    The sum of proportional set sizes; where a system has none, of resident ones.
    """
    process = psutil.Process()
    total = 0
    for one in [process, *process.children(recursive=True)]:
        try:
            full = one.memory_full_info()
            total += getattr(full, "pss", 0) or full.rss
        except psutil.NoSuchProcess:  # It has ended meanwhile.
            continue
        except psutil.AccessDenied:
            total += one.memory_info().rss
    return total / GB


class Memory:
    """Watches the process tree's memory against a ceiling."""

    def __init__(self, limit_gb: float):
        self.limit_gb = limit_gb
        self.used_gb = 0.0
        self.peak_gb = 0.0  # Since `restart`.
        self._next = 0.0

    def restart(self, peak_gb: float = 0.0) -> None:
        """Begins a new peak, as every epoch does, with what is known of it already."""
        self.peak_gb = max(peak_gb, self.used_gb)

    def exceeded(self) -> bool:
        """Whether the ceiling is reached; looks once in `SECONDS` at most.

        A look takes the system some 15 ms per GB, so with much memory it is a rarer one: it never
        costs more than a fiftieth of the time.
        """
        now = time.monotonic()
        if now >= self._next:
            self.used_gb = tree_gb()
            self.peak_gb = max(self.peak_gb, self.used_gb)
            spent = time.monotonic() - now
            self._next = now + max(SECONDS, 50 * spent)
        return self.used_gb >= self.limit_gb

    def error(self, saved: str = "") -> MemoryCeilingError:
        """What to say when the ceiling is reached.

        Args:
          saved: what has been kept, as a sentence of its own.
        """
        return MemoryCeilingError(
            f"The run uses {self.used_gb:.2f} GB of memory, and config.training.max_memory_gb "
            f"allows {self.limit_gb:g} GB (1 GB = 1e9 bytes, over all of its processes). "
            f"{saved + ' ' if saved else ''}Lower config.training.batch_size or "
            "config.dataset.recipe.size, which make another run, or raise --max_memory_gb."
        )
