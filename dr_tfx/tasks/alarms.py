"""Sentences on what makes figures worthless: those that kinds with classes share.

Counts are tables of confusion, int (k, k), rows the truth.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from dr_tfx.statistics import metrics
from dr_tfx.statistics.metrics import Estimate

ONE_CLASS = 0.95
"""From this share of the decisions on, a model (almost) always says the same."""
_MIN_PATIENTS = 30


def one_answer(counts: npt.ArrayLike, class_names: Sequence[str]) -> list[str]:
    """Return an alarm if (almost) all decisions are one class and the images are not."""
    table = np.asarray(counts)
    truth, decided = table.sum(axis=1) / table.sum(), table.sum(axis=0) / table.sum()
    top = int(decided.argmax())
    if truth[top] == 1:
        return []
    if decided[top] < 1 and (decided[top] < ONE_CLASS or truth[top] >= ONE_CLASS):
        return []
    return [
        f"{100 * decided[top]:.1f} % of the decisions are '{class_names[top]}', yet only "
        f"{100 * truth[top]:.1f} % of the images are: the model (almost) always says the same."
    ]


def not_above_majority(
    counts: npt.ArrayLike, accuracy: Estimate, class_names: Sequence[str]
) -> str:
    """Return a sentence, without its full stop, if one answer for all is as accurate; else ""."""
    table = np.asarray(counts)
    truth = table.sum(axis=1) / table.sum()
    common = int(truth.argmax())
    if truth[common] == 1 or accuracy.low > truth[common]:
        return ""
    return (
        f"The accuracy, {span(accuracy)}, is not clearly above {truth[common]:.3f}, "
        f"which always saying '{class_names[common]}' reaches"
    )


def chance(name: str, figure: Estimate, by_chance: float) -> list[str]:
    """Return an alarm if a figure of merit is not clearly above what guessing gives.

    Args:
      name: of the figure, as a sentence begins with it.
      figure: with its interval.
      by_chance: what guessing gives.
    """
    if figure.high < by_chance:
        return [f"{name}, {span(figure)}, is below chance: are the labels in another order?"]
    if figure.low <= by_chance:
        return [f"{name}, {span(figure)}, is compatible with guessing, {by_chance:.3g}."]
    return []


def missing(counts: npt.ArrayLike, class_names: Sequence[str]) -> list[str]:
    """Return an alarm if there are classes without an image."""
    images = np.asarray(counts).sum(axis=1).tolist()
    absent = [f"'{name}'" for name, n in zip(class_names, images, strict=True) if not n]
    if not absent:
        return []
    return [f"There are no images of {', '.join(absent)}: figures over all classes leave them out."]


def few(names: Sequence[str], patients: Sequence[int], *, patients_known: bool) -> list[str]:
    """Return words for each class of which there are too few patients to conclude anything."""
    of = "patients with " if patients_known else ""
    named = zip(names, patients, strict=True)
    return [f"{n} {of}'{name}' images" for name, n in named if n < _MIN_PATIENTS]


def span(estimate: Estimate) -> str:
    """Write an estimate with its interval."""
    return f"{estimate.value:.3f} ({estimate.low:.3f}–{estimate.high:.3f})"


CHANCE = "chance"
OVER = {
    "one_answer": "The model no longer gives (almost) all validation images the same answer",
    "majority": "The validation accuracy is now clearly above that of one answer for all",
}
"""Sentences for the end of the alarms of `collapsed`."""


def collapsed(
    row: Mapping[str, float], images: Sequence[int], names: Sequence[str]
) -> dict[str, str]:
    """Return what is wrong with one epoch: an alarm of `OVER` and a sentence with its figures.

    Images count as independent, which two eyes of a patient are not.

    Args:
      row: of history.csv, with `val_accuracy` and `val_largest_share`, the share of the class that
        is decided most often.
      images: validation images of each class.
      names: of the classes.
    """
    total, found = sum(images), {}
    largest, share = max(images) / total, row.get("val_largest_share", float("nan"))
    if largest < 1 and (share == 1 or (share >= ONE_CLASS and largest < ONE_CLASS)):
        found["one_answer"] = (
            f"{100 * share:.1f} % of the validation images get the same answer, yet no more than "
            f"{100 * largest:.1f} % are of one class: the model (almost) always says the same."
        )
    value = row.get("val_accuracy", float("nan"))
    if np.isfinite(value):
        accuracy = metrics.wilson(round(value * total), total)
        if largest < 1 and accuracy.low <= largest:
            common = names[int(np.argmax(images))]
            found["majority"] = (
                f"The validation accuracy, {span(accuracy)}, is not clearly above {largest:.3f}, "
                f"which always saying '{common}' reaches."
            )
    return found
