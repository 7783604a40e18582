"""Augmentation: each change against OpenCV or by its own definition."""

import collections
import math

import cv2
import numpy as np
import tensorflow as tf

from dr_tfx.config import specs
from dr_tfx.input_pipeline import augmentation


def photograph(seed=0, size=64):
    noise = np.random.default_rng(seed).integers(0, 256, (size, size, 3), np.uint8)
    return cv2.GaussianBlur(noise, (0, 0), 4)


def augment(images, spec):
    draws = np.random.default_rng(1).random((len(images), augmentation.DRAWS), np.float32)
    return augmentation.augment(tf.constant(images), tf.constant(draws), spec).numpy()


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
