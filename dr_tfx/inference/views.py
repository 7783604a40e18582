"""Views of test-time augmentation: ways to look at a photograph, and the way back for maps."""

import dataclasses
import math
from collections.abc import Callable, Mapping

import tensorflow as tf

from dr_tfx.dataset import records
from dr_tfx.input_pipeline import augmentation

ZOOM = 1.1  # The factor of zoom_in, and of zoom_out the other way.
TILT = 10.0  # Degrees of rotate_10 and, the other way, of rotate_350.


@dataclasses.dataclass(frozen=True)
class View:
    """One way to look at a photograph, and the way back.

    Attributes:
      geometry: images or masks (n, size, size, channels) -> the same, moved.
      undo: float32 maps or uint8 masks (n, h, w) of what the view showed, at any resolution ->
        those of the photograph as it is, h and w changed over by a quarter turn. They are 0 where
        the view did not show the photograph.
      photometry: float32 pixels 0..255 -> the same, recoloured.
    """

    geometry: Callable[[tf.Tensor], tf.Tensor] = tf.convert_to_tensor
    undo: Callable[[tf.Tensor], tf.Tensor] = tf.convert_to_tensor
    photometry: Callable[[tf.Tensor], tf.Tensor] = tf.convert_to_tensor

    def apply(self, batch: Mapping[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        """Return a batch as the view shows it.

        Args:
          batch: tensors by name: `image`, float32 pixels 0..255 (n, size, size, 3), and masks,
            uint8 (n, size, size, 1), which move with it; all others stay as they are.
        """
        shown = {
            name: self.geometry(value) if records.has_geometry(name) else value
            for name, value in batch.items()
        }
        return {**shown, records.IMAGE: self.photometry(shown[records.IMAGE])}


def _mirrored(*axes: int) -> View:
    def mirror(x: tf.Tensor) -> tf.Tensor:
        return tf.reverse(x, axes)

    return View(mirror, mirror)


def _turned(quarters: int) -> View:
    """Return the view that turns counter-clockwise, as numpy.rot90 does."""

    def turn(x: tf.Tensor, axis: int) -> tf.Tensor:
        x = tf.convert_to_tensor(x)
        return tf.reverse(tf.transpose(x, [0, 2, 1, *range(3, x.shape.rank)]), [axis])

    there, back = (1, 2) if quarters == 1 else (2, 1)
    return View(lambda x: turn(x, there), lambda maps: turn(maps, back))


def _resampled(*, degrees: float = 0.0, zoom: float = 1.0) -> View:
    """Return the view that turns counter-clockwise and enlarges about the centre.

    The reflection of the photograph comes into view from beyond the border, as in training.
    """
    angle = math.radians(degrees)

    def show(x: tf.Tensor) -> tf.Tensor:
        return augmentation.rotate_and_zoom(x, tf.constant([angle]), tf.constant([1 / zoom]))

    def undo(maps: tf.Tensor) -> tf.Tensor:
        maps = tf.convert_to_tensor(maps)[..., tf.newaxis]
        turn, scale = tf.constant([-angle]), tf.constant([zoom])
        return augmentation.rotate_and_zoom(maps, turn, scale, "CONSTANT")[..., 0]

    return View(show, undo)


# Each name of specs.VIEWS. The first five are those of the published recipe.
VIEWS: dict[str, View] = {
    "identity": View(),
    "left_right": _mirrored(2),
    "up_down": _mirrored(1),
    "left_right_up_down": _mirrored(1, 2),
    "brighter": View(photometry=lambda pixels: tf.minimum(pixels * 1.1, 255.0)),
    "rotate_90": _turned(1),
    "rotate_180": _mirrored(1, 2),
    "rotate_270": _turned(3),
    "rotate_10": _resampled(degrees=TILT),
    "rotate_350": _resampled(degrees=-TILT),
    "zoom_in": _resampled(zoom=ZOOM),
    "zoom_out": _resampled(zoom=1 / ZOOM),
}
