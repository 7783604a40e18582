"""Random changes of training images, made on the device from numbers that are drawn beforehand."""

import math

import tensorflow as tf

from dr_tfx import specs

DRAWS = 6


def augment(images: tf.Tensor, noise: tf.Tensor, spec: specs.Augmentation) -> tf.Tensor:
    """Randomly flips, turns, zooms and changes contrast and brightness of each image.

    Args:
      images: uint8 (batch, size, size, 3).
      noise: float32 (batch, DRAWS), uniform in [0, 1); the same noise gives the same changes.
      spec: what to do and how much; meanings as in Keras' preprocessing layers.

    Returns:
      float32 pixels 0..255, same shape.
    """

    def uniform(which: int, limit: float) -> tf.Tensor:
        return (2 * noise[:, which] - 1) * limit

    if spec.horizontal_flip:
        images = _flip(images, uniform(0, 1.0) < 0, axis=2)
    if spec.vertical_flip:
        images = _flip(images, uniform(1, 1.0) < 0, axis=1)
    images = tf.cast(images, tf.float32)
    if spec.rotation or spec.zoom:
        angle = uniform(2, max(spec.rotation, 1e-9)) * (2 * math.pi)
        scale = 1 + uniform(3, max(spec.zoom, 1e-9))
        images = _rotate_and_zoom(images, angle, scale)
    if spec.contrast:
        factor = 1 + uniform(4, spec.contrast)[:, tf.newaxis, tf.newaxis, tf.newaxis]
        mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
        images = tf.clip_by_value((images - mean) * factor + mean, 0, 255)
    if spec.brightness:
        factor = 1 + uniform(5, spec.brightness)[:, tf.newaxis, tf.newaxis, tf.newaxis]
        images = tf.clip_by_value(images * factor, 0, 255)
    return images


def _flip(images: tf.Tensor, which: tf.Tensor, *, axis: int) -> tf.Tensor:
    return tf.where(
        which[:, tf.newaxis, tf.newaxis, tf.newaxis], tf.reverse(images, [axis]), images
    )


def _rotate_and_zoom(images: tf.Tensor, angle: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """One bilinear resampling about the centre; the border is filled by reflection."""
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
