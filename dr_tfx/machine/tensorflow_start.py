"""The start of TensorFlow in a command: without notices, and without what no command uses."""

import contextlib
import gc
import importlib
import os
import sys
from collections.abc import Iterator

from dr_tfx.machine import error_lines

# It logs before it reads TF_CPP_MIN_LOG_LEVEL: notices, and as errors that plugins are there twice.
_NOTICES = (
    r"WARNING: All log messages before absl::InitializeLog\(\)",
    r"I0000 ",
    r".*Unable to register cu[A-Za-z]+ factory",
)
_NO_DRIVER = r".*failed call to cuInit"
_GPUS = ("/dev/nvidiactl", "/dev/dxg")  # The second is that of WSL.
# Keras takes them if they are there, for pictures of its own and for a wrapper; no command needs
# those, and to import the two takes longer than the rest of Keras.
_FOR_EXTRAS_OF_KERAS = ("matplotlib", "sklearn")


def load() -> None:
    """Load TensorFlow and let it look for GPUs, which is when it speaks.

    A machine without an NVIDIA GPU has no driver of it, which is no error. Where there is a GPU,
    the error of its driver is shown. Python does not search for cycles among what is loaded here,
    neither now nor later: each search would go through a million objects that stay to the end.
    """
    without_gpu = not any(map(os.path.exists, _GPUS))
    with _told(), error_lines.dropped((*_NOTICES, _NO_DRIVER) if without_gpu else _NOTICES):
        # By its name: import rules let nothing of a build import it, where nothing calls this.
        with _kept_for_good(), _as_if_absent(_FOR_EXTRAS_OF_KERAS):  # TensorFlow imports Keras.
            tf = importlib.import_module("tensorflow")
        tf.config.list_physical_devices()


@contextlib.contextmanager
def _told() -> Iterator[None]:
    """Tell on a terminal what takes seconds; the line is gone when it has been done."""
    on_terminal = sys.stderr.isatty()
    if on_terminal:
        print("loading TensorFlow", end="", file=sys.stderr, flush=True)
    try:
        yield
    finally:
        if on_terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


@contextlib.contextmanager
def _kept_for_good() -> Iterator[None]:
    """Spare what is made inside every search for cycles."""
    was_on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        if was_on:
            gc.enable()


@contextlib.contextmanager
def _as_if_absent(names: tuple[str, ...]) -> Iterator[None]:
    """Let an import inside find that these packages are not installed, unless they are in use."""
    absent = [name for name in names if name not in sys.modules]
    for name in absent:
        sys.modules[name] = None  # type: ignore[assignment]  # Python's own mark for "there is none".
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
