"""What a run minimises, how, and what it watches: loss, optimizer and metrics by their names.

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
from collections.abc import Callable, Mapping
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dr_tfx.config import specs

# Name -> constructor; more than a learning rate is a setting of its own in specs.Training.
OPTIMIZERS: dict[str, Callable[[specs.Training], keras.optimizers.Optimizer]] = {
    "adam": lambda t: keras.optimizers.Adam(t.learning_rate),
    "adamw": lambda t: keras.optimizers.AdamW(t.learning_rate, weight_decay=t.weight_decay),
    "sgd": lambda t: keras.optimizers.SGD(t.learning_rate, momentum=0.9),
}


def compile_model(model: keras.Model, experiment: specs.Experiment) -> None:
    """Compiles the model with the optimizer, loss and metrics that its config names.

    Raises:
      ConfigError: see `check`; also arguments that a class of tensorflow-addons refuses, and a
        class that cannot judge this head's output.
    """
    # XLA makes MobileNetV2 on a CPU 5 to 10 times slower (a step with 32 images of 96 px: 0.30 s
    # against 1.8 s, and 20 s to compile), although it is Keras 3's default.
    model.compile(
        optimizer=optimizer(experiment),
        loss=loss(experiment),
        metrics=metrics(experiment),
        jit_compile=False,
    )


def check(experiment: specs.Experiment) -> None:
    """Refuses names and arguments that cannot be had here. Runs no TensorFlow operation.

    Once it returns, a saved model that was compiled with them can be loaded, too.

    Raises:
      ConfigError: names the key: tensorflow-addons cannot be imported, does not have the class, has
        it as something else, or does not take the arguments.
    """
    training = experiment.training
    named = {"loss": [training.loss], "optimizer": [training.optimizer]}
    for key, names in {**named, "metrics": training.metrics}.items():
        for name in names:
            if name.startswith(specs.ADDONS):
                _addon_class(key, name, training)


def loss(experiment: specs.Experiment) -> keras.losses.Loss:
    """A new loss; it averages over a batch, and reloads without custom code."""
    training, head = experiment.training, experiment.task.head
    if not training.loss.startswith(specs.ADDONS):
        return LOSSES[head][training.loss](training)
    made = _addon("loss", training.loss, training)
    if made.reduction == "none":
        # As many of tensorflow-addons' are by default: one value a row, which Keras 2 reports as a
        # mean but whose gradient it sums, so that the step would grow with the batch.
        made.reduction = "sum_over_batch_size"
    _check_sense("loss", training.loss, lambda y, p: made(y, p), lambda right, wrong: right < wrong)
    return made


def optimizer(experiment: specs.Experiment) -> keras.optimizers.Optimizer:
    """A new optimizer at `training.learning_rate`."""
    training = experiment.training
    if not training.optimizer.startswith(specs.ADDONS):
        return OPTIMIZERS[training.optimizer](training)
    made = _addon("optimizer", training.optimizer, training)
    if not hasattr(made, "learning_rate"):
        raise specs.ConfigError(
            f"config.training.optimizer is {training.optimizer!r}, which has no learning rate that "
            "a plateau of the validation could lower; choose another."
        )
    return made


def metrics(experiment: specs.Experiment) -> list[keras.metrics.Metric]:
    """New metrics, each a column of history.csv: `auc`, `accuracy` and others."""
    training, head = experiment.training, experiment.task.head
    made = [METRICS[head][name]() for name in ("auc", "accuracy", "predicted_positive")]
    for name in training.metrics:
        if not name.startswith(specs.ADDONS):
            made.append(METRICS[head][name]())
            continue
        metric = _addon("metrics", name, training)
        _check_sense("metrics", name, functools.partial(_measure, metric), lambda a, b: a != b)
        made.append(metric)
    names = [metric.name for metric in made]
    for name in names:
        if names.count(name) > 1:
            raise specs.ConfigError(
                f"config.training.metrics gives two metrics called {name!r}; take one out, or name "
                "one of tensorflow-addons otherwise by its argument 'name'."
            )
    return made


@keras.saving.register_keras_serializable(package="dr_tfx")
class Kappa(keras.metrics.Metric):
    """Cohen's kappa with quadratic weights (Cohen 1968), over all examples since the last reset.

    Targets are class numbers, (n,) or (n, 1). Predictions are the probability of class 1 (n, 1),
    which is the decision when above .5, or the scores of all classes (n, classes), of which the
    highest decides. 0 while chance agreement is perfect: no example, or one class alone.
    """

    def __init__(self, classes: int = 2, name: str = "kappa", dtype: Any = None):
        super().__init__(name=name, dtype=dtype)
        self.classes = classes
        # float32 whatever the policy: float16 cannot count beyond 2048.
        self.confusion = self.add_weight(
            name="confusion", shape=(classes, classes), initializer="zeros", dtype="float32"
        )

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> None:
        scores = tf.convert_to_tensor(y_pred)
        if scores.shape[-1] == 1 or scores.shape.rank == 1:
            decided = tf.cast(tf.reshape(scores, [-1]) > 0.5, tf.int64)
        else:
            decided = tf.argmax(scores, axis=-1)
        weights = None
        if sample_weight is not None:
            weights = tf.reshape(tf.cast(sample_weight, tf.float32), [-1])
        counts = tf.math.confusion_matrix(
            tf.reshape(tf.cast(y_true, tf.int64), [-1]),
            decided,
            num_classes=self.classes,
            weights=weights,
            dtype=tf.float32,
        )
        self.confusion.assign_add(counts)

    def result(self) -> tf.Tensor:
        """The kappa so far, a float32 scalar."""
        counts = tf.convert_to_tensor(self.confusion)
        shares = tf.math.divide_no_nan(counts, tf.reduce_sum(counts))
        by_chance = tf.reduce_sum(shares, axis=1)[:, None] * tf.reduce_sum(shares, axis=0)[None]
        number = tf.range(self.classes, dtype=tf.float32)
        cost = tf.square(number[:, None] - number[None])
        expected = tf.reduce_sum(cost * by_chance)
        observed = tf.reduce_sum(cost * shares)
        return tf.where(expected > 0, 1 - tf.math.divide_no_nan(observed, expected), 0.0)

    def reset_state(self) -> None:
        # Keras 2's own assigns a scalar.
        self.confusion.assign(tf.zeros((self.classes, self.classes)))

    def get_config(self) -> dict[str, Any]:
        return {**super().get_config(), "classes": self.classes}


def _focal(training: specs.Training) -> keras.losses.Loss:
    """Lin et al. 2017, with the balancing factor alpha on the positive class."""
    return keras.losses.BinaryFocalCrossentropy(
        apply_class_balancing=True, alpha=training.focal_alpha, gamma=training.focal_gamma
    )


@keras.saving.register_keras_serializable(package="dr_tfx")
class PredictedPositive(keras.metrics.Mean):
    """Share of scores that mean the second class at .5; near 0 or 1 the model has collapsed."""

    def __init__(self, name: str = "predicted_positive", dtype: Any = "float32"):
        super().__init__(name=name, dtype=dtype)

    def update_state(self, y_true: Any, y_pred: Any, sample_weight: Any = None) -> Any:
        del y_true, sample_weight  # A share of images, whatever each of them counts.
        return super().update_state(tf.cast(tf.reshape(y_pred, [-1]) > 0.5, tf.float32))


# Head -> name -> constructor.
LOSSES: dict[str, dict[str, Callable[[specs.Training], keras.losses.Loss]]] = {
    "sigmoid": {
        "focal": _focal,
        "cross_entropy": lambda _: keras.losses.BinaryCrossentropy(),
    }
}
METRICS: dict[str, dict[str, Callable[[], keras.metrics.Metric]]] = {
    "sigmoid": {
        "auc": lambda: keras.metrics.AUC(num_thresholds=1000, name="auc"),
        "accuracy": lambda: keras.metrics.BinaryAccuracy(name="accuracy"),
        "predicted_positive": PredictedPositive,
        "kappa": Kappa,
    }
}

# Key of specs.Training -> module of tensorflow-addons.
_ADDON_MODULES = {"loss": "losses", "optimizer": "optimizers", "metrics": "metrics"}


def _addon(key: str, name: str, training: specs.Training) -> Any:
    """An instance of a class of tensorflow-addons, with its arguments."""
    made_by, arguments = _addon_class(key, name, training)
    try:
        return made_by(**arguments)
    except (TypeError, ValueError) as error:
        raise _bad_arguments(name, key, arguments, error) from error


def _addon_class(
    key: str, name: str, training: specs.Training
) -> tuple[Callable[..., Any], dict[str, Any]]:
    """The class that `tfa.<class>` names and the arguments it will be given."""
    addons = _import_addons(key, name)
    short = name.removeprefix(specs.ADDONS)
    module = getattr(addons, _ADDON_MODULES[key])
    found: Any = getattr(module, short, None)
    if not _is_a(found, key):
        raise specs.ConfigError(_not_there(addons, key, name))
    arguments = dict(training.arguments.get(short, {}))
    parameters = inspect.signature(found).parameters
    if key == "optimizer":
        if "learning_rate" in arguments:
            raise specs.ConfigError(
                f"config.training.arguments.{short} has 'learning_rate'; that is "
                "config.training.learning_rate."
            )
        if "learning_rate" in parameters:
            arguments["learning_rate"] = training.learning_rate
    try:
        inspect.signature(found).bind(**arguments)
    except TypeError as error:
        raise _bad_arguments(name, key, arguments, error) from error
    return found, arguments


def _import_addons(key: str, name: str) -> types.ModuleType:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # That its development has ended, at every start.
            return importlib.import_module("tensorflow_addons")
    except Exception as error:  # Beside another TensorFlow it fails in many ways.
        raise specs.ConfigError(
            f"config.training.{key} is {name!r}, which needs tensorflow-addons, and that cannot be "
            f"imported here (Python {platform.python_version()}, TensorFlow {tf.__version__}): "
            f"{error}. It takes an environment of its own with Python 3.11 and TensorFlow 2.15.1: "
            "pip install 'dr_tfx[addons]'. Without it, choose a name of ours: "
            f"{', '.join(_OURS[key])}."
        ) from error


_OURS = {"loss": specs.LOSSES, "optimizer": specs.OPTIMIZERS, "metrics": specs.METRICS}


def _is_a(found: Any, key: str) -> bool:
    kinds: Mapping[str, tuple[type, ...]] = {
        "loss": (keras.losses.Loss,),
        "optimizer": (keras.optimizers.Optimizer, keras.optimizers.legacy.Optimizer),
        "metrics": (keras.metrics.Metric,),
    }
    return inspect.isclass(found) and issubclass(found, kinds[key])


def _not_there(addons: types.ModuleType, key: str, name: str) -> str:
    """Why tensorflow-addons has no such class, and what may be meant."""
    short = name.removeprefix(specs.ADDONS)
    for other, module in _ADDON_MODULES.items():
        if _is_a(getattr(getattr(addons, module), short, None), other):
            return (
                f"config.training.{key} is {name!r}, which belongs into config.training.{other}: "
                f"it is one of tensorflow-addons' {module}."
            )
    module = getattr(addons, _ADDON_MODULES[key])
    there = [n for n in dir(module) if _is_a(getattr(module, n), key)]
    meant = difflib.get_close_matches(short, there) or sorted(there)
    return (
        f"config.training.{key} is {name!r}; tensorflow-addons {addons.__version__} has no such "
        f"class among its {_ADDON_MODULES[key]}. Meant: "
        f"{', '.join(specs.ADDONS + n for n in meant)}?"
    )


def _bad_arguments(
    name: str, key: str, arguments: Mapping[str, Any], error: Exception
) -> specs.ConfigError:
    short = name.removeprefix(specs.ADDONS)
    return specs.ConfigError(
        f"config.training.{key} is {name!r}, which does not take the arguments {dict(arguments)}: "
        f"{error}. They are config.training.arguments.{short}."
    )


def _measure(metric: keras.metrics.Metric, targets: Any, predictions: Any) -> Any:
    metric.reset_state()
    metric.update_state(targets, predictions)
    value = metric.result()
    metric.reset_state()
    return value


def _check_sense(
    key: str,
    name: str,
    judge: Callable[[Any, Any], Any],
    sensible: Callable[[float, float], bool],
) -> None:
    """Refuses a class that cannot tell right probabilities from wrong ones.

    tensorflow-addons has losses for embeddings and boxes and metrics for one-hot classes, some of
    which take a column of probabilities without a word and give a constant.
    """
    if tf.distribute.has_strategy():
        return  # Within its scope nothing can be measured outside of a replica.
    targets = np.array([[0], [1]], np.float32)
    try:
        right, wrong = (
            np.asarray(judge(tf.constant(targets), tf.constant(np.abs(targets - error))))
            for error in (np.float32(0.1), np.float32(0.9))
        )
        holds = right.ndim == wrong.ndim == 0 and bool(
            np.isfinite([right, wrong]).all() and sensible(float(right), float(wrong))
        )
        what = f"gives {right} for right answers and {wrong} for wrong ones"
    except (ValueError, TypeError, tf.errors.OpError) as error:
        holds, what = False, f"fails: {error}"
    if not holds:
        short = name.removeprefix(specs.ADDONS)
        raise specs.ConfigError(
            f"config.training.{key} is {name!r}, which cannot judge probabilities of one class "
            f"(batch, 1): it {what}. Other config.training.arguments.{short} may help, such as "
            "num_classes=2 for CohenKappa."
        )
