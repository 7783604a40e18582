"""dr_tfx: from raw medical photographs to a trained, honestly evaluated screening model.

`dr_tfx.api` describes what the package offers; importing it loads neither TensorFlow nor pandas
until something is used.
"""

import importlib
import os
import sys
from typing import Any

if sys.platform == "win32":
    raise ImportError(
        "dr_tfx runs on Linux and macOS. On Windows, install and start it inside WSL, the Windows "
        "Subsystem for Linux: https://learn.microsoft.com/windows/wsl/install"
    )
# TensorFlow's C++ start-up notices would bury the progress bars; errors still show.
os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
# The variable decides over a person's own ~/.keras/keras.json, which may name JAX or PyTorch.
os.environ["KERAS_BACKEND"] = "tensorflow"

NOTICE = "Research software, not a medical device, not for diagnosis."
"""What stands on everything that shows results."""

__version__ = "0.1.0"

__all__ = [
    "NOTICE",
    "Dataset",
    "Explanation",
    "LoadedExport",
    "PhotographModel",
    "TrainedModel",
    "__version__",
    "build",
    "crossvalidate",
    "ensemble",
    "evaluate",
    "export",
    "load_bundle",
    "load_config",
    "load_dataset",
    "load_export",
    "synthesize",
    "train",
]


def __getattr__(name: str) -> Any:
    """Load a member of the Python face when it is first used."""
    if name in __all__:
        return getattr(importlib.import_module("dr_tfx.api"), name)
    raise AttributeError(f"module 'dr_tfx' has no attribute {name!r}")


def __dir__() -> list[str]:
    return [*globals(), *__all__]
