"""Grad-CAM: which places of a photograph raise the model's score. Pure: arrays in, arrays out.

Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
Localization", ICCV 2017, https://arxiv.org/abs/1610.02391. With A the output of the last
convolution (height, width, channels) and y the score of the positive class:

    weight of channel k = mean over the places of dy / dA_k
    heat map            = ReLU(sum over k of weight_k * A_k), divided by its maximum

y is the probability, after the sigmoid. A positive factor common to all channels cancels in the
division, so the logit would give the same map as long as the probability is not exactly 0 or 1.
"""

import cv2
import keras
import matplotlib as mpl
import numpy as np
import tensorflow as tf

_GRADIENT_SCALE = 2.0**10  # Exact in float32; keeps float16 gradients of sure scores above zero.


class GradCam:
    """Heat maps of one model, for batches of any size.

    Builds one graph when made. The gradient is taken from the score back to the convolution only,
    so a batch needs little more memory than its prediction.
    """

    def __init__(self, model: keras.Model):
        """Prepares the maps of a flat model.

        Args:
          model: a functional model, images (n, size, size, 3) to the probability of the positive
            class (n, 1), its convolutions among its own layers.

        Raises:
          ValueError: the output has another shape, or there is no Conv2D.
        """
        if tuple(model.output.shape) != (None, 1):
            raise ValueError(
                f"The model's output has shape {tuple(model.output.shape)}; Grad-CAM explains one "
                "probability per image, shape (None, 1)."
            )
        layer = last_convolution(model)
        image = model.inputs[0]
        both = keras.Model(model.inputs, [layer.output, model.output])
        self._dtype = tf.as_dtype(image.dtype)
        shape = (None, *tuple(image.shape)[1:])

        @tf.function(input_signature=[tf.TensorSpec(shape, self._dtype)])
        def heatmaps(images: tf.Tensor) -> tf.Tensor:
            features, score = both(images, training=False)
            gradient = tf.gradients(_GRADIENT_SCALE * score, features)[0]
            features, gradient = tf.cast(features, tf.float32), tf.cast(gradient, tf.float32)
            weights = tf.reduce_mean(gradient, axis=(1, 2), keepdims=True)
            maps = tf.nn.relu(tf.reduce_sum(weights * features, axis=-1))
            return tf.math.divide_no_nan(maps, tf.reduce_max(maps, axis=(1, 2), keepdims=True))

        self._heatmaps = heatmaps

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """The heat maps of a batch.

        Args:
          images: RGB (n, size, size, 3), 0 to 255, uint8 or float.

        Returns:
          float32 (n, height, width) at the convolution's resolution, each from 0 to 1. A map is 0
          everywhere where nothing raises the score.
        """
        return self._heatmaps(tf.cast(images, self._dtype)).numpy()


def last_convolution(model: keras.Model) -> keras.layers.Layer:
    """The Conv2D nearest the output; depthwise and other kinds, which mix no channels, are passed.

    Raises:
      ValueError: none among the model's own layers; those of a nested model are not reachable.
    """
    for layer in reversed(model.layers):
        if type(layer) is keras.layers.Conv2D:
            return layer
    raise ValueError(
        f"The model {model.name!r} has no Conv2D layer of its own. Build the backbone flat, with "
        "input_tensor=, rather than as one nested layer."
    )


def upsample(heatmap: np.ndarray, height: int, width: int) -> np.ndarray:
    """A float32 heat map (h, w) at another size, bilinear with pixel centres aligned."""
    return cv2.resize(heatmap, (width, height), interpolation=cv2.INTER_LINEAR)


def colorize(heatmap: np.ndarray, colormap: str = "jet") -> np.ndarray:
    """A heat map (h, w), 0 to 1, in colours of matplotlib's 256: uint8 RGB (h, w, 3)."""
    levels = (255 * heatmap).astype(np.uint8)
    return np.asarray(mpl.colormaps[colormap](levels, bytes=True))[..., :3]


def overlay(
    rgb: np.ndarray, heatmap: np.ndarray, *, alpha: float = 0.4, colormap: str = "jet"
) -> np.ndarray:
    """The heat map's colours laid over the photograph.

    alpha * colours + photograph, stretched to 0..255, as https://keras.io/examples/vision/grad_cam
    does it.

    Args:
      rgb: uint8 (height, width, 3).
      heatmap: float32 (h, w), 0 to 1, of any size.
      alpha: weight of the colours.
      colormap: a name in `matplotlib.colormaps`.

    Returns:
      uint8 RGB (height, width, 3).
    """
    colours = colorize(upsample(heatmap, *rgb.shape[:2]), colormap)
    mixed = alpha * colours.astype(np.float32) + rgb
    mixed -= mixed.min()
    return (255 * mixed / max(mixed.max(), 1.0)).astype(np.uint8)
