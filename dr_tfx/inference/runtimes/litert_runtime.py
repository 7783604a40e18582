"""LiteRT files, run by `ai-edge-litert`, or by the interpreter that TensorFlow brings.

Their input is one photograph. (https://ai.google.dev/edge/litert)
"""

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np

from dr_tfx.inference.runtimes import RunningNetwork
from dr_tfx.machine import error_lines, resources, tensorflow_start
from dr_tfx.models import export_file

try:
    from ai_edge_litert.interpreter import Interpreter
except ImportError:
    tensorflow_start.load()
    import tensorflow as tf

    Interpreter = tf.lite.Interpreter

_NOTICE = r"INFO: Created TensorFlow Lite XNNPACK"


def load(files: export_file.Files) -> RunningNetwork:
    """Return the network of a LiteRT file, on all cores of this process."""
    with warnings.catch_warnings(), error_lines.dropped((_NOTICE,)):
        warnings.filterwarnings("ignore", "(?s).*ai_edge_litert")  # The name of what is used here.
        interpreter = Interpreter(model_content=files[".tflite"], num_threads=resources.cores())
    runner = interpreter.get_signature_runner()
    ((name, given),) = runner.get_input_details().items()
    made = sorted(runner.get_output_details())

    def run(array: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
        found: list[dict[str, Any]] = [runner(**{name: one[np.newaxis]}) for one in array]
        return [np.concatenate([each[output] for each in found]) for output in names]

    shape: list[int | None] = [int(side) for side in given["shape"]]
    return RunningNetwork((name, np.dtype(given["dtype"]).name, shape), made, run)
