"""The formats of exports: one module for each, which is imported when it is asked for.

Each of them has

    RESAMPLES     whether views that resample a photograph can be said in the format
    QUANTIZES     what the format can be quantised to, names in `export_file.QUANTIZED`
    LIBRARIES     the packages that wrote it, by the names of their modules
    write(network, quantize="", pictures=None)
                  from a `TracedNetwork` to its files, by the endings of their names

    beside(networks)
                  from the files of both networks, by the names of these, to other files that the
                  format needs, by their names; a format may lack it

where `pictures` are photographs of the training, uint8 RGB (n, size, size, 3), which tell `int8`
the ranges of the network's numbers.
"""

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import NamedTuple

import tensorflow as tf

from dr_tfx.models import export_file


class TracedNetwork(NamedTuple):
    """What an export's network computes.

    Attributes:
      function: from a tensor to tensors by name.
      spec: of the tensor: its name, its dtype and its shape, whose first number may be None.
    """

    function: Callable[[tf.Tensor], dict[str, tf.Tensor]]
    spec: tf.TensorSpec


def of(name: str, quantize: str = "") -> ModuleType:
    """Return the module of a format.

    Args:
      name: one of `export_file.ENDINGS`.
      quantize: what it is going to be quantised to.

    Raises:
      ValueError: there is no such format, what writes it is not installed, or it cannot be
        quantised like this.
    """
    if name not in export_file.ENDINGS:
        known = ", ".join(export_file.ENDINGS)
        raise ValueError(f"the format is {name!r}; expected one of {known}")
    try:
        found = importlib.import_module(f"{__name__}.{name}_format")
    except ImportError as error:
        extra = f"export,{name}" if name == "openvino" else "export"
        raise ValueError(
            f"the format {name} cannot be written: {error}. Type: pip install 'dr_tfx[{extra}]'"
        ) from error
    if quantize and quantize not in found.QUANTIZES:
        able = f"expected {' or '.join(found.QUANTIZES)}" if found.QUANTIZES else "it stays float32"
        raise ValueError(
            f"the format {name} cannot be quantised to {quantize!r}: {able}. Choose another "
            "format, such as onnx or litert, or leave out --quantize"
        )
    return found


def beside(module: ModuleType, networks: Mapping[str, export_file.Files]) -> Mapping[str, bytes]:
    """Return the files that a format needs besides those of the networks, by their names."""
    found: Mapping[str, bytes] = module.beside(networks) if hasattr(module, "beside") else {}
    return found


def versions(module: ModuleType) -> dict[str, str]:
    """Return the versions of dr_tfx, and of the packages that wrote a format."""
    return {n: str(sys.modules[n].__version__) for n in ("dr_tfx", *module.LIBRARIES)}
