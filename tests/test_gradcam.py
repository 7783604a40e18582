"""Grad-CAM against arithmetic done by hand, and on models as the bundle has them."""

import keras
import numpy as np
import pytest

from dr_tfx import gradcam

SIZE = 12


@pytest.fixture
def rng():
    return np.random.default_rng(0)


@pytest.fixture
def images(rng):
    return rng.integers(0, 256, (5, SIZE, SIZE, 3)).astype(np.uint8)


def tiny_model(*, filters=4, kernel=3, seed=1):
    """Rescaling -> convolution -> average -> probability, flat, with random weights."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(filters, kernel, padding="same", activation="relu")(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    outputs = keras.layers.Dense(1, activation="sigmoid", dtype="float32")(x)
    return keras.Model(inputs, outputs)


def by_hand(model, images):
    """The maps from the weights alone, in float64: dp / dA_k = w_k p (1 - p) / (h w)."""
    kernel, _, head, offset = (w.astype(np.float64) for w in model.get_weights())
    padded = np.pad(images / 255.0, ((0, 0), (1, 1), (1, 1), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
    features = np.maximum(np.einsum("nhwcij,ijck->nhwk", windows, kernel), 0)
    p = 1 / (1 + np.exp(-(features.mean(axis=(1, 2)) @ head + offset)))
    gradient = head[:, 0] * p * (1 - p) / (SIZE * SIZE)
    maps = np.maximum(np.einsum("nhwk,nk->nhw", features, gradient), 0)
    return maps / maps.max(axis=(1, 2), keepdims=True)


def test_equals_the_derivation_by_hand(images):
    model = tiny_model()
    maps = gradcam.GradCam(model)(images)
    assert maps.dtype == np.float32 and maps.shape == (5, SIZE, SIZE)
    np.testing.assert_allclose(maps, by_hand(model, images), atol=1e-4)
    np.testing.assert_allclose(maps.max(axis=(1, 2)), 1)


def test_a_batch_equals_one_by_one_and_traces_once(images):
    explain = gradcam.GradCam(tiny_model())
    singly = np.concatenate([explain(image[None]) for image in images])
    np.testing.assert_allclose(explain(images), singly, atol=1e-5)
    np.testing.assert_allclose(explain(images.astype(np.float32)), singly, atol=1e-5)
    assert explain._heatmaps.experimental_get_tracing_count() == 1


def test_a_flipped_image_has_the_flipped_map(images):
    model = tiny_model()
    kernel, *rest = model.get_weights()
    model.set_weights([kernel + kernel[:, ::-1], *rest])
    explain = gradcam.GradCam(model)
    np.testing.assert_allclose(explain(images[:, :, ::-1]), explain(images)[:, :, ::-1], atol=1e-4)


def test_the_peak_lies_on_the_bright_spot(rng):
    """After training on spot or no spot, anywhere, the map points at the spot."""
    images = rng.integers(0, 40, (64, SIZE, SIZE, 3)).astype(np.uint8)
    spots = rng.integers(1, SIZE - 1, (64, 2))
    for image, (row, column) in zip(images[::2], spots[::2], strict=True):
        image[row - 1 : row + 2, column - 1 : column + 2] = 250
    model = tiny_model(filters=8)
    model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy")
    model.fit(images, np.arange(64) % 2 == 0, epochs=15, verbose=0)
    assert np.array_equal(model.predict(images, verbose=0)[:, 0] > 0.5, np.arange(64) % 2 == 0)
    maps = gradcam.GradCam(model)(images[::2])
    peaks = np.stack([np.unravel_index(m.argmax(), m.shape) for m in maps])
    assert np.abs(peaks - spots[::2]).max() <= 1


def test_a_map_without_evidence_is_zero(images):
    model = tiny_model()
    kernel, bias, head, offset = model.get_weights()
    model.set_weights([kernel, bias, -np.abs(head), offset])
    assert not gradcam.GradCam(model)(images).any()


def test_survives_save_and_load(images, tmp_path):
    model = tiny_model()
    model.save(tmp_path / "model.keras")
    loaded = keras.models.load_model(tmp_path / "model.keras")
    np.testing.assert_allclose(gradcam.GradCam(loaded)(images), gradcam.GradCam(model)(images))


def test_mixed_precision_gives_float32_even_for_sure_scores(images):
    reference = tiny_model()
    kernel, bias, head, _ = reference.get_weights()
    reference.set_weights([kernel, bias, head, np.array([9.0], np.float32)])  # p = .9999
    keras.mixed_precision.set_global_policy("mixed_float16")
    try:
        mixed = tiny_model()
    finally:
        keras.mixed_precision.set_global_policy("float32")
    mixed.set_weights(reference.get_weights())
    maps = gradcam.GradCam(mixed)(images)
    assert maps.dtype == np.float32
    np.testing.assert_allclose(maps, gradcam.GradCam(reference)(images), atol=0.02)


def test_finds_the_references_layer_in_mobilenet():
    backbone = keras.applications.MobileNetV2(
        input_tensor=keras.Input((96, 96, 3)), include_top=False, weights=None
    )
    x = keras.layers.GlobalAveragePooling2D()(backbone.output)
    outputs = keras.layers.Dense(1, activation="sigmoid")(x)
    model = keras.Model(backbone.input, outputs)
    assert gradcam.last_convolution(model).name == "Conv_1"
    assert gradcam.GradCam(model)(np.zeros((2, 96, 96, 3), np.uint8)).shape == (2, 3, 3)


def test_refuses_models_it_cannot_explain():
    inputs = keras.Input((SIZE, SIZE, 3))
    features = keras.layers.Flatten()(inputs)
    with pytest.raises(ValueError, match="no Conv2D"):
        gradcam.GradCam(keras.Model(inputs, keras.layers.Dense(1)(features)))
    with pytest.raises(ValueError, match=r"\(None, 3\)"):
        gradcam.GradCam(keras.Model(inputs, keras.layers.Dense(3)(features)))


def test_upsampling_keeps_range_and_place():
    heatmap = np.zeros((3, 3), np.float32)
    heatmap[0, 2] = 1
    large = gradcam.upsample(heatmap, 30, 60)
    assert large.shape == (30, 60) and large.min() == 0 and large.max() == 1
    assert large[:10, 40:].mean() > 0.5 and not large[20:].any()


def test_overlay_is_the_tutorials(rng):
    rgb = rng.integers(0, 256, (24, 24, 3)).astype(np.uint8)
    heatmap = rng.random((24, 24)).astype(np.float32)
    mixed = 0.4 * gradcam.colorize(heatmap) + rgb
    expected = np.asarray(keras.utils.array_to_img(mixed))
    np.testing.assert_allclose(gradcam.overlay(rgb, heatmap).astype(int), expected, atol=1)
    black = np.zeros((24, 24, 3), np.uint8)
    assert gradcam.overlay(black, np.zeros((3, 3), np.float32)).shape == (24, 24, 3)
    red, blue = gradcam.colorize(np.array([[1.0, 0.0]]))[0]
    assert red[0] > red[2] and blue[2] > blue[0]
