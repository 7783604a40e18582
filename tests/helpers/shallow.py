"""Published backbones with fewer of their blocks, which tests build and trace in less time."""

import importlib

import pytest

_RESNET, _EFFICIENTNET = (
    importlib.import_module(f"keras.src.applications.{name}")
    for name in ("resnet", "efficientnet_v2")
)
_STACKS = ("stack1", "stack2", "stack_residual_blocks_v1", "stack_residual_blocks_v2")


def make_shallow(patch: pytest.MonkeyPatch) -> None:
    """Leave ResNets two blocks in each stage, and EfficientNetV2 one, but two in the last.

    They keep each kind of layer and each way through a block.
    """

    def two_blocks(stack):
        return lambda x, filters, blocks, **others: stack(x, filters, 2, **others)

    for name in _STACKS:
        if hasattr(_RESNET, name):  # Keras 2 has two of the names, and Keras 3 the others.
            patch.setattr(_RESNET, name, two_blocks(getattr(_RESNET, name)))
    for name, (*stages, last) in _EFFICIENTNET.DEFAULT_BLOCKS_ARGS.items():
        fewer = [*(stage | {"num_repeat": 1} for stage in stages), last | {"num_repeat": 2}]
        patch.setitem(_EFFICIENTNET.DEFAULT_BLOCKS_ARGS, name, fewer)
