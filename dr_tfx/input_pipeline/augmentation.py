"""Random changes of training images and their masks, made on the device that trains.

Mirroring and compression are done when examples are read (`shard_reader`, `compression`), and
mixing when they are taken (`mixing`).

Images travel as uint8, a quarter of float32, and chance travels with them: `DRAWS` numbers an
example, which the loader draws from the seed, for some steps at a time. So what happens to an
example depends on neither the device nor how a batch is divided among several.
"""

import math
from collections.abc import Mapping

import numpy as np
import tensorflow as tf

from dr_tfx.config import specs
from dr_tfx.dataset import records

# Left to right, top to bottom, angle, zoom, contrast, brightness, shift across, down; then white
# balance of red, green and blue, saturation, gamma, blur, quality, share of a mixture, its partner.
DRAWS = 17
EARLIER = 8  # Those that are drawn first, and are the same whatever comes to be drawn besides.


def flips(draws: np.ndarray, spec: specs.Augmentation) -> np.ndarray:
    """Return which examples are mirrored left to right, and top to bottom.

    Args:
      draws: float32 (..., DRAWS), uniform in [0, 1).
      spec: what to do and how much.

    Returns:
      bool (..., 2).
    """
    return (draws[..., :2] < 0.5) & np.array([spec.horizontal_flip, spec.vertical_flip])


def qualities(draws: np.ndarray, spec: specs.Augmentation) -> np.ndarray:
    """Return the quality of JPEG, from 1 to 100, to which examples are compressed, or 0 for none.

    Args:
      draws: float32 (..., DRAWS), uniform in [0, 1).
      spec: what to do and how much.

    Returns:
      uint8 (...).
    """
    if not spec.jpeg:
        return np.zeros(draws.shape[:-1], np.uint8)
    found = np.rint(100 * (1 - spec.jpeg * draws[..., 14]))
    return np.maximum(found, 1).astype(np.uint8)


def augment(
    batch: Mapping[str, tf.Tensor], spec: specs.Augmentation, *, in_xla: bool = False
) -> dict[str, tf.Tensor]:
    """Return a batch whose images are rotated, zoomed, shifted, blurred and changed in colour.

    Masks are rotated, zoomed and shifted with their image, and everything else stays as it is.
    Nothing is mirrored, compressed or mixed: that is done already.

    Args:
      batch: tensors by name, among them `image`, uint8 (batch, size, size, 3); `draws`, float32
        (batch, DRAWS), uniform in [0, 1), of which the same give the same changes; and masks,
        uint8 (batch, size, size, 1).
      spec: what to do and how much; meanings as in Keras' preprocessing layers.
      in_xla: True where XLA compiles what calls this, as it does on a TPU.

    Returns:
      The batch with `image` as float32 pixels 0..255 of the same shape.
    """
    draws, changed = batch["draws"], dict(batch)
    if spec.rotation or spec.zoom or spec.shift:
        angle = _uniform(draws[:, 2], spec.rotation) * (2 * math.pi)
        scale = 1 + _uniform(draws[:, 3], spec.zoom)
        shift = _uniform(draws[:, 6:8], spec.shift) if spec.shift else None
        changed[records.IMAGE] = tf.cast(changed[records.IMAGE], tf.float32)
        for name in filter(records.has_geometry, batch):
            changed[name] = rotate_and_zoom(changed[name], angle, scale, shift=shift, in_xla=in_xla)
    # Within XLA they must not ask for it once more: on a TPU that would be for the host.
    blurred = _blurred.python_function if in_xla else _blurred
    photometric = _photometric.python_function if in_xla else _photometric
    if spec.blur:
        radius = math.ceil(3 * spec.blur)
        changed[records.IMAGE] = blurred(changed[records.IMAGE], draws[:, 13] * spec.blur, radius)

    def factors(which: int | slice, limit: float) -> tf.Tensor | None:
        return 1 + _uniform(draws[:, which], limit) if limit else None

    changed[records.IMAGE] = photometric(
        changed[records.IMAGE],
        factors(slice(8, 11), spec.white_balance),
        factors(11, spec.saturation),
        factors(12, spec.gamma),
        factors(4, spec.contrast),
        factors(5, spec.brightness),
    )
    return changed


_GREY = (0.299, 0.587, 0.114)  # Shares of red, green and blue (ITU-R BT.601).


def _uniform(draws: tf.Tensor, limit: float) -> tf.Tensor:
    return (2 * draws - 1) * limit


@tf.function(jit_compile=True, autograph=False)
def _photometric(
    images: tf.Tensor,
    white_balance: tf.Tensor | None,
    saturation: tf.Tensor | None,
    gamma: tf.Tensor | None,
    contrast: tf.Tensor | None,
    brightness: tf.Tensor | None,
) -> tf.Tensor:
    """Return images, as float32, with their values changed in this order, by a factor each.

    XLA makes one pass over the pixels of it: without it each operation is a pass of its own, at
    twice the time and memory.

    Args:
      images: uint8 or float32 (batch, size, size, 3).
      white_balance: factors of red, green and blue, float32 (batch, 3); None leaves it out.
      saturation: of the distance of each colour from its grey, (batch,), as all that follow.
      gamma: exponents of the values as shares of 255.
      contrast: of the distance of each value from the picture's mean.
      brightness: of the values.
    """
    images = tf.cast(images, tf.float32)
    if white_balance is not None:
        images = tf.clip_by_value(images * white_balance[:, None, None, :], 0, 255)
    if saturation is not None:
        grey = tf.reduce_sum(images * _GREY, axis=-1, keepdims=True)
        images = tf.clip_by_value((images - grey) * saturation[:, None, None, None] + grey, 0, 255)
    if gamma is not None:
        images = 255 * tf.pow(images / 255, gamma[:, None, None, None])
    if contrast is not None:
        mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
        images = tf.clip_by_value((images - mean) * contrast[:, None, None, None] + mean, 0, 255)
    if brightness is not None:
        images = tf.clip_by_value(images * brightness[:, None, None, None], 0, 255)
    return images


@tf.function(jit_compile=True, autograph=False)
def _blurred(images: tf.Tensor, deviation: tf.Tensor, radius: int) -> tf.Tensor:
    """Return images, as float32, blurred by a Gaussian each, reflected at the border.

    Args:
      images: uint8 or float32 (batch, size, size, 3).
      deviation: standard deviations in pixels, float32 (batch,); 0 leaves an image as it is.
      radius: pixels from the middle to where the Gaussian is cut off.
    """
    images = tf.cast(images, tf.float32)
    places = tf.range(-radius, radius + 1, dtype=tf.float32)
    kernel = tf.exp(-tf.square(places / tf.maximum(deviation, 1e-3)[:, None]) / 2)
    kernel = (kernel / tf.reduce_sum(kernel, axis=1, keepdims=True))[:, :, None, None, None]
    around, size = [[0, 0], [radius, radius], [0, 0], [0, 0]], images.shape[1]
    for axes in ([0, 1, 2, 3], [0, 2, 1, 3]):
        padded = tf.pad(tf.transpose(images, axes), around, "REFLECT")
        parts = [kernel[:, i] * padded[:, i : i + size] for i in range(2 * radius + 1)]
        images = tf.transpose(tf.add_n(parts), axes)
    return images


def rotate_and_zoom(
    images: tf.Tensor,
    angle: tf.Tensor,
    scale: tf.Tensor,
    fill_mode: str = "REFLECT",
    *,
    shift: tf.Tensor | None = None,
    in_xla: bool = False,
) -> tf.Tensor:
    """Return images or masks that are resampled once, about their centre, and shifted.

    Images, which are float32, are interpolated. Masks, which are uint8, take the value of the
    nearest pixel: a mask may hold the numbers of several classes, of which no mean makes sense,
    and its border is no further off than the half pixel by which it is rounded.

    Args:
      images: float32 or uint8 (batch, height, width, channels).
      angle: float32 (batch,), or (1,) for all, radians, counter-clockwise.
      scale: float32 (batch,) or (1,), above 1 shows more of the picture, smaller.
      fill_mode: what is beyond the border: REFLECT, or CONSTANT, which is 0.
      shift: float32 (batch, 2), to the left and up, in shares of the sides; None for none.
      in_xla: make it of operations that XLA has, which gives the same up to rounding; for REFLECT.

    Returns:
      The same shape and dtype.
    """
    size = tf.shape(images)[1:3]
    middle_y, middle_x = tf.unstack(tf.cast(size - 1, tf.float32) / 2)
    cos, sin = tf.cos(angle) * scale, tf.sin(angle) * scale
    shift_x = middle_x - (cos * middle_x - sin * middle_y)
    shift_y = middle_y - (sin * middle_x + cos * middle_y)
    if shift is not None:
        shift_x += shift[:, 0] * tf.cast(size[1], tf.float32)
        shift_y += shift[:, 1] * tf.cast(size[0], tf.float32)
    zero = tf.zeros_like(angle)
    transforms = tf.stack([cos, -sin, shift_x, sin, cos, shift_y, zero, zero], axis=1)
    if in_xla:
        return _resampled(images, transforms)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=size,
        fill_value=0.0,
        interpolation="BILINEAR" if images.dtype == tf.float32 else "NEAREST",
        fill_mode=fill_mode,
    )


def _resampled(images: tf.Tensor, transforms: tf.Tensor) -> tf.Tensor:
    """Return what TensorFlow's own operation gives with REFLECT, of operations that XLA has.

    Values differ by up to .04 of 255, where neighbours are as different as can be.

    Args:
      images: as for `rotate_and_zoom`; all of its shape is known, as XLA needs it.
      transforms: float32 (batch, 8), of which the last two are 0.
    """
    batch, height, width, channels = images.shape
    across, down = tf.range(width, dtype=tf.float32), tf.range(height, dtype=tf.float32)[:, None]
    rows = tf.unstack(transforms[:, :6, None, None], axis=1)
    x = _reflected(rows[0] * across + rows[1] * down + rows[2], width)
    y = _reflected(rows[3] * across + rows[4] * down + rows[5], height)
    pixels = tf.reshape(images, [batch, height * width, channels])

    def at(y: tf.Tensor, x: tf.Tensor) -> tf.Tensor:
        return tf.gather(pixels, tf.cast(y * width + x, tf.int32), axis=1, batch_dims=1)

    if images.dtype != tf.float32:
        return at(tf.floor(y + 0.5), tf.floor(x + 0.5))
    top, left = tf.floor(y), tf.floor(x)
    bottom, right = tf.minimum(top + 1, height - 1), tf.minimum(left + 1, width - 1)
    down, across = (y - top)[..., None], (x - left)[..., None]
    above = (1 - across) * at(top, left) + across * at(top, right)
    below = (1 - across) * at(bottom, left) + across * at(bottom, right)
    return (1 - down) * above + down * below


def _reflected(places: tf.Tensor, length: int) -> tf.Tensor:
    """Return places between 0 and length - 1 that show what is beyond the border, mirrored."""
    within = tf.math.floormod(places, 2.0 * length)
    return tf.clip_by_value(tf.minimum(within, 2.0 * length - 1 - within), 0, length - 1)
