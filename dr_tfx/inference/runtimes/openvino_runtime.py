"""Files of OpenVINO (https://docs.openvino.ai), run on the CPU.

Where the CPU has bfloat16, OpenVINO computes in it unless it is told not to, which moves scores.
"""

from collections.abc import Sequence

import numpy as np
import openvino

from dr_tfx.inference.runtimes import RunningNetwork
from dr_tfx.models import export_file


def load(files: export_file.Files) -> RunningNetwork:
    """Return the network of a pair of files."""
    core = openvino.Core()
    model = core.read_model(model=files[".xml"], weights=files[".bin"])
    compiled = core.compile_model(model, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    (given,) = compiled.inputs
    places = {output.any_name: output for output in compiled.outputs}
    shape = [None if side.is_dynamic else side.get_length() for side in given.partial_shape]
    request = compiled.create_infer_request()

    def run(array: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
        found = request.infer({0: array})
        return [np.array(found[places[name]]) for name in names]

    dtype = np.dtype(given.element_type.to_dtype()).name
    return RunningNetwork((given.any_name, dtype, shape), sorted(places), run)
