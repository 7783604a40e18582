"""Lines that C libraries write to the standard error, past Python, and that nobody can use."""

import contextlib
import logging
import os
import subprocess
import sys
from collections.abc import Iterator
from typing import TextIO

# Decoders speak of a file that they do not know the name of. What matters of it is an error too,
# and is told with the name. The last two are from libtiff: its modules, and Pillow's name for all.
_OF_DECODERS = (
    r"libpng (warning|error): ",
    r"(Corrupt JPEG data|Premature end of JPEG file|Invalid SOS parameters)",
    r"_?(TIFF|LZW|ZIP|ZSTD|LZMA|WebP|Pack[Bb]its|Fax[34]|O?JPEG|PixarLog|LogL|Predictor|DumpMode"
    r"|EstimateStripByteCounts)"
    r"[A-Za-z0-9]*: ",
    r"tempfile\.tif: ",
)


@contextlib.contextmanager
def dropped(patterns: tuple[str, ...]) -> Iterator[int | None]:
    """Drop lines of the standard error, of this process's C++ code too, that begin so.

    A program of its own sorts them, so that the last words of a process that crashes are printed.

    Yields:
      The descriptor of the standard error itself; None where there is none, or no such program.
    """
    line = ["grep", "--line-buffered", "-aEv", f"^({'|'.join(patterns)})"]
    try:
        kept = os.dup(2)
        # Ctrl-C, which reaches all processes of a terminal, is not meant for it.
        grep = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=kept, start_new_session=True)
    except OSError:
        yield None
        return
    assert grep.stdin is not None
    os.dup2(grep.stdin.fileno(), 2)
    grep.stdin.close()
    try:
        yield kept
    finally:
        os.dup2(kept, 2)
        with contextlib.suppress(subprocess.TimeoutExpired):  # A process that was left has it, too.
            grep.wait(timeout=2)
        os.close(kept)


@contextlib.contextmanager
def without_decoders() -> Iterator[None]:
    """Drop the words of decoders of images; what Python writes is written as before."""
    with dropped(_OF_DECODERS) as kept:
        if kept is None:
            yield
            return
        usual = sys.stderr
        # A terminal stays one for progress bars.
        direct = open(  # noqa: SIM115 - it is closed with its descriptor.
            kept, "w", buffering=1, encoding=usual.encoding, errors=usual.errors, closefd=False
        )
        _exchange(usual, direct)
        try:
            yield
        finally:
            direct.flush()
            _exchange(direct, usual)


def _exchange(old: TextIO, new: TextIO) -> None:
    """Let Python and its log write to another stream."""
    sys.stderr = new
    for handler in logging.getLogger().handlers:
        one = getattr(handler, "python_handler", handler)  # That of absl holds another.
        if isinstance(one, logging.StreamHandler) and one.stream is old:
            one.setStream(new)
