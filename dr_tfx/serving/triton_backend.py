"""The model `photographs` of Triton: the bytes of photographs become answers, in Triton's Python.

Triton makes a `TritonPythonModel` for each instance and gives it requests, each with several
photographs, which read the network together. It needs what the extra `onnx` installs, and no
TensorFlow. (https://github.com/triton-inference-server/python_backend)
"""

import importlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dr_tfx.inference import exported, photographs
from dr_tfx.inference.runtimes import RunningNetwork
from dr_tfx.models import export_file
from dr_tfx.preprocessing import recipes

PHOTOGRAPH, ANSWER = "photograph", "answer"
_NETWORK = "network"  # The parameter that names the model of the network.


class TritonPythonModel:
    """Reads photographs; the name is Triton's."""

    def initialize(self, args: Mapping[str, str]) -> None:
        """Load the export in whose folder this model lies."""
        # There is such a module inside of Triton alone.
        self._triton: Any = importlib.import_module("triton_python_backend_utils")
        found = export_file.read(Path(args["model_repository"]).parent)
        parameters = json.loads(args["model_config"])["parameters"]
        name = parameters.get(_NETWORK, {}).get("string_value", "")
        network = self._of_triton(name) if name else None
        self._read = photographs.PhotographReader(exported.of(found, network=network))
        # Neighbouring slices are looked for in one request, and not in those of others.
        self._is_alone = recipes.takes_neighbours(found.experiment.dataset.recipe)

    def execute(self, requests: Sequence[Any]) -> list[Any]:
        """Answer requests; an answer is JSON for each photograph.

        It has what `drtfx-predict` tells, and `rejected`, a reason or "".
        """
        given = [
            self._triton.get_input_tensor_by_name(request, PHOTOGRAPH).as_numpy()
            for request in requests
        ]
        data = [one for array in given for one in array.reshape(-1)]
        groups = [list(array.reshape(-1)) for array in given] if self._is_alone else [data]
        answers = iter([_told(read) for some in groups for read in self._read(some)])
        responses = []
        for array in given:
            told = np.array([next(answers) for _ in range(array.size)], np.object_)
            tensor = self._triton.Tensor(ANSWER, told.reshape(array.shape))
            responses.append(self._triton.InferenceResponse([tensor]))
        return responses

    def _of_triton(self, name: str) -> RunningNetwork:
        """Return the network as a model of the same server, where it has batches and GPUs."""

        def run(array: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
            tensor = self._triton.Tensor(export_file.PHOTOGRAPHS, array)
            response = self._triton.InferenceRequest(
                model_name=name,
                requested_output_names=list(names),
                inputs=[tensor],
                preferred_memory=self._triton.PreferredMemory(self._triton.TRITONSERVER_MEMORY_CPU),
            ).exec()
            if response.has_error():
                raise RuntimeError(f"the model {name!r}: {response.error().message()}")
            return [
                self._triton.get_output_tensor_by_name(response, output).as_numpy()
                for output in names
            ]

        return RunningNetwork((export_file.PHOTOGRAPHS, "uint8", []), [], run)


def _told(read: photographs.ReadPhotograph) -> bytes:
    answer = read.reading.answer if read.reading else {}
    told = {**answer, "rejected": read.rejected, "ungradable": read.ungradable}
    return json.dumps(told, ensure_ascii=False).encode()
