"""A model repository of Triton Inference Server: the export's folder itself is one.

    model/        config.pbtxt, 1/model.onnx     a network with dynamic batching and a warm-up
    heatmap/      config.pbtxt, 1/model.onnx
    photographs/  config.pbtxt, 1/model.py       the bytes of photographs to answers

The networks are those of ONNX. (https://docs.nvidia.com/deeplearning/triton-inference-server)
"""

from collections.abc import Mapping

import numpy as np
import onnx

from dr_tfx.inference import exported
from dr_tfx.models import export_file
from dr_tfx.serving.formats import TracedNetwork, onnx_format

RESAMPLES = onnx_format.RESAMPLES
QUANTIZES = onnx_format.QUANTIZES
LIBRARIES = onnx_format.LIBRARIES
_TYPES = {onnx.TensorProto.UINT8: "TYPE_UINT8", onnx.TensorProto.FLOAT: "TYPE_FP32"}
(_NETWORK,) = export_file.ENDINGS["triton"]
_DELAY = 2000  # Microseconds that a request may wait for others to share its batch.
_AT_ONCE = 32  # Photographs of a request to `photographs`.

_PHOTOGRAPHS = f"""\
# The bytes of photographs become answers, as drtfx-predict gives them. Python needs dr_tfx[onnx].
name: "photographs"
backend: "python"
max_batch_size: {_AT_ONCE}
input [ {{ name: "photograph", data_type: TYPE_STRING, dims: [ 1 ] }} ]
output [ {{ name: "answer", data_type: TYPE_STRING, dims: [ 1 ] }} ]
dynamic_batching {{ max_queue_delay_microseconds: {_DELAY} }}
instance_group [ {{ count: 1, kind: KIND_CPU }} ]
# The model that reads the prepared pictures; "" lets this one do it by itself, for a server without
# the backend of ONNX Runtime.
parameters {{ key: "network", value: {{ string_value: "{export_file.MODEL}" }} }}
"""
_BATCHES = """\
dynamic_batching {{ max_queue_delay_microseconds: {delay} }}
model_warmup [ {{
  name: "black"
  batch_size: 1
  inputs {{ key: "{name}", value: {{ {tensor}, zero_data: true }} }}
}} ]
"""
_CODE = '''\
"""What Triton runs for the model `photographs`."""

from dr_tfx.serving.triton_backend import TritonPythonModel

__all__ = ["TritonPythonModel"]
'''


def write(
    network: TracedNetwork, quantize: str = "", pictures: np.ndarray | None = None
) -> export_file.Files:
    """Return the files of a network; see `formats`."""
    return {_NETWORK: onnx_format.write(network, quantize, pictures)[".onnx"]}


def beside(networks: Mapping[str, export_file.Files]) -> Mapping[str, bytes]:
    """Return the settings of all models, and the one that takes photographs, by file names."""
    texts = {
        f"{name}/config.pbtxt": _config(onnx.load_from_string(files[_NETWORK]).graph)
        for name, files in networks.items()
    }
    *_, config, code = export_file.OF_TRITON
    texts |= {config: _PHOTOGRAPHS, code: _CODE}
    return {name: text.encode() for name, text in texts.items()}


def _config(graph: onnx.GraphProto) -> str:
    """Return what Triton is told of a network.

    One whose first number is any takes batches, of as many photographs as `ExportedModel` gives it.
    """
    (given,) = graph.input
    name, batch, at_once = export_file.HEATMAP_MAKER, "", 0
    if not _sides(given)[0]:
        name, made = export_file.MODEL, {one.name: _sides(one) for one in graph.output}
        views = made[export_file.OUTPUTS][1] if export_file.FEATURES in made else 1
        at_once = exported.most_at_once(_sides(given)[1], views)
        batch = _BATCHES.format(delay=_DELAY, name=given.name, tensor=_tensor(given, batched=True))
    outputs = ", ".join(_named(one, batched=bool(at_once)) for one in graph.output)
    return (
        f'name: "{name}"\nbackend: "onnxruntime"\nmax_batch_size: {at_once}\n'
        f"input [ {_named(given, batched=bool(at_once))} ]\noutput [ {outputs} ]\n{batch}"
    )


def _named(value: onnx.ValueInfoProto, *, batched: bool) -> str:
    return f'{{ name: "{value.name}", {_tensor(value, batched=batched)} }}'


def _tensor(value: onnx.ValueInfoProto, *, batched: bool) -> str:
    """Return type and shape, without the number of photographs of a network that takes batches."""
    sides = ", ".join(str(side or -1) for side in _sides(value)[batched:])
    return f"data_type: {_TYPES[value.type.tensor_type.elem_type]}, dims: [ {sides} ]"


def _sides(value: onnx.ValueInfoProto) -> list[int]:
    """Return the shape of a tensor; 0 is any number."""
    return [side.dim_value for side in value.type.tensor_type.shape.dim]
