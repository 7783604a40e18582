"""Random changes of training images, made on the device that trains.

Mirroring alone is done when they are read (`shard_reader`).

Pictures travel as uint8, a quarter of float32, and chance travels with them: `DRAWS` numbers an
example, which the input pipeline draws from the seed, for some steps at a time. So what happens to
an example depends on neither the device nor how a batch is divided among several.
"""

import math

import numpy as np
import tensorflow as tf

from dr_tfx.config import specs

DRAWS = 6  # Left to right, top to bottom, angle, zoom, contrast, brightness.


def flips(draws: np.ndarray, spec: specs.Augmentation) -> np.ndarray:
    """Which examples are mirrored left to right, and top to bottom.

    Args:
      draws: float32 (..., DRAWS), uniform in [0, 1).
      spec: what to do and how much.

    Returns:
      bool (..., 2).
    """
    return (draws[..., :2] < 0.5) & np.array([spec.horizontal_flip, spec.vertical_flip])


def augment(images: tf.Tensor, draws: tf.Tensor, spec: specs.Augmentation) -> tf.Tensor:
    """Turns, zooms and changes contrast and brightness of each image; mirrors none.

    Args:
      images: uint8 (batch, size, size, 3), mirrored already.
      draws: float32 (batch, DRAWS), uniform in [0, 1); the same draws give the same changes.
      spec: what to do and how much; meanings as in Keras' preprocessing layers.

    Returns:
      float32 pixels 0..255, same shape.
    """
    if spec.rotation or spec.zoom:
        angle = _uniform(draws[:, 2], spec.rotation) * (2 * math.pi)
        scale = 1 + _uniform(draws[:, 3], spec.zoom)
        images = rotate_and_zoom(tf.cast(images, tf.float32), angle, scale)
    contrast = 1 + _uniform(draws[:, 4], spec.contrast) if spec.contrast else None
    brightness = 1 + _uniform(draws[:, 5], spec.brightness) if spec.brightness else None
    return _photometric(images, contrast, brightness)


def _uniform(draws: tf.Tensor, limit: float) -> tf.Tensor:
    return (2 * draws - 1) * limit


@tf.function(jit_compile=True)
def _photometric(
    images: tf.Tensor, contrast: tf.Tensor | None, brightness: tf.Tensor | None
) -> tf.Tensor:
    """Contrast and brightness by a factor an image; one pass over the pixels, which is what XLA is
    good at: without it each operation is a pass of its own, at twice the time and memory.
    """
    images = tf.cast(images, tf.float32)
    if contrast is not None:
        mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
        images = tf.clip_by_value((images - mean) * contrast[:, None, None, None] + mean, 0, 255)
    if brightness is not None:
        images = tf.clip_by_value(images * brightness[:, None, None, None], 0, 255)
    return images


def rotate_and_zoom(
    images: tf.Tensor, angle: tf.Tensor, scale: tf.Tensor, fill_mode: str = "REFLECT"
) -> tf.Tensor:
    """One bilinear resampling about the centre.

    Args:
      images: float32 (batch, height, width, channels).
      angle: float32 (batch,), or (1,) for all, radians, counter-clockwise.
      scale: float32 (batch,) or (1,), above 1 shows more of the picture, smaller.
      fill_mode: what is beyond the border: REFLECT, or CONSTANT, which is 0.

    Returns:
      float32, same shape.
    """
    size = tf.shape(images)[1:3]
    middle_y, middle_x = tf.unstack(tf.cast(size - 1, tf.float32) / 2)
    cos, sin = tf.cos(angle) * scale, tf.sin(angle) * scale
    shift_x = middle_x - (cos * middle_x - sin * middle_y)
    shift_y = middle_y - (sin * middle_x + cos * middle_y)
    zero = tf.zeros_like(angle)
    transforms = tf.stack([cos, -sin, shift_x, sin, cos, shift_y, zero, zero], axis=1)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=size,
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode=fill_mode,
    )
