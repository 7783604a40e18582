"""Heat maps of the places of a photograph that raise the model's score. Pure: arrays in and out.

There are four methods, by name in `METHODS`. Three of them weigh A, the last features that still
have places (height, width, channels), with g = dy / dA, where y is the explained score:

    gradcam     sum over k of (mean of g_k over the places) * A_k
    gradcam++   sum over k of (a_k . max(g_k, 0)) * A_k,  a = 1 / (2 + g_k * (sum of A_k))
    hirescam    sum over k of g_k * A_k, place by place
    occlusion   the loss of y when a square of the photograph is hidden; slow, needs no gradient

In the map of each method, negative values become 0 and the rest is divided by its maximum.

The kind of task says what y is (`ModelSide.explained`), in front of the output's activation: for a
probability it is the logit. For `gradcam` and `hirescam` the probability would give the same map:
its gradient is p (1 - p) times the logit's, and a factor common to all channels cancels in the
division. But the logit's gradient does not vanish where p is rounded to 0 or 1. So `gradcam` gives
the map of the published recipe, which differentiates the probability. Where the output is the mean
of several probabilities, as that of an ensemble, y is of the mean of their logits.
"""

import dataclasses
from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dr_tfx.models import last_features

_GRID = 16  # Occlusion hides a square around the middle of each of 16 by 16 places in turn.


class HeatMaps:
    """Heat maps of one model by one method, for batches of any size.

    It builds one graph when it is made. The backbone runs forward once. The gradient is taken from
    the score back to the last features only, through a float32 copy of the layers between, so that
    it neither vanishes nor loses digits in mixed precision. The copy keeps the weights that the
    model had when it was made.

    Attributes:
      title: the name of the method in a figure.
      features: a function from images to the last features, float32 (n, h, w, channels), and the
        model's output.
      of_features: a function from such features to maps, for methods that need no images.
    """

    def __init__(
        self,
        model: keras.Model,
        *,
        explained: Callable[[tf.Tensor], tf.Tensor],
        method: str = "gradcam",
    ):
        """Prepare the maps of a flat model.

        Args:
          model: a functional model from images (n, size, size, 3) to outputs (n, ...), whose
            convolutions are among its own layers.
          explained: a function from the model's output in front of its activation to the score
            (n,) that is explained, as `ModelSide.explained`.
          method: a name in `METHODS`.

        Raises:
          ValueError: there is no such method or no Conv2D, or `explained` gives another shape.
        """
        if method not in METHODS:
            raise ValueError(f"The method is {method!r}; expected one of {', '.join(METHODS)}.")
        self.title = METHODS[method].title
        network, maps = _SplitNetwork(model, explained), METHODS[method].maps
        image = model.inputs[0]
        self._dtype = tf.as_dtype(image.dtype)
        shape = (None, *tuple(image.shape)[1:])

        @tf.function(input_signature=[tf.TensorSpec(shape, self._dtype)], autograph=False)
        def heatmaps(images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
            features, output = network.forward(images)
            seen = tf.reduce_mean(features, axis=(1, 2))
            return _from_0_to_1(maps(network, images, features)), output, seen

        self._heatmaps = heatmaps
        self.features = network.forward
        self.of_features = lambda features: _from_0_to_1(maps(network, None, features))

    def __call__(self, images: np.ndarray | tf.Tensor) -> tuple[np.ndarray, np.ndarray]:
        """Return the heat maps of a batch, and the model's output.

        Args:
          images: RGB (n, size, size, 3), 0 to 255, uint8 or float.

        Returns:
          The maps, float32 (n, height, width), at the resolution of the features or of occlusion's
          grid, each from 0 to 1; a map is 0 everywhere if nothing raises the score. And the model's
          output for the images, float32 (n, ...).
        """
        return self.seen(images)[:2]

    def seen(self, images: np.ndarray | tf.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return what a call returns, and the mean of the features, float32 (n, channels)."""
        maps, output, seen = self._heatmaps(tf.cast(images, self._dtype))
        return maps.numpy(), output.numpy(), seen.numpy()


def _from_0_to_1(maps: tf.Tensor) -> tf.Tensor:
    """Return maps without what is negative, each divided by its maximum."""
    raised = tf.nn.relu(maps)
    highest = tf.reduce_max(raised, axis=(1, 2), keepdims=True)
    return tf.math.divide_no_nan(raised, highest)


class _SplitNetwork:
    """A model in two parts: images to the last features, and features to the explained score."""

    def __init__(self, model: keras.Model, explained: Callable[[tf.Tensor], tf.Tensor]):
        layer, head = last_features.split(model)
        self._both = keras.Model(model.inputs, [layer.output, model.output])
        self._head, self._explained = _in_float32(head), explained
        output = self._head.output
        score = tf.function(explained, autograph=False).get_concrete_function(
            tf.TensorSpec(output.shape)
        )
        if score.output_shapes.rank != 1:
            raise ValueError(
                f"The explained score has shape {score.output_shapes}; expected one number per "
                f"image, (None,), of an output of shape {tuple(output.shape)}."
            )

    def forward(self, images: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        """Return the features, float32 (n, h, w, channels), and the model's output."""
        features, output = self._both(images, training=False)
        return tf.cast(features, tf.float32), output

    def score(self, features: tf.Tensor) -> tf.Tensor:
        """Return the explained score of features, float32 (n,)."""
        return self._explained(self._head(features, training=False))

    def gradient(self, features: tf.Tensor) -> tf.Tensor:
        """Return the gradient of each image's score by its features: float32 of their shape."""
        return tf.gradients(self.score(features), features)[0]


def _in_float32(head: keras.Model) -> keras.Model:
    """Return a copy that computes in float32 and ends in front of the output's activation.

    The activations of what is merely averaged are left out likewise.
    """
    ends = {head.layers[-1].name}
    if isinstance(head.layers[-1], keras.layers.Average):
        averaged = {id(tensor) for tensor in head.layers[-1].input}
        ends = {layer.name for layer in head.layers if id(layer.output) in averaged}

    def copied(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config() | {"dtype": "float32"}
        if layer.name in ends and "activation" in config:
            config["activation"] = "linear"
        is_norm = type(layer) is keras.layers.BatchNormalization
        return (_Normalization if is_norm else type(layer)).from_config(config)

    features = keras.Input(tuple(head.inputs[0].shape)[1:], dtype="float32")
    copy = keras.models.clone_model(head, input_tensors=features, clone_function=copied)
    for layer in head.layers[1:]:
        copy.get_layer(layer.name).set_weights(layer.get_weights())
    return copy


class _Normalization(keras.layers.BatchNormalization):
    """BatchNormalization in inference, in sums and products alone, which exports can say."""

    def call(self, features: tf.Tensor, **kwargs: Any) -> tf.Tensor:
        del kwargs
        offset, scale = self.beta if self.center else None, self.gamma if self.scale else None
        return tf.nn.batch_normalization(
            features, self.moving_mean, self.moving_variance, offset, scale, self.epsilon
        )


def _gradcam(network: _SplitNetwork, images: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
    """Selvaraju et al., "Grad-CAM: Visual Explanations from Deep Networks via Gradient-based
    Localization", ICCV 2017, https://arxiv.org/abs/1610.02391.
    """
    del images
    weights = tf.reduce_mean(network.gradient(features), axis=(1, 2), keepdims=True)
    return tf.reduce_sum(weights * features, axis=-1)


def _gradcam_plus_plus(network: _SplitNetwork, images: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
    """Chattopadhay et al., "Grad-CAM++: Generalized Gradient-based Visual Explanations for Deep
    Convolutional Networks", WACV 2018, https://arxiv.org/abs/1710.11063, equations 10 and 19.

    The class score is exp(y), so that its derivatives are powers of g and the factor exp(y) cancels
    in the division; so does g squared in a = g^2 / (2 g^2 + (sum of A) g^3).
    """
    del images
    gradient = network.gradient(features)
    total = tf.reduce_sum(features, axis=(1, 2), keepdims=True)
    shares = tf.math.divide_no_nan(1.0, 2.0 + gradient * total)
    weights = tf.reduce_sum(shares * tf.nn.relu(gradient), axis=(1, 2), keepdims=True)
    return tf.reduce_sum(weights * features, axis=-1)


def _hirescam(network: _SplitNetwork, images: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
    """Draelos and Carin, "Use HiResCAM instead of Grad-CAM for faithful explanations of
    convolutional neural networks", 2020, https://arxiv.org/abs/2011.08891.
    """
    del images
    return tf.reduce_sum(network.gradient(features) * features, axis=-1)


def _occlusion(network: _SplitNetwork, images: tf.Tensor, features: tf.Tensor) -> tf.Tensor:
    """Zeiler and Fergus, "Visualizing and Understanding Convolutional Networks", ECCV 2014,
    https://arxiv.org/abs/1311.2901: a square filled with the photograph's mean colour.

    The photograph is cut into `_GRID` squares a side, and around the middle of each a square twice
    as large is hidden, a row of them at a time: `_GRID` passes of a batch of `_GRID` an image.
    """
    size = images.shape[1]
    middles = (tf.range(_GRID, dtype=tf.float32) + 0.5) * (size / _GRID)
    pixels = tf.range(size, dtype=tf.float32) + 0.5
    hidden = tf.abs(pixels - middles[:, tf.newaxis]) < size / _GRID  # (grid, size)

    def one_image(both: tuple[tf.Tensor, tf.Tensor]) -> tf.Tensor:
        image, score = both
        colour = tf.reduce_mean(image, axis=(0, 1))

        def one_row(rows: tf.Tensor) -> tf.Tensor:
            squares = rows[tf.newaxis, :, tf.newaxis] & hidden[:, tf.newaxis, :]
            seen = tf.where(squares[..., tf.newaxis], colour, image)
            return score - network.score(network.forward(seen)[0])

        return tf.map_fn(one_row, hidden, fn_output_signature=tf.float32)

    return tf.map_fn(one_image, (images, network.score(features)), fn_output_signature=tf.float32)


@dataclasses.dataclass(frozen=True)
class HeatmapMethod:
    """One way to make a heat map.

    Attributes:
      title: its name in a figure.
      maps: a function from the network, images (n, size, size, 3) and their features to maps,
        float32 (n, height, width), of any sign and size.
    """

    title: str
    maps: Callable[[_SplitNetwork, tf.Tensor, tf.Tensor], tf.Tensor]


METHODS = {  # The keys are the names in specs.METHODS.
    "gradcam": HeatmapMethod("Grad-CAM", _gradcam),
    "gradcam++": HeatmapMethod("Grad-CAM++", _gradcam_plus_plus),
    "hirescam": HeatmapMethod("HiResCAM", _hirescam),
    "occlusion": HeatmapMethod("Occlusion", _occlusion),
}
