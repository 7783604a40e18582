"""Gradients of a heat map in operations that formats have, in place of those that they lack."""

import itertools
from collections.abc import Callable, Mapping

import tensorflow as tf

from dr_tfx.serving.formats import TracedNetwork

POOLED = {"MaxPool": "DrTfxMaxPool"}
"""What neither ONNX nor LiteRT has. It is an argument of `said`, as is the next."""
OF_LITERT = {
    **POOLED,
    "Relu": "DrTfxRelu",
    "Relu6": "DrTfxRelu6",
    "Cumprod": "DrTfxCumprod",
}
"""What LiteRT lacks."""


def said(
    network: TracedNetwork, others: Mapping[str, str]
) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Return the function of a network whose gradients are others.

    Args:
      network: the network.
      others: the names of gradients that are registered here, by the operations that they are of.
    """

    def function(given: tf.Tensor) -> dict[str, tf.Tensor]:
        graph = tf.compat.v1.get_default_graph()
        with graph.gradient_override_map(dict(others)):
            return network.function(given)

    return function


@tf.RegisterGradient("DrTfxRelu")
def _of_relu(operation: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
    """Pass a gradient where the output is above 0."""
    return tf.where(operation.outputs[0] > 0, gradient, 0.0)


@tf.RegisterGradient("DrTfxRelu6")
def _of_relu6(operation: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
    output = operation.outputs[0]
    return tf.where((output > 0) & (output < 6), gradient, 0.0)


@tf.RegisterGradient("DrTfxCumprod")
def _of_products(operation: tf.Operation, gradient: tf.Tensor) -> tuple[tf.Tensor, None]:
    """Return the gradient of products of the first columns, (n, columns), without a cumprod."""
    given = operation.inputs[0]
    products = tf.stack([*itertools.accumulate(tf.unstack(given, axis=1), tf.multiply)], axis=1)
    behind = tf.cumsum(gradient * products, axis=1, reverse=True)
    return tf.math.divide_no_nan(behind, given), None


@tf.RegisterGradient("DrTfxMaxPool")
def _of_pooling(operation: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
    """Pass the gradient of each square to its largest number; several that are equal all get it.

    Raises:
      ValueError: the squares overlap, or there is a border around them.
    """
    (given,), (output,) = operation.inputs, operation.outputs
    _, *window, _ = operation.get_attr("ksize")
    if window != operation.get_attr("strides")[1:3] or operation.get_attr("padding") != b"VALID":
        raise ValueError(
            f"the gradient of the pooling {operation.name!r} can only be exported where its "
            "squares lie side by side. Take another backbone"
        )
    sides = [int(side) for side in given.shape[1:3]]
    covered = [place * size for place, size in zip(output.shape[1:3], window, strict=True)]
    rest = [(0, side - part) for side, part in zip(sides, covered, strict=True)]

    def spread(x: tf.Tensor) -> tf.Tensor:
        large = tf.compat.v1.image.resize_nearest_neighbor(x, covered)
        return tf.pad(large, [(0, 0), *rest, (0, 0)])

    return tf.where(given == spread(output), spread(gradient), 0.0)
