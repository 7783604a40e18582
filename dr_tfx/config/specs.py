"""The settings of a run: frozen records of data set, task, model, training and evaluation.

Configs are `ml_collections.ConfigDict`s only at the boundary (files in `configs/`, flags such as
`--config.training.epochs=2`). `dr_tfx.tasks.from_config` turns one into an `Experiment` with
`read`, which rejects unknown keys, wrong types, values out of range and settings that contradict
each other before any work is done (`typed`). The rest of the library sees these records and
nothing else.
"""

import dataclasses
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar

from dr_tfx.config.dataset_specs import (
    MOST_PIXELS,
    TAGS,
    UNGATED,
    DatasetSpec,
    Recipe,
    Split,
    label_values,
)
from dr_tfx.config.typed import (
    Count,
    Fraction,
    FractionOrZero,
    NotNegative,
    Positive,
    Rule,
    record,
    require,
)

# The settings of a data set are among those of a run.
__all__ = ["TAGS", "UNGATED", "DatasetSpec", "Recipe", "Split", "label_values"]

OPTIMIZERS = ("adam", "adamw", "sgd")
ADDONS = "tfa."  # Prefix of the classes of tensorflow-addons.
ViewName = Literal[
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
]
VIEWS: tuple[str, ...] = typing.get_args(ViewName)
METHODS = ("gradcam", "gradcam++", "hirescam", "occlusion")  # Heat maps; the first by default.
# Matplotlib's names. All are perceptually uniform but `jet`, which the published recipe uses.
COLORMAPS = ("viridis", "cividis", "inferno", "magma", "plasma", "jet")
_BATCH_BYTES = 512 << 20  # Of the pictures of a batch that is scored: a bundle may be a stranger's.
OUTPUT_STRIDES = (32, 16, 8, 4)
_PLACES = 6  # A side, of the last features: what the error about small pictures advises.


@dataclasses.dataclass(frozen=True)
class Task:
    """The target of the model. Each kind of task adds its own settings in a subclass."""

    name: str = "task"  # What pages and trackers call it.
    kind: str = "binary"  # A name in dr_tfx.tasks.KINDS.


_Layers = Annotated[int, Rule(lambda n: n >= -1, "0 or more, or -1 for all")]


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
    # Pixels of the picture, a side, for one place of the last features. Below 32, the stride of the
    # backbones, the picture is enlarged in front of the backbone: for small pictures.
    output_stride: Literal[32, 16, 8, 4] = 32
    # How the backbone starts; the head, too, with those of a run of the same task. Of the folder of
    # a run of drtfx-pretrain, any other task takes the backbone.
    weights: Annotated[
        str, Rule(bool, "imagenet, none, a run, or the path of a file of weights")
    ] = "imagenet"
    # Without pre-trained weights: train all layers, or those that would be fine-tuned.
    from_scratch: Literal["whole", "as_pretrained"] = "whole"
    trainable_layers: _Layers = 50  # The last ones of the backbone, which learn; 0: none.
    # Frozen: every BatchNorm of the backbone keeps its statistics.
    batch_norm: Literal["frozen", "trainable"] = "frozen"
    input_scaling: Literal["backbone", "unit"] = "backbone"  # unit: [0, 1] whatever it expects.
    # 2 adds the backbone's last features with twice as many places a side, and 4 those with four
    # times as many, to what the head sees: small lesions are in them, where a few photographs are
    # too few to teach the last ones.
    finer_features: tuple[Literal[2, 4, 8], ...] = ()
    # The last features, averaged over the picture or each place by itself.
    pooling: Literal["average", "flatten"] = "average"
    # Width of the dense layers between backbone and output.
    hidden: Annotated[
        tuple[Count, ...], Rule(lambda widths: len(widths) <= 16, "16 layers at most")
    ] = ()
    dropout: tuple[FractionOrZero, ...] = (0.2,)  # Before each hidden layer and before the output.
    head_batch_norm: bool = False  # Before each hidden layer.

    def check(self) -> None:
        """Refuse rates of dropout that do not fit the hidden layers."""
        require(
            len(self.dropout) == len(self.hidden) + 1,
            f"config.model.dropout has {len(self.dropout)} values; expected one before each of the "
            f"{len(self.hidden)} hidden layers and one before the output.",
        )


@dataclasses.dataclass(frozen=True)
class Augmentation:
    """Random changes of training images. Each is off at its zero."""

    horizontal_flip: bool = True  # Left to right, by chance.
    vertical_flip: bool = False  # Top to bottom, by chance.
    rotation: FractionOrZero = 0.0  # Largest angle, as a fraction of a full turn, either way.
    zoom: FractionOrZero = 0.0  # Largest relative change of height and width, either way.
    shift: FractionOrZero = 0.0  # Largest, of width and height each, as a fraction of it, any way.
    contrast: FractionOrZero = 0.0  # Largest relative change of contrast, either way.
    brightness: FractionOrZero = 0.0  # Largest relative change of brightness, either way.
    # Cameras differ in colour. Largest relative change of red, green and blue, each by itself.
    white_balance: FractionOrZero = 0.0
    saturation: FractionOrZero = 0.0  # Largest relative change of a colour's distance from grey.
    gamma: FractionOrZero = 0.0  # Largest relative change of the exponent of values from 0 to 1.
    # Largest standard deviation of a Gaussian blur, in pixels of what the network sees.
    blur: Annotated[float, Rule(lambda x: 0 <= x <= 4, "0 to 4")] = 0.0
    jpeg: FractionOrZero = 0.0  # Largest loss of quality by JPEG: .4 is down to 60 of 100.
    # Alpha of mixup: two pictures of a batch, one through the other, with the targets of both in
    # the same shares. .2 leaves most pictures nearly as they are, 1 mixes in any share.
    mixup: NotNegative = 0.0
    # The same of CutMix: a square of another picture in the place of what is there.
    cutmix: NotNegative = 0.0

    def check(self) -> None:
        """Refuse pictures that are mixed twice."""
        require(
            not (self.mixup and self.cutmix),
            f"config.training.augmentation.mixup is {self.mixup:g} and cutmix {self.cutmix:g}, and "
            "a picture is mixed with one other at most. Set one of them to 0.",
        )


@dataclasses.dataclass(frozen=True)
class Stage:
    """A part of a training in which fewer or more layers learn, such as the head alone."""

    trainable_layers: _Layers  # Of the backbone; see `Model`.
    learning_rate: Positive
    epochs: Count


@dataclasses.dataclass(frozen=True)
class Training:
    """The fitting of the model.

    `loss`, `optimizer` and `metrics` take a name of ours, or a class of tensorflow-addons such as
    `tfa.SigmoidFocalCrossEntropy`, which needs the extra `addons`. `arguments` holds the keyword
    arguments of these classes: `{'SigmoidFocalCrossEntropy': {'gamma': 1.5}}`.

    Three settings correct for rare classes, each by itself: the shares in which examples are drawn
    (`balance`, `label_weights`), the factors of their loss (`class_weights`), and the loss's own
    `focal_alpha`. Two at once correct twice, which is refused unless `double_correction` is set.
    """

    # Of all chance: first weights, order, augmentation, dropout.
    seed: Annotated[int, Rule(lambda n: 0 <= n < 2**31, "0 to 2**31 - 1")] = 0
    # The fold that is tested, from 0 on; -1: the data set has none. See `Split.folds`.
    fold: Annotated[int, Rule(lambda n: n >= -1, "0 or more, or -1 for none")] = -1
    epochs: Count = 30  # Most epochs of the last stage; early stopping may end it before.
    batch_size: Count = 32  # Over all devices.
    learning_rate: Positive = 1e-3  # The highest of the last stage.
    # What the rate falls by from the head to the backbone's last layers, and again from there to
    # those of twice the places a side, and so on towards the picture; 1: all learn alike.
    layer_decay: Annotated[float, Rule(lambda x: 0 < x <= 1, "more than 0, 1 at most")] = 1.0
    # Stages before the last one, which `epochs`, `learning_rate` and `model.trainable_layers` are:
    # ({'trainable_layers': 0, 'learning_rate': 1e-3, 'epochs': 5},) trains the head alone at first.
    stages: tuple[Stage, ...] = ()
    optimizer: str = "adam"  # One of OPTIMIZERS, or tfa.<class>.
    weight_decay: NotNegative = 0.004  # Decoupled, of kernels alone; only adamw has one.
    loss: str = "focal"  # A name in Kind.LOSSES, or tfa.<class>.
    focal_gamma: NotNegative = 1.5  # Of focal: how much less easy images count; 0: no less.
    focal_alpha: Fraction = 0.5  # Of focal: the share of the positive class; 0.5: as the other.
    # Columns of history.csv besides those that the kind always has: Kind.METRICS, or tfa.<class>.
    metrics: tuple[str, ...] = ()
    # Arguments of classes of tensorflow-addons, by the name of the class.
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    balance: Literal["oversample", "none"] = "oversample"  # Oversample: every class equally often.
    label_weights: tuple[float, ...] = ()  # Shares of the labels when drawn, instead of balance's.
    # Epochs in which the shares move from these to the natural ones; 0: they stay.
    anneal_epochs: Annotated[int, Rule(lambda n: n >= 0, "0 or more")] = 0
    mix: Literal["random", "exact"] = "random"  # Shares hold by chance, or by count every epoch.
    class_weights: tuple[float, ...] = ()  # Factor of each class's loss; empty: 1.
    double_correction: bool = False  # Allows two corrections for rare classes at once.
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    # Of the network's numbers; auto: half precision where the accelerator is made for it.
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = "auto"
    xla: bool = False  # XLA compiles each step: faster on some GPUs, slower on CPUs.
    deterministic: bool = False  # Bit-identical weights from one run to the next; slower.
    checkpoint_steps: Count = 500  # Steps between checkpoints, besides one after every epoch.
    max_memory_gb: Positive = 30.0  # The process tree's; the run stops before it is killed.
    select_by: str = "val_auc"  # Column of history.csv that picks the best checkpoint.
    early_stopping_monitor: str = "val_auc"  # Column of history.csv that has to improve.
    early_stopping_patience: Count = 10  # Epochs without improvement.
    # Where the rate falls: at a plateau, by a factor; or all along, as a cosine that rises for
    # `warmup_epochs` and is 0 at the end of each stage.
    schedule: Literal["plateau", "cosine"] = "plateau"
    warmup_epochs: NotNegative = 0.0  # Of a cosine.
    # What is validated and kept is an average of the weights after each epoch, of which so much
    # stays in the next one; 0: the weights themselves. It varies less from epoch to epoch.
    weight_average: FractionOrZero = 0.0
    plateau_monitor: str = "val_loss"  # Column of history.csv whose plateau lowers the rate.
    plateau_patience: Count = 3  # Epochs without improvement that are a plateau.
    plateau_factor: Fraction = 0.5  # What the rate is multiplied by at a plateau.

    def check(self) -> None:
        """Refuse an unknown optimizer, and arguments of a class that nothing names."""
        check_name("optimizer", self.optimizer, OPTIMIZERS)
        named = {self.optimizer, self.loss, *self.metrics}
        for name, arguments in self.arguments.items():
            require(
                ADDONS + name in named,
                f"config.training.arguments has {name!r}, but {ADDONS + name} is not among loss, "
                "optimizer and metrics. (Only classes of tensorflow-addons take arguments here.)",
            )
            require(
                isinstance(arguments, dict),
                f"config.training.arguments.{name} is {arguments!r}; expected keyword arguments, "
                "for example {'num_classes': 2}.",
            )


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The scoring of the model. Each kind of task adds its own settings in a subclass."""

    # Test-time augmentation.
    views: Annotated[
        tuple[ViewName, ...],
        Rule(
            lambda views: views[:1] == ("identity",),
            "a sequence that begins with 'identity', the photograph as it is",
        ),
        Rule(lambda views: len(set(views)) == len(views), "each view once"),
        Rule(
            lambda views: not {"rotate_180", "left_right_up_down"} <= set(views),
            "only one of rotate_180 and left_right_up_down: they are the same view, which would "
            "count twice",
        ),
    ] = ("identity",)
    batch_size: Count = 64  # Images that are scored at once.
    # Resamples behind each interval.
    bootstrap_resamples: Annotated[
        int,
        Rule(
            lambda n: 100 <= n <= 100_000,
            "100 to 100,000: fewer give no interval, and each takes a byte a patient",
        ),
    ] = 2000


_TaskT = TypeVar("_TaskT", bound=Task)
_EvaluationT = TypeVar("_EvaluationT", bound=Evaluation)


@dataclasses.dataclass(frozen=True, kw_only=True)
class Experiment(Generic[_TaskT, _EvaluationT]):
    """The settings of a run: everything that it needs to know besides its folders.

    The kind of task decides the classes of `task` and `evaluation`, which have its own settings.
    """

    dataset: DatasetSpec = dataclasses.field(default_factory=DatasetSpec)
    task: _TaskT
    model: Model = dataclasses.field(default_factory=Model)
    training: Training = dataclasses.field(default_factory=Training)
    evaluation: _EvaluationT

    def check(self) -> None:
        """Refuse pictures that do not fit, and huge batches."""
        size, stride = self.dataset.recipe.size, self.model.output_stride
        fitting = max((s for s in OUTPUT_STRIDES if size >= _PLACES * s), default=4)
        require(
            size > stride,
            f"config.dataset.recipe.size is {size}, of which the backbone with "
            f"config.model.output_stride={stride} leaves a single place and heat maps show "
            f"nothing. Set config.model.output_stride={fitting}, or a size of more than {stride}.",
        )
        enlarged = size * max(OUTPUT_STRIDES) // stride
        require(
            enlarged <= MOST_PIXELS,
            f"config.model.output_stride is {stride}, for which pictures of "
            f"config.dataset.recipe.size={size} are enlarged to {enlarged} pixels a side; expected "
            f"{MOST_PIXELS} at most. Set config.model.output_stride=32.",
        )
        batch, most = self.evaluation.batch_size, _BATCH_BYTES // (3 * size**2)
        require(
            batch <= most,
            f"config.evaluation.batch_size is {batch:,}; expected {most:,} at most, for pictures "
            f"of config.dataset.recipe.size={size}: {_BATCH_BYTES >> 20} MiB.",
        )


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
    given = {group: config.get(group, {}) for group in ("task", "evaluation")}
    classes = {"task": task, "evaluation": evaluation}
    return record(Experiment, {**config, **given}, "config", classes)


def read_dataset(settings: Mapping[str, Any]) -> DatasetSpec:
    """Return the settings of a data set alone, validated.

    Raises:
      ConfigError: see `read`.
    """
    return record(DatasetSpec, settings, "config.dataset")


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
        require(
            value in monitors,
            f"config.training.{name} is {value!r}; expected one of {', '.join(monitors)}.",
        )


def check_weights(name: str, values: Sequence[float], *, length: int, things: str) -> None:
    """Refuse weights of `config.training` that are not one positive number for each thing."""
    require(
        not values or (len(values) == length and all(value > 0 for value in values)),
        f"config.training.{name} is {values}; expected {length} numbers above 0, one for each "
        f"of the {things}, or () for none.",
    )
