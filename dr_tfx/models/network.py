"""The network: a backbone and the layers between it and the task's output, as one flat model."""

import itertools
import math
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import keras

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.models import keras_settings, pretrained, published, small


class Backbone(NamedTuple):
    """A convolutional network without its head.

    Attributes:
      constructor: takes `include_top=False`, `weights`, and `input_tensor` or `input_shape`.
      scale: with `offset`, what brings pixels 0..255 to the range that it was trained on. Each is
        one number, or one for red, green and blue.
      offset: see `scale`.
      stride: pixels a side for one place of the last features.
      reads_bgr: whether its pre-trained weights expect blue before red.
      file: the name that Keras has for the file of its ImageNet weights; "" if there is none.
      of_keras: the network that such files are of, if Keras groups the same numbers otherwise.
    """

    constructor: Callable[..., keras.Model]
    scale: float | Sequence[float]
    offset: float | Sequence[float]
    stride: int = 32
    reads_bgr: bool = False
    file: str = ""
    of_keras: Callable[..., keras.Model] | None = None


BACKBONES = {
    "MobileNetV2": Backbone(
        keras.applications.MobileNetV2,
        1 / 127.5,
        -1.0,
        file="mobilenet_v2_weights_tf_dim_ordering_tf_kernels_1.0_224_no_top.h5",
    ),
    "ResNet50": Backbone(
        keras.applications.ResNet50,
        1.0,
        (-123.68, -116.779, -103.939),
        reads_bgr=True,
        file="resnet50_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    "ResNet50V2": Backbone(
        keras.applications.ResNet50V2,
        1 / 127.5,
        -1.0,
        file="resnet50v2_weights_tf_dim_ordering_tf_kernels_notop.h5",
    ),
    "EfficientNetV2B0": Backbone(
        keras.applications.EfficientNetV2B0, 1.0, 0.0, file="efficientnetv2-b0_notop.h5"
    ),
    "EfficientNetV2B1": Backbone(
        keras.applications.EfficientNetV2B1, 1.0, 0.0, file="efficientnetv2-b1_notop.h5"
    ),
    "EfficientNetV2B2": Backbone(
        keras.applications.EfficientNetV2B2, 1.0, 0.0, file="efficientnetv2-b2_notop.h5"
    ),
    "EfficientNetV2B3": Backbone(
        keras.applications.EfficientNetV2B3, 1.0, 0.0, file="efficientnetv2-b3_notop.h5"
    ),
    "EfficientNetV2S": Backbone(
        keras.applications.EfficientNetV2S, 1.0, 0.0, file="efficientnetv2-s_notop.h5"
    ),
    "MobileNetV3Large": Backbone(
        published.mobilenet_v3_large,
        1.0,
        0.0,
        file="weights_mobilenet_v3_large_224_1.0_float_no_top_v2.h5",
    ),
    "ConvNeXtTiny": Backbone(
        published.convnext_tiny,
        (1 / (255 * 0.229), 1 / (255 * 0.224), 1 / (255 * 0.225)),
        (-0.485 / 0.229, -0.456 / 0.224, -0.406 / 0.225),
        file="convnext_tiny_notop.h5",
        of_keras=keras.applications.ConvNeXtTiny,
    ),
    "EfficientNetLite0": Backbone(published.efficientnet_lite0, 1 / 128, -127 / 128),
    "UNetEncoder": Backbone(small.unet_encoder, 1 / 127.5, -1.0, stride=16),
    "SixConvolutions": Backbone(small.six_convolutions, 1 / 127.5, -1.0, stride=4),
    "PlainConvolutions": Backbone(small.plain_convolutions, 1 / 127.5, -1.0, stride=8),
}
_MOST_WEIGHTS = 2**25  # Of the layers between backbone and output: 128 MiB.
_POOLING = {"average": keras.layers.GlobalAveragePooling2D, "flatten": keras.layers.Flatten}
POOLING = "pool"  # The layer behind the last features.
_DROPOUT = "head_dropout"  # Of networks that give maps, the layer behind them.
SCRATCH_MOMENTUM = 0.9  # With Keras' .999, inference mode needs thousands of steps to be usable.


def build(
    experiment: specs.Experiment, *, load_weights: bool = True, side: int | None = None
) -> keras.Model:
    """Return the network as a flat functional model.

    It maps float32 pixels 0..255 (n, size, size, 3) to the outputs of the kind of task, float32 (n,
    units) or, of maps, (n, size, size, units). It is flat, because a backbone nested as a layer
    breaks Grad-CAM after loading.

    Args:
      experiment: the settings that name the backbone, its weights, the layers behind it and the
        kind of task.
      load_weights: whether to load the pre-trained weights. Pass False where trained weights are
        loaded next.
      side: height and width of what it takes; None for what training sees. Of maps, the weights are
        the same at any.

    Raises:
      ValueError: the backbone is unknown, its weights are not available or do not fit, or the
        layers behind it are too large.
    """
    keras_settings.apply()
    spec = experiment.model
    if spec.backbone not in BACKBONES:
        raise ValueError(
            f"config.model.backbone is {spec.backbone!r}; expected one of {', '.join(BACKBONES)}."
        )
    chosen = BACKBONES[spec.backbone]
    scale, offset = chosen.scale, chosen.offset
    if spec.input_scaling == "unit":
        scale, offset = 1 / 255, 0.0
    size = side or seen_in_training(experiment)
    pixels = keras.Input((size, size, 3), name="pixels")
    x = keras.layers.Rescaling(scale, offset, name="input_scaling")(pixels)
    factor = chosen.stride // spec.output_stride
    if not factor:
        raise ValueError(
            f"config.model.output_stride is {spec.output_stride}, but that of {spec.backbone} is "
            f"{chosen.stride}; set config.model.output_stride={chosen.stride}."
        )
    if factor > 1:
        x = keras.layers.UpSampling2D(factor, interpolation="bilinear", name="enlarged")(x)
    backbone = chosen.constructor(include_top=False, weights=None, input_tensor=x)
    given = pretrained.asked(experiment) if load_weights else pretrained.NONE
    if given != pretrained.NONE and not pretrained.is_run(given):
        pretrained.fill(
            backbone,
            given,
            name=spec.backbone,
            constructor=chosen.of_keras or chosen.constructor,
            file=chosen.file,
            reads_bgr=chosen.reads_bgr,
        )
    _set_trainable(backbone, spec)
    of_task = tasks.of(experiment).model
    if of_task.reads == "pyramid":
        features: Any = _pyramid(backbone, size, spec.dropout[-1])
    else:
        features = _hidden(_POOLING[spec.pooling](name=POOLING)(_features(backbone, spec)), spec)
    network = keras.Model(pixels, of_task.outputs(features), name="network")
    if pretrained.is_run(given):
        pretrained.fill_from_run(network, given)
    return network


def weights_are_here(experiment: specs.Experiment) -> bool:
    """Tell whether the backbone has pre-trained weights that need no download.

    Those of a whole run do not count: they are of a network that has learned the task.
    """
    return pretrained.is_here(
        pretrained.asked(experiment), BACKBONES[experiment.model.backbone].file
    )


def _hidden(x: Any, spec: specs.Model) -> Any:
    """Return what the layers between the backbone's pooled features and the output make of them."""
    _check_size(spec, x.shape[-1])
    for i, width in enumerate(spec.hidden):
        if spec.head_batch_norm:
            x = keras.layers.BatchNormalization(name=f"head_bn_{i}")(x)
        x = keras.layers.Dropout(spec.dropout[i], name=f"head_dropout_{i}")(x)
        x = keras.layers.Dense(width, activation="relu", name=f"head_dense_{i}")(x)
    return keras.layers.Dropout(spec.dropout[-1], name=_DROPOUT)(x)


def seen_in_training(experiment: specs.Experiment) -> int:
    """Return the height and width of what training sees: whole pictures, or patches of them."""
    patches = tasks.of(experiment).data.patches
    return patches.side if patches else experiment.dataset.recipe.size


def _pyramid(backbone: keras.Model, size: int, dropout: float) -> dict[int, Any]:
    """Return the last features of a backbone at each size, by their height and width.

    These are the size of the picture, at which a backbone may have nothing but the picture itself,
    half of it, and so on. The smallest have dropout.

    Raises:
      ValueError: the size of the picture cannot be halved so often.
    """
    last = backbone.output.shape[1]
    sides = [size]
    while sides[-1] > last and sides[-1] % 2 == 0:
        sides.append(sides[-1] // 2)
    if sides[-1] != last:
        raise ValueError(
            f"config.dataset.recipe.size is {size}; maps need a size that {backbone.name} halves "
            f"without a rest until {last} places are left. Set a multiple of 32."
        )
    found: dict[int, Any] = {}
    for layer in backbone.layers:
        shape = layer.output.shape
        # Padding in front of a convolution gives other sizes, by a pixel or a few.
        if len(shape) == 4 and shape[1] == shape[2] and shape[1] in sides:
            found[shape[1]] = layer.output
    found[last] = keras.layers.Dropout(dropout, name=_DROPOUT)(backbone.output)
    return found


def _features(backbone: keras.Model, spec: specs.Model) -> Any:
    """Return the last features of a backbone, with finer ones as further channels.

    Finer ones are those of the last layer with so many times the places a side. They are averaged
    over what is one place of the last features, so that every channel passes through one layer,
    which heat maps explain.

    Raises:
      ValueError: the backbone has no layer with so many places.
    """
    last, factors = backbone.output, spec.finer_features
    height, width = last.shape[1:3]
    parts = [last]
    for factor in factors:
        finer = [
            output
            for layer, output in ((layer, layer.output) for layer in backbone.layers[1:])
            if len(output.shape) == 4
            and not isinstance(layer, keras.layers.ZeroPadding2D)
            and output.shape[1] > height
            and all(-(-output.shape[i] // factor) == last.shape[i] for i in (1, 2))
        ]
        if not finer:
            raise ValueError(
                f"config.model.finer_features has {factor}, but {spec.backbone} has no features "
                f"with {factor} times {height}x{width} places. Leave it out."
            )
        parts.append(keras.layers.AveragePooling2D(factor, padding="same")(finer[-1]))
    return keras.layers.Concatenate(name="all_features")(parts) if factors else last


def _check_size(spec: specs.Model, features: int) -> None:
    """Refuse layers between backbone and output that would take all of the memory."""
    widths = [features, *spec.hidden]
    weights = sum(a * b for a, b in itertools.pairwise(widths))
    if weights > _MOST_WEIGHTS:
        raise ValueError(
            f"config.model.hidden is {spec.hidden}, layers of {weights:,} weights behind the "
            f"{features} features of {spec.backbone}; expected {_MOST_WEIGHTS:,} at most."
        )


def _set_trainable(backbone: keras.Model, spec: specs.Model) -> None:
    """Freeze the layers of the backbone that are not to learn.

    A BatchNorm that is not trainable runs in inference mode.
    """
    norms = [x for x in backbone.layers if isinstance(x, keras.layers.BatchNormalization)]
    if spec.weights == "none" and spec.from_scratch == "whole":
        for layer in norms:
            layer.momentum = SCRATCH_MOMENTUM
        return
    if spec.trainable_layers >= 0:
        for layer in backbone.layers[: len(backbone.layers) - spec.trainable_layers]:
            layer.trainable = False
    if spec.batch_norm == "frozen":
        for layer in norms:
            layer.trainable = False


def rates(model: keras.Model, decay: float) -> list[tuple[Any, float]]:
    """Return the weights of the backbone that learn, each with its share of the learning rate.

    It is the decay to the power of 1 for the layers of the last features, of 2 for those of twice
    the places a side, and so on. Howard and Ruder, "Universal Language Model Fine-tuning for Text
    Classification", ACL 2018, https://arxiv.org/abs/1801.06146, let layers learn so.

    Args:
      model: a network of `build`.
      decay: `Training.layer_decay`.
    """
    names = [layer.name for layer in model.layers]  # What needs a layer comes behind it.
    end = names.index(POOLING if POOLING in names else _DROPOUT)
    sides: list[int] = []  # Where each layer's features lie; what has one place weighs the others.
    for layer in model.layers[:end]:
        shape = layer.output.shape
        whole = len(shape) == 4 and shape[1] > 1
        sides.append(shape[1] if whole else sides[-1])
    return [
        (weight, decay ** (1 + max(0, round(math.log2(side / sides[-1])))))
        for layer, side in zip(model.layers[:end], sides, strict=True)
        for weight in layer.trainable_weights
    ]


def synchronized(model: keras.Model) -> keras.Model:
    """Return a copy of the model in which a BatchNorm that learns sees the batch of all devices.

    Otherwise it would see only its own device's part. So it learns what it would on one device,
    and all devices have the same moving statistics, of which only the first one's are saved.
    """

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            config["synchronized"] = layer.trainable
        return type(layer).from_config(config)

    result = keras.models.clone_model(model, clone_function=clone)
    result.set_weights(model.get_weights())
    return result
