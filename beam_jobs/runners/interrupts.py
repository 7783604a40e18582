"""Ctrl-C while a job runs in this process."""

import contextlib
from collections.abc import Iterator


@contextlib.contextmanager
def kept() -> Iterator[None]:
    """Let Ctrl-C end the body as such, which Beam passes on as a RuntimeError of the worker.

    Raises:
      KeyboardInterrupt: Ctrl-C was pressed.
    """
    try:
        yield
    except RuntimeError as error:
        if "KeyboardInterrupt" in str(error).strip().splitlines()[-1]:
            raise KeyboardInterrupt from error
        raise
