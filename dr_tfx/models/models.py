"""Backbone and head as one flat Keras model, numeric precision, and the bundle on disk."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf
from absl import logging

from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.tasks.binary import fitting, heads

BUNDLE_FILE = "bundle.json"
MODEL_FILE = "model.keras"

# Name -> constructor, and the scale and offset that bring pixels 0..255 to what it was trained on.
BACKBONES = {
    "MobileNetV2": (keras.applications.MobileNetV2, 1 / 127.5, -1.0),
    "ResNet50V2": (keras.applications.ResNet50V2, 1 / 127.5, -1.0),
    "EfficientNetV2B0": (keras.applications.EfficientNetV2B0, 1.0, 0.0),
}
SCRATCH_MOMENTUM = 0.9  # Keras' .999 needs thousands of steps before inference mode is usable.


def build(experiment: specs.Experiment, *, load_weights: bool = True) -> keras.Model:
    """A flat functional model: float32 pixels 0..255 (n, size, size, 3) -> float32 (n, units).

    Flat, because a backbone nested as a layer breaks Grad-CAM after loading.

    Args:
      experiment: names the backbone, its weights, and the head.
      load_weights: fetch the pre-trained weights. False where trained ones are filled in next.

    Raises:
      ValueError: unknown backbone, or weights that cannot be had or do not fit.
    """
    spec = experiment.model
    if spec.backbone not in BACKBONES:
        raise ValueError(
            f"config.model.backbone is {spec.backbone!r}; expected one of {', '.join(BACKBONES)}."
        )
    constructor, scale, offset = BACKBONES[spec.backbone]
    if spec.input_scaling == "unit":
        scale, offset = 1 / 255, 0.0
    size = experiment.dataset.recipe.size
    pixels = keras.Input((size, size, 3), name="pixels")
    scaled = keras.layers.Rescaling(scale, offset, name="input_scaling")(pixels)
    backbone = constructor(include_top=False, weights=None, input_tensor=scaled)
    if load_weights and spec.weights != "none":
        backbone.set_weights(_pretrained(spec, size).get_weights())
    _set_trainable(backbone, spec)
    head = heads.make(experiment.task)
    x = _pool(backbone.output, spec.pooling)
    for i, width in enumerate(spec.hidden):
        if spec.head_batch_norm:
            x = keras.layers.BatchNormalization(name=f"head_bn_{i}")(x)
        x = keras.layers.Dropout(spec.dropout[i], name=f"head_dropout_{i}")(x)
        x = keras.layers.Dense(width, activation="relu", name=f"head_dense_{i}")(x)
    x = keras.layers.Dropout(spec.dropout[-1], name="head_dropout")(x)
    output = keras.layers.Dense(
        head.units, activation=head.activation, dtype="float32", name="score"
    )(x)
    return keras.Model(pixels, output, name=experiment.task.name)


def _pool(features: Any, pooling: str) -> Any:
    average = keras.layers.GlobalAveragePooling2D(name="average_pool")
    maximum = keras.layers.GlobalMaxPooling2D(name="max_pool")
    if pooling == "avg":
        return average(features)
    if pooling == "max":
        return maximum(features)
    return keras.layers.Concatenate(name="pool")([average(features), maximum(features)])


def _pretrained(spec: specs.Model, size: int) -> keras.Model:
    """A separate backbone holding the weights; the flat one has an input layer more."""
    constructor = BACKBONES[spec.backbone][0]
    if spec.weights == "imagenet":
        try:
            return constructor(include_top=False, weights="imagenet", input_shape=(size, size, 3))
        except Exception as error:  # Keras raises a bare Exception when a download fails.
            raise ValueError(
                f"The ImageNet weights of {spec.backbone} could not be downloaded: "
                f"{str(error).rstrip('.')}. Without network, give a file with "
                "--config.model.weights=PATH, or train from scratch with "
                "--config.model.weights=none."
            ) from error
    if not Path(spec.weights).is_file():
        raise ValueError(
            f"config.model.weights is {spec.weights!r}: no such file. "
            "Expected imagenet, none or the path of a Keras .weights.h5 file."
        )
    donor = constructor(include_top=False, weights=None, input_shape=(size, size, 3))
    try:
        donor.load_weights(spec.weights)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"{spec.weights} does not hold weights of {spec.backbone} without its top: {error}"
        ) from error
    return donor


def _set_trainable(backbone: keras.Model, spec: specs.Model) -> None:
    """What of the backbone learns. A BatchNorm that is not trainable runs in inference mode."""
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


def synchronized(model: keras.Model) -> keras.Model:
    """The same model, in which a BatchNorm that learns sees the batch of all devices.

    And not a device's part of it: so it learns what it would on one device, and all devices have
    the same moving statistics, of which only the first one's would be saved.
    """

    def clone(layer: keras.layers.Layer) -> keras.layers.Layer:
        config = layer.get_config()
        if isinstance(layer, keras.layers.BatchNormalization):
            config["synchronized"] = layer.trainable
        return type(layer).from_config(config)

    result = keras.models.clone_model(model, clone_function=clone)
    result.set_weights(model.get_weights())
    return result


def choose_precision(requested: str) -> str:
    """The Keras dtype policy to use; `auto` picks what the first accelerator is fast at.

    float16 on a GPU with tensor cores (compute capability 7.x), bfloat16 on Ampere or newer and
    on TPU, float32 on a CPU, where 16-bit arithmetic is emulated and several times slower.
    """
    if requested != "auto":
        return requested
    if tf.config.list_logical_devices("TPU"):
        return "mixed_bfloat16"
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "float32"
    details = tf.config.experimental.get_device_details(gpus[0])
    capability = details.get("compute_capability", (0, 0))
    if capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= (7, 0) else "float32"


def set_precision(requested: str) -> str:
    """Sets Keras' global dtype policy and says in the log which and why."""
    policy = choose_precision(requested)
    keras.mixed_precision.set_global_policy(policy)
    devices = tf.config.list_physical_devices("GPU") or tf.config.list_physical_devices("CPU")
    logging.info("Precision %s (asked for: %s) on %s.", policy, requested, devices[0].device_type)
    return policy


@dataclasses.dataclass(frozen=True)
class Bundle:
    """Everything needed to score a raw photograph."""

    model: keras.Model
    experiment: specs.Experiment
    manifest: manifest.Manifest  # Of the data the model was trained on.
    fitted: fitting.Fitted | None  # None until an evaluation of validation has fitted it.
    best_epoch: int
    precision: str
    libraries: dict[str, str]  # Versions that trained it.

    @property
    def threshold(self) -> float | None:
        """The one that decides; None until an evaluation has chosen it."""
        return None if self.fitted is None else self.fitted.threshold


def save_bundle(
    workdir: Path,
    model: keras.Model,
    *,
    experiment: specs.Experiment,
    data: manifest.Manifest,
    precision: str,
    best_epoch: int,
) -> None:
    """Writes model.keras, model.weights.h5 and, last, bundle.json."""
    for name, save in (
        (MODEL_FILE, model.save),
        ("model.weights.h5", model.save_weights),
    ):
        temporary = workdir / f"tmp.{name}"
        save(str(temporary))
        temporary.replace(workdir / name)
    content = {
        "experiment": specs.to_dict(experiment),
        "manifest": data.to_dict(),
        "precision": precision,
        "best_epoch": best_epoch,
        "libraries": {"tensorflow": tf.__version__, "keras": keras.__version__},
        "fitted": None,
    }
    _write_bundle(workdir, content)


def load_bundle(workdir: Path) -> Bundle:
    """Reads a bundle; needs no custom objects.

    Raises:
      FileNotFoundError: no bundle: the training did not finish, or the folder is another one.
      ValueError: the bundle is damaged.
    """
    content = _read_bundle(workdir)
    return Bundle(
        model=keras.models.load_model(workdir / MODEL_FILE, compile=False),
        experiment=specs.from_config(content["experiment"]),
        manifest=manifest.from_dict(content["manifest"]),
        fitted=fitting.from_dict(content["fitted"]) if content.get("fitted") else None,
        best_epoch=content["best_epoch"],
        precision=content["precision"],
        libraries=content["libraries"],
    )


def save_fitted(workdir: Path, fitted: fitting.Fitted) -> None:
    """Stores the operating points and the temperature that an evaluation fitted."""
    _write_bundle(workdir, {**_read_bundle(workdir), "fitted": fitted.to_dict()})


def _read_bundle(workdir: Path) -> dict[str, Any]:
    path = workdir / BUNDLE_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: {workdir} holds no finished training. "
            "Run drtfx-train (the same command again resumes it), or check --workdir."
        )
    return json.loads(path.read_text(encoding="utf-8"))


def _write_bundle(workdir: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    manifest.write_text(workdir / BUNDLE_FILE, text)
