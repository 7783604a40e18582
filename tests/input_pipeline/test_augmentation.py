"""Augmentation: each change against OpenCV or by its own definition."""

import collections
import functools
import io
import math

import cv2
import numpy as np
import pytest
import tensorflow as tf
from PIL import Image, ImageEnhance

from dr_tfx.config import specs
from dr_tfx.input_pipeline import augmentation, compression
from tests.helpers import datasets


def photograph(seed=0, size=64):
    noise = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 4)


def drawn(count):
    """Draws of so many examples, in the order in which the loader draws them."""
    rng, later = np.random.default_rng(1), augmentation.DRAWS - augmentation.EARLIER
    return np.hstack([rng.random((count, n), np.float32) for n in (augmentation.EARLIER, later)])


def augment_all(images, spec, **others):
    """The batch after augmentation, and its draws."""
    draws = drawn(len(images))
    batch = {"image": images, "draws": draws, **others}
    tensors = {name: tf.constant(value) for name, value in batch.items()}
    found = augmentation.augment(tensors, spec)
    assert found.keys() == batch.keys()
    return {name: value.numpy() for name, value in found.items()}


def augment(images, spec):
    return augment_all(images, spec)["image"]


def test_each_image_is_mirrored_by_its_own_draws():
    draws = np.random.default_rng(2).random((400, augmentation.DRAWS), np.float32)
    both = augmentation.flips(draws, specs.Augmentation(vertical_flip=True))
    assert both.shape == (400, 2) and both.dtype == bool
    kinds = collections.Counter(map(tuple, both.tolist()))
    assert len(kinds) == 4 and min(kinds.values()) > 60
    one = augmentation.flips(draws, specs.Augmentation(vertical_flip=False))
    assert np.array_equal(one[:, 0], both[:, 0]) and not one[:, 1].any()


def test_what_is_off_changes_nothing():
    images = np.stack([photograph(1), photograph(2)])
    assert np.array_equal(augment(images, specs.Augmentation()), images.astype(np.float32))


def test_rotation_and_zoom_agree_with_opencv():
    image, angle, scale = photograph().astype(np.float32), 0.3, 1.1
    result = augmentation.rotate_and_zoom(
        tf.constant(image[np.newaxis]), tf.constant([angle]), tf.constant([scale])
    ).numpy()[0]
    # OpenCV's matrix maps source to target: the inverse turn and scale about the same centre.
    matrix = cv2.getRotationMatrix2D((31.5, 31.5), math.degrees(angle), 1 / scale)
    expected = cv2.warpAffine(image, matrix, (64, 64), flags=cv2.INTER_LINEAR)
    assert np.abs(result - expected)[16:48, 16:48].mean() < 1.0


def lesions(count, size=96):
    """Photographs with a lesion each, and their masks; far enough inside to stay in the picture."""
    places = np.random.default_rng(5).uniform(0.35 * size, 0.65 * size, (count, 2))
    masks = np.stack([datasets.disc(row, column, size=size) for row, column in places])
    return np.stack([datasets.with_lesion(mask) for mask in masks]), masks


CHANGES = {
    "rotation": {"rotation": 0.5},
    "zoom": {"zoom": 0.3},
    "contrast": {"contrast": 0.3},
    "brightness": {"brightness": 0.2},
    "all": {"rotation": 0.5, "zoom": 0.3, "contrast": 0.3, "brightness": 0.2},
}


@pytest.mark.parametrize("change", CHANGES)
def test_a_mask_stays_on_its_lesion(change):
    images, masks = lesions(40)
    spec = specs.Augmentation(**CHANGES[change])
    found = augment_all(images, spec, **{"mask/lesion": masks})
    assert found["mask/lesion"].dtype == np.uint8
    angles = (2 * found["draws"][:, 2] - 1) * spec.rotation * 360
    zooms = 1 + (2 * found["draws"][:, 3] - 1) * spec.zoom
    moved = []
    for image, mask, before, angle, zoom in zip(
        found["image"], found["mask/lesion"], masks, angles, zooms, strict=True
    ):
        seen = datasets.centre(datasets.lesion_seen(image))
        assert np.abs(datasets.centre(mask) - seen).max() <= 0.5
        # The place where OpenCV's matrix, of which rows and columns are y and x, puts the lesion.
        matrix = cv2.getRotationMatrix2D((47.5, 47.5), float(angle), 1 / float(zoom))
        expected = matrix @ [*datasets.centre(before)[::-1], 1]
        assert np.abs(datasets.centre(mask) - expected[::-1]).max() <= 0.5
        moved.append(np.abs(datasets.centre(mask) - datasets.centre(before)).max())
    assert (max(moved) > 3) == (change in ("rotation", "zoom", "all"))


def test_a_shift_moves_pixels_and_masks_alike():
    image = np.random.default_rng(3).uniform(0, 255, (1, 8, 8, 1)).astype(np.float32)
    for pixels in (image, image.astype(np.uint8)):
        still = tf.zeros(1), tf.ones(1)
        moved = augmentation.rotate_and_zoom(
            tf.constant(pixels), *still, shift=tf.constant([[2 / 8, 1 / 8]])
        ).numpy()
        np.testing.assert_allclose(moved[0, :7, :6], pixels[0, 1:, 2:], atol=1e-3)


def test_a_shift_stays_within_its_limit():
    ramp = np.tile(np.arange(40, dtype=np.uint8)[:, None, None], (30, 1, 40, 3))
    found = augment_all(ramp, specs.Augmentation(shift=0.1))
    middle = found["image"][:, 20, 20, 0]
    draws = found["draws"][:, 7]
    np.testing.assert_allclose(middle, 20 + (2 * draws - 1) * 4, atol=0.01)


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_pictures_are_resampled_in_xla_as_by_tensorflows_own_operation(dtype):
    """They are turned all around, and shifted until what is mirrored is mirrored once more."""
    rng = np.random.default_rng(4)
    images = np.stack([photograph(i)[:, :48] for i in range(20)]).astype(dtype)
    angles, scales = rng.uniform(-math.pi, math.pi, 20), rng.uniform(0.5, 2.5, 20)
    shifts = rng.uniform(-1.5, 1.5, (20, 2)).astype(np.float32)
    given = tf.constant(images), *(tf.constant(x, tf.float32) for x in (angles, scales))
    own = augmentation.rotate_and_zoom(*given, shift=shifts).numpy()
    in_xla = functools.partial(augmentation.rotate_and_zoom, in_xla=True)
    found = tf.function(in_xla, jit_compile=True)(*given, shift=shifts).numpy()
    assert found.dtype == dtype
    if dtype == np.float32:
        np.testing.assert_allclose(found, own, atol=0.02)
    else:  # A place may be as near to one pixel as to the next, but for rounding.
        assert np.mean(found != own) < 1e-3


def test_contrast_and_brightness_leave_masks_as_they_are():
    images, masks = lesions(4)
    spec = specs.Augmentation(contrast=0.3, brightness=0.2)
    found = augment_all(images, spec, **{"mask/lesion": masks})
    assert np.array_equal(found["mask/lesion"], masks)
    assert np.abs(found["image"] - images).max() > 5


def test_a_mask_of_several_classes_gets_no_class_between_them():
    images, masks = lesions(8)
    classes = np.where(masks > 0, np.uint8(7), np.uint8(3))
    numbers = {"label/level": np.arange(8), "weight": np.ones(8, np.float32)}
    found = augment_all(images, specs.Augmentation(rotation=0.1), **{"mask/a": classes}, **numbers)
    assert set(np.unique(found["mask/a"])) == {3, 7}
    assert all(np.array_equal(found[name], numbers[name]) for name in numbers)


def test_contrast_and_brightness_stay_in_range_and_within_limits():
    image = photograph().astype(np.float32)
    batch = np.stack([image] * 50).astype(np.uint8)
    bright = specs.Augmentation(horizontal_flip=False, brightness=0.2)
    result = augment(batch, bright)
    ratio = result.mean(axis=(1, 2, 3)) / np.floor(image).mean()
    assert ratio.min() >= 0.79 and ratio.max() <= 1.21 and ratio.std() > 0.05
    assert result.min() >= 0 and result.max() <= 255
    contrast = specs.Augmentation(horizontal_flip=False, contrast=0.3)
    result = augment(batch, contrast)
    spread = result.std(axis=(1, 2)) / np.floor(image).std(axis=(0, 1))
    assert spread.min() >= 0.69 and spread.max() <= 1.31 and spread.std() > 0.05


def colours(count, size=32):
    """Photographs of noise in strong colours, and draws."""
    rng = np.random.default_rng(8)
    images = rng.integers(0, 256, (count, size, size, 3)).astype(np.uint8)
    return images, drawn(count)


def test_colours_are_those_of_another_camera():
    images, draws = colours(4)
    factors = 1 + (2 * draws - 1) * 0.4
    balanced = augment(images, specs.Augmentation(white_balance=0.4))
    expected = np.minimum(images * factors[:, None, None, 8:11], 255)
    np.testing.assert_allclose(balanced, expected, rtol=1e-5)
    paler = augment(images, specs.Augmentation(saturation=0.4))
    for image, found, factor in zip(images, paler, factors[:, 11].tolist(), strict=True):
        by_pillow = ImageEnhance.Color(Image.fromarray(image)).enhance(factor)
        assert np.abs(found - np.asarray(by_pillow)).max() <= 1.5  # Pillow rounds twice.
    curved = augment(images, specs.Augmentation(gamma=0.4))
    for image, found, exponent in zip(images, curved, factors[:, 12].tolist(), strict=True):
        table = [255 * (value / 255) ** exponent for value in range(256)]
        np.testing.assert_allclose(found, np.array(table)[image], atol=0.01)


def test_blur_is_that_of_opencv():
    images, draws = colours(4)
    for found, image, draw in zip(
        augment(images, specs.Augmentation(blur=1.5)), images, draws[:, 13].tolist(), strict=True
    ):
        expected = cv2.GaussianBlur(image.astype(np.float32), (11, 11), 1.5 * draw)
        np.testing.assert_allclose(found, expected, atol=0.01)
    still = tf.zeros(len(images))
    np.testing.assert_allclose(augmentation._blurred(tf.constant(images), still, 5), images)


def test_compression_is_that_of_pillow_at_the_quality_that_is_drawn():
    images, draws = colours(4)
    images[:] = photograph()[:32, :32]
    qualities = augmentation.qualities(draws, specs.Augmentation(jpeg=0.5))
    assert qualities.tolist() == np.rint(100 - 50 * draws[:, 14]).tolist()
    assert augmentation.qualities(draws, specs.Augmentation(jpeg=0.999)).min() >= 1
    assert not augmentation.qualities(draws, specs.Augmentation()).any()
    qualities[3] = 0
    found = images.copy()
    compression.compress(found, qualities)
    for before, after, quality in zip(images[:3], found[:3], qualities[:3].tolist(), strict=True):
        file = io.BytesIO()
        Image.fromarray(before).save(file, "jpeg", quality=quality)
        by_pillow = np.asarray(Image.open(file)).astype(float)
        assert np.abs(after - by_pillow).mean() < 0.5
        assert np.abs(after.astype(int) - before).max() > 2
    assert np.array_equal(found[3], images[3])
