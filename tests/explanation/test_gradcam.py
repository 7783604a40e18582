"""Grad-CAM against arithmetic done by hand, and on models as the bundle has them."""

import keras
import numpy as np
import pytest
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.explanation import gradcam
from dr_tfx.models import last_features, network
from tests.helpers import shallow

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


def first_logit(logits):
    return logits[:, 0]


def heat_maps(model, method="gradcam"):
    return gradcam.HeatMaps(model, explained=first_logit, method=method)


def maps_of(model, images, method="gradcam"):
    return heat_maps(model, method)(images)[0]


class ByHand:
    """The tiny model in float64 from its weights alone, and its maps from the papers' formulas.

    With z the logit, w its weights and F the average over h x w places: z = F w + b, so that
    dz / dA_k = w_k / (h w) at every place and dp / dA_k = p (1 - p) w_k / (h w).
    """

    def __init__(self, model):
        self.kernel, self.bias, self.head, self.offset = (
            w.astype(np.float64) for w in model.get_weights()
        )

    def features(self, images):
        padded = np.pad(images / 255.0, ((0, 0), (1, 1), (1, 1), (0, 0)))
        windows = np.lib.stride_tricks.sliding_window_view(padded, (3, 3), axis=(1, 2))
        return np.maximum(np.einsum("nhwcij,ijck->nhwk", windows, self.kernel) + self.bias, 0)

    def logit(self, images):
        return (self.features(images).mean(axis=(1, 2)) @ self.head + self.offset)[:, 0]

    def gradcam(self, images):
        features = self.features(images)
        p = 1 / (1 + np.exp(-self.logit(images)))
        gradient = np.multiply.outer(p * (1 - p), self.head[:, 0]) / SIZE**2
        return scaled(np.einsum("nhwk,nk->nhw", features, gradient))

    hirescam = gradcam  # The gradient is the same at every place: its mean is itself.

    def gradcam_plus_plus(self, images):
        """Equation 19: alpha = g^2 / (2 g^2 + (sum over places of A) g^3)."""
        maps = []
        for features in self.features(images):
            total = np.zeros(features.shape[:2])
            for k in range(features.shape[-1]):
                g = self.head[k, 0] / SIZE**2
                alpha = g**2 / (2 * g**2 + features[..., k].sum() * g**3)
                total += SIZE**2 * alpha * max(g, 0) * features[..., k]
            maps.append(total)
        return scaled(np.stack(maps))

    def occlusion(self, images):
        """Squares of 2/16 of the side around the middles of a grid of 16 x 16."""
        lost = np.zeros((len(images), 16, 16))
        middles = (np.arange(16) + 0.5) * SIZE / 16
        near = [np.abs(np.arange(SIZE) + 0.5 - middle) < SIZE / 16 for middle in middles]
        for row, column in np.ndindex(16, 16):
            hidden = images.astype(np.float64)
            for image, whole in zip(hidden, images, strict=True):
                image[np.ix_(near[row], near[column])] = whole.mean(axis=(0, 1))
            lost[:, row, column] = self.logit(images) - self.logit(hidden)
        return scaled(lost)


def scaled(maps):
    maps = np.maximum(maps, 0)
    return maps / maps.max(axis=(1, 2), keepdims=True)


@pytest.mark.parametrize("method", specs.METHODS)
def test_equals_the_derivation_by_hand(images, method):
    model = tiny_model()
    by_hand = ByHand(model)
    maps, output = heat_maps(model, method)(images)
    assert maps.dtype == np.float32 and len(maps) == 5
    expected = getattr(by_hand, method.replace("++", "_plus_plus"))(images)
    np.testing.assert_allclose(maps, expected, atol=1e-4)
    np.testing.assert_allclose(output[:, 0], 1 / (1 + np.exp(-by_hand.logit(images))), atol=1e-6)


def nonlinear_model(*, units=1, seed=1):
    """With layers of the published head after the convolution: maps of the methods differ."""
    keras.utils.set_random_seed(seed)
    inputs = keras.Input((SIZE, SIZE, 3))
    x = keras.layers.Rescaling(1 / 255)(inputs)
    x = keras.layers.Conv2D(6, 3, strides=2, padding="same", name="features")(x)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.ReLU(6.0)(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    x = keras.layers.Dropout(0.5)(keras.layers.Dense(8, activation="relu")(x))
    activation = "sigmoid" if units == 1 else "softmax"
    model = keras.Model(inputs, keras.layers.Dense(units, activation=activation)(x))
    rng = np.random.default_rng(seed)
    # The kernels too, for Keras 2 draws others than Keras 3.
    model.set_weights(
        [
            rng.uniform(-0.3, 0.5, w.shape) if w.ndim > 1 else w + rng.uniform(0, 0.5, w.shape)
            for w in model.get_weights()
        ]
    )
    return model


def published(model, layer, image):
    """The recipe's function: one photograph, the probability's gradient on a tape, eager."""
    grad_model = keras.Model(model.inputs, [model.get_layer(layer).output, model.output])
    with tf.GradientTape() as tape:
        features, prediction = grad_model([image[np.newaxis].astype(np.float32)])
        probability = prediction[:, 0]
    pooled = tf.reduce_mean(tape.gradient(probability, features), axis=(0, 1, 2))
    heatmap = tf.maximum(tf.squeeze(features[0] @ pooled[..., tf.newaxis]), 0)
    return (heatmap / tf.reduce_max(heatmap)).numpy()


def test_the_default_is_the_published_recipes_map(images):
    model = nonlinear_model()
    maps = maps_of(model, images)
    expected = np.stack([published(model, "features", image) for image in images])
    # The published function divides 0 by 0 where nothing raises the score.
    raised = np.isfinite(expected).all(axis=(1, 2))
    assert raised.any() and expected[raised].std() > 0.05 and not maps[~raised].any()
    np.testing.assert_allclose(maps[raised], expected[raised], atol=1e-4)


@pytest.mark.parametrize("method", specs.METHODS)
def test_a_batch_equals_one_by_one_and_traces_once(images, method):
    explain = heat_maps(nonlinear_model(), method)
    singly = np.concatenate([explain(image[None])[0] for image in images])
    np.testing.assert_allclose(explain(images)[0], singly, atol=1e-4)
    np.testing.assert_allclose(explain(images.astype(np.float32))[0], singly, atol=1e-4)
    assert explain._heatmaps.experimental_get_tracing_count() == 1


@pytest.mark.parametrize("method", specs.METHODS)
def test_a_flipped_image_has_the_flipped_map(images, method):
    """With symmetric kernels, so that the features are flipped, too; exact but for rounding."""
    model = tiny_model()
    kernel, *rest = model.get_weights()
    model.set_weights([kernel + kernel[:, ::-1], *rest])
    explain = heat_maps(model, method)
    flipped = explain(images[:, :, ::-1])[0][:, :, ::-1]
    np.testing.assert_allclose(flipped, explain(images)[0], atol=1e-4)


@pytest.fixture(scope="module")
def trained():
    """A model of red spots, images with one, and its middles; every image has a blue one, too."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 40, (64, SIZE, SIZE, 3)).astype(np.uint8)
    reds = rng.integers(1, SIZE - 1, (64, 2))
    blues = (reds + rng.integers(4, SIZE - 4, reds.shape) - 1) % (SIZE - 2) + 1
    for channel, spots, step in ((2, blues, 1), (0, reds, 2)):
        for image, (row, column) in zip(images[::step], spots[::step], strict=True):
            image[row - 1 : row + 2, column - 1 : column + 2, channel] = 250
    model = tiny_model(filters=8)
    model.compile(keras.optimizers.Adam(0.05), "binary_crossentropy", jit_compile=False)
    model.fit(images, np.arange(64) % 2 == 0, epochs=15, verbose=0)
    assert np.array_equal(model.predict(images, verbose=0)[:, 0] > 0.5, np.arange(64) % 2 == 0)
    return model, images[::2], reds[::2]


def hits(maps, spots):
    """Share of the maps whose peak is on the spot, which is 3 pixels wide."""
    peaks = np.stack([np.unravel_index(m.argmax(), m.shape) for m in maps])
    peaks = (peaks + 0.5) * SIZE / maps.shape[1] - 0.5  # In pixels: occlusion has a grid.
    return np.mean(np.abs(peaks - spots).max(axis=1) < 1.5)


@pytest.mark.parametrize("method", specs.METHODS)
def test_the_peak_lies_on_the_spot_that_counts(trained, method):
    model, images, reds = trained
    assert hits(maps_of(model, images, method), reds) == 1


@pytest.mark.parametrize("method", specs.METHODS)
def test_another_head_has_other_maps(images, method):
    """Adebayo et al., "Sanity Checks for Saliency Maps", NeurIPS 2018: the head is randomised."""
    model, pairs = nonlinear_model(), []
    trunk, rng = model.get_weights()[:-4], np.random.default_rng(0)
    before = maps_of(model, images, method)
    for _ in range(4):
        head = [rng.normal(size=w.shape) for w in model.get_weights()[-4:]]
        model.set_weights([*trunk, *head])
        pairs += zip(before, maps_of(model, images, method), strict=True)
    assert all(np.abs(a - b).max() > 0.01 for a, b in pairs)
    if method != "gradcam++":  # It adds features up, whatever the head makes of them: all alike.
        seen = [np.corrcoef(a.ravel(), b.ravel())[0, 1] for a, b in pairs if b.any()]
        assert len(seen) > 8 and np.median(seen) < 0.5


@pytest.mark.parametrize("method", specs.METHODS)
def test_a_map_without_evidence_is_zero(images, method):
    model = tiny_model()
    kernel, bias, head, offset = model.get_weights()
    model.set_weights([np.abs(kernel), bias, -np.abs(head), offset])
    darkest = np.zeros_like(images) if method == "occlusion" else images
    assert not maps_of(model, darkest, method).any()


def test_a_probability_of_one_still_has_its_map(images):
    """Its gradient is exactly 0 in float32; the logit's is not."""
    model = tiny_model()
    expected = maps_of(model, images)
    model.set_weights([*model.get_weights()[:3], np.array([40.0], np.float32)])
    maps, output = heat_maps(model)(images)
    assert (output == 1).all()
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_one_of_several_classes_is_explained(images):
    """Any number of units: the score is whatever the head says."""
    model = nonlinear_model(units=3)

    def third(logits):
        return logits[:, 2]

    maps, output = gradcam.HeatMaps(model, explained=third)(images)
    assert output.shape == (5, 3)
    last = model.get_weights()[-2][:, 2]
    single = nonlinear_model()
    single.set_weights(
        [*model.get_weights()[:-2], last[:, np.newaxis], model.get_weights()[-1][2:]]
    )
    np.testing.assert_allclose(maps, maps_of(single, images), atol=1e-5)
    with pytest.raises(ValueError, match=r"one number per image.*\(None, 3\)"):
        gradcam.HeatMaps(model, explained=tf.identity)


LAYERS = {
    "MobileNetV2": "Conv_1",
    "ResNet50": "conv5_block2_add",  # The sum, which its last activation follows.
    "ResNet50V2": "conv5_block2_out",  # The sum: a shortcut leads around the last convolution.
    "EfficientNetV2B0": "top_conv",
    "MobileNetV3Large": "conv_1",
}


# Backbones of the tests' own may be registered besides. EfficientNetV2S and B1 to B3 are larger
# B0s, and tests/models/test_published.py has a small ConvNeXt.
OURS = [name for name, one in network.BACKBONES.items() if one.file]
LARGER = [f"EfficientNetV2{size}" for size in ("B1", "B2", "B3", "S")]
OURS = [name for name in OURS if name not in (*LARGER, "ConvNeXtTiny")]


@pytest.mark.parametrize(
    ("backbone", "finer"), [*((name, ()) for name in OURS), ("ResNet50V2", (2, 4))]
)
def test_every_backbone_is_explained_after_reload(backbone, finer, rng, monkeypatch):
    """From its description: a file of the weights as well takes Keras 2 half a minute to read.

    Those that can be had so have fewer of the same blocks.
    """
    shallow.make_shallow(monkeypatch)
    model = {"backbone": backbone, "weights": "none", "hidden": [8], "dropout": [0.2, 0.2]}
    config = {
        "dataset": {"recipe": {"size": 64}},
        "model": {**model, "finer_features": finer},
    }
    experiment = tasks.from_config(config)
    built = network.build(experiment)
    loaded = keras.models.model_from_json(built.to_json())
    loaded.set_weights(built.get_weights())
    assert last_features.layer(loaded).name == ("all_features" if finer else LAYERS[backbone])
    explained = tasks.of(experiment).model.explained
    images = rng.integers(0, 256, (2, 64, 64, 3)).astype(np.uint8)
    maps, output = gradcam.HeatMaps(loaded, explained=explained)(images)
    assert maps.shape == (2, 2, 2) and maps.dtype == np.float32 and output.shape == (2, 1)


def test_mixed_precision_keeps_small_gradients(images):
    """A score that hangs on each feature by less than float16 can hold still has its map."""
    weights = nonlinear_model().get_weights()
    weights[-2] = weights[-2] * 1e-9
    reference = nonlinear_model()
    reference.set_weights(weights)
    for policy in ("mixed_float16", "mixed_bfloat16"):
        keras.mixed_precision.set_global_policy(policy)
        try:
            mixed = nonlinear_model()
        finally:
            keras.mixed_precision.set_global_policy("float32")
        mixed.set_weights(weights)
        maps = maps_of(mixed, images)
        assert maps.dtype == np.float32
        np.testing.assert_allclose(maps, maps_of(reference, images), atol=0.05)


def test_refuses_models_it_cannot_explain(images):
    inputs = keras.Input((SIZE, SIZE, 3))
    features = keras.layers.Flatten()(inputs)
    with pytest.raises(ValueError, match="no Conv2D"):
        heat_maps(keras.Model(inputs, keras.layers.Dense(1)(features)))
    with pytest.raises(ValueError, match=r"'gradcan'; expected one of gradcam, gradcam\+\+"):
        heat_maps(tiny_model(), "gradcan")


def test_methods_are_those_of_the_settings():
    assert tuple(gradcam.METHODS) == specs.METHODS
