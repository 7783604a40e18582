"""Loss, optimizer and metrics of a run, made from their names.

A name is one of ours, or `tfa.<class>` of tensorflow-addons, which is imported only where a config
names it: its last release needs an environment of its own (`make test-addons`).
"""

import difflib
import functools
import importlib
import inspect
import platform
import types
import warnings
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.tasks import kind

OPTIMIZERS: dict[str, Callable[[specs.Training], keras.optimizers.Optimizer]] = {
    "adam": lambda t: keras.optimizers.Adam(t.learning_rate),
    "adamw": lambda t: keras.optimizers.AdamW(t.learning_rate, weight_decay=t.weight_decay),
    "sgd": lambda t: keras.optimizers.SGD(t.learning_rate, momentum=0.9),
}
"""A constructor for each name. Arguments that a config can change are fields of specs.Training."""


def compile_model(model: keras.Model, experiment: specs.Experiment) -> None:
    """Compile the model with the optimizer, loss and metrics that its config names.

    Raises:
      ConfigError: see `check`; also if a class of tensorflow-addons refuses its arguments, or
        cannot judge the outputs of this kind of task.
    """
    # XLA, Keras 3's default, makes MobileNetV2 on a CPU 5 to 10 times slower: a step with 32
    # images of 96 pixels takes 1.8 s instead of 0.30 s, and 20 s to compile.
    made = optimizer(experiment)
    if experiment.training.optimizer == "adamw":
        made.exclude_from_weight_decay(var_list=undecayed(model))
    model.compile(
        optimizer=made,
        loss=loss(experiment),
        metrics=metrics(experiment),
        jit_compile=False,
    )


def undecayed(model: keras.Model) -> list[Any]:
    """Return the variables that weight decay leaves alone: biases, norms and factors of channels.

    It is for the kernels alone, as in the trainings of ResNet (He et al., "Bag of Tricks for Image
    Classification", CVPR 2019, https://arxiv.org/abs/1812.01187, section 3.1) and of ConvNeXt.
    """

    def is_factor(layer: keras.layers.Layer) -> bool:
        return isinstance(layer, keras.layers.DepthwiseConv2D) and layer.kernel_size == (1, 1)

    return [
        variable
        for layer in model.layers
        for variable in layer.trainable_weights
        if len(variable.shape) < 2 or is_factor(layer)
    ]


def check(experiment: specs.Experiment) -> None:
    """Refuse names and arguments that are not available here. Runs no TensorFlow operation.

    Once it has returned, a saved model that was compiled with them can be loaded as well.

    Raises:
      ConfigError: tensorflow-addons cannot be imported, does not have the class, has it as
        something else, or does not take the arguments; the message names the key.
    """
    training = experiment.training
    named = {"loss": [training.loss], "optimizer": [training.optimizer]}
    for key, names in {**named, "metrics": training.metrics}.items():
        for name in names:
            if name.startswith(specs.ADDONS):
                _addon_class(key, name, experiment)


def loss(experiment: specs.Experiment) -> keras.losses.Loss:
    """Return a new loss, which averages over a batch and reloads without custom code."""
    training, side = experiment.training, tasks.of(experiment).model
    if not training.loss.startswith(specs.ADDONS):
        return side.losses[training.loss](training)
    made = _addon("loss", training.loss, experiment)
    if made.reduction == "none":
        # Many losses of tensorflow-addons give one value a row by default. Keras 2 reports the mean
        # of these but descends their sum, so that the step would grow with the batch.
        made.reduction = "sum_over_batch_size"
    _check_sense(
        side,
        "loss",
        training.loss,
        judge=lambda targets, outputs: made(targets, outputs),
        sensible=lambda good, bad: good < bad,
    )
    return made


def optimizer(experiment: specs.Experiment) -> keras.optimizers.Optimizer:
    """Return a new optimizer with the learning rate `training.learning_rate`."""
    training = experiment.training
    if not training.optimizer.startswith(specs.ADDONS):
        return OPTIMIZERS[training.optimizer](training)
    made = _addon("optimizer", training.optimizer, experiment)
    if not hasattr(made, "learning_rate"):
        raise typed.ConfigError(
            f"config.training.optimizer is {training.optimizer!r}; expected one with a learning "
            "rate, which is lowered when the validation reaches a plateau. Choose another."
        )
    return made


def metrics(experiment: specs.Experiment) -> list[keras.metrics.Metric]:
    """Return new metrics, each of which is a column of history.csv."""
    training, side = experiment.training, tasks.of(experiment).model
    made = [side.metrics[name]() for name in side.watched]
    for name in training.metrics:
        if not name.startswith(specs.ADDONS):
            made.append(side.metrics[name]())
            continue
        metric = _addon("metrics", name, experiment)
        _check_sense(
            side,
            "metrics",
            name,
            judge=functools.partial(_measure, metric),
            sensible=lambda good, bad: good != bad,
        )
        made.append(metric)
    names = [metric.name for metric in made]
    for name in names:
        if names.count(name) > 1:
            raise typed.ConfigError(
                f"config.training.metrics gives two metrics called {name!r}. Remove one, or give "
                "one of tensorflow-addons another name by its argument 'name'."
            )
    return made


# The module of tensorflow-addons for each key of specs.Training.
_ADDON_MODULES = {"loss": "losses", "optimizer": "optimizers", "metrics": "metrics"}


def _addon(key: str, name: str, experiment: specs.Experiment) -> Any:
    """Return an instance of a class of tensorflow-addons, made with its arguments."""
    made_by, arguments = _addon_class(key, name, experiment)
    try:
        return made_by(**arguments)
    except (TypeError, ValueError) as error:
        raise _bad_arguments(name, key, arguments, error) from error


def _addon_class(
    key: str, name: str, experiment: specs.Experiment
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """Return the class that `tfa.<class>` names and the arguments that it will be given."""
    training = experiment.training
    addons = _import_addons(key, name, _ours(key, experiment))
    short = name.removeprefix(specs.ADDONS)
    module = getattr(addons, _ADDON_MODULES[key])
    found: Any = getattr(module, short, None)
    if not _is_a(found, key):
        raise typed.ConfigError(_not_there(addons, key, name))
    arguments = dict(training.arguments.get(short, {}))
    parameters = inspect.signature(found).parameters
    if key == "optimizer":
        if "learning_rate" in arguments:
            raise typed.ConfigError(
                f"config.training.arguments.{short} has 'learning_rate'; set "
                "config.training.learning_rate instead."
            )
        if "learning_rate" in parameters:
            arguments["learning_rate"] = training.learning_rate
    try:
        inspect.signature(found).bind(**arguments)
    except TypeError as error:
        raise _bad_arguments(name, key, arguments, error) from error
    return found, arguments


def _import_addons(key: str, name: str, ours: Sequence[str]) -> types.ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # It warns at every start that its development ended.
            return importlib.import_module("tensorflow_addons")
    except Exception as error:  # It fails in many ways beside another TensorFlow.
        raise typed.ConfigError(
            f"config.training.{key} is {name!r}, which needs tensorflow-addons, and that cannot be "
            f"imported here (Python {platform.python_version()}, TensorFlow {tf.__version__}): "
            f"{error}. It needs an environment of its own with Python 3.11 and TensorFlow 2.15.1: "
            "pip install 'dr_tfx[addons]'. Without it, choose one of "
            f"{', '.join(ours)}."
        ) from error


def _ours(key: str, experiment: specs.Experiment) -> Sequence[str]:
    """Return the names that need no tensorflow-addons."""
    task = tasks.of(experiment)
    return {"loss": task.LOSSES, "optimizer": specs.OPTIMIZERS, "metrics": task.METRICS}[key]


def _is_a(found: Any, key: str) -> bool:
    kinds: Mapping[str, tuple[type, ...]] = {
        "loss": (keras.losses.Loss,),
        "optimizer": (keras.optimizers.Optimizer, keras.optimizers.legacy.Optimizer),
        "metrics": (keras.metrics.Metric,),
    }
    return inspect.isclass(found) and issubclass(found, kinds[key])


def _not_there(addons: types.ModuleType, key: str, name: str) -> str:
    """Return a sentence on why tensorflow-addons has no such class, and which may be meant."""
    short = name.removeprefix(specs.ADDONS)
    for other, module in _ADDON_MODULES.items():
        if _is_a(getattr(getattr(addons, module), short, None), other):
            return (
                f"config.training.{key} is {name!r}, which belongs in config.training.{other}: "
                f"it is one of tensorflow-addons' {module}."
            )
    module = getattr(addons, _ADDON_MODULES[key])
    there = [n for n in dir(module) if _is_a(getattr(module, n), key)]
    meant = difflib.get_close_matches(short, there) or sorted(there)
    return (
        f"config.training.{key} is {name!r}; tensorflow-addons {addons.__version__} has no such "
        f"class among its {_ADDON_MODULES[key]}. Did you mean "
        f"{', '.join(specs.ADDONS + n for n in meant)}?"
    )


def _bad_arguments(
    name: str, key: str, arguments: Mapping[str, Any], error: Exception
) -> typed.ConfigError:
    short = name.removeprefix(specs.ADDONS)
    return typed.ConfigError(
        f"config.training.{key} is {name!r}, which does not take the arguments {dict(arguments)}: "
        f"{error}. Correct config.training.arguments.{short}."
    )


def _measure(metric: keras.metrics.Metric, targets: Any, predictions: Any) -> Any:
    metric.reset_state()
    metric.update_state(targets, predictions)
    value = metric.result()
    metric.reset_state()
    return value


def _check_sense(
    side: kind.ModelSide,
    key: str,
    name: str,
    *,
    judge: Callable[[Any, Any], Any],
    sensible: Callable[[float, float], bool],
) -> None:
    """Refuse a class that cannot tell good outputs of the network from bad ones.

    tensorflow-addons has losses for embeddings and boxes, and metrics for one-hot classes. Some of
    them silently accept a column of probabilities and give a constant.

    Args:
      side: the model side of the kind of task.
      key: the setting, "loss" or "metrics".
      name: its value.
      judge: the loss or metric as a function of targets and outputs.
      sensible: whether its values for right and for wrong outputs make sense.

    Raises:
      ConfigError: the class fails or tells nothing apart.
    """
    if tf.distribute.has_strategy():
        return  # Within a strategy's scope, only a replica can compute.
    targets, *outputs = side.examples_of_sense()
    try:
        good, bad = (
            np.asarray(judge(tf.constant(targets), tf.constant(output))) for output in outputs
        )
        holds = good.ndim == bad.ndim == 0 and bool(
            np.isfinite([good, bad]).all() and sensible(float(good), float(bad))
        )
        what = f"gives {good} for right answers and {bad} for wrong ones"
    except (ValueError, TypeError, tf.errors.OpError) as error:
        holds, what = False, f"fails: {error}"
    if not holds:
        short = name.removeprefix(specs.ADDONS)
        shape = ", ".join(map(str, targets.shape[1:]))
        raise typed.ConfigError(
            f"config.training.{key} is {name!r}, which cannot judge this task's outputs (batch, "
            f"{shape}): it {what}. Other config.training.arguments.{short} may help, such as "
            "num_classes=2 for CohenKappa."
        )
