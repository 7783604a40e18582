"""The last features of a network that still have places: what heat maps explain."""

import keras


def layer(model: keras.Model) -> keras.layers.Layer:
    """Return the layer whose output they are: the last Conv2D before the output layer.

    If a shortcut leads around that convolution, as in residual networks, its output is only a part
    of what the head sees. The layer is then the first one behind it that everything passes through.
    Depthwise and other kinds of convolution, which mix no channels, do not count.

    Raises:
      ValueError: there is none among the model's own layers; a nested model's are not reachable.
    """
    return split(model)[0]


def split(model: keras.Model) -> tuple[keras.layers.Layer, keras.Model]:
    """Return the layer of the last features, and the model from its output on."""
    kinds = [type(layer) is keras.layers.Conv2D for layer in model.layers[:-1]]
    if True not in kinds:
        raise ValueError(
            f"The model {model.name!r} has no Conv2D layer of its own before its output. Build the "
            "backbone flat, with input_tensor=, rather than as one nested layer."
        )
    last = len(kinds) - 1 - kinds[::-1].index(True)
    for found in model.layers[last:-1]:
        try:
            return found, keras.Model(found.output, model.output)
        except ValueError:  # The output needs more than this layer: a shortcut leads around it.
            continue
    raise ValueError(f"All layers of the model {model.name!r} have shortcuts around them.")


def seeing(model: keras.Model) -> keras.Model:
    """Return a model that gives the output, and the mean of the last features over their places.

    The mean is float32 (n, channels).
    """
    pooled = keras.layers.GlobalAveragePooling2D(dtype="float32", name="seen")(layer(model).output)
    return keras.Model(model.inputs, [model.output, pooled])
