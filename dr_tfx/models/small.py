"""A backbone for small pictures, without pre-trained weights."""

from typing import Any

import keras

_WIDTHS = (32, 64, 128)  # Of two convolutions each.


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
    if include_top or weights is not None:
        raise ValueError("there are no pre-trained weights of SixConvolutions")
    x = keras.Input(input_shape) if input_tensor is None else input_tensor
    inputs = x if input_tensor is None else keras.utils.get_source_inputs(x)
    for block, width in enumerate(_WIDTHS):
        if block:
            x = keras.layers.MaxPooling2D(name=f"pool_{block}")(x)
        for half in "ab":
            name = f"{block + 1}{half}"
            x = keras.layers.Conv2D(width, 3, padding="same", use_bias=False, name=f"conv_{name}")(
                x
            )
            x = keras.layers.BatchNormalization(name=f"norm_{name}")(x)
            x = keras.layers.ReLU(name=f"relu_{name}")(x)
    return keras.Model(inputs, x, name="six_convolutions")
