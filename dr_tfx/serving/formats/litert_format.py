"""LiteRT files (https://ai.google.dev/edge/litert), which phones run; they take one photograph."""

import tempfile
from collections.abc import Iterator

import numpy as np
import tensorflow as tf

from dr_tfx.machine import error_lines
from dr_tfx.models import export_file
from dr_tfx.serving.formats import TracedNetwork, said_gradients, saved_model_format

RESAMPLES = False
QUANTIZES = export_file.QUANTIZED
LIBRARIES = ("tensorflow",)


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
        saved_model_format.save(
            TracedNetwork(said_gradients.said(network, said_gradients.OF_LITERT), one), folder
        )
        converter = tf.lite.TFLiteConverter.from_saved_model(folder)
        if quantize:
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if quantize == "float16":
            converter.target_spec.supported_types = [tf.float16]
        if quantize == "int8":
            converter.representative_dataset = examples
        with error_lines.dropped((".*",)):  # What is wrong is raised, and the rest is statistics.
            return {".tflite": converter.convert()}
