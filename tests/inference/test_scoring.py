"""Scores of batches and of a split over the views of test-time augmentation."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from dr_tfx.inference import scoring
from dr_tfx.models import bundles
from tests.helpers import datasets

VIEWS = ("identity", "rotate_90", "brighter")


@pytest.fixture
def bundle():
    """A model whose probability is the red of the upper left corner."""

    def corner(pixels, training):
        assert training is False
        return pixels[:, 0, :1, 0] / 255

    experiment = datasets.experiment()
    evaluation = dataclasses.replace(experiment.evaluation, views=VIEWS, batch_size=4)
    experiment = dataclasses.replace(experiment, evaluation=evaluation)
    return bundles.Bundle(
        folder=Path("run"),
        model=corner,
        experiment=experiment,
        manifest=None,
        fitted=None,
        best_epoch=1,
        precision="float32",
        libraries={},
    )


def noise():
    return np.random.default_rng(2).integers(0, 256, (2, 32, 32, 3), np.uint8)


def corners(images):
    """The red that each view shows in its upper left corner, float64 (n, views)."""
    red = images[..., 0].astype(np.float64)
    return np.stack([red[:, 0, 0], red[:, 0, -1], np.minimum(red[:, 0, 0] * 1.1, 255)], axis=1)


def test_the_scorer_shows_the_model_every_view_in_turn(bundle):
    outputs = scoring.view_scorer(bundle)(tf.constant(noise())).numpy()
    assert outputs.dtype == np.float64 and outputs.shape == (2, 3, 1)
    assert np.allclose(outputs[..., 0], corners(noise()) / 255, atol=1e-6)


def test_what_maps_explain_is_combined_over_the_views(bundle):
    found = scoring.explained_scorer(bundle)(noise())
    assert np.allclose(found, corners(noise()).mean(axis=1) / 255, atol=1e-6)


def test_a_split_is_a_table_in_order_of_what_record_and_model_tell(bundle, tmp_path):
    data = datasets.write(
        tmp_path,
        bundle.experiment.dataset,
        features=lambda n: {"label/level": 2 - n % 3, "photograph/bytes": 5 * n},
    )
    score = scoring.view_scorer(bundle)
    table = scoring.stream(bundle, score, tmp_path, data=data, split="validation")
    numbers = np.arange(33, 44)
    assert table["id"].tolist() == [f"n{n}" for n in numbers]
    assert table["patient"].tolist() == [f"p{n // 2}" for n in numbers]
    assert table["stratum"].tolist() == (2 - numbers % 3).tolist()  # The record's, not the shard's.
    assert table["target"].tolist() == (2 - numbers % 3 > 0).astype(int).tolist()
    assert table["photograph/bytes"].tolist() == (5 * numbers).tolist()
    assert table["pixels/brightness"].tolist() == numbers.tolist()
    assert (table["pixels/contrast"] == 0).all() and (table["pixels/sharpness"] == 0).all()
    assert np.allclose(table["score/brighter"], numbers * 1.1 / 255)
    assert np.allclose(table["score"], numbers * (3.1 / 3) / 255)


def test_a_damaged_shard_is_named(bundle, tmp_path):
    data = datasets.write(tmp_path, bundle.experiment.dataset)
    with (tmp_path / data.shards_of("validation")[0].name).open("r+b") as stream:
        stream.seek(200)
        stream.write(b"x")
    with pytest.raises(ValueError, match="is damaged or was changed .* --overwrite"):
        scoring.stream(bundle, scoring.view_scorer(bundle), tmp_path, data=data, split="validation")
