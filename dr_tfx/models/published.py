"""Published backbones that Keras lacks, or names otherwise in one release than in another.

A bundle stores the numbers of a layer by its name, heat maps need layers that are not nested, and
`model.keras` has to load where nothing but Keras is. So these are networks of the same numbers in
the same order as the published ones, with layers and names of our own.
"""

from typing import Any

import keras

# Stages of EfficientNet-Lite0: blocks, stride of the first, kernel, widening, and channels.
_STAGES = (
    (1, 1, 3, 1, 16),
    (2, 2, 3, 6, 24),
    (2, 2, 5, 6, 40),
    (3, 2, 3, 6, 80),
    (3, 1, 5, 6, 112),
    (4, 2, 5, 6, 192),
    (1, 1, 3, 6, 320),
)
_DEPTHS, _WIDTHS = (3, 3, 9, 3), (96, 192, 384, 768)  # Of ConvNeXt-Tiny: blocks and channels.
_SMALL = {"epsilon": 1e-6}  # What LayerNormalization adds to a variance.


def mobilenet_v3_large(
    *, include_top: bool, weights: str | None, input_tensor: Any = None, input_shape: Any = None
) -> keras.Model:
    """Return MobileNetV3-Large with the names that Keras 3 has for its layers.

    Howard et al., "Searching for MobileNetV3", ICCV 2019, https://arxiv.org/abs/1905.02244. It
    scales pixels 0..255 itself.

    Args:
      include_top: must be False; there is no head.
      weights: None or `imagenet`.
      input_tensor: pixels, a Keras tensor.
      input_shape: (height, width, 3), in place of `input_tensor`.
    """
    model = keras.applications.MobileNetV3Large(
        include_top=include_top, weights=weights, input_tensor=input_tensor, input_shape=input_shape
    )
    for layer in model.layers:
        if layer.weights:
            layer._name = layer.name.replace("/BatchNorm", "_bn").replace("/", "_").lower()
    return model


def convnext_tiny(
    *, include_top: bool, weights: None, input_tensor: Any = None, input_shape: Any = None
) -> keras.Model:
    """Return ConvNeXt-Tiny as one flat model.

    Liu et al., "A ConvNet for the 2020s", CVPR 2022, https://arxiv.org/abs/2201.03545. Its dense
    layers are convolutions of one pixel, which heat maps reach, and so is the factor of each
    channel, of which Keras makes a layer that Keras 2 cannot load.

    Args:
      include_top: must be False; there is no head.
      weights: must be None; those of `keras.applications.ConvNeXtTiny` fit in their order.
      input_tensor: scaled pixels, a Keras tensor.
      input_shape: (height, width, 3), in place of `input_tensor`.
    """
    del include_top, weights
    layers = keras.layers
    x = keras.Input(input_shape) if input_tensor is None else input_tensor
    inputs = x if input_tensor is None else keras.utils.get_source_inputs(x)
    for stage, (depth, width) in enumerate(zip(_DEPTHS, _WIDTHS, strict=True)):
        if stage:
            x = layers.LayerNormalization(**_SMALL, name=f"downsampling_{stage}_norm")(x)
            x = layers.Conv2D(width, 2, strides=2, name=f"downsampling_{stage}_conv")(x)
        else:
            x = layers.Conv2D(width, 4, strides=4, name="stem_conv")(x)
            x = layers.LayerNormalization(**_SMALL, name="stem_norm")(x)
        for number in range(depth):
            x = _block(x, width, name=f"stage_{stage}_block_{number}")
    return keras.Model(inputs, layers.LayerNormalization(**_SMALL, name="last_norm")(x))


def _block(x: Any, width: int, *, name: str) -> Any:
    """Return a block of ConvNeXt: what it adds begins at a millionth."""
    layers = keras.layers
    y = layers.DepthwiseConv2D(7, padding="same", name=f"{name}_depthwise")(x)
    y = layers.LayerNormalization(**_SMALL, name=f"{name}_norm")(y)
    y = layers.Conv2D(4 * width, 1, activation="gelu", name=f"{name}_wide")(y)
    y = layers.Conv2D(width, 1, name=f"{name}_narrow")(y)
    factor = keras.initializers.Constant(1e-6)
    y = layers.DepthwiseConv2D(
        1, use_bias=False, depthwise_initializer=factor, name=f"{name}_scale"
    )(y)
    return layers.Add(name=f"{name}_sum")([x, y])


def efficientnet_lite0(
    *, include_top: bool, weights: None, input_tensor: Any = None, input_shape: Any = None
) -> keras.Model:
    """Return EfficientNet-Lite0: an EfficientNet without what is hard to quantise.

    Tan and Le, "EfficientNet", ICML 2019, https://arxiv.org/abs/1905.11946; the variant is that of
    https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite. It has no
    squeezing and excitation, and its activations end at 6.

    Args:
      include_top: must be False; there is no head.
      weights: must be None; `benchmarks.training.lite0` makes a file of the published ones.
      input_tensor: scaled pixels, a Keras tensor.
      input_shape: (height, width, 3), in place of `input_tensor`.
    """
    del include_top, weights
    layers = keras.layers
    x = keras.Input(input_shape) if input_tensor is None else input_tensor
    inputs = x if input_tensor is None else keras.utils.get_source_inputs(x)

    def normed(x: Any, layer: keras.layers.Layer, *, ends: bool = True) -> Any:
        """Return what a convolution and its BatchNorm make of features, cut at 0 and 6."""
        x = layers.BatchNormalization(epsilon=1e-3, name=f"{layer.name}_norm")(layer(x))
        return layers.ReLU(6.0, name=f"{layer.name}_relu")(x) if ends else x

    def conv(width: int, kernel: int, name: str, strides: int = 1) -> keras.layers.Layer:
        same = {"padding": "same", "use_bias": False}
        return layers.Conv2D(width, kernel, strides=strides, **same, name=name)

    x, number = normed(x, conv(32, 3, "stem", 2)), 0
    for blocks, stride, kernel, widening, width in _STAGES:
        for block in range(blocks):
            name, strides, before = f"block_{number}", 1 if block else stride, x
            if widening > 1:
                x = normed(x, conv(widening * x.shape[-1], 1, f"{name}_wide"))
            same = {"padding": "same", "use_bias": False, "name": f"{name}_depthwise"}
            x = normed(x, layers.DepthwiseConv2D(kernel, strides=strides, **same))
            x = normed(x, conv(width, 1, f"{name}_narrow"), ends=False)
            if block:
                x = layers.Add(name=f"{name}_sum")([before, x])
            number += 1
    return keras.Model(inputs, normed(x, conv(1280, 1, "last")), name="efficientnet_lite0")
