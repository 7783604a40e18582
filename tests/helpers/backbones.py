"""Backbones that are quickly traced, for tests: `small`, `small_norm`, `tiny` and others."""

import keras

from dr_tfx.models import network


def _small(*, include_top, weights, input_tensor):
    x = keras.layers.Conv2D(8, 3, strides=4, activation="relu", name="conv")(input_tensor)
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x)


def _small_norm(*, include_top, weights, input_tensor):
    # Without a bias: in front of a BatchNorm it learns nothing but rounding.
    x = keras.layers.Conv2D(8, 3, strides=4, use_bias=False, name="conv")(input_tensor)
    x = keras.layers.Activation("relu")(keras.layers.BatchNormalization(name="norm")(x))
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x)


def _tiny(*, include_top, weights, input_tensor):
    conv = keras.layers.Conv2D(4, 3, strides=8, padding="same", activation="relu", name="conv")
    return keras.Model(keras.utils.get_source_inputs(input_tensor), conv(input_tensor))


def _green(*, include_top, weights, input_tensor):
    """Return what has one feature, which a test makes the green of the photograph."""
    conv = keras.layers.Conv2D(1, 1, name="green")
    return keras.Model(keras.utils.get_source_inputs(input_tensor), conv(input_tensor))


TINY, GREEN = "tiny", "green"
network.BACKBONES[TINY] = network.Backbone(_tiny, 1 / 255, 0.0)
network.BACKBONES[GREEN] = network.Backbone(_green, 1.0, 0.0)


def _halving(*, include_top, weights, input_tensor):
    """Return features of all, half and a quarter of the places, of which maps can be made."""
    x = input_tensor
    for block, width in enumerate((4, 8, 16)):
        x = keras.layers.MaxPooling2D(name=f"pool_{block}")(x) if block else x
        same = {"padding": "same", "use_bias": False, "name": f"conv_{block}"}
        x = keras.layers.Conv2D(width, 3, **same)(x)
        x = keras.layers.BatchNormalization(name=f"norm_{block}")(x)
        x = keras.layers.ReLU(name=f"relu_{block}")(x)
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x)


def _huge(*, include_top, weights, input_tensor):
    x = keras.layers.Conv2D(1, 3, strides=4)(input_tensor)
    x = keras.layers.UpSampling2D((2**20, 2**20))(x)  # More than a process can address.
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x)


network.BACKBONES["small"] = network.Backbone(_small, 1 / 127.5, -1.0)
network.BACKBONES["small_norm"] = network.Backbone(_small_norm, 1 / 127.5, -1.0)
network.BACKBONES["halving"] = network.Backbone(_halving, 1 / 127.5, -1.0, stride=4)
network.BACKBONES["huge"] = network.Backbone(_huge, 1 / 127.5, -1.0)
