"""How far a build is, from what its workers leave in the folder."""

import contextlib
import posixpath
import threading
from collections.abc import Iterator

from tqdm import tqdm

from beam_jobs import output, write_shard

_POLL_SECONDS, _REMOTE_POLL_SECONDS = 0.2, 15.0  # A look into an object store costs money.


@contextlib.contextmanager
def bar(output_dir: str, *, total: int) -> Iterator[None]:
    """Shows photographs done, rejected, a second and the time left while the body runs.

    Args:
      output_dir: folder of the shards. What was finished there before does not count as speed.
      total: photographs of the whole build.
    """
    watched, stop = _Watched(output_dir), threading.Event()
    seconds = _REMOTE_POLL_SECONDS if output.is_remote(output_dir) else _POLL_SECONDS
    with tqdm(total=total, initial=0, unit="photograph", disable=None) as shown:
        if shown.disable:  # Nobody looks.
            yield
            return
        shown.initial = shown.n = sum(watched.count())

        def poll() -> None:
            with contextlib.suppress(OSError):  # The next look will do.
                written, rejected = watched.count()
                shown.set_postfix(rejected=rejected, refresh=False)
                shown.update(max(0, written + rejected - shown.n))

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


class _Watched:
    """A folder in which shards are being written."""

    def __init__(self, output_dir: str):
        self._output_dir = output_dir
        self._folder = posixpath.join(output_dir, write_shard.PROGRESS)
        self._finished: dict[str, tuple[int, int]] = {}  # Read once each.

    def count(self) -> tuple[int, int]:
        """Examples written and photographs rejected so far."""
        running = [(0, 0)]
        for name in output.sizes(self._folder):
            if name.endswith(write_shard.LIVE_SUFFIX):
                running.append(self._live(name))
            elif (shard := write_shard.shard_of(name)) and shard not in self._finished:
                sidecar = write_shard.read_sidecar(self._output_dir, shard)
                self._finished[shard] = sidecar.records, len(sidecar.rejects)
        written, rejected = zip(*running, *self._finished.values(), strict=True)
        return sum(written), sum(rejected)

    def _live(self, name: str) -> tuple[int, int]:
        """Of an unfinished shard; nothing where it has just been finished."""
        try:
            written, rejected = output.read(posixpath.join(self._folder, name)).split()
        except (OSError, ValueError):
            return 0, 0
        return int(written), int(rejected)
