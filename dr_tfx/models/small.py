"""Small backbones without pre-trained weights: for small pictures, and for maps."""

from collections.abc import Sequence
from typing import Any

import keras

_WIDTHS = (32, 64, 128)  # Of two convolutions each.
# Width and padding of two convolutions each. A padding of 2 makes a picture two pixels larger.
_PLAIN = (((16, 1), (16, 1)), ((32, 1), (32, 2)), ((64, 1), (16, 1)))
_UNET_WIDTHS = (16, 32, 64, 128, 256)  # A quarter of those of the publication.


def six_convolutions(
    *, include_top: bool, weights: str | None, input_tensor: Any = None, input_shape: Any = None
) -> keras.Model:
    """Return six convolutions of 3x3, each with BatchNorm and ReLU, and two poolings.

    A picture of 28 pixels has 7 places a side at the end.

    Args:
      include_top: must be False; there is no head.
      weights: must be None; there are none.
      input_tensor: pixels, a Keras tensor.
      input_shape: (height, width, 3), in place of `input_tensor`.

    Raises:
      ValueError: weights are asked for.
    """
    _require_neither("SixConvolutions", include_top, weights)
    return _convolutions(_WIDTHS, input_tensor, input_shape)


def unet_encoder(
    *, include_top: bool, weights: str | None, input_tensor: Any = None, input_shape: Any = None
) -> keras.Model:
    """Return the first half of a U-Net: ten convolutions as above, and four poolings.

    Ronneberger et al., "U-Net", MICCAI 2015 (https://arxiv.org/abs/1505.04597), with a quarter of
    the channels, BatchNorm, and borders that keep the size. The arguments and the error are those
    of `six_convolutions`.
    """
    _require_neither("UNetEncoder", include_top, weights)
    return _convolutions(_UNET_WIDTHS, input_tensor, input_shape)


def _convolutions(widths: Sequence[int], input_tensor: Any, input_shape: Any) -> keras.Model:
    """Return two convolutions of each width, with a pooling between one width and the next."""
    x = keras.Input(input_shape) if input_tensor is None else input_tensor
    inputs = x if input_tensor is None else keras.utils.get_source_inputs(x)
    for block, width in enumerate(widths):
        if block:
            x = keras.layers.MaxPooling2D(name=f"pool_{block}")(x)
        for half in "ab":
            name = f"{block + 1}{half}"
            x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"conv_{name}")(
                x
            )
            x = keras.layers.BatchNormalization(name=f"norm_{name}")(x)
            x = keras.layers.ReLU(name=f"relu_{name}")(x)
    return keras.Model(inputs, x, name="convolutions")


def plain_convolutions(
    *, include_top: bool, weights: str | None, input_tensor: Any = None, input_shape: Any = None
) -> keras.Model:
    """Return six convolutions of 3x3 with ReLU, a pooling after every second, and no BatchNorm.

    A picture of 64 pixels has 8 places a side at the end. Weights begin as by He et al. (2015). It
    is a published network for comparison.

    Args:
      include_top: must be False; there is no head.
      weights: must be None; there are none.
      input_tensor: pixels, a Keras tensor.
      input_shape: (height, width, 3), in place of `input_tensor`.

    Raises:
      ValueError: weights are asked for.
    """
    _require_neither("PlainConvolutions", include_top, weights)
    x = keras.Input(input_shape) if input_tensor is None else input_tensor
    inputs = x if input_tensor is None else keras.utils.get_source_inputs(x)
    layers = keras.layers
    for block, halves in enumerate(_PLAIN, start=1):
        for half, (width, padding) in zip("ab", halves, strict=True):
            name = f"{block}{half}"
            x = layers.ZeroPadding2D(padding, name=f"pad_{name}")(x)
            x = layers.Conv2D(width, 3, kernel_initializer="he_normal", name=f"conv_{name}")(x)
            x = layers.ReLU(name=f"relu_{name}")(x)
        x = layers.MaxPooling2D(name=f"pool_{block}")(x)
    return keras.Model(inputs, x, name="plain_convolutions")


def _require_neither(name: str, include_top: bool, weights: str | None) -> None:
    if include_top or weights is not None:
        raise ValueError(f"there are no pre-trained weights of {name}")
