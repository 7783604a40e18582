"""A SavedModel, TensorFlow's own folder, for TensorFlow Serving and programs with TensorFlow."""

import tempfile
from pathlib import Path

import numpy as np
import tensorflow as tf

from dr_tfx.models import export_file
from dr_tfx.serving.formats import TracedNetwork

RESAMPLES = True
QUANTIZES: tuple[str, ...] = ()
LIBRARIES = ("tensorflow",)


def write(
    network: TracedNetwork, quantize: str = "", pictures: np.ndarray | None = None
) -> export_file.Files:
    """Return the files of a network; see `formats`."""
    del quantize, pictures
    with tempfile.TemporaryDirectory() as folder:
        save(network, folder)
        endings = export_file.ENDINGS["saved_model"]
        return {ending: Path(folder + ending).read_bytes() for ending in endings}


def save(network: TracedNetwork, folder: str) -> None:
    """Save a network into a folder, with one signature, of TensorFlow's own name for it."""
    module = tf.Module()
    traced = tf.function(network.function, input_signature=[network.spec], autograph=False)
    concrete = traced.get_concrete_function()
    module.weights_of_network = concrete.graph.variables
    module.run = traced
    # The network is used as it is, and not trained: its gradients are not kept.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, folder, signatures=concrete, options=options)
