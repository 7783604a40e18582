"""The start of TensorFlow in a command, without what it says there about itself."""

import contextlib
import importlib
import os
import subprocess
from collections.abc import Iterator

# It logs before it reads TF_CPP_MIN_LOG_LEVEL: notices, and as errors that plugins are there twice.
_NOTICES = (
    r"WARNING: All log messages before absl::InitializeLog\(\)",
    r"I0000 ",
    r".*Unable to register cu[A-Za-z]+ factory",
)
_NO_DRIVER = r".*failed call to cuInit"
_GPUS = ("/dev/nvidiactl", "/dev/dxg")  # The second is that of WSL.


def load() -> None:
    """Load TensorFlow and let it look for GPUs, which is when it speaks.

    A machine without an NVIDIA GPU has no driver of it, which is no error. Where there is a GPU,
    the error of its driver is shown.
    """
    without_gpu = not any(map(os.path.exists, _GPUS))
    with _without_lines((*_NOTICES, _NO_DRIVER) if without_gpu else _NOTICES):
        # By its name: import rules let nothing of a build import it, where nothing calls this.
        tf = importlib.import_module("tensorflow")
        tf.config.list_physical_devices()


@contextlib.contextmanager
def _without_lines(patterns: tuple[str, ...]) -> Iterator[None]:
    """Drop lines of the standard error, of this process's C++ code too, that begin so.

    A program of its own sorts them, so that the last words of a process that crashes are printed.
    """
    line = ["grep", "-Ev", f"^({'|'.join(patterns)})"]
    try:
        kept = os.dup(2)
        grep = subprocess.Popen(line, stdin=subprocess.PIPE, stdout=kept)
    except OSError:  # There is no standard error, or no such program.
        yield
        return
    assert grep.stdin is not None
    os.dup2(grep.stdin.fileno(), 2)
    try:
        yield
    finally:
        os.dup2(kept, 2)
        grep.stdin.close()
        grep.wait()
        os.close(kept)
