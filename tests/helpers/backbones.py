"""Backbones that are traced in no time, for tests of training: `small`, `small_norm`."""

import keras

from dr_tfx.models import network


def _small(*, include_top, weights, input_tensor):
    x = keras.layers.Conv2D(8, 3, strides=4, activation="relu")(input_tensor)
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x)


def _small_norm(*, include_top, weights, input_tensor):
    # Without a bias: in front of a BatchNorm it learns nothing but rounding.
    x = keras.layers.Conv2D(8, 3, strides=4, use_bias=False)(input_tensor)
    x = keras.layers.Activation("relu")(keras.layers.BatchNormalization()(x))
    return keras.Model(keras.utils.get_source_inputs(input_tensor), x)


network.BACKBONES["small"] = (_small, 1 / 127.5, -1.0)
network.BACKBONES["small_norm"] = (_small_norm, 1 / 127.5, -1.0)
