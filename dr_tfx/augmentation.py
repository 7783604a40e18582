"""Random changes of training images, made on the device that trains.

Pictures travel as uint8, a quarter of float32, and chance travels with them: `DRAWS` numbers an
example, drawn by the input pipeline from (seed, step). So what happens to an example depends on
neither the device nor how a batch is divided among several.
"""

import math

import numpy as np
import tensorflow as tf

from dr_tfx import specs

DRAWS = 6  # Left to right, top to bottom, angle, zoom, contrast, brightness.


def flips(draws: np.ndarray, spec: specs.Augmentation) -> np.ndarray:
    """Which examples are mirrored left to right, and top to bottom.

    Args:
      draws: float32 (batch, DRAWS), uniform in [0, 1).
      spec: what to do and how much.

    Returns:
      bool (batch, 2).
    """
    return (draws[:, :2] < 0.5) & np.array([spec.horizontal_flip, spec.vertical_flip])


def augment(images: tf.Tensor, draws: tf.Tensor, spec: specs.Augmentation) -> tf.Tensor:
    """Turns, zooms and changes contrast and brightness of each image; mirrors none.

    Args:
      images: uint8 (batch, size, size, 3), mirrored already.
      draws: float32 (batch, DRAWS), uniform in [0, 1); the same draws give the same changes.
      spec: what to do and how much; meanings as in Keras' preprocessing layers.

    Returns:
      float32 pixels 0..255, same shape.
    """
    images = tf.cast(images, tf.float32)

    def uniform(which: int, limit: float) -> tf.Tensor:
        return (2 * draws[:, which] - 1) * limit

    if spec.rotation or spec.zoom:
        angle = uniform(2, spec.rotation) * (2 * math.pi)
        images = rotate_and_zoom(images, angle, 1 + uniform(3, spec.zoom))
    if spec.contrast:
        factor = 1 + uniform(4, spec.contrast)[:, tf.newaxis, tf.newaxis, tf.newaxis]
        mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
        images = tf.clip_by_value((images - mean) * factor + mean, 0, 255)
    if spec.brightness:
        factor = 1 + uniform(5, spec.brightness)[:, tf.newaxis, tf.newaxis, tf.newaxis]
        images = tf.clip_by_value(images * factor, 0, 255)
    return images


def rotate_and_zoom(images: tf.Tensor, angle: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """One bilinear resampling about the centre; the border is filled by reflection.

    Args:
      images: float32 (batch, size, size, 3).
      angle: float32 (batch,), radians.
      scale: float32 (batch,), above 1 shows more of the picture, smaller.

    Returns:
      float32, same shape.
    """
    size = tf.shape(images)[1:3]
    middle = tf.cast(size[0] - 1, tf.float32) / 2
    cos, sin = tf.cos(angle) * scale, tf.sin(angle) * scale
    shift_x = middle - (cos * middle - sin * middle)
    shift_y = middle - (sin * middle + cos * middle)
    zero = tf.zeros_like(angle)
    transforms = tf.stack([cos, -sin, shift_x, sin, cos, shift_y, zero, zero], axis=1)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=size,
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
