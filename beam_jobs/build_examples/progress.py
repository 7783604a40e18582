"""The progress bar of a job, which reads its workers' files and so works with every runner."""

import contextlib
import posixpath
import threading
from collections.abc import Callable, Iterator

from beam_jobs.build_examples import write_shard
from dr_tfx.machine import progress
from dr_tfx.storage import files

_POLL_SECONDS, _REMOTE_POLL_SECONDS = 0.2, 15.0  # An object store is paid for each request.


@contextlib.contextmanager
def bar(
    count: Callable[[], tuple[int, dict[str, int]]],
    *,
    total: int,
    seconds: float,
    title: str = "preparing",
) -> Iterator[None]:
    """Show the photographs done, their rate and the time left, while the body runs.

    Args:
      count: returns the photographs done, and other counts to show by name. Photographs done
        before the start do not count towards the rate.
      total: photographs of the whole job.
      seconds: time between two calls of `count`, or between two lines of a log.
      title: words in front of the bar.
    """
    stop = threading.Event()
    with progress.bar(total=total, unit="photograph", title=title) as shown:
        shown.initial = shown.n = count()[0]

        def poll() -> None:
            with contextlib.suppress(OSError):  # The next call may succeed.
                done, beside = count()
                shown.set_postfix(beside, refresh=False)
                shown.update(max(0, done - shown.n))

        def watch() -> None:
            while not stop.wait(max(seconds, shown.mininterval)):
                poll()

        thread = threading.Thread(target=watch, daemon=True)
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()
            poll()


def of_build(output_dir: str, *, total: int) -> contextlib.AbstractContextManager[None]:
    """Return the bar of a build into this folder, which shows rejects too."""
    seconds = _REMOTE_POLL_SECONDS if files.is_remote(output_dir) else _POLL_SECONDS
    return bar(_Watched(output_dir).count, total=total, seconds=seconds)


class _Watched:
    """A folder into which shards are being written."""

    def __init__(self, output_dir: str):
        self._output_dir = output_dir
        self._folder = posixpath.join(output_dir, write_shard.PROGRESS)
        self._finished: dict[str, tuple[int, int]] = {}  # Each sidecar is read once.

    def count(self) -> tuple[int, dict[str, int]]:
        """Return the photographs done so far, and how many of them were rejected."""
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
