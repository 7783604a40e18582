"""What runs the networks of an export: one module for each format, which is imported when needed.

Each has a function `load`, from the files of a network, whose digests were compared, to a
`RunningNetwork`.
"""

import importlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np

from dr_tfx.models import export_file

_MODULES = {
    "onnx": "onnx_runtime",
    "saved_model": "tensorflow_runtime",
    "litert": "litert_runtime",
    "openvino": "openvino_runtime",
    "triton": "onnx_runtime",
}
_NAMES = {
    "onnx": "ONNX Runtime",
    "saved_model": "TensorFlow",
    "litert": "LiteRT",
    "openvino": "OpenVINO",
    "triton": "ONNX Runtime",
}
_EXTRAS = {"saved_model": "train", "triton": "onnx"}  # Where it has another name than the format.


class RunningNetwork(NamedTuple):
    """A network that is ready.

    Attributes:
      given: the name, dtype and shape of its one input; None is any number.
      made: the names of its outputs, sorted.
      run: from the input and the names of outputs to these, in this order.
    """

    given: tuple[str, str, list[int | None]]
    made: list[str]
    run: Callable[[np.ndarray, Sequence[str]], list[np.ndarray]]


def load(
    runtime: str,
    path: Path,
    files: export_file.Files,
    *,
    given: tuple[str, str, list[int | None]],
    made: list[str],
) -> RunningNetwork:
    """Return a network of an export.

    Args:
      runtime: the format of the export, a name in `export_file.ENDINGS`.
      path: of its files, without their endings.
      files: the files.
      given: as `RunningNetwork.given`.
      made: as `RunningNetwork.made`.

    Raises:
      ValueError: what runs this format is not installed or cannot use the files, or the network has
        another input or other outputs; names the file.
    """
    file, name = f"{path}{export_file.ENDINGS[runtime][0]}", _NAMES[runtime]
    try:
        module = importlib.import_module(f"{__name__}.{_MODULES[runtime]}")
    except ImportError as error:
        raise ValueError(
            f"{file} is run by {name}, which cannot be imported: {error}. Install it: pip install "
            f"'dr_tfx[{_EXTRAS.get(runtime, runtime)}]', or export the run in another format"
        ) from error
    try:
        found: RunningNetwork = module.load(files)
    except Exception as error:  # They raise many kinds, some of them bare.
        why = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise ValueError(f"{file} cannot be used by {name}: {why}") from error
    fits = found.given[:2] == given[:2] and len(found.given[2]) == len(given[2])
    sides = zip(found.given[2], given[2], strict=False)
    if not fits or found.made != made or not all(want in (None, side) for side, want in sides):
        raise ValueError(
            f"{file} is another network than {export_file.EXPORT_FILE} says: it makes "
            f"{found.made} of {found.given}; expected {made} of {given}"
        )
    return found
