"""The ConvNeXt that is ours in its layers computes what Keras' own does, and loads anywhere."""

import importlib

import keras
import numpy as np

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
