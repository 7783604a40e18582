"""ONNX files, run by ONNX Runtime (https://onnxruntime.ai), which is given no library of others."""

from collections.abc import Sequence

import numpy as np
import onnxruntime

from dr_tfx.inference.runtimes import RunningNetwork
from dr_tfx.models import export_file

_DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32"}


def load(files: export_file.Files) -> RunningNetwork:
    """Return the network of an ONNX file, on the CPU."""
    (data,) = (data for ending, data in files.items() if ending.endswith(".onnx"))
    session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = [side if isinstance(side, int) else None for side in given.shape]

    def run(array: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
        found: list[np.ndarray] = session.run(list(names), {given.name: array})
        return found

    made = sorted(one.name for one in session.get_outputs())
    return RunningNetwork((given.name, _DTYPES.get(given.type, given.type), shape), made, run)
