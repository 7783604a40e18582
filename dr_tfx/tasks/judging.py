"""The contract of a kind's judgement: what is fitted, what is told of a model, what is compared.

The engine (`dr_tfx.evaluation`) loads the bundle, scores the photographs, looks for leakage, writes
every file and renders the shell of each page. It leaves everything that depends on the task to the
two classes here. Tables of predictions have one row an image: `id`, `patient`, the columns of
`DataSide.truth` and those of `ScoreSide.columns`.
"""

import abc
import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pandas as pd

if TYPE_CHECKING:
    from dr_tfx.reports.style import ReportFigure
    from dr_tfx.statistics.intervals import PatientBootstrap


INTERVAL: Mapping[str, Any] = dict.fromkeys(("value", "low", "high"), float | None)
"""The shape of {value, low, high}, for `ComparisonSide.reads`."""


class FittedSettings(Protocol):
    """Settings that validation has fitted: thresholds, cut-points, temperatures."""

    @property
    def split(self) -> str:
        """The split that it was fitted on."""

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""


@dataclasses.dataclass(frozen=True)
class Ranking:
    """A distinction that a model makes by a score, for which there is an AUC.

    Attributes:
      name: of what is told from all other images.
      positive: bool (images,), which images are that.
      score: float64 (images,), higher where the model takes an image for that.
    """

    name: str
    positive: npt.NDArray[np.bool_]
    score: npt.NDArray[np.float64]


class JudgementSide(abc.ABC):
    """The judge of models of this kind. Loads no TensorFlow.

    Class attributes:
      SCHEMA: version of metrics.json.
      TEMPLATES: folder of the kind's templates: `evaluation.html.j2` extends the engine's
        `report.html.j2`, and `comparison.html.j2` extends its `compare.html.j2`.
      CURVES: the columns of history.csv that the learning curves show, without the `val_` of
        validation, and the words for them.
    """

    SCHEMA: ClassVar[int]
    TEMPLATES: ClassVar[Path]
    CURVES: ClassVar[Mapping[str, str]]

    @property
    @abc.abstractmethod
    def comparison(self) -> "ComparisonSide":
        """The measures that compare runs."""

    @abc.abstractmethod
    def checked(self, predictions: pd.DataFrame) -> pd.DataFrame:
        """Return predictions that can be judged; every other method is given such.

        Raises:
          ValueError: a column is missing, or a value is impossible; names the column and the image.
        """

    @abc.abstractmethod
    def fit(self, predictions: pd.DataFrame, *, split: str) -> Any:
        """Fit everything that is fitted on validation, as `FittedSettings`."""

    @abc.abstractmethod
    def fitted_from(self, content: Mapping[str, Any]) -> Any:
        """Return the inverse of `FittedSettings.to_dict`."""

    @abc.abstractmethod
    def chosen(self, fitted: Any) -> dict[str, Any]:
        """Return what was fitted, for `selection` in metrics.json, as plain JSON types."""

    @property
    @abc.abstractmethod
    def optimism(self) -> Sequence[str]:
        """Sentences on what was fitted, for figures of the very split that it was fitted on."""

    @abc.abstractmethod
    def summarise(
        self, predictions: pd.DataFrame, fitted: Any, *, patients_known: bool
    ) -> dict[str, Any]:
        """Return everything to be told of the predictions, as plain JSON types.

        Args:
          predictions: with a column `cluster` besides: the images that the bootstrap draws
            together, those of one patient, or of patients who share a photograph.
          fitted: what `fit` gave, applied as it is.
          patients_known: whether `patient` is more than the image's own name.

        Returns:
          `alarms`, sentences, none of which is good news; `counts`, to which the engine adds
          `images`, `patients`, `patients_known` and `joined`; and whatever else the kind tells.
          The engine adds `elsewhere`, `leakage`, `notices`, `schema`, `selection`, `split`, `task`
          and `views`.
        """

    def summarise_altered(
        self,
        predictions: pd.DataFrame,
        altered: Iterable[tuple[str, pd.DataFrame]],
        fitted: Any,
    ) -> dict[str, Any]:
        """Return what is told of pictures that were changed, as further keys beside `summarise`.

        Args:
          predictions: of the pictures as they were prepared, as `summarise` takes them.
          altered: the name of each of `ScoreSide.alterations`, and the predictions of the same
            images, in the same order, with their pictures changed so.
          fitted: what `fit` gave, applied as it is.
        """
        return {}

    def rankings(self, predictions: pd.DataFrame) -> Sequence[Ranking]:
        """Return the distinctions whose mean AUC tells how well the model ranks images.

        The engine compares it with numbers for which no model is needed, such as the size of a
        photograph's file. A kind without labels has none.
        """
        return ()

    def areas_under_curves(self, predictions: pd.DataFrame) -> dict[str, float]:
        """Return the areas that tell how well the model ranks, by name: the AUC of `rankings`."""
        from sklearn.metrics import roc_auc_score  # Nobody else here needs it.

        return {
            each.name: float(roc_auc_score(each.positive, each.score))
            for each in self.rankings(predictions)
            if 0 < each.positive.sum() < len(each.positive)
        }

    @abc.abstractmethod
    def gallery(self, summary: Mapping[str, Any]) -> Sequence[str]:
        """Return the ids of the images that the report shows with their heat maps."""

    @abc.abstractmethod
    def figures(
        self, predictions: pd.DataFrame, summary: Mapping[str, Any]
    ) -> Sequence["ReportFigure"]:
        """Return the figures of the report; the engine draws the learning curves."""

    def page_values(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Return what `evaluation.html.j2` needs besides the values of `report.render`."""
        return {}

    @abc.abstractmethod
    def wrong_with(self, row: Mapping[str, float], counts: Sequence[int]) -> dict[str, str]:
        """Return what is wrong with one epoch: the kind of the alarm and a sentence.

        Args:
          row: of history.csv.
          counts: validation images of each group.
        """

    @property
    @abc.abstractmethod
    def alarm_over(self) -> Mapping[str, str]:
        """A sentence for the end of each kind of alarm, without its full stop."""


@dataclasses.dataclass(frozen=True)
class Measure:
    """A figure of merit that runs are compared by; more of it is better.

    Attributes:
      key: its name in metrics and in compare.json.
      name: for people.
      unit: 'percent' of a share, whose differences are percentage points; or 'number'.
      decides: whether it is drawn, and counts in what is clearly better or worse.
      ranks: whether it ranks scores, so that those of several models cannot be judged at once.
      guessing: what guessing gives, where that is known for any data.
    """

    key: str
    name: str
    unit: Literal["percent", "number"]
    decides: bool = False
    ranks: bool = False
    guessing: float | None = None

    @property
    def word(self) -> str:
        """The name within a sentence."""
        return (
            self.name if self.name.split()[0].isupper() else self.name[:1].lower() + self.name[1:]
        )


@dataclasses.dataclass(frozen=True)
class ComparedRun:
    """A run and its evaluation of one split, as they lie on disk.

    Attributes:
      name: as short as tells the run from the others.
      folder: of the run.
      bundle: bundle.json.
      summary: metrics.json.
      predictions: predictions.csv, indexed by id, sorted, with the column `cluster` of
        `JudgementSide.summarise`.
    """

    name: str
    folder: Path
    bundle: Mapping[str, Any]
    summary: Mapping[str, Any]
    predictions: pd.DataFrame


class ComparisonSide(abc.ABC):
    """The measures that compare runs of this kind. Loads no TensorFlow.

    Class attributes:
      MEASURES: in the order of the page.
      TRUTH: columns of predictions.csv in which all runs have to agree, and words for them.
      MAY_DIFFER: settings of `config.task` in which runs that are compared may differ.
    """

    MEASURES: tuple[Measure, ...]
    TRUTH: ClassVar[Mapping[str, str]]
    MAY_DIFFER: ClassVar[tuple[str, ...]] = ()

    @property
    @abc.abstractmethod
    def reads(self) -> Mapping[str, Any]:
        """The shape, for `typed.check`, of what `figures_of` and the pages read of metrics.json.

        The engine adds `alarms`, `counts` {`images`, `joined`, `patients`, `patients_known`},
        `selection` {`notes`} and `task`.
        """

    @property
    @abc.abstractmethod
    def values(self) -> Mapping[str, Sequence[int] | Sequence[str]]:
        """The columns of predictions.csv that hold labels and decisions, and what is possible."""

    @abc.abstractmethod
    def figures_of(self, summary: Mapping[str, Any]) -> dict[str, Any]:
        """Return {value, low, high} of every measure of one run, and what else its page shows."""

    @abc.abstractmethod
    def measured(self, predictions: pd.DataFrame, bootstrap: "PatientBootstrap") -> dict[str, Any]:
        """Return {value, low, high} of every measure of images that several models have scored.

        Args:
          predictions: predictions.csv of all of them, one row an image. Its column `decision` is
            what the image's own model decides, by what was fitted for that model.
          bootstrap: over the patients of these images.
        """

    @abc.abstractmethod
    def differences(self, run: ComparedRun, first: ComparedRun) -> dict[str, Any]:
        """Return {value, low, high} of every measure: `run` minus `first`, paired by image.

        The difference of a measure may have `p`, the p-value of a test, besides.
        """

    @abc.abstractmethod
    def draw(
        self, runs: Sequence[ComparedRun], result: Mapping[str, Any]
    ) -> Sequence["ReportFigure"]:
        """Return the kind's own figures; the engine draws the differences.

        Args:
          runs: the first is the one that the others are compared with.
          result: the content of compare.json.
        """
