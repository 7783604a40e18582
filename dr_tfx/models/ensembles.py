"""Several networks as one: the mean of their calibrated probabilities, as one flat model.

The members look at the same pixels. Their last features, one behind the other along the channels,
are the output of the layer `features`, which heat maps explain; each member's head reads its own
channels of it. All layers are Keras' own, so that the model loads without dr_tfx.

Of networks that give maps, the maps are averaged, and there are no such features.
"""

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple, Self

import keras

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.models import network
from dr_tfx.models import precision as dtype_policy
from dr_tfx.tasks.averaging import DenseLayer


class Part(NamedTuple):
    """A network that is to be joined with others.

    Attributes:
      name: in errors.
      model: the network.
      outputs: the layers that stand in place of its output layer.
      maps: the layer that gives its maps; "" if it gives none.
    """

    name: str
    model: keras.Model
    outputs: Sequence[DenseLayer] = ()
    maps: str = ""

    @classmethod
    def calibrated(
        cls, name: str, model: keras.Model, experiment: specs.Experiment, fitted: Any
    ) -> Self:
        """Return a network that is to give calibrated probabilities.

        Args:
          name: of the run, for errors.
          model: what `network.build` gives for the experiment.
          experiment: the settings of the run.
          fitted: what was fitted on its validation.

        Raises:
          ValueError: models of this kind of task have no mean.
        """
        averaging = tasks.of(experiment).averaging
        if averaging.maps:
            return cls(name, model, maps=averaging.maps)
        kernel, bias = model.layers[-1].get_weights()
        return cls(name, model, averaging.layers(kernel, bias, fitted))


def join(parts: Iterable[Part], *, side: int, policy: str) -> keras.Model:
    """Return the mean of networks.

    Args:
      parts: two or more. Each is taken when its turn comes, and its weights are copied.
      side: of what a network takes, in pixels.
      policy: the dtype policy of what the members have in common.

    Returns:
      A model of float32 pixels 0..255 (n, side, side, 3) whose output is the mean, float32.

    Raises:
      ValueError: the last features of one network cannot be laid over those of another, or one has
        other outputs than another.
    """
    pixels = keras.Input((side, side, 3), name="pixels")
    names, features, heads, maps = [], [], [], []
    for number, part in enumerate(parts):
        if part.maps:
            given = part.model.get_layer(part.maps).output
            own = keras.Model(part.model.inputs[0], given)
            maps.append(_copied(own, pixels, f"member_{number}_"))
            continue
        layers = part.model.layers
        first = layers.index(part.model.get_layer(network.POOLING))  # From here on it is a chain.
        backbone = keras.Model(part.model.inputs[0], layers[first].input)
        names.append(part.name)
        features.append(_copied(backbone, pixels, f"member_{number}_"))
        heads.append((layers[first:-1], part.outputs))
    if maps:
        return keras.Model(pixels, _mean(maps), name="network")
    with dtype_policy.within(policy):
        joined = keras.layers.Concatenate(name="features")(_laid_over(features, names))
        places = tuple(joined.shape)[1:]
        deep = keras.layers.Reshape((*places, 1), name="channels")(joined)
    means, before = [], 0
    for number, (head, outputs) in enumerate(heads):
        prefix, width = f"member_{number}_", int(features[number].shape[-1])
        others = (before, places[-1] - before - width)
        with dtype_policy.within(policy):
            x = keras.layers.Cropping3D((0, 0, others), name=f"{prefix}channels")(deep)
            x = keras.layers.Reshape((*places[:2], width), name=f"{prefix}features")(x)
        for layer in head:
            copy = _renamed(layer, prefix)
            x = copy(x)
            copy.set_weights(layer.get_weights())
        means.append(_dense(x, outputs, prefix))
        before += width
    return keras.Model(pixels, _mean(means), name="network")


def _mean(outputs: Sequence[Any]) -> Any:
    return keras.layers.Average(name="score", dtype="float32")(outputs)


def _renamed(layer: keras.layers.Layer, prefix: str) -> keras.layers.Layer:
    """Return a copy of a layer, with a prefix before its name and without its weights."""
    return type(layer).from_config(layer.get_config() | {"name": prefix + layer.name})


def _copied(model: keras.Model, inputs: Any, prefix: str) -> Any:
    """Return the output of a copy of a model on another input, with prefixes as `_renamed`."""
    copy = keras.models.clone_model(
        model, input_tensors=inputs, clone_function=lambda layer: _renamed(layer, prefix)
    )
    for layer in model.layers:
        if layer.weights:
            copy.get_layer(prefix + layer.name).set_weights(layer.get_weights())
    return copy.output


def _laid_over(features: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """Return features with as many places as the finest of them; their means stay.

    Args:
      features: (n, places, places, channels) each.
      names: of the networks, for errors.

    Raises:
      ValueError: the places of one do not divide those of another.
    """
    sides = [int(tensor.shape[1]) for tensor in features]
    finest = max(sides)
    for name, side in zip(names, sides, strict=True):
        if finest % side:
            raise ValueError(
                f"the last features of {name} have {side} places a side, and those of "
                f"{names[sides.index(finest)]} have {finest}: neither divides the other, so that "
                "heat maps would not lie over one another. Train both with the same "
                "config.model.output_stride"
            )
    return [
        tensor
        if side == finest
        else keras.layers.UpSampling2D(finest // side, name=f"member_{number}_places")(tensor)
        for number, (tensor, side) in enumerate(zip(features, sides, strict=True))
    ]


def _dense(x: Any, layers: Sequence[DenseLayer], prefix: str) -> Any:
    """Return the output of dense layers, float32."""
    for place, numbers in enumerate(layers):
        last = place == len(layers) - 1
        layer = keras.layers.Dense(
            len(numbers.bias),
            activation=numbers.activation,
            dtype="float32",
            name=prefix + ("score" if last else f"logits_{place}"),
        )
        x = layer(x)
        layer.set_weights([numbers.kernel, numbers.bias])
    return x
