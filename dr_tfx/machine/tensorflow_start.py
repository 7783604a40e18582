"""The start of TensorFlow in a command, without what it says there about itself."""

import importlib
import os

from dr_tfx.machine import error_lines

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
    with error_lines.dropped((*_NOTICES, _NO_DRIVER) if without_gpu else _NOTICES):
        # By its name: import rules let nothing of a build import it, where nothing calls this.
        tf = importlib.import_module("tensorflow")
        tf.config.list_physical_devices()
