"""The probabilities of all pixels, counted in steps: columns, areas and words.

A column of counts is text, `pixel_counts.BINS` numbers with spaces between. `all/<lesion>` counts
all pixels of a photograph; `lesion/<lesion>` and `other/<lesion>`, of `pixel_counts.FINE` numbers,
count those whose truth is known, what a lesion covers of a pixel on the one side and the rest of it
on the other. `found/<lesion>` and `false/<lesion>` count connected parts for marks from each step
on: see `lesion_counts`.
"""

from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dr_tfx.dataset import records
from dr_tfx.statistics import lesion_counts, pixel_counts
from dr_tfx.tasks import kind
from dr_tfx.tasks.masks.kind import shares

if TYPE_CHECKING:
    from dr_tfx.tasks.masks.fitting import MasksFitted
    from dr_tfx.tasks.masks.kind import Masks

ALL, LESION, OTHER = "all/", "lesion/", "other/"
FOUND, FALSE = "found/", "false/"
DEFAULT_STEP = pixel_counts.BINS // 2  # It decides until an evaluation has chosen a threshold.
_NONE = "no lesion"


class MasksScores(kind.ScoreSide):
    """A map of each lesion, of which the counts are kept."""

    explained = "area"
    gives_maps = True

    def __init__(self, task: "Masks"):
        self._task, self._lesions = task, task.lesions

    @property
    def answer_names(self) -> tuple[str, ...]:
        return ("decision", *(f"area_{lesion}" for lesion in self._lesions))

    @property
    def watched(self) -> tuple[str, ...]:
        return self.answer_names[1:]

    @property
    def alterations(self) -> Mapping[str, Callable[[np.ndarray], np.ndarray]]:
        """Return CLAHE of each of `evaluation.clip_limits`."""
        from dr_tfx.tasks.masks import contrast  # Loads SciPy.

        return contrast.alterations(self._task)

    def columns(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return the column `all/<lesion>` of each lesion.

        Args:
          outputs: float (images, size, size, lesions), the mean of all views.
        """
        ones = np.ones(outputs.shape[1:3])
        return {
            ALL + lesion: np.array(
                [to_text(pixel_counts.count(map_[..., i], ones)) for map_ in outputs], object
            )
            for i, lesion in enumerate(self._lesions)
        }

    def compared(
        self, features: Mapping[str, np.ndarray], outputs: np.ndarray
    ) -> dict[str, np.ndarray]:
        """Return the columns of each lesion that compare it with the truth."""
        columns: dict[str, list[str]] = {}
        for i, lesion in enumerate(self._lesions):
            for mask, map_ in zip(
                features[records.MASK_PREFIX + lesion][..., 0], outputs[..., i], strict=True
            ):
                for side, counts in _compared(mask, map_).items():
                    columns.setdefault(side + lesion, []).append(to_text(counts))
        return {name: np.array(texts, object) for name, texts in columns.items()}

    def read(self, table: pd.DataFrame, fitted: "MasksFitted | None") -> list[kind.Reading]:
        """Return the share of the picture that each lesion takes, in each row.

        The decision lists the pixels that are marked, as in `HE 120 EX 7`.
        """
        counts = {lesion: of_texts(table[ALL + lesion]) for lesion in self._lesions}
        found = []
        for row in range(len(table)):
            marked, areas = {}, {}
            for lesion, of_rows in counts.items():
                step = step_of(fitted, lesion)
                marked[lesion] = round(of_rows[row, step:].sum())
                areas[lesion] = float(of_rows[row, step:].sum() / of_rows[row].sum())
            found.append(self._reading(marked, areas))
        return found

    def _reading(self, marked: Mapping[str, int], areas: Mapping[str, float]) -> kind.Reading:
        seen = [lesion for lesion in self._lesions if marked[lesion]]
        words = ", ".join(f"{lesion} {100 * areas[lesion]:.2f} %" for lesion in seen)
        decision = " ".join(f"{lesion} {marked[lesion]}" for lesion in seen) or _NONE
        answer: dict[str, Any] = {"decision": decision}
        answer |= {f"area_{lesion}": area for lesion, area in areas.items()}
        number, is_suspected = max(areas.values()), bool(seen)
        return kind.Reading(
            number,
            decision,
            words or _NONE,
            answer,
            is_suspected=is_suspected,
            brief=" ".join(seen) or _NONE,
        )

    def outlined(
        self, features: Mapping[str, np.ndarray], outputs: np.ndarray, fitted: "MasksFitted"
    ) -> tuple[np.ndarray, np.ndarray]:
        """Return where each lesion covers a part of a pixel, and the pixels that are marked."""
        masks = [features[records.MASK_PREFIX + lesion][..., 0] for lesion in self._lesions]
        truth = np.stack([shares(mask)[0] > 0 for mask in masks], axis=1)
        return truth, self.marked(outputs, fitted)

    def marked(self, outputs: np.ndarray, fitted: "MasksFitted | None") -> npt.NDArray[np.bool_]:
        """Return the pixels of each lesion that are marked."""
        steps = np.array([step_of(fitted, lesion) for lesion in self._lesions])
        marked = pixel_counts.bins_of(outputs[..., : len(steps)]) >= steps
        return np.moveaxis(marked, -1, 1)

    def changed(
        self, before: np.ndarray, after: np.ndarray, fitted: "MasksFitted | None"
    ) -> tuple[int, int]:
        """Return how many pixels only one of two outputs marks, and how many either does."""
        old, new = (self.marked(outputs, fitted) for outputs in (before, after))
        return int((old ^ new).sum()), int((old | new).sum())

    def rule(self, fitted: "MasksFitted | None") -> str:
        """Return the sentence that names the thresholds."""
        limits = (
            f"{lesion} from a probability of {step_of(fitted, lesion) / pixel_counts.BINS:.2f} up"
            for lesion in self._lesions
        )
        return f"A pixel is marked as {', '.join(limits)}."

    def wrongness(
        self, table: pd.DataFrame, groups: np.ndarray, fitted: Any
    ) -> npt.NDArray[np.float64]:
        """Return 0 for each row: no label of a photograph is decided."""
        return np.zeros(len(table))


def _compared(mask: np.ndarray, map_: np.ndarray) -> dict[str, npt.NDArray[np.float64]]:
    """Return the counts of a lesion of one photograph, (BINS,) or (FINE,), by their kind."""
    share, known = shares(mask)
    amounts = share * known, (1 - share) * known
    counts = dict(zip((LESION, OTHER), pixel_counts.count_finely(map_, *amounts), strict=True))
    if not known.any():
        return counts | dict.fromkeys((FOUND, FALSE), np.zeros(pixel_counts.BINS))
    found, false = lesion_counts.count(share > 0, pixel_counts.bins_of(map_))
    return counts | {FOUND: found, FALSE: false}


def step_of(fitted: "MasksFitted | None", lesion: str) -> int:
    """Return the step of probability from which on a lesion is marked."""
    if fitted is None:
        return DEFAULT_STEP
    return int(pixel_counts.bins_of(fitted.thresholds[lesion]))


def steps_decided(predictions: pd.DataFrame, lesion: str) -> npt.NDArray[np.int64]:
    """Return the step from which on each photograph's own model has marked a lesion.

    Args:
      predictions: with `all/<lesion>`, and `decision` as `MasksScores.read` tells it.
      lesion: its name.

    Raises:
      ValueError: a decision is damaged.
    """
    marked = [_marked(text, lesion) for text in predictions["decision"]]
    counts = of_texts(predictions[ALL + lesion])
    tails = np.cumsum(counts[:, ::-1], axis=1)[:, ::-1]
    enough = np.append(tails, np.zeros((len(tails), 1)), axis=1) < np.array(marked)[:, None] + 0.5
    return enough.argmax(axis=1)


def _marked(decision: str, lesion: str) -> int:
    """Return how many pixels a decision marks."""
    words = [] if decision == _NONE else decision.split()
    try:
        return dict(zip(words[::2], map(int, words[1::2]), strict=True)).get(lesion, 0)
    except ValueError as error:
        raise ValueError(
            f"the decision {decision[:40]!r} is damaged; expected names and numbers of pixels"
        ) from error


def to_text(counts: npt.ArrayLike) -> str:
    """Return counts as the text of a column, to a hundredth of a pixel."""
    return " ".join(f"{count:.2f}".rstrip("0").rstrip(".") for count in np.asarray(counts))


def of_texts(texts: Iterable[str], steps: int = pixel_counts.BINS) -> npt.NDArray[np.float64]:
    """Return the counts of a column of texts, float64 (rows, steps).

    Raises:
      ValueError: a text is none of `to_text`.
    """
    rows = [np.array(text.split(), np.float64) for text in texts]
    for row in rows:
        if len(row) != steps or not (np.isfinite(row).all() and (row >= 0).all()):
            raise ValueError(f"expected {steps} counts of 0 or more, got {len(row)}")
    return np.stack(rows) if rows else np.empty((0, steps))


def compared_in(predictions: pd.DataFrame, lesion: str) -> list[npt.NDArray[np.float64]]:
    """Return what a lesion covers and the rest, float64 (rows, FINE) each.

    Raises:
      ValueError: a text is none of `to_text`.
    """
    return [of_texts(predictions[side + lesion], pixel_counts.FINE) for side in (LESION, OTHER)]
