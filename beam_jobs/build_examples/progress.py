"""How far a job is, from what its workers leave in the folder: it works with every runner."""

import contextlib
import os
import posixpath
import sys
import threading
from collections.abc import Callable, Iterator

from tqdm import tqdm

from beam_jobs.build_examples import write_shard
from dr_tfx.storage import files

_COLUMNS, _ROWS = 80, 24
_POLL_SECONDS, _REMOTE_POLL_SECONDS = 0.2, 15.0  # A look into an object store costs money.


@contextlib.contextmanager
def bar(
    count: Callable[[], tuple[int, dict[str, int]]],
    *,
    total: int,
    seconds: float,
    title: str | None = None,
) -> Iterator[None]:
    """Shows photographs done, a second and the time left while the body runs.

    Args:
      count: photographs done, and what else to show; what is done at the start is not speed.
      total: photographs of the whole job.
      seconds: between two looks.
      title: of the bar.
    """
    stop = threading.Event()
    with tqdm(total=total, desc=title, unit="photograph", disable=None, **_size()) as shown:
        if shown.disable:  # Nobody looks.
            yield
            return
        shown.initial = shown.n = count()[0]

        def poll() -> None:
            with contextlib.suppress(OSError):  # The next look will do.
                done, beside = count()
                shown.set_postfix(beside, refresh=False)
                shown.update(max(0, done - shown.n))

        def watch() -> None:
            while not stop.wait(seconds):
                poll()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            poll()


def _size() -> dict[str, int]:
    """A size where the terminal tells none, as in containers: tqdm would show nothing there."""
    with contextlib.suppress(OSError, ValueError):  # No terminal: there is no bar.
        if os.get_terminal_size(sys.stderr.fileno()).columns == 0:
            return {"ncols": _COLUMNS, "nrows": _ROWS}
    return {}


def of_build(output_dir: str, *, total: int) -> contextlib.AbstractContextManager[None]:
    """The bar of a build into this folder, which shows rejects too."""
    seconds = _REMOTE_POLL_SECONDS if files.is_remote(output_dir) else _POLL_SECONDS
    return bar(_Watched(output_dir).count, total=total, seconds=seconds)


class _Watched:
    """A folder in which shards are being written."""

    def __init__(self, output_dir: str):
        self._output_dir = output_dir
        self._folder = posixpath.join(output_dir, write_shard.PROGRESS)
        self._finished: dict[str, tuple[int, int]] = {}  # Read once each.

    def count(self) -> tuple[int, dict[str, int]]:
        """Photographs done so far, and how many of them were rejected."""
        running = [(0, 0)]
        for name in files.sizes(self._folder):
            if name.endswith(write_shard.LIVE_SUFFIX):
                said = files.read_live(posixpath.join(self._folder, name))
                written, rejected, *_ = *said, 0, 0
                running.append((written, rejected))
            elif (shard := write_shard.shard_of(name)) and shard not in self._finished:
                sidecar = write_shard.read_sidecar(self._output_dir, shard)
                self._finished[shard] = sidecar.records, len(sidecar.rejects)
        done, rejects = map(sum, zip(*running, *self._finished.values(), strict=True))
        return done + rejects, {"rejected": rejects}
