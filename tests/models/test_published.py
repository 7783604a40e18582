"""The ConvNeXt that is ours in its layers computes what Keras' own does, and loads anywhere."""

import importlib
import math

import keras
import numpy as np
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.explanation import gradcam
from dr_tfx.models import last_features, network, published

CONVNEXT = importlib.import_module("keras.src.applications.convnext")
DEPTHS, WIDTHS = (1, 2, 1, 1), (8, 16, 24, 32)


def test_a_small_convnext_is_that_of_keras_and_is_explained_after_reload(monkeypatch, tmp_path):
    rng = np.random.default_rng(0)
    tiny = CONVNEXT.MODEL_CONFIGS["tiny"]
    assert (tiny["depths"], tiny["projection_dims"]) == (
        list(published._DEPTHS),
        list(published._WIDTHS),
    )

    def of_keras(**others):
        return CONVNEXT.ConvNeXt(DEPTHS, WIDTHS, **others)

    monkeypatch.setattr(published, "_DEPTHS", DEPTHS)
    monkeypatch.setattr(published, "_WIDTHS", WIDTHS)
    ours = network.BACKBONES["ConvNeXtTiny"]
    monkeypatch.setitem(network.BACKBONES, "ConvNeXtTiny", ours._replace(of_keras=of_keras))

    donor = of_keras(include_top=False, weights=None, input_shape=(64, 64, 3))
    drawn = [x + rng.normal(scale=0.2, size=x.shape) for x in donor.get_weights()]
    donor.set_weights(drawn)  # Among them the factors, which begin at a millionth.
    donor.save_weights(tmp_path / "donor.weights.h5")
    experiment = tasks.from_config(
        {
            "dataset": {"recipe": {"size": 64}},
            "model": {"backbone": "ConvNeXtTiny", "weights": str(tmp_path / "donor.weights.h5")},
        }
    )
    model = network.build(experiment)
    images = rng.integers(0, 256, (2, 64, 64, 3)).astype(np.float32)
    features = keras.Model(model.inputs, model.get_layer(network.POOLING).input)
    expected = donor(images).numpy()  # It takes off ImageNet's mean itself.
    assert expected.std() > 0.5
    np.testing.assert_allclose(features(images), expected, atol=1e-4)

    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras", compile=False)
    assert last_features.layer(loaded).name == "stage_3_block_0_sum"
    np.testing.assert_allclose(loaded(images), model(images), atol=1e-6)
    explained = tasks.of(experiment).model.explained
    maps, _ = gradcam.HeatMaps(loaded, explained=explained)(images)
    assert maps.shape == (2, 2, 2) and maps.any()


def test_efficientnet_lite0_computes_what_was_published():
    """By TensorFlow's operations, from the table of the publication and the weights in order."""
    rng = np.random.default_rng(0)
    model = published.efficientnet_lite0(include_top=False, weights=None, input_shape=(32, 32, 3))
    learn = sum(math.prod(weight.shape) for weight in model.trainable_weights)
    assert learn == 4_652_008 - 1000 * (1280 + 1)  # Without the published head.
    drawn = [  # Kernels are drawn as they are made.
        weight if weight.ndim > 1 else weight + rng.uniform(-0.3, 0.3, weight.shape)
        for weight in model.get_weights()
    ]
    drawn = [weight.astype(np.float32) for weight in drawn]
    model.set_weights(drawn)
    weights, images = iter(drawn), rng.uniform(-1, 1, (2, 32, 32, 3)).astype(np.float32)

    def normed(x):
        gamma, beta, mean, variance = (next(weights) for _ in range(4))
        return (x - mean) / np.sqrt(variance + 1e-3) * gamma + beta

    def conv(x, stride=1):
        return normed(tf.nn.conv2d(x, next(weights), stride, "SAME"))

    def depthwise(x, stride):
        return normed(tf.nn.depthwise_conv2d(x, next(weights), [1, stride, stride, 1], "SAME"))

    x = tf.nn.relu6(conv(images, 2))
    # t, c, n, s as in the table of the publication, the widths of Lite0.
    for t, c, n, s in (
        *((1, 16, 1, 1), (6, 24, 2, 2), (6, 40, 2, 2), (6, 80, 3, 2)),
        *((6, 112, 3, 1), (6, 192, 4, 2), (6, 320, 1, 1)),
    ):
        for number in range(n):
            y = x if t == 1 else tf.nn.relu6(conv(x))
            y = conv(tf.nn.relu6(depthwise(y, 1 if number else s)))
            assert y.shape[-1] == c
            x = x + y if number else y
    expected = tf.nn.relu6(conv(x)).numpy()
    assert expected.std() > 0.1
    np.testing.assert_allclose(model(images), expected, rtol=1e-3, atol=1e-3)
