"""Operations in ONNX that tf2onnx does not know by itself, most of them of a heat map's gradient.

A handler takes tf2onnx's graph, the node that it is to put into words of ONNX, the node's name, and
arguments that are not used here.
"""

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
import tf2onnx


def _say(
    nodes: Callable[..., str],
) -> tuple[Callable[[Any, Any, str, Any], None], list[Any]]:
    """Return a handler of tf2onnx for an operation.

    Args:
      nodes: makes the nodes that stand for it; takes tf2onnx's graph, and the names of the inputs,
        such as a gradient and the operation's own output, and returns the name of the result.
    """

    def handler(graph: Any, node: Any, name: str, args: Any) -> None:
        del name, args
        inputs = list(node.input)
        dtype, shape = graph.get_dtype(node.output[0]), graph.get_shape(node.output[0])
        graph.remove_node(node.name)
        found = nodes(graph, *inputs)
        graph.make_node(
            "Identity", [found], outputs=node.output, name=node.name, dtypes=[dtype], shapes=[shape]
        )

    return handler, []


def _passed(graph: Any, gradient: str, values: str, *, below: float = np.inf) -> str:
    """Pass a gradient where the values are above 0 and below a limit."""
    zero, limit = (_constant(graph, number) for number in (0.0, below))
    above = graph.make_node("Greater", [values, zero]).output[0]
    under = graph.make_node("Less", [values, limit]).output[0]
    inside = graph.make_node("And", [above, under]).output[0]
    return str(graph.make_node("Where", [inside, gradient, zero]).output[0])


def _of_sigmoid(graph: Any, values: str, gradient: str) -> str:
    """Multiply a gradient by y (1 - y)."""
    rest = graph.make_node("Sub", [_constant(graph, 1.0), values]).output[0]
    slope = graph.make_node("Mul", [values, rest]).output[0]
    return str(graph.make_node("Mul", [gradient, slope]).output[0])


def _of_root(graph: Any, values: str, gradient: str) -> str:
    """Multiply a gradient by -y^3 / 2, the slope of y = 1 / sqrt(x)."""
    cube = graph.make_node("Pow", [values, _constant(graph, 3.0)]).output[0]
    slope = graph.make_node("Mul", [cube, _constant(graph, -0.5)]).output[0]
    return str(graph.make_node("Mul", [gradient, slope]).output[0])


def _erfc(graph: Any, values: str) -> str:
    """Subtract the error function from 1."""
    error = graph.make_node("Erf", [values]).output[0]
    return str(graph.make_node("Sub", [_constant(graph, 1.0), error]).output[0])


def _of_softplus(graph: Any, gradient: str, values: str) -> str:
    """Multiply a gradient by the sigmoid of the values."""
    slope = graph.make_node("Sigmoid", [values]).output[0]
    return str(graph.make_node("Mul", [gradient, slope]).output[0])


def _constant(graph: Any, number: float) -> str:
    name = tf2onnx.utils.make_name("number")
    return str(graph.make_const(name, np.array(number, np.float32)).output[0])


def _of_slice(graph: Any, node: Any, name: str, args: Any) -> None:
    """Say TensorFlow's StridedSliceGrad of whole strides: zeros around what was cut out."""
    del name, args
    shape, begin, end, _ = (one.get_tensor_value(as_list=True) for one in node.inputs[:4])
    masks = [node.get_attr_value(f"{which}_mask") for which in ("begin", "end")]
    begin = [0 if masks[0] >> i & 1 else b for i, b in enumerate(begin)]
    end = [
        0 if masks[1] >> i & 1 else (e - side if e > 0 else e)
        for i, (e, side) in enumerate(zip(end, shape, strict=True))
    ]
    pads = np.array([*begin, *(-e for e in end)], np.int64)
    gradient, (output,) = node.input[4], node.output
    dtype, out_shape = graph.get_dtype(output), graph.get_shape(output)
    graph.remove_node(node.name)
    around = graph.make_const(tf2onnx.utils.make_name("pads"), pads).output[0]
    graph.make_node(
        "Pad",
        [gradient, around],
        outputs=[output],
        name=node.name,
        dtypes=[dtype],
        shapes=[out_shape],
    )


def _of_bias(graph: Any, node: Any, name: str, args: Any) -> None:
    """Say TensorFlow's BiasAddGrad: the sum over all but the channels, which come last."""
    del name, args
    (gradient,), (output,) = node.input, node.output
    rank, dtype = len(graph.get_shape(gradient)), graph.get_dtype(output)
    shape = graph.get_shape(output)
    graph.remove_node(node.name)
    axes = np.arange(rank - 1, dtype=np.int64)
    every = graph.make_const(tf2onnx.utils.make_name("axes"), axes).output[0]
    graph.make_node(
        "ReduceSum",
        [gradient, every],
        attr={"keepdims": 0},
        outputs=[output],
        name=node.name,
        dtypes=[dtype],
        shapes=[shape],
    )


HANDLERS = {
    "ReluGrad": _say(_passed),
    "Relu6Grad": _say(functools.partial(_passed, below=6.0)),
    "Erfc": _say(_erfc),  # Of GELU.
    "RsqrtGrad": _say(_of_root),  # Of LayerNormalization.
    "SigmoidGrad": _say(_of_sigmoid),
    "SoftplusGrad": _say(_of_softplus),
    "StridedSliceGrad": (_of_slice, []),
    "BiasAddGrad": (_of_bias, []),  # TensorFlow takes some additions for those of a bias.
}
