"""Photographs of a report: the right ones, in order, with heat maps that fit."""

import types

import cv2
import keras
import numpy as np
import pytest

from dr_tfx import tasks
from dr_tfx.dataset import manifest
from dr_tfx.evaluation import gallery
from tests.helpers import datasets


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    datasets.write(folder, datasets.experiment(encoding="png").dataset)
    return folder


def _bundle(size: int, weight: float) -> types.SimpleNamespace:
    """Grey mean times the weight: every place raises the score alike, or lowers it."""
    image = keras.Input((size, size, 3))
    x = keras.layers.Conv2D(
        1,
        1,
        use_bias=False,
        kernel_initializer=keras.initializers.Constant(1 / 765),
    )(image)
    x = keras.layers.GlobalAveragePooling2D()(x)
    start = keras.initializers.Constant(weight)
    model = keras.Model(image, keras.layers.Dense(1, "sigmoid", kernel_initializer=start)(x))
    experiment = datasets.experiment()
    return types.SimpleNamespace(model=model, experiment=experiment, kind=tasks.of(experiment))


def _decode(data: bytes) -> np.ndarray:
    assert data[:3] == b"\xff\xd8\xff"
    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)[..., ::-1]


def test_images_are_those_of_the_numbers_that_were_asked_for(data_dir):
    """The n-th example of the data set has the pixel value n; validation begins after train."""
    numbers, first = np.array([7, 0, 3]), sum(datasets.COUNTS["train"])
    ids = [f"n{first + number}" for number in numbers]
    images = gallery.reader(data_dir, manifest.load(data_dir), "validation")
    found = gallery.gallery_images(_bundle(32, 1.0), images, numbers, ids)
    assert [picture.id for picture in found] == ids
    for picture, number in zip(found, numbers, strict=True):
        pixels = _decode(picture.photograph)
        assert pixels.shape == (32, 32, 3) and picture.side == 32
        np.testing.assert_allclose(pixels, first + number, atol=2)
        overlay = _decode(picture.overlay)
        assert (overlay[..., 0] > overlay[..., 2]).all()  # Yellow: as much as there is.
        assert picture.overlay_uri.startswith("data:image/jpeg;base64,")


def test_a_photograph_in_which_nothing_raises_the_score_has_no_heat_map():
    image = np.full((1, 32, 32, 3), 200, np.uint8)
    (picture,) = gallery.gallery_images(
        _bundle(32, -1.0), lambda _: {"image": image}, np.array([0]), ["a"]
    )
    assert picture.overlay is None and picture.overlay_uri is None


def test_large_photographs_become_small():
    rng = np.random.default_rng(0)
    image = cv2.resize(rng.integers(0, 256, (30, 30, 3), np.uint8), (600, 600))[None]
    (picture,) = gallery.gallery_images(
        _bundle(600, 1.0), lambda _: {"image": image}, np.array([0]), ["a"]
    )
    pixels = _decode(picture.photograph)
    assert pixels.shape == (256, 256, 3) and picture.side == 256
    assert np.abs(pixels.mean(axis=(0, 1)) - image.mean(axis=(0, 1, 2))).max() < 1
    assert len(picture.photograph) + len(picture.overlay) < 100_000  # 20 pairs: below 3 MB.


def test_without_mistakes_nothing_is_read():
    assert gallery.gallery_images(_bundle(8, 1.0), lambda _: 1 / 0, np.array([], int), []) == []


def test_of_a_large_picture_the_part_is_shown_where_most_is_wrong():
    wrong = np.zeros((1000, 900), bool)
    assert gallery._part(wrong[:800, :800]) == (slice(None), slice(None))
    wrong[10:60, 700:720] = True  # 1,000 pixels in one corner,
    wrong[905:990, 430:445] = True  # and 1,275 far from it.
    rows, columns = gallery._part(wrong)
    assert wrong[rows, columns].sum() == 1275 and wrong[rows, columns].shape == (400, 400)
