"""The settings of a run: frozen, validated records of data set, task, model and training.

Configs are `ml_collections.ConfigDict`s only at the boundary (files in `configs/`, flags such as
`--config.training.epochs=2`). `dr_tfx.tasks.from_config` turns one into an `Experiment` with
`read`, which rejects unknown keys, wrong types and settings that contradict each other before any
work is done. The rest of the library sees these records and nothing else.
"""

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Any, Generic, Literal, TypeVar

OPTIMIZERS = ("adam", "adamw", "sgd")
ADDONS = "tfa."
VIEWS = (
    "identity",
    "left_right",
    "up_down",
    "left_right_up_down",
    "brighter",
    "rotate_90",
    "rotate_180",
    "rotate_270",
    "rotate_10",
    "rotate_350",
    "zoom_in",
    "zoom_out",
)
METHODS = ("gradcam", "gradcam++", "hirescam", "occlusion")  # Of heat maps; the first by default.
# Of their figures, as matplotlib calls them; perceptually uniform but for the published recipe's.
COLORMAPS = ("viridis", "cividis", "inferno", "magma", "plasma", "jet")
UNGATED = ("ct",)  # Recipes without a quality gate.


class ConfigError(ValueError):
    """A config that cannot be run: says what was got, what was expected and the likely fix."""


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The way from a photograph to an example. Changing any field invalidates shards and bundles.

    The quality gate finds files that tell a model nothing. `quality_gate` says what becomes of
    them: `reject` refuses them, `count` keeps and flags them, `off` does not look. The gate of
    `reference` and `fundus` finds photographs without a gradable retina. The recipes of `UNGATED`
    have none and take only `off`.
    """

    name: Literal["reference", "fundus", "ct"] = "fundus"  # A line of recipes.RECIPES.
    size: int = 224  # Height and width of an example, in pixels.
    clip_limit: float = 2.0  # CLAHE's contrast limit.
    tiles: int = 8  # CLAHE's tiles a side.
    encoding: Literal["raw", "png"] = "raw"  # Both lossless; raw is faster, png smaller.
    quality_gate: Literal["off", "count", "reject"] = "count"


@dataclasses.dataclass(frozen=True)
class Split:
    """Who is in train, validation and test.

    `patient` keeps all photographs of one patient in one split, stratified. `image` is
    scikit-learn's `train_test_split` over photographs: it leaks, and is here to reproduce published
    numbers. Both keep byte-identical files in one split, and both look at all rows: another row
    moves others.

    `hash` decides by seed and patient alone: all photographs of a patient are in one split, and
    none ever moves when the data set grows or shrinks. It is not stratified (`strata` does not
    matter), the fractions hold within sampling error, over patients, and byte-identical files of
    two patients may be parted.

    `external` makes everything `test`, for photographs that a model is evaluated on and none is
    trained on.
    """

    method: Literal["patient", "image", "hash", "external"] = "patient"
    validation: float = 0.2  # Fraction of all photographs.
    test: float = 0.0  # Fraction of all photographs; 0 for none.
    strata: tuple[int, ...] = ()  # Label -> stratum of the split; empty: the label itself.
    seed: int = 42


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """A folder of photographs and a label CSV, and what is made of them."""

    name: str = "dataset"
    image_column: str = "image"  # File name without folder; the extension may be left out.
    label_column: str = "level"
    label_names: tuple[str, ...] = ("0", "1")  # Labels are 0 .. len - 1.
    patient_pattern: str = ""  # Regex whose first group is the patient; "": photograph = patient.
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    split: Split = dataclasses.field(default_factory=Split)
    shard_examples: int = 512  # Most examples in one shard: the unit of work and of resume.
    max_reject_rate: float = 0.02  # The job fails above this fraction of rejected rows.


@dataclasses.dataclass(frozen=True)
class Task:
    """What is predicted. Each kind of task adds its own settings in a subclass."""

    name: str = "task"
    kind: str = "binary"  # A name in dr_tfx.tasks.KINDS.


@dataclasses.dataclass(frozen=True)
class Model:
    """Backbone and head.

    A backbone with pre-trained weights has its last `trainable_layers` layers fine-tuned.
    `batch_norm='frozen'` keeps every BatchNorm of the backbone in inference mode;
    `'trainable'` lets those among the fine-tuned layers learn, with Keras' momentum of .999.
    `from_scratch='whole'` trains the whole backbone, BatchNorm included, when `weights='none'`;
    `'as_pretrained'` treats random weights like pre-trained ones, as a naive recipe does.
    """

    backbone: str = "MobileNetV2"  # Any name in network.BACKBONES.
    weights: str = "imagenet"  # imagenet | none | path of a Keras .weights.h5 file.
    from_scratch: Literal["whole", "as_pretrained"] = "whole"
    trainable_layers: int = 50  # -1: all.
    batch_norm: Literal["frozen", "trainable"] = "frozen"
    input_scaling: Literal["backbone", "unit"] = "backbone"  # unit: [0, 1] whatever it expects.
    pooling: Literal["avg", "max", "avg_max"] = "avg"  # Over the backbone's feature map.
    hidden: tuple[int, ...] = ()  # Width of the dense layers between pooling and output.
    dropout: tuple[float, ...] = (0.2,)  # Before each hidden layer and before the output.
    head_batch_norm: bool = False  # Before each hidden layer.


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes of training images. Each is off at its zero."""

    horizontal_flip: bool = True
    vertical_flip: bool = False
    rotation: float = 0.0  # Largest angle, as a fraction of a full turn, either way.
    zoom: float = 0.0  # Largest relative change of height and width, either way.
    contrast: float = 0.0  # Largest relative change of contrast, either way.
    brightness: float = 0.0  # Largest relative change of brightness, either way.


@dataclasses.dataclass(frozen=True)
class Training:
    """How the model is fitted.

    `loss`, `optimizer` and `metrics` take a name of ours, or one of tensorflow-addons such as
    `tfa.SigmoidFocalCrossEntropy`, which needs the extra `addons`; `arguments` holds the latter's
    keyword arguments by class: `{'SigmoidFocalCrossEntropy': {'gamma': 1.5}}`.

    Three settings correct for rare classes, each by itself: which examples are drawn (`balance`,
    `label_weights`), what each costs (`class_weights`), and the loss's own `focal_alpha`. Two at
    once correct twice, which is refused unless `double_correction` says that it is meant.
    """

    seed: int = 0
    epochs: int = 30
    batch_size: int = 32  # Over all devices.
    learning_rate: float = 1e-3
    optimizer: str = "adam"  # adam, adamw, sgd, or tfa.<class>.
    weight_decay: float = 0.004  # Of adamw, decoupled.
    loss: str = "focal"  # focal, cross_entropy, or tfa.<class>.
    focal_gamma: float = 1.5
    focal_alpha: float = 0.5
    metrics: tuple[str, ...] = ()  # Besides AUC and accuracy: kappa, or tfa.<class>.
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    balance: Literal["oversample", "none"] = "oversample"  # Oversample: every class equally often.
    label_weights: tuple[
        float, ...
    ] = ()  # Share of each label among those drawn, if not balance's.
    anneal_epochs: int = 0  # The mix goes from the above to the natural one in so many; 0: stays.
    mix: Literal["random", "exact"] = "random"  # Shares hold by chance, or by count every epoch.
    class_weights: tuple[float, ...] = ()  # Factor of each class's loss; empty: 1.
    double_correction: bool = False
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = "auto"
    deterministic: bool = False  # Bit-identical weights from one run to the next; slower.
    checkpoint_steps: int = 500  # Steps between checkpoints, besides one after every epoch.
    max_memory_gb: float = 30.0  # Of the whole process tree; the run stops before it is killed.
    select_by: str = "val_auc"  # Column of history.csv that picks the best checkpoint.
    early_stopping_monitor: str = "val_auc"
    early_stopping_patience: int = 10  # Epochs without improvement.
    plateau_monitor: str = "val_loss"
    plateau_patience: int = 3
    plateau_factor: float = 0.5


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """How the model is scored. Each kind of task adds its own settings in a subclass."""

    views: tuple[str, ...] = ("identity",)  # Test-time augmentation; some of VIEWS.
    batch_size: int = 64
    bootstrap_resamples: int = 2000


_TaskT = TypeVar("_TaskT", bound=Task)
_EvaluationT = TypeVar("_EvaluationT", bound=Evaluation)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Generic[_TaskT, _EvaluationT]):
    """Everything a run needs to know besides its folders.

    The kind of task decides the classes of `task` and `evaluation`, which have its own settings.
    """

    dataset: DatasetSpec = dataclasses.field(default_factory=DatasetSpec)
    task: _TaskT
    model: Model = dataclasses.field(default_factory=Model)
    training: Training = dataclasses.field(default_factory=Training)
    evaluation: _EvaluationT


def read(
    config: Mapping[str, Any], *, task: type[Task] = Task, evaluation: type[Evaluation] = Evaluation
) -> Experiment:
    """Return a ConfigDict, or nested mapping, as a validated `Experiment`.

    The rules that span several groups of settings belong to the kind of task, and are not checked
    here: `dr_tfx.tasks.from_config` checks both.

    Args:
      config: the settings that differ from the defaults.
      task: the class of `Experiment.task`.
      evaluation: the class of `Experiment.evaluation`.

    Raises:
      ConfigError: unknown key, wrong type, value out of range or contradicting settings; the
        message names the dotted key.
    """
    classes = {"task": task, "evaluation": evaluation}
    given = {group: config.get(group, {}) for group in classes}
    experiment = _build(Experiment, {**config, **given}, "config", classes)
    _check_dataset(experiment.dataset)
    _check_model(experiment.model)
    _check_training(experiment.training)
    _check_evaluation(experiment.evaluation)
    return experiment


def read_dataset(settings: Mapping[str, Any]) -> DatasetSpec:
    """Return the settings of a data set alone, validated.

    Raises:
      ConfigError: see `read`.
    """
    spec = _build(DatasetSpec, settings, "config.dataset")
    _check_dataset(spec)
    return spec


def to_dict(spec: Any) -> dict[str, Any]:
    """A spec as plain, JSON-ready dicts; `from_config` reads it back."""
    return {
        key: list(value) if isinstance(value, tuple) else value
        for key, value in _shallow(spec).items()
    }


def _shallow(spec: Any) -> dict[str, Any]:
    fields = {f.name: getattr(spec, f.name) for f in dataclasses.fields(spec)}
    return {k: to_dict(v) if dataclasses.is_dataclass(v) else v for k, v in fields.items()}


def _build(kind: Any, config: Any, where: str, classes: Mapping[str, type] | None = None) -> Any:
    """Return `config` as a record of the class `kind`; `classes` replace those of its fields."""
    if not hasattr(config, "keys"):
        raise ConfigError(f"{where} is {config!r}; expected a group of settings.")
    fields = {f.name: f for f in dataclasses.fields(kind)}
    unknown = sorted(set(config.keys()) - set(fields))
    if unknown:
        raise ConfigError(
            f"{where} has no setting {', '.join(map(repr, unknown))}; "
            f"it knows {', '.join(sorted(fields))}. A typing error?"
        )
    hints = typing.get_type_hints(kind) | dict(classes or {})
    values = {}
    for key in config:
        path = f"{where}.{key}"
        if dataclasses.is_dataclass(hints[key]):
            values[key] = _build(hints[key], config[key], path)
        else:
            values[key] = _convert(hints[key], config[key], path)
    return kind(**values)


def _convert(hint: Any, value: Any, where: str) -> Any:
    """`value` as the field's type, or a ConfigError. No silent conversions but int to float."""
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is Literal:
        if value in args:
            return value
        raise ConfigError(f"{where} is {value!r}; expected one of {', '.join(map(repr, args))}.")
    if origin is tuple:
        if isinstance(value, str | bytes) or not hasattr(value, "__iter__"):
            raise ConfigError(f"{where} is {value!r}; expected a sequence.")
        items = list(value)
        kinds = [args[0]] * len(items) if args[-1] is Ellipsis else list(args)
        if len(items) != len(kinds):
            raise ConfigError(f"{where} has {len(items)} values; expected {len(kinds)}.")
        return tuple(
            _convert(k, v, f"{where}[{i}]")
            for i, (k, v) in enumerate(zip(kinds, items, strict=True))
        )
    if origin is Mapping:
        if not hasattr(value, "keys"):
            raise ConfigError(f"{where} is {value!r}; expected names and values.")
        return {str(key): _plain(value[key]) for key in value}
    if hint is float and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if not isinstance(value, hint) or (hint is int and isinstance(value, bool)):
        raise ConfigError(f"{where} is {value!r}; expected {hint.__name__}.")
    return value


def _plain(value: Any) -> Any:
    """Nested mappings and sequences as dicts and lists, as JSON gives them back."""
    if hasattr(value, "keys"):
        return {str(key): _plain(value[key]) for key in value}
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def require(holds: bool, message: str) -> None:
    """Raise a ConfigError with this message unless the condition holds."""
    if not holds:
        raise ConfigError(message)


def _check_dataset(spec: DatasetSpec) -> None:
    labels, split, recipe = len(spec.label_names), spec.split, spec.recipe
    require(labels >= 2, "config.dataset.label_names needs at least two labels.")
    require(bool(spec.name), "config.dataset.name is empty.")
    require(
        16 <= recipe.size <= 4096,
        f"config.dataset.recipe.size is {recipe.size}; expected 16 to 4096 pixels.",
    )
    require(
        recipe.clip_limit > 0 and recipe.tiles > 0,
        "config.dataset.recipe needs clip_limit and tiles above 0.",
    )
    require(
        recipe.quality_gate == "off" or recipe.name not in UNGATED,
        f"config.dataset.recipe.quality_gate is {recipe.quality_gate!r}, but the recipe "
        f"{recipe.name!r} has no gate that could flag anything; set it to 'off'.",
    )
    require(
        0 < split.validation < 1 and 0 <= split.test < 1 and split.validation + split.test < 1,
        f"config.dataset.split has validation={split.validation} and test={split.test}; "
        "expected fractions of the whole that leave something to train on.",
    )
    require(
        not split.strata or len(split.strata) == labels,
        f"config.dataset.split.strata has {len(split.strata)} values for {labels} labels.",
    )
    require(spec.shard_examples > 0, "config.dataset.shard_examples must be above 0.")
    require(
        0 <= spec.max_reject_rate <= 1, "config.dataset.max_reject_rate must be between 0 and 1."
    )
    if spec.patient_pattern:
        try:
            groups = re.compile(spec.patient_pattern).groups
        except re.error as error:
            raise ConfigError(f"config.dataset.patient_pattern is not a regex: {error}.") from error
        require(groups >= 1, "config.dataset.patient_pattern needs a (group) for the patient.")


def _check_model(model: Model) -> None:
    require(
        len(model.dropout) == len(model.hidden) + 1,
        f"config.model.dropout has {len(model.dropout)} values; expected one before each of the "
        f"{len(model.hidden)} hidden layers and one before the output.",
    )
    require(all(0 <= rate < 1 for rate in model.dropout), "config.model.dropout must be in [0, 1).")
    require(all(width > 0 for width in model.hidden), "config.model.hidden must be above 0.")
    require(model.trainable_layers >= -1, "config.model.trainable_layers: -1 (all), 0 or more.")
    require(bool(model.weights), "config.model.weights is empty; 'imagenet', 'none' or a path.")


def _check_training(training: Training) -> None:
    require(0 <= training.seed < 2**31, "config.training.seed must be 0 to 2**31 - 1.")
    names = ("epochs", "batch_size", "learning_rate", "checkpoint_steps", "max_memory_gb")
    for name in names:
        value = getattr(training, name)
        require(value > 0, f"config.training.{name} is {value}; expected more than 0.")
    check_name("optimizer", training.optimizer, OPTIMIZERS)
    named = {training.optimizer, training.loss, *training.metrics}
    for name, arguments in training.arguments.items():
        require(
            ADDONS + name in named,
            f"config.training.arguments has {name!r}, but {ADDONS + name} is not among loss, "
            "optimizer and metrics. (What is not of tensorflow-addons has settings of its own.)",
        )
        require(
            isinstance(arguments, dict),
            f"config.training.arguments.{name} is {arguments!r}; expected keyword arguments, for "
            "example {'num_classes': 2}.",
        )
    require(training.weight_decay >= 0, "config.training.weight_decay must be 0 or more.")
    require(training.focal_gamma >= 0, "config.training.focal_gamma must be 0 or more.")
    require(0 < training.focal_alpha < 1, "config.training.focal_alpha must be between 0 and 1.")
    require(0 < training.plateau_factor < 1, "config.training.plateau_factor: between 0 and 1.")
    for name in ("early_stopping_patience", "plateau_patience"):
        value = getattr(training, name)
        require(value > 0, f"config.training.{name} is {value}; expected more than 0.")
    for name in ("rotation", "zoom", "contrast", "brightness"):
        value = getattr(training.augmentation, name)
        require(0 <= value < 1, f"config.training.augmentation.{name} must be in [0, 1).")
    require(training.anneal_epochs >= 0, "config.training.anneal_epochs must be 0 or more.")


def check_name(key: str, name: str, known: Sequence[str]) -> None:
    """Refuse a loss, an optimizer or a metric that is neither known nor of tensorflow-addons."""
    require(
        name in known or (name.startswith(ADDONS) and len(name) > len(ADDONS)),
        f"config.training.{key} is {name!r}; expected one of {', '.join(known)}, or a class of "
        "tensorflow-addons such as 'tfa.SigmoidFocalCrossEntropy'.",
    )


def check_monitors(training: Training, monitors: tuple[str, ...]) -> None:
    """Refuse a column of history.csv that the kind of task does not have."""
    for name in ("select_by", "early_stopping_monitor", "plateau_monitor"):
        value = getattr(training, name)
        require(value in monitors, f"config.training.{name} is {value!r}; one of {monitors}.")


def check_weights(name: str, values: Sequence[float], *, length: int, things: str) -> None:
    """Refuse weights of `config.training` that are not one positive number for each thing."""
    require(
        not values or (len(values) == length and all(value > 0 for value in values)),
        f"config.training.{name} is {values}; expected {length} numbers above 0, one for each "
        f"of the {things}, or () for none.",
    )


def _check_evaluation(evaluation: Evaluation) -> None:
    require(
        "identity" in evaluation.views[:1],
        "config.evaluation.views must begin with 'identity', the photograph as it is.",
    )
    require(
        set(evaluation.views) <= set(VIEWS) and len(set(evaluation.views)) == len(evaluation.views),
        f"config.evaluation.views is {evaluation.views}; expected some of {VIEWS}, each once.",
    )
    require(
        not {"rotate_180", "left_right_up_down"} <= set(evaluation.views),
        "config.evaluation.views has rotate_180 and left_right_up_down, which are the same view: "
        "it would count twice. Leave one out.",
    )
    require(evaluation.batch_size > 0, "config.evaluation.batch_size must be above 0.")
    require(
        evaluation.bootstrap_resamples >= 100,
        "config.evaluation.bootstrap_resamples below 100 gives no interval.",
    )
