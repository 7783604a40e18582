"""Training on patches: where they lie, what they show, and that they can be resumed anywhere."""

import contextlib
import dataclasses
import itertools

import numpy as np
import pytest
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.config import typed
from dr_tfx.dataset import patches
from dr_tfx.input_pipeline import in_order, loader
from tests.helpers import datasets
from tests.tasks.masks.test_masks import experiment

SIZE, SIDE = 128, 64
MASKS = ("mask/MA", "mask/EX")


def patched(*, encoding="raw", batch_size=8, **task):
    """Settings of patches of half a side, of photographs of three labels, mirrored at random."""
    made = experiment(
        task={"patch": SIDE, "patches": 5, **task},
        label_column="level",
        label_names=("a", "b", "c"),
        recipe={"size": SIZE, "encoding": encoding},
    )
    augmentation = dataclasses.replace(made.training.augmentation, vertical_flip=True)
    training = dataclasses.replace(
        made.training, batch_size=batch_size, balance="none", augmentation=augmentation
    )
    return dataclasses.replace(made, training=training)


def lesions(number: int) -> np.ndarray:
    """A mask with one pixel, far from the edges or in a corner; every third has none."""
    mask = np.zeros((SIZE, SIZE, 1), np.uint8)
    mask[:4, 60:] = 255  # Nothing is known of it.
    if number % 3:
        place = np.random.default_rng(number).integers(0, SIZE, 2)
        mask[(127, 0) if number == 4 else tuple(place)] = 200
    return mask


def picture(number: int) -> dict:
    """A record whose pixels tell where they are, and whose they are."""
    rows, columns = np.mgrid[:SIZE, :SIZE].astype(np.uint8)
    image = np.stack([rows, columns, np.full_like(rows, number)], axis=-1)
    masks = {"mask/MA": lesions(number), "mask/EX": lesions(number + 100)}
    return {"image/encoded": image, **masks}


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("patches"))


def write(path, encoding="raw"):
    made = patched(encoding=encoding)
    return path, datasets.write(path, made.dataset, features=picture), made


def seen(folder, steps, *, first=0, **task):
    path, data, made = folder
    made = dataclasses.replace(made, task=dataclasses.replace(made.task, **task))
    batches, an_epoch = loader.train_batches(path, data, made, first_step=first)
    with contextlib.closing(batches):
        found = [{k: v.copy() for k, v in b.items()} for b in itertools.islice(batches, steps)]
    return {name: np.concatenate([b[name] for b in found]) for name in found[0]}, an_epoch


def test_patches_are_parts_of_their_pictures_and_masks_move_with_them(folder):
    found, steps = seen(folder, 21)
    assert steps == 21 == -(-5 * 33 // 8)
    assert found["image"].shape == (168, SIDE, SIDE, 3)
    corners = []
    for image, mask in zip(found["image"], found["mask/MA"], strict=True):
        rows, columns = image[..., 0].astype(int), image[..., 1].astype(int)
        expected = lesions(int(image[0, 0, 2]))[rows, columns]
        assert np.array_equal(mask, expected)
        assert np.ptp(rows) == np.ptp(columns) == SIDE - 1
        corners.append((rows.min(), columns.min()))
    assert len(set(corners)) > 80  # They lie everywhere.
    times = np.bincount(found["image"][:165, 0, 0, 2])
    assert times.min() >= 3 and times.max() <= 7  # Labels mix by chance.


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_a_share_shows_lesions_and_the_others_none(folder, share):
    found, _ = seen(folder, 10, lesion_share=share)
    there = [((found[name] > 0) & (found[name] < 255)).any((1, 2, 3)) for name in MASKS]
    numbers = found["image"][:, 0, 0, 2].astype(int)
    has = np.any([(numbers + more) % 3 > 0 for more in (0, 100)], axis=0)
    assert np.array_equal(np.any(there, axis=0), has & bool(share))
    # Of photographs with both, each mask is drawn as often.
    if share:
        assert there[0][has].mean() > 0.4 and there[1][has].mean() > 0.4


def test_the_order_goes_on_at_any_step_and_is_that_of_any_encoding(folder, tmp_path):
    whole, _ = seen(folder, 24)
    for step, where in ((7, folder), (20, write(tmp_path, "png"))):
        again, _ = seen(where, 24 - step, first=step)
        assert all(np.array_equal(whole[name][8 * step :], again[name]) for name in whole)


def test_validation_sees_every_pixel_once(folder):
    path, data, made = folder
    sizes, images = [], []
    for pixels, targets in in_order.validation(path, data, made):
        sizes.append(len(pixels))
        images.append(pixels.numpy())
        rows, columns, numbers = (pixels.numpy()[..., i].astype(int) for i in range(3))
        for row in range(len(pixels)):
            mask = lesions(numbers[row, 0, 0])[rows[row], columns[row], 0]
            expected = np.where(mask == 255, -1, mask / 254)
            np.testing.assert_allclose(targets[row, ..., 0], expected, atol=1e-6)
    assert sizes == [8, 8, 8, 8, 8, 4]
    places = np.concatenate(images).reshape(-1, 3)
    assert len(np.unique(places, axis=0)) == len(places) == 11 * SIZE**2


def test_a_cell_is_wholly_in_its_patch_and_free_patches_have_none():
    rng, spec = np.random.default_rng(0), patches.Patches(150, 150, 1, 0.5, 255)
    for size in (1600, 2400):  # Cells of 50 and 75 pixels.
        for _ in range(30):
            mask = np.zeros((size, size, 1), np.uint8)
            y, x = rng.integers(0, size, 2)
            mask[y, x] = 7
            draws = rng.random(patches.DRAWS)
            cells = [patches.cells(mask, unknown=255)]
            top, left = patches.corner(draws, cells, size=size, spec=spec)
            assert 0 <= top <= size - 150 and 0 <= left <= size - 150
            inside = top <= y < top + 150 and left <= x < left + 150
            assert inside == (draws[0] < 0.5)


@pytest.mark.parametrize(
    ("task", "told"),
    [
        ({"patch": 48}, r"config\.task\.patch is 48; expected a multiple of 32 from 64 to 128"),
        ({"patch": 96}, "do not cover side by side"),
        ({"tile": 64}, r"config\.task\.tile is 64, but config\.task\.patch is 0"),
        ({"patch": 64, "tile": 160}, r"config\.task\.tile is 160"),
    ],
)
def test_patches_that_do_not_fit_are_refused(task, told):
    with pytest.raises(typed.ConfigError, match=told):
        experiment(task=task, recipe={"size": SIZE})


def test_a_model_of_patches_has_the_weights_of_any_side():
    from dr_tfx.models import network, weights

    made = patched(tile=96)
    small, large = network.build(made), network.build(made, side=96)
    weights.fill(large, weights.to_bytes(small))
    assert small.input_shape[1] == SIDE and large.output_shape == (None, 96, 96, 2)
    assert tasks.of(made).data.patches.tile == 96
    pixels = tf.random.stateless_uniform((1, 96, 96, 3), (1, 2), maxval=255.0)
    assert np.isfinite(large(pixels)).all()
