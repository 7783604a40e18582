"""The contract of a kind of task: everything in which tasks differ, and the engine asks.

A kind is bound to one experiment and has four sides. No stage of the engine reads a label map, a
column of the model's output or a column of the predictions by itself: it asks the side that knows.

    data        features of a record, what sampling balances, what is known of an example
    model       outputs, targets, losses and metrics; the only side that loads TensorFlow
    scores      the model's outputs as columns of a table, decisions and answers
    judgement   what is fitted on validation, figures of merit, alarms, pages and comparisons; see
                `dr_tfx.tasks.judging`

A kind whose models can be joined to an ensemble says how; see `dr_tfx.tasks.averaging`.
"""

import abc
import dataclasses
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

import numpy as np
import numpy.typing as npt
import pandas as pd

from dr_tfx.config import specs, typed
from dr_tfx.dataset import manifest, records
from dr_tfx.dataset.patches import Patches

if TYPE_CHECKING:
    import keras
    import tensorflow as tf

    from dr_tfx.tasks.averaging import Averaging
    from dr_tfx.tasks.judging import JudgementSide


VIEW_OF = "view_of"
"""The name in a batch of int32 (batch,): rows of one number are views of one example."""


class Kind(abc.ABC):
    """One kind of task, bound to the settings of one experiment.

    Class attributes:
      NAME: the kind's name, the value of `config.task.kind`.
      TASK: class of `Experiment.task`, with the kind's own settings.
      EVALUATION: class of `Experiment.evaluation`, likewise.
      LOSSES: names for `config.training.loss`, besides those of tensorflow-addons.
      METRICS: names for `config.training.metrics`, likewise.
      MONITORS: columns of history.csv by which checkpoints can be selected, and whether `max` or
        `min` is best.
      CHANGES_NO_SCORE: settings of `config.evaluation` that change neither what the model says nor
        what is fitted, so that an evaluation may have others than the training.
      IS_PRETRAINING: whether a run is there for its backbone alone, from which tasks of other kinds
        begin.
    """

    NAME: ClassVar[str]
    TASK: ClassVar[type[specs.Task]] = specs.Task
    EVALUATION: ClassVar[type[specs.Evaluation]] = specs.Evaluation
    LOSSES: ClassVar[tuple[str, ...]]
    METRICS: ClassVar[tuple[str, ...]] = ()
    MONITORS: ClassVar[Mapping[str, str]]
    CHANGES_NO_SCORE: ClassVar[tuple[str, ...]] = ("batch_size", "bootstrap_resamples")
    IS_PRETRAINING: ClassVar[bool] = False

    def __init__(self, experiment: specs.Experiment):
        self.experiment = experiment

    @classmethod
    def derived(cls, experiment: specs.Experiment) -> specs.Experiment:
        """Return the settings, with those that nobody gave and that the labels tell."""
        return experiment

    @property
    @abc.abstractmethod
    def data(self) -> "DataSide": ...

    @property
    @abc.abstractmethod
    def model(self) -> "ModelSide": ...

    @property
    @abc.abstractmethod
    def scores(self) -> "ScoreSide": ...

    @property
    @abc.abstractmethod
    def judgement(self) -> "JudgementSide": ...

    @property
    def side(self) -> int:
        """The height and width of what the network takes: a tile, or a whole picture."""
        patches = self.data.patches
        return patches.tile if patches else self.experiment.dataset.recipe.size

    @property
    def averaging(self) -> "Averaging":
        """How several models become one, for a kind whose models have a mean.

        Raises:
          ValueError: they have none.
        """
        raise ValueError(f"models of the kind {self.NAME!r} have no mean, and cannot be joined")

    def check(self) -> None:
        """Refuse settings that this kind of task cannot run with.

        A kind with settings of its own checks these first, then calls this method.

        Raises:
          ConfigError: the message names the dotted key.
        """
        training = self.experiment.training
        specs.check_name("loss", training.loss, self.LOSSES)
        for metric in training.metrics:
            specs.check_name("metrics", metric, self.METRICS)
        specs.check_monitors(training, tuple(self.MONITORS))
        labels, groups = self.experiment.dataset.label_names, self.data.groups
        for name, length, things in (
            ("label_weights", len(labels), "labels"),
            ("class_weights", len(groups), "classes"),
        ):
            specs.check_weights(name, getattr(training, name), length=length, things=things)
        _check_corrections(training, self.loss_correction())

    def images(self, data: manifest.Manifest, split: str) -> dict[str, int]:
        """Return how many images of each group a split has, by the name of the group."""
        counts = dict.fromkeys(self.data.groups, 0)
        for shard in data.shards:
            if shard.split == split:
                counts[self.data.groups[self.data.group_of[shard.label]]] += shard.records
        return counts

    def undefined(self, images: Mapping[str, int]) -> Sequence[str]:
        """Return those of `MONITORS` that have no value on a split with so many images a group."""
        return ()

    def loss_correction(self) -> str:
        """Name the setting by which the loss corrects for rare classes; "" if it does not."""
        return ""


def _check_corrections(training: specs.Training, of_loss: str) -> None:
    """Refuse a training that corrects for rare classes several times over."""
    corrections = [
        text
        for holds, text in (
            (training.balance == "oversample" or training.label_weights, "drawing (balance)"),
            (len(set(training.class_weights)) > 1, "class_weights"),
            (of_loss, of_loss),
        )
        if holds
    ]
    typed.require(
        len(corrections) < 2 or training.double_correction,
        f"config.training corrects for rare classes {len(corrections)} times over, by "
        f"{', '.join(corrections)}. Keep one (balance='none', class_weights=(), focal_alpha=.5 "
        f"switch each off; the last is alpha of {specs.ADDONS}SigmoidFocalCrossEntropy, in "
        "config.training.arguments), or set config.training.double_correction=True if it is meant.",
    )


class DataSide(abc.ABC):
    """The examples as a kind of task sees them. It loads neither TensorFlow nor matplotlib."""

    @property
    @abc.abstractmethod
    def features(self) -> Mapping[str, records.Feature]:
        """The features of a record that targets are made of, by the name of their key.

        Arrays of these names are in every batch: numbers (batch,), and masks uint8 (batch, size,
        size, 1), which are mirrored, rotated and zoomed with the images.
        """

    @property
    def patches(self) -> Patches | None:
        """The parts of pictures that training sees; None for whole pictures."""
        return None

    @property
    def views(self) -> int:
        """How often an example that is drawn comes in a batch, each time changed otherwise.

        Where it is more than once, batches have `VIEW_OF`.
        """
        return 1

    @property
    @abc.abstractmethod
    def groups(self) -> tuple[str, ...]:
        """Names of the groups that sampling balances and that pages sort photographs by."""

    @property
    @abc.abstractmethod
    def group_of(self) -> tuple[int, ...]:
        """The group of each label, as a place in `groups`."""

    @abc.abstractmethod
    def truth(self, features: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the columns of a table of predictions that a record tells, an entry an example.

        Args:
          features: the arrays of `DataSide.features`, their first dimension the examples.
        """


class ModelSide(abc.ABC):
    """The output of the network and how it is trained. Loads TensorFlow.

    Its functions of tensors are compiled as they are, so that a branch on a tensor's values is
    `tf.where` or `tf.cond`, and not Python's `if`.

    Class attributes:
      reads: what `outputs` takes: `pooled` features, or a `pyramid` of them, for outputs that are
        maps of the picture.
    """

    reads: ClassVar[Literal["pooled", "pyramid"]] = "pooled"

    @property
    @abc.abstractmethod
    def losses(self) -> Mapping[str, Callable[[specs.Training], "keras.losses.Loss"]]:
        """A constructor for each name in `Kind.LOSSES`."""

    @property
    @abc.abstractmethod
    def metrics(self) -> Mapping[str, Callable[[], "keras.metrics.Metric"]]:
        """A constructor for each name in `Kind.METRICS` and in `watched`."""

    @property
    def exact(self) -> Mapping[str, Callable[[np.ndarray, np.ndarray], float]]:
        """Figures of targets and outputs of the whole validation split, by name.

        Each is a column of history.csv, behind `val_`, in place of the metric of its name if there
        is one. Both arrays are float32 (images, ...), and are held in memory if there is such a
        figure.
        """
        return {}

    @property
    @abc.abstractmethod
    def watched(self) -> tuple[str, ...]:
        """Names of the metrics that every training computes."""

    @property
    @abc.abstractmethod
    def shown(self) -> tuple[str, ...]:
        """Columns of history.csv that are printed after every epoch."""

    @abc.abstractmethod
    def outputs(self, features: Any) -> Any:
        """Return the output of the network, a float32 Keras tensor.

        Args:
          features: pooled, (batch, channels); or of a pyramid, by their height and width, (batch,
            side, side, channels), each side twice the one before, up to that of the picture.
        """

    @abc.abstractmethod
    def encode(self, features: Mapping[str, "tf.Tensor"]) -> tuple["tf.Tensor", "tf.Tensor"]:
        """Return float32 targets (batch, ...) and the factor of each example's loss (batch,).

        Args:
          features: the tensors of `DataSide.features`, their first dimension the batch.
        """

    @abc.abstractmethod
    def explained(self, logits: "tf.Tensor") -> "tf.Tensor":
        """Return the number that heat maps explain, float32 (batch,).

        Args:
          logits: the network's output before its activation, float32 (batch, ...).
        """

    @abc.abstractmethod
    def examples_of_sense(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return targets, good outputs and bad outputs, float32, that any loss can tell apart."""


@dataclasses.dataclass(frozen=True)
class Reading:
    """The answer of the model for one photograph.

    Attributes:
      number: the number that a heat map explains.
      decision: the name of a group (`DataSide.groups`). A kind that decides something else gives
        other words, and no page then calls the decision correct or wrong.
      words: a line for people, such as the caption of a figure.
      answer: everything that a caller is told, in order, as plain JSON types.
      probabilities: of what the photograph may show, by name; none for a kind without them.
      is_suspected: whether somebody should look at it; None for a kind that does not say so.
      brief: the decision without its numbers, by which a page puts photographs together; "" if it
        has none.
      features: the mean of the network's last features over their places, float32 (channels,),
        where a reader gives them; None of a model that gives maps.
    """

    number: float
    decision: str
    words: str
    answer: dict[str, Any]
    probabilities: Mapping[str, float] = dataclasses.field(default_factory=dict)
    is_suspected: bool | None = None
    brief: str = ""
    features: npt.NDArray[np.float32] | None = dataclasses.field(
        default=None, compare=False, repr=False
    )


def with_features(readings: Sequence[Reading], features: npt.NDArray[np.float32]) -> list[Reading]:
    """Return readings with the features, (n, channels), that they were made of."""
    both = zip(readings, features, strict=True)
    return [dataclasses.replace(reading, features=seen) for reading, seen in both]


class ScoreSide(abc.ABC):
    """The outputs of the network as columns of a table. Loads neither TensorFlow nor matplotlib."""

    @property
    @abc.abstractmethod
    def explained(self) -> str:
        """Name of the column that holds the number which heat maps explain; "" if there is none.

        Of a model that gives maps it is a number that these make up.
        """

    @property
    def gives_maps(self) -> bool:
        """Whether the model marks what it finds in a picture: then there is `marked`."""
        return False

    def check_explained(self, *, where: Path) -> None:
        """Refuse a model that has no number which heat maps explain.

        Args:
          where: the folder of the model, for errors.

        Raises:
          ValueError: it has none.
        """
        if not self.explained:
            raise ValueError(f"the model of {where} has no number that heat maps could explain")

    @property
    @abc.abstractmethod
    def answer_names(self) -> tuple[str, ...]:
        """The names in `Reading.answer`, in order."""

    @property
    def watched(self) -> tuple[str, ...]:
        """The names in `Reading.answer` of the numbers whose distribution says what is read.

        Where they lie otherwise than on validation, the photographs are others.
        """
        return (self.explained,)

    @property
    def alterations(self) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
        """Changes of pictures, by name, under each of which an evaluation scores a split again.

        A change takes a prepared picture, uint8 RGB (size, size, 3), and returns one like it.
        `JudgementSide.summarise_altered` says what is told of them.
        """
        return {}

    @abc.abstractmethod
    def columns(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return the columns of a table of predictions that the model tells.

        Args:
          outputs: float64 (images, views, ...), one output of the network for every view. Maps
            (images, size, size, ...) come as the mean over the views, each undone.
        """

    def checked_columns(self, outputs: np.ndarray, *, where: Path) -> dict[str, np.ndarray]:
        """Return `columns`, for outputs that may come from a training that went wrong.

        Args:
          outputs: as for `columns`.
          where: the folder of the model, for errors.

        Raises:
          ValueError: an output is not finite.
        """
        wrong = ~np.isfinite(outputs).reshape(len(outputs), -1).all(axis=1)
        if wrong.any():
            raise ValueError(
                f"The model of {where} gives {int(wrong.sum())} of {len(outputs)} photographs "
                "scores that are not finite: its training diverged. Lower "
                "config.training.learning_rate and train again."
            )
        return self.columns(outputs)

    def compared(
        self, features: Mapping[str, np.ndarray], outputs: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return columns that take both the record and the output, which are not kept.

        Args:
          features: the arrays of `DataSide.features`.
          outputs: as `columns` takes them.
        """
        return {}

    @abc.abstractmethod
    def read(self, table: pd.DataFrame, fitted: Any) -> list[Reading]:
        """Return what the model says of each row.

        Args:
          table: with the columns of `columns`.
          fitted: what `JudgementSide.fit` gave, or None before that.
        """

    def changed(self, before: np.ndarray, after: np.ndarray, fitted: Any) -> tuple[int, int]:
        """Return how many decisions other outputs of the same pictures change, and of how many.

        Args:
          before: as `columns` takes them.
          after: the other outputs.
          fitted: what `JudgementSide.fit` gave.
        """
        tables = [pd.DataFrame(self.columns(outputs)) for outputs in (before, after)]
        old, new = (self.read(table, fitted) for table in tables)
        different = [a.decision != b.decision for a, b in zip(old, new, strict=True)]
        return sum(different), len(different)

    @abc.abstractmethod
    def rule(self, fitted: Any) -> str:
        """Return a sentence that tells people how `read` decides.

        Args:
          fitted: what `JudgementSide.fit` gave, or None before that.
        """

    @abc.abstractmethod
    def wrongness(
        self, table: pd.DataFrame, groups: np.ndarray, fitted: Any
    ) -> npt.NDArray[np.float64]:
        """Return how wrong the decision of each row is, so that a page can show the worst first.

        Args:
          table: with the columns of `columns`.
          groups: the true group of each row, as a place in `DataSide.groups`: int64 (n,).
          fitted: what `JudgementSide.fit` gave, or None before that.

        Returns:
          float64 (n,): the larger, the worse; not above 0 where the decision is correct.
        """

    def outlined(
        self, features: Mapping[str, np.ndarray], outputs: np.ndarray, fitted: Any
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return what a page outlines of a model that gives maps.

        Args:
          features: the arrays of `DataSide.features`.
          outputs: as `columns` takes them.
          fitted: what `JudgementSide.fit` gave.

        Returns:
          The truth and what is marked, bool (images, kinds, size, size).
        """
        raise NotImplementedError

    def marked(self, outputs: np.ndarray, fitted: Any) -> npt.NDArray[np.bool_]:
        """Return what a model that gives maps marks.

        Args:
          outputs: as `columns` takes them.
          fitted: what `JudgementSide.fit` gave, or None before that.

        Returns:
          bool (images, kinds, size, size), the kinds in the order of `dataset.masks`.
        """
        raise NotImplementedError

    def figure_name(self, group: int) -> str:
        """Return the file name of the figure that shows photographs of one group.

        Args:
          group: a place in `DataSide.groups`.
        """
        return f"gradcam_{group}.png"
