"""The settings of a run: frozen records of data set, task, model, training and evaluation.

Configs are `ml_collections.ConfigDict`s only at the boundary (files in `configs/`, flags such as
`--config.training.epochs=2`). `dr_tfx.tasks.from_config` turns one into an `Experiment` with
`read`, which rejects unknown keys, wrong types, values out of range and settings that contradict
each other before any work is done (`typed`). The rest of the library sees these records and
nothing else.
"""

import dataclasses
import re
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Generic, Literal, TypeVar

from dr_tfx.config.typed import (
    ConfigError,
    Count,
    Fraction,
    FractionOrZero,
    NotNegative,
    Positive,
    Rule,
    Share,
    record,
    require,
)

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
_MOST_PIXELS = 4096  # A side, of a picture as the network sees it.
_BATCH_BYTES = 512 << 20  # Of the pictures of a batch that is scored: a bundle may be a stranger's.
OUTPUT_STRIDES = (32, 16, 8, 4)
_PLACES = 6  # A side, of the last features: what the error about small pictures advises.
_MOST_FOLDS = 100
TAGS = ("PatientID", "StudyInstanceUID", "SeriesInstanceUID")  # They may tell the patient.
UNGATED = ("ct", "ct_windows")  # Recipes without a quality gate.


@dataclasses.dataclass(frozen=True)
class Recipe:
    """The way from a photograph to an example. Changing any field invalidates shards and bundles.

    The quality gate finds files that tell a model nothing. `quality_gate` says what becomes of
    them: `reject` refuses them, `count` keeps and flags them, `off` does not look. It finds
    photographs without a gradable retina; the recipes of `UNGATED` have none and take only `off`.
    """

    # A line of recipes.RECIPES.
    name: Literal["reference", "fundus", "retina", "disc", "plain", "ct", "ct_windows"] = "fundus"
    # Height and width of an example, in pixels.
    size: Annotated[
        int, Rule(lambda n: 16 <= n <= _MOST_PIXELS, f"16 to {_MOST_PIXELS} pixels")
    ] = 224
    clip_limit: Positive = 2.0  # CLAHE's contrast limit.
    # CLAHE's tiles a side.
    tiles: Annotated[int, Rule(lambda n: 1 <= n <= 64, "1 to 64")] = 8
    # Of a CT: center and width of each window, in Hounsfield units. Brain, subdural space and bone.
    windows: Annotated[
        tuple[tuple[float, float], ...],
        Rule(
            lambda shown: len(shown) in (1, 3) and all(width > 1 for _, width in shown),
            "one window, or three for the channels, each (center, width above 1)",
        ),
    ] = ((40, 80), (80, 200), (600, 2800))
    encoding: Literal["raw", "png"] = "raw"  # Both are lossless; raw is faster, png smaller.
    quality_gate: Literal["off", "count", "reject"] = "count"

    def check(self) -> None:
        """Refuse a gate that the recipe does not have."""
        require(
            self.quality_gate == "off" or self.name not in UNGATED,
            f"config.dataset.recipe.quality_gate is {self.quality_gate!r}, but the recipe "
            f"{self.name!r} has no gate that could flag anything; set it to 'off'.",
        )


@dataclasses.dataclass(frozen=True)
class Split:
    """The rule by which photographs are in train, validation or test.

    `patient` keeps all photographs of one patient in one split, stratified. `image` is
    scikit-learn's `train_test_split` over photographs: it leaks, and is here to reproduce published
    numbers. Both keep byte-identical files in one split, and both look at all rows: another row
    moves others.

    `hash` decides by seed and patient alone: all photographs of a patient are in one split, and
    none ever moves when the data set grows or shrinks. It is not stratified (`strata` does not
    matter), the fractions hold within sampling error, over patients, and byte-identical files of
    two patients may be parted.

    `column` is the official split of a data set: that of a column, of the names of one CSV a split,
    or of folders. If it has no validation, that is held out of train as by `patient`.

    `external` makes everything `test`, for photographs that a model is evaluated on and none is
    trained on.

    With `folds`, the methods `patient` and `hash` deal all photographs to so many folds of equal
    size instead, for cross-validation: each run then tests on one (`config.training.fold`), selects
    on the next and trains on the others. `validation` and `test` do not matter.
    """

    method: Literal["patient", "image", "hash", "column", "external"] = "patient"
    column: str = ""  # The column of the official split; "": one CSV a split, or folders.
    validation: Fraction = 0.2  # Fraction of all photographs.
    test: FractionOrZero = 0.0  # Fraction of all photographs; 0 for none.
    strata: tuple[int, ...] = ()  # Label -> stratum of the split; empty: the label itself.
    folds: Annotated[
        int, Rule(lambda n: n == 0 or 3 <= n <= _MOST_FOLDS, f"0 for none, or 3 to {_MOST_FOLDS}")
    ] = 0
    seed: int = 42

    def check(self) -> None:
        """Refuse fractions that leave nothing to train on, and folds beside another split."""
        require(
            self.validation + self.test < 1,
            f"config.dataset.split has validation={self.validation} and test={self.test}; "
            "expected fractions of the whole that leave something to train on.",
        )
        require(
            not self.column or self.method == "column",
            f"config.dataset.split.column is {self.column!r}, but config.dataset.split.method is "
            f"{self.method!r}; set it to 'column', or the column to ''.",
        )
        require(
            not self.folds or self.method in ("patient", "hash"),
            f"config.dataset.split.folds is {self.folds}, but config.dataset.split.method is "
            f"{self.method!r}; folds are dealt by 'patient' or 'hash'.",
        )
        require(
            not self.folds or not self.test,
            f"config.dataset.split.folds is {self.folds}, and config.dataset.split.test is "
            f"{self.test}; set test to 0, as every photograph is tested in its turn.",
        )


@dataclasses.dataclass(frozen=True)
class DatasetSpec:
    """A folder of photographs and a label CSV, and what is made of them."""

    name: str = ""  # What reports call it; "": as the folder of the photographs is called.
    # The file's name; folders and extension may be left out. With commas between them, several
    # columns of the photographs of one patient.
    image_column: str = "image"
    # One column; or several with commas between them, one for each label (0 and 1, of which one is
    # 1), or one for each photograph of a row.
    label_column: str = "level"
    # Labels are 0 .. len - 1.
    label_names: Annotated[tuple[str, ...], Rule(lambda names: len(names) > 1, "two or more")] = (
        "0",
        "1",
    )
    # Texts of labels besides their names, each "text=number" or "text=name of the label".
    label_values: tuple[str, ...] = ()
    # With --labels=names: the first group of this regex, found in the path of a photograph, is the
    # text of its label.
    label_pattern: str = ""
    # The patient is what this column says, or else the first group of this regex, found in the
    # id or the path, or else not known: then it is the photograph itself. "": there is none.
    # Of DICOM files, one of `TAGS` does too, where the CSV has no such column.
    patient_column: str = ""
    # How the patients of tags are written: as keyed hashes, or as they are.
    patient_tags: Literal["hashed", "clear"] = "hashed"
    patient_pattern: str = ""
    # Kinds of masks that examples hold, each a folder of --masks_dir; `absent_masks` says what a
    # photograph without a file of a kind is: free of it (empty), or not looked at for it (unknown).
    masks: Annotated[
        tuple[str, ...],
        Rule(
            lambda names: (
                len(set(names)) == len(names)
                and all(re.fullmatch("[A-Za-z0-9-]+", name) for name in names)
            ),
            "names of letters and digits, each once",
        ),
    ] = ()
    absent_masks: Literal["empty", "unknown"] = "empty"
    recipe: Recipe = dataclasses.field(default_factory=Recipe)
    split: Split = dataclasses.field(default_factory=Split)
    shard_examples: Count = 512  # Most examples in one shard: the unit of work and of resume.
    # The build fails above this fraction of rejected rows.
    max_reject_rate: Share = 0.02

    def check(self) -> None:
        """Refuse strata that do not fit the labels, and patterns that capture nothing."""
        strata, labels = len(self.split.strata), len(self.label_names)
        require(
            strata in (0, labels),
            f"config.dataset.split.strata has {strata} values for {labels} labels; expected one "
            "for each label, or () for the labels themselves.",
        )
        label_values(self)
        for name, what, example in (
            ("patient_pattern", "patient", r"^(\d+)_"),
            ("label_pattern", "label", "^([gn])"),
        ):
            pattern = getattr(self, name)
            where = f"config.dataset.{name} is {pattern!r}"
            try:
                groups = re.compile(pattern).groups
            except (re.error, OverflowError, RecursionError) as error:
                raise ConfigError(
                    f"{where}, which is not a regular expression: {error}."
                ) from error
            require(
                not pattern or groups >= 1,
                f"{where}; expected a (group) for the {what}, such as {example}, or '' for none.",
            )


def label_values(spec: DatasetSpec) -> dict[str, int]:
    """Return text -> label of the setting `label_values`.

    Raises:
      ConfigError: an entry is no "text=label" of a label that there is.
    """
    names = spec.label_names
    values: dict[str, int] = {}
    for entry in spec.label_values:
        text, equals, label = (part.strip() for part in entry.rpartition("="))
        is_number = label.isascii() and label.isdigit() and int(label[:9]) < len(names)
        require(
            bool(equals and text) and (is_number or label in names),
            f"config.dataset.label_values has {entry!r}; expected 'text=label', of a label 0 to "
            f"{len(names) - 1} or one of {', '.join(map(repr, names))}.",
        )
        number = names.index(label) if label in names else int(label)
        require(
            values.setdefault(text, number) == number,
            f"config.dataset.label_values gives {text!r} several labels.",
        )
    return values


@dataclasses.dataclass(frozen=True)
class Task:
    """The target of the model. Each kind of task adds its own settings in a subclass."""

    name: str = "task"
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
    weights: Annotated[str, Rule(bool, "imagenet, none or the path of a file of weights")] = (
        "imagenet"
    )
    from_scratch: Literal["whole", "as_pretrained"] = "whole"
    trainable_layers: _Layers = 50
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

    horizontal_flip: bool = True
    vertical_flip: bool = False
    rotation: FractionOrZero = 0.0  # Largest angle, as a fraction of a full turn, either way.
    zoom: FractionOrZero = 0.0  # Largest relative change of height and width, either way.
    shift: FractionOrZero = 0.0  # Largest, of width and height each, as a fraction of it, any way.
    contrast: FractionOrZero = 0.0  # Largest relative change of contrast, either way.
    brightness: FractionOrZero = 0.0  # Largest relative change of brightness, either way.


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

    seed: Annotated[int, Rule(lambda n: 0 <= n < 2**31, "0 to 2**31 - 1")] = 0
    # The fold that is tested, from 0 on; -1: the data set has none. See `Split.folds`.
    fold: Annotated[int, Rule(lambda n: n >= -1, "0 or more, or -1 for none")] = -1
    epochs: Count = 30
    batch_size: Count = 32  # Over all devices.
    learning_rate: Positive = 1e-3
    # Stages before the last one, which `epochs`, `learning_rate` and `model.trainable_layers` are:
    # ({'trainable_layers': 0, 'learning_rate': 1e-3, 'epochs': 5},) trains the head alone at first.
    stages: tuple[Stage, ...] = ()
    optimizer: str = "adam"  # One of OPTIMIZERS, or tfa.<class>.
    weight_decay: NotNegative = 0.004  # Decoupled; only adamw has one.
    loss: str = "focal"  # A name in Kind.LOSSES, or tfa.<class>.
    focal_gamma: NotNegative = 1.5
    focal_alpha: Fraction = 0.5
    # Columns of history.csv besides those that the kind always has: Kind.METRICS, or tfa.<class>.
    metrics: tuple[str, ...] = ()
    arguments: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    balance: Literal["oversample", "none"] = "oversample"  # Oversample: every class equally often.
    label_weights: tuple[float, ...] = ()  # Shares of the labels when drawn, instead of balance's.
    # Epochs in which the shares move from these to the natural ones; 0: they stay.
    anneal_epochs: Annotated[int, Rule(lambda n: n >= 0, "0 or more")] = 0
    mix: Literal["random", "exact"] = "random"  # Shares hold by chance, or by count every epoch.
    class_weights: tuple[float, ...] = ()  # Factor of each class's loss; empty: 1.
    double_correction: bool = False
    augmentation: Augmentation = dataclasses.field(default_factory=Augmentation)
    precision: Literal["auto", "float32", "mixed_float16", "mixed_bfloat16"] = "auto"
    deterministic: bool = False  # Bit-identical weights from one run to the next; slower.
    checkpoint_steps: Count = 500  # Steps between checkpoints, besides one after every epoch.
    max_memory_gb: Positive = 30.0  # The process tree's; the run stops before it is killed.
    select_by: str = "val_auc"  # Column of history.csv that picks the best checkpoint.
    early_stopping_monitor: str = "val_auc"
    early_stopping_patience: Count = 10  # Epochs without improvement.
    # Where the rate falls: at a plateau, by a factor; or all along, as a cosine that rises for
    # `warmup_epochs` and is 0 at the end of each stage.
    schedule: Literal["plateau", "cosine"] = "plateau"
    warmup_epochs: NotNegative = 0.0
    # What is validated and kept is an average of the weights after each epoch, of which so much
    # stays in the next one; 0: the weights themselves. It varies less from epoch to epoch.
    weight_average: FractionOrZero = 0.0
    plateau_monitor: str = "val_loss"
    plateau_patience: Count = 3
    plateau_factor: Fraction = 0.5

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
    batch_size: Count = 64
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
            enlarged <= _MOST_PIXELS,
            f"config.model.output_stride is {stride}, for which pictures of "
            f"config.dataset.recipe.size={size} are enlarged to {enlarged} pixels a side; expected "
            f"{_MOST_PIXELS} at most. Set config.model.output_stride=32.",
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
