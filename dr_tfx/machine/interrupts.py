"""Ctrl-C, followed when the work can stop without a loss."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from typing import Any


@contextlib.contextmanager
def noted() -> Iterator[Callable[[], bool]]:
    """Note a Ctrl-C during the body, which would otherwise end it anywhere.

    A second Ctrl-C ends the body at once. In other threads than the main one, and in a program that
    has a handler of its own, nothing is changed.

    Yields:
      A function that returns whether Ctrl-C was pressed.
    """
    is_main = threading.current_thread() is threading.main_thread()
    if not is_main or signal.getsignal(signal.SIGINT) is not signal.default_int_handler:
        yield lambda: False
        return
    pressed: list[bool] = []

    def note(*_: Any) -> None:
        pressed.append(True)
        signal.signal(signal.SIGINT, signal.default_int_handler)

    signal.signal(signal.SIGINT, note)
    try:
        yield lambda: bool(pressed)
    finally:
        signal.signal(signal.SIGINT, signal.default_int_handler)
