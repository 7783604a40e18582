"""The progress bar of all long work: on a terminal, in a notebook and in a log."""

import contextlib
import os
import sys
import time
from typing import Any

from tqdm import tqdm
from tqdm.autonotebook import tqdm as tqdm_of_place

_COLUMNS, _ROWS = 80, 24
_LOG_SECONDS = 60.0  # A line of a log each; work that takes less leaves none.
_LOG_LINE = "{desc}: {n_fmt} of {total_fmt} {unit}s, {remaining} left{postfix}"


def bar(*, total: int, unit: str, title: str, done: int = 0, leave: bool = True) -> "tqdm[Any]":
    """Return a bar of tqdm, to be used as a context and told of by `update`.

    On a terminal and in a notebook it moves. Elsewhere, which is in a log, a line a minute says
    how far the work is.

    Args:
      total: of the units of work.
      unit: what is counted, in the singular.
      title: what is being done.
      done: units that were finished before; they do not count towards the rate.
      leave: whether the finished bar is left on the terminal.
    """
    given: dict[str, Any] = {"total": total, "unit": unit, "desc": title, "initial": done}
    if tqdm_of_place is not tqdm:  # A notebook's own.
        return tqdm_of_place(**given, leave=leave)
    if sys.stderr.isatty():
        return tqdm(**given, leave=leave, **_size())
    every = {"mininterval": _LOG_SECONDS, "maxinterval": _LOG_SECONDS}
    return _Lines(**given, leave=False, bar_format=_LOG_LINE, **every)


class _Lines(tqdm):
    """A bar whose every state is a line, and which is shown once a minute at the most.

    tqdm itself shows a bar anew at every `write` and `set_postfix`.
    """

    def __init__(self, **given: Any):
        self._shown = time.monotonic()
        super().__init__(**given)

    def display(self, msg: str | None = None, pos: int | None = None) -> None:
        if msg is None and time.monotonic() - self._shown >= _LOG_SECONDS:
            self._shown = time.monotonic()
            print(self, file=sys.stderr, flush=True)

    def clear(self, nolock: bool = False) -> None:
        """Leave what was written: it is a line of its own."""


def _size() -> dict[str, int]:
    """Return a size for a terminal that reports none, as in containers: tqdm needs one."""
    with contextlib.suppress(OSError, ValueError):
        if os.get_terminal_size(sys.stderr.fileno()).columns == 0:
            return {"ncols": _COLUMNS, "nrows": _ROWS}
    return {}
