"""The numbers of a network as bytes of the format safetensors, the same for Keras 2 and 3.

The file holds arrays and nothing else: no graph, no layer and no code, so that whoever wrote it
decides the values of weights and nothing more. https://github.com/huggingface/safetensors
"""

from collections.abc import Iterator
from typing import Any

import keras
import numpy as np
import safetensors
import safetensors.numpy

_MOST_HEADER = 1 << 20  # Bytes of the list of arrays; MobileNetV2's has 24,000.


def to_bytes(model: keras.Model) -> bytes:
    """Return the weights of a flat model: `<layer>/<place>`, the place among the layer's own."""
    arrays = {name: np.ascontiguousarray(variable.numpy()) for name, variable in _named(model)}
    found: bytes = safetensors.numpy.save(arrays)
    return found


def fill(model: keras.Model, data: bytes, *, part: bool = False) -> None:
    """Give a flat model the weights of `to_bytes`.

    Args:
      model: a model of the same settings.
      data: at most as much as may be in memory twice.
      part: whether the model may be a part of what was saved, as the backbone is of a network.

    Raises:
      ValueError: the bytes are no such file, its arrays are not those of the model, or a number
        is not finite.
    """
    if int.from_bytes(data[:8], "little") > _MOST_HEADER:
        raise ValueError("it is no file of weights: its header is too long")
    try:
        arrays = safetensors.numpy.load(data)
    except (safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"it is no file of weights: {error}") from error
    variables = dict(_named(model))
    strange = sorted(set(variables) - set(arrays) if part else set(arrays) ^ set(variables))
    if strange:
        raise ValueError(
            f"it does not fit the network of the settings: {strange[0][:100]!r} is only in "
            f"{'the file' if strange[0] in arrays else 'the network'}"
        )
    for name, variable in variables.items():
        array, shape = arrays[name], tuple(variable.shape)
        if array.shape != shape or array.dtype != np.float32:
            raise ValueError(
                f"it does not fit the network of the settings: {name!r} is {array.dtype} "
                f"{array.shape}; expected float32 {shape}"
            )
        if not np.isfinite(array).all():
            raise ValueError(f"{name!r} has values that are not finite: the training diverged")
    for name, variable in variables.items():
        variable.assign(arrays[name])


def _named(model: keras.Model) -> Iterator[tuple[str, Any]]:
    for layer in model.layers:
        for place, variable in enumerate(layer.weights):
            yield f"{layer.name}/{place}", variable
