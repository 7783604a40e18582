"""Ctrl-C, and SIGTERM of systems, followed when the work can stop without a loss."""

import contextlib
import ctypes
import signal
import sys
import threading
from collections.abc import Callable, Iterator
from multiprocessing import resource_tracker
from typing import Any

_PR_SET_PDEATHSIG = 1  # From Linux' prctl.h.
_received: list[int] = []  # The signals that have ended, or will end, this process.


def end_alike() -> None:
    """Let SIGTERM do what Ctrl-C does: raise KeyboardInterrupt in the main thread.

    Without it Python ends at once, and leaves locks, temporary files and processes that it started.
    """
    if signal.getsignal(signal.SIGTERM) is signal.SIG_DFL:
        signal.signal(signal.SIGTERM, _interrupt)


def _interrupt(number: int, _: Any) -> None:
    _received.append(number)
    raise KeyboardInterrupt


def received() -> int:
    """Return the number of the signal behind a KeyboardInterrupt: SIGINT, or SIGTERM."""
    return _received[0] if _received else signal.SIGINT


def end_with_parent() -> None:
    """Let Linux kill this process when the thread that started it ends, killed or not."""
    if sys.platform.startswith("linux"):
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextlib.contextmanager
def left_to_parent() -> Iterator[None]:
    """Start processes in the body that a Ctrl-C does not reach: who started them ends them.

    A terminal gives Ctrl-C to all processes, and each would print where it was. One that is pressed
    during the body is there behind it.
    """
    resource_tracker.ensure_running()  # It lets signals through again when it starts.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})  # Processes inherit it.
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


@contextlib.contextmanager
def noted() -> Iterator[Callable[[], bool]]:
    """Note a Ctrl-C or SIGTERM during the body, which would otherwise end it anywhere.

    A second one ends the body at once. In other threads than the main one, and for a signal that
    the program has a handler of its own for, nothing is changed.

    Yields:
      A function that returns whether there was a signal.
    """
    usual = (signal.default_int_handler, _interrupt)
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    before = {number: handler for number, handler in before.items() if handler in usual}
    if threading.current_thread() is not threading.main_thread():
        before = {}
    pressed: list[bool] = []

    def restore() -> None:
        for number, handler in before.items():
            signal.signal(number, handler)

    def note(number: int, _: Any) -> None:
        pressed.append(True)
        _received.append(number)
        restore()

    for number in before:
        signal.signal(number, note)
    try:
        yield lambda: bool(pressed)
    finally:
        restore()
