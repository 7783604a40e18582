"""Scores and maps of a bundle over the views of test-time augmentation."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from dr_tfx import tasks
from dr_tfx.explanation import explainer, gradcam
from dr_tfx.inference import scoring
from dr_tfx.models import bundles
from tests.helpers import datasets
from tests.helpers.bundled import make_bundle

SIZE = 16
VIEWS = ("identity", "left_right", "rotate_90", "brighter")


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    """An untrained model whose maps are no mirror images of themselves, after reload."""
    folder = tmp_path_factory.mktemp("bundle")
    experiment = datasets.experiment(size=SIZE)
    evaluation = dataclasses.replace(experiment.evaluation, views=VIEWS, combine="logit")
    experiment = dataclasses.replace(experiment, evaluation=evaluation)
    data = datasets.write(folder / "data", experiment.dataset)
    return bundles.load(make_bundle(folder / "run", experiment, data))


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(1).integers(0, 256, (3, SIZE, SIZE, 3)).astype(np.uint8)


@pytest.fixture(scope="module")
def plain(bundle):
    """Maps of pictures as they are, and their probabilities."""
    return gradcam.HeatMaps(bundle.model, explained=tasks.of(bundle.experiment).model.explained)


def seen(images):
    """What the views show, from NumPy alone."""
    brighter = np.minimum(images * np.float32(1.1), 255)
    return images, images[:, :, ::-1], np.rot90(images, axes=(1, 2)), brighter


@pytest.mark.parametrize("average_views", [False, True])
def test_what_passes_the_network_at_once_changes_nothing(
    bundle, images, average_views, monkeypatch
):
    whole = explainer.Explainer(bundle, average_views=average_views)
    monkeypatch.setattr(explainer, "PIXELS", 2 * SIZE**2)
    pieces = explainer.Explainer(bundle, average_views=average_views)
    assert whole.at_once >= 3 and pieces.at_once == 2
    for found, expected in zip(pieces(images), whole(images), strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("average_views", [False, True])
def test_scores_are_those_of_prediction(bundle, images, plain, average_views):
    _, table = explainer.Explainer(bundle, average_views=average_views)(images)
    assert table["score"].dtype == np.float64 and len(table) == 3
    views = np.concatenate([plain(view)[1] for view in seen(images)], axis=1).astype(float)
    logits = np.log(views / (1 - views)).mean(axis=1)
    np.testing.assert_allclose(table["score"], 1 / (1 + np.exp(-logits)), atol=1e-6)
    outputs = scoring.view_scorer(bundle)(images).numpy()
    predicted = pd.DataFrame(bundle.kind.scores.columns(outputs))
    pd.testing.assert_frame_equal(table, predicted, atol=1e-6)


def test_maps_are_of_the_image_as_it_is(bundle, images, plain):
    np.testing.assert_allclose(explainer.Explainer(bundle)(images)[0], plain(images)[0], atol=1e-6)


def test_maps_of_views_are_turned_back_and_averaged(bundle, images, plain):
    as_it_is, mirrored, turned, brighter = (plain(view)[0] for view in seen(images))
    total = as_it_is + mirrored[:, :, ::-1] + np.rot90(turned, -1, axes=(1, 2)) + brighter
    maps, _ = explainer.Explainer(bundle, average_views=True)(images)
    np.testing.assert_allclose(maps, total / total.max(axis=(1, 2), keepdims=True), atol=1e-5)
    assert np.abs(maps - as_it_is).max() > 0.05


def test_maps_that_are_not_finite_are_refused_where_the_score_is(bundle, images):
    """Weights that overflow float32 for a bright picture leave a score of 1 and no map."""
    before = bundle.model.get_weights()
    bundle.model.set_weights([np.full_like(weight, 1e30) for weight in before])
    try:
        with pytest.raises(ValueError, match="heat maps that are not finite: its training diver"):
            explainer.Explainer(bundle)(images[:1])
    finally:
        bundle.model.set_weights(before)


def test_every_method_has_a_title(bundle):
    titles = [explainer.Explainer(bundle, method).title for method in gradcam.METHODS]
    averaged = explainer.Explainer(bundle, average_views=True).title
    assert averaged == "Grad-CAM, mean of 4 views"
    assert titles == ["Grad-CAM", "Grad-CAM++", "HiResCAM", "Occlusion"]
