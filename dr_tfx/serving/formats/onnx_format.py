"""ONNX files, by tf2onnx (https://github.com/onnx/tensorflow-onnx)."""

import logging
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import tensorflow as tf
import tf2onnx
from onnxruntime import quantization

from dr_tfx.models import export_file
from dr_tfx.serving.formats import TracedNetwork, onnx_gradients, said_gradients

RESAMPLES = False
QUANTIZES = export_file.QUANTIZED
LIBRARIES = ("onnx", "onnxruntime", "tf2onnx")
_OPSET = 17
_FEW = 64  # Numbers of a constant that is not worth a conversion.
_AT_ONCE = 8  # Photographs that calibrate at a time.
_PRODUCTS = ("Conv", "Gemm", "MatMul")
_BOUNDS = ("Clip", "Relu")  # What follows a product is computed with it, within its own range.
_FIRST = 1 / 16  # Of the products, which stay: what they lose is amplified by all others.


def write(
    network: TracedNetwork, quantize: str = "", pictures: np.ndarray | None = None
) -> export_file.Files:
    """Return the file of a network; see `formats`."""
    model = _converted(network)
    if quantize == "float16":
        _store_halves(model.graph)
    if quantize == "int8":
        model = _in_integers(model, network.spec.name, pictures)
    return {".onnx": model.SerializeToString()}


def _converted(network: TracedNetwork) -> onnx.ModelProto:
    """Return a function of one input as ONNX."""
    logging.getLogger("tf2onnx").setLevel(logging.ERROR)
    function = said_gradients.said(network, said_gradients.POOLED)
    traced = tf.function(function, input_signature=[network.spec], autograph=False)
    model, _ = tf2onnx.convert.from_function(
        traced,
        input_signature=[network.spec],
        opset=_OPSET,
        custom_op_handlers=onnx_gradients.HANDLERS,
    )
    _fix_constants(model.graph, traced.get_concrete_function(), network.spec.name)
    return model


def _fix_constants(graph: onnx.GraphProto, traced: Any, own: str) -> None:
    """Store constants of layers, such as those of Normalization, which tf2onnx takes for inputs."""
    values = {inside.name: outside for outside, inside in traced.graph.captures}
    used = {name for node in graph.node for name in node.input}
    for given in [one for one in graph.input if one.name != own]:
        graph.input.remove(given)
        if given.name in used:
            constant = values[given.name].numpy()
            graph.initializer.append(onnx.numpy_helper.from_array(constant, given.name))


def _store_halves(graph: onnx.GraphProto) -> None:
    """Store the weights in float16; they are cast when a program loads them, and not computed in.

    So a weight loses digits, and nothing that is computed does.
    """
    casts = []
    for constant in graph.initializer:
        numbers = onnx.numpy_helper.to_array(constant)
        if numbers.dtype != np.float32 or numbers.size <= _FEW:
            continue
        largest = np.finfo(np.float16).max
        halves = numbers.clip(-largest, largest).astype(np.float16)
        name, stored = constant.name, f"{constant.name}_float16"
        constant.CopyFrom(onnx.numpy_helper.from_array(halves, stored))
        casts.append(onnx.helper.make_node("Cast", [stored], [name], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)


class _Pictures(quantization.CalibrationDataReader):
    """Gives photographs to ONNX Runtime, a few at a time."""

    def __init__(self, name: str, pictures: np.ndarray):
        self._batches: Iterator[dict[str, np.ndarray]] = (
            {name: pictures[i : i + _AT_ONCE]} for i in range(0, len(pictures), _AT_ONCE)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self._batches, None)


def _in_integers(model: onnx.ModelProto, given: str, pictures: np.ndarray | None) -> Any:
    """Return a network whose products are of integers of 8 bits.

    Weights have 7 bits, because the processors of before 2019 add products of 8 bits in 16.
    """
    assert pictures is not None
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        quantization.shape_inference.quant_pre_process(path, path, skip_symbolic_shape=True)
        graph = onnx.load(path).graph
        quantization.quantize_static(
            path,
            path,
            _Pictures(given, pictures),
            op_types_to_quantize=[*_PRODUCTS, *_BOUNDS],
            per_channel=True,
            reduce_range=True,
            nodes_to_exclude=[*_first(graph), *_of_pooled(graph)],
        )
        return onnx.load(path)


def _first(graph: onnx.GraphProto) -> list[str]:
    """Return the first products, which read the picture and few features."""
    products = [node.name for node in graph.node if node.op_type in _PRODUCTS]
    return products[: int(_FIRST * len(products))]


def _of_pooled(graph: onnx.GraphProto) -> list[str]:
    """Return the products of pooled features: they cost next to nothing, and make the score."""
    flat = {value.name for value in graph.value_info if len(value.type.tensor_type.shape.dim) == 2}
    return [n.name for n in graph.node if n.op_type in _PRODUCTS and n.input[0] in flat]
