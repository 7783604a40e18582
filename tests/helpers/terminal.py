"""A command as a person sees it: in a terminal."""

import contextlib
import os
import pty
import subprocess
import termios
from collections.abc import Sequence

from tests.helpers import ready


def run(words: Sequence[str], *, size: tuple[int, int] = (24, 120)) -> tuple[int, bytes]:
    """The exit code of a command, and what it said on a terminal: its errors, not its output.

    The terminal has this many rows and columns; those of containers may say that they have none.
    """
    terminal, end = pty.openpty()
    termios.tcsetwinsize(end, size)
    with ready.Popen(words, stdout=subprocess.DEVNULL, stderr=end) as job:
        os.close(end)
        said = b""
        with contextlib.suppress(OSError):  # How Linux says that the terminal was closed.
            while piece := os.read(terminal, 4096):
                said += piece
    os.close(terminal)
    return job.returncode, said
