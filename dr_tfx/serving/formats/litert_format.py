"""LiteRT files (https://ai.google.dev/edge/litert), which phones run; they take one photograph."""

import itertools
import tempfile
from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf

from dr_tfx.machine import error_lines
from dr_tfx.models import export_file
from dr_tfx.serving.formats import TracedNetwork, saved_model_format

RESAMPLES = False
QUANTIZES = export_file.QUANTIZED
LIBRARIES = ("tensorflow",)


@tf.RegisterGradient("DrTfxRelu")
def _of_relu(operation: tf.Operation, gradient: tf.Tensor) -> tf.Tensor:
    """Pass a gradient where the output is above 0, in words that LiteRT has."""
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


_GRADIENTS = {"Relu": "DrTfxRelu", "Relu6": "DrTfxRelu6", "Cumprod": "DrTfxCumprod"}


def write(
    network: TracedNetwork, quantize: str = "", pictures: np.ndarray | None = None
) -> export_file.Files:
    """Return the file of a network; see `formats`."""
    spec = network.spec
    one = tf.TensorSpec((1, *spec.shape[1:]), spec.dtype, name=spec.name)

    def examples() -> Iterator[dict[str, np.ndarray]]:
        assert pictures is not None
        for picture in pictures:
            yield {spec.name: picture[np.newaxis]}

    with tempfile.TemporaryDirectory() as folder:
        saved_model_format.save(TracedNetwork(_plain(network), one), folder)
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if quantize:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if quantize == "int8":
            converter.representative_dataset = examples
        with error_lines.dropped((".*",)):  # What is wrong is raised, and the rest is statistics.
            return {".tflite": converter.convert()}


def _plain(network: TracedNetwork) -> Callable[[tf.Tensor], dict[str, tf.Tensor]]:
    """Return the function of a network, whose gradients are said in operations of LiteRT."""

    def function(given: tf.Tensor) -> dict[str, tf.Tensor]:
        graph = tf.compat.v1.get_default_graph()
        with graph.gradient_override_map(_GRADIENTS):
            return network.function(given)

    return function
