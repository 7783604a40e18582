"""Views of test-time augmentation: ways to look at a photograph, and the way back for maps."""

import dataclasses
import math
from collections.abc import Callable

import tensorflow as tf

from dr_tfx.input_pipeline import augmentation

ZOOM = 1.1  # Of zoom_in and zoom_out.
TILT = 10.0  # Degrees, of rotate_10 and rotate_350.


@dataclasses.dataclass(frozen=True)
class View:
    """One way to look at a photograph, and the way back.

    Attributes:
      apply: float32 pixels 0..255 (n, size, size, 3) -> the same shape.
      undo: float32 maps (n, h, w) of what `apply` gave, at any resolution -> the maps of the
        photograph as it is, h and w changed over by a quarter turn. Where the view did not show
        the photograph a map is 0. The same map where a view changes colours alone.
    """

    apply: Callable[[tf.Tensor], tf.Tensor]
    undo: Callable[[tf.Tensor], tf.Tensor] = lambda maps: maps


def _mirrored(*axes: int) -> View:
    def mirror(x: tf.Tensor) -> tf.Tensor:
        return tf.reverse(x, axes)

    return View(mirror, mirror)


def _turned(quarters: int) -> View:
    """Counter-clockwise, as numpy.rot90."""

    def turn(x: tf.Tensor, axis: int) -> tf.Tensor:
        x = tf.convert_to_tensor(x)
        return tf.reverse(tf.transpose(x, [0, 2, 1, *range(3, x.shape.rank)]), [axis])

    there, back = (1, 2) if quarters == 1 else (2, 1)
    return View(lambda x: turn(x, there), lambda maps: turn(maps, back))


def _resampled(*, degrees: float = 0.0, zoom: float = 1.0) -> View:
    """Turned counter-clockwise and enlarged about the centre, bilinear.

    What comes into view from beyond the border is the photograph's reflection, as in training.
    """
    angle = math.radians(degrees)

    def apply(x: tf.Tensor) -> tf.Tensor:
        return augmentation.rotate_and_zoom(x, tf.constant([angle]), tf.constant([1 / zoom]))

    def undo(maps: tf.Tensor) -> tf.Tensor:
        maps = tf.convert_to_tensor(maps)[..., tf.newaxis]
        turn, scale = tf.constant([-angle]), tf.constant([zoom])
        return augmentation.rotate_and_zoom(maps, turn, scale, "CONSTANT")[..., 0]

    return View(apply, undo)


# Each name of specs.VIEWS. The first five are those of the published recipe.
VIEWS: dict[str, View] = {
    "identity": View(lambda x: x),
    "left_right": _mirrored(2),
    "up_down": _mirrored(1),
    "left_right_up_down": _mirrored(1, 2),
    "brighter": View(lambda x: tf.minimum(x * 1.1, 255.0)),
    "rotate_90": _turned(1),
    "rotate_180": _mirrored(1, 2),
    "rotate_270": _turned(3),
    "rotate_10": _resampled(degrees=TILT),
    "rotate_350": _resampled(degrees=-TILT),
    "zoom_in": _resampled(zoom=ZOOM),
    "zoom_out": _resampled(zoom=1 / ZOOM),
}
