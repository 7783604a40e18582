"""A SavedModel, run by TensorFlow.

A SavedModel is a program: its graph may read and write files. Nobody's is to be loaded who is not
trusted. (https://github.com/tensorflow/tensorflow/blob/master/SECURITY.md)
"""

import tempfile
from collections.abc import Sequence

import numpy as np

from dr_tfx.inference.runtimes import RunningNetwork
from dr_tfx.machine import tensorflow_start
from dr_tfx.models import export_file
from dr_tfx.storage import files as storage

tensorflow_start.load()
import tensorflow as tf  # noqa: E402  # It speaks when it is loaded.


def load(files: export_file.Files) -> RunningNetwork:
    """Return the network of a folder, of which TensorFlow is given a copy."""
    with tempfile.TemporaryDirectory() as folder:
        for ending, data in files.items():
            storage.write(folder + ending, data)
        loaded = tf.saved_model.load(folder)
    key = tf.saved_model.DEFAULT_SERVING_SIGNATURE_DEF_KEY
    signature = loaded.signatures[key]
    ((name, given),) = signature.structured_input_signature[1].items()

    def run(array: np.ndarray, names: Sequence[str]) -> list[np.ndarray]:
        found = loaded.signatures[key](**{name: tf.constant(array)})
        return [found[output].numpy() for output in names]

    made = sorted(signature.structured_outputs)
    return RunningNetwork((name, given.dtype.name, given.shape.as_list()), made, run)
