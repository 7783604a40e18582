"""A model that learns nothing, noticed while it trains: from a run's history, after a few epochs.

What is said is a function of the history alone, so that a run that was killed and goes on says
nothing twice. An alarm stands once it holds for `PATIENCE` epochs in a row, as training begins with
epochs in which every model is at chance, and until an epoch in which it does not hold.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from dr_tfx.statistics import metrics

PATIENCE = 3
SHARE = "val_predicted_positive"  # Column of history.csv: validation images called class 1.
_ONE_CLASS = 0.95
_Z = 1.959963984540054  # The normal distribution's 97.5 % quantile.
_OVER = {
    "one_answer": "The model no longer gives (almost) all validation images the same answer",
    "chance": "The validation AUC is no longer compatible with guessing",
    "majority": "The validation accuracy is now clearly above that of one answer for all",
}


class Validation(NamedTuple):
    """The split that epochs are judged on.

    Attributes:
      counts: images of class 0 and 1.
      names: of the classes.
    """

    counts: tuple[int, int]
    names: Sequence[str]


def standing(history: Sequence[Mapping[str, float]], validation: Validation) -> dict[str, str]:
    """The alarms that stand after the last epoch: kind -> a sentence, with its figures.

    Args:
      history: rows of history.csv: `val_auc`, and at threshold 0.5 `val_accuracy` and SHARE.
      validation: what they were measured on.
    """
    if len(history) < PATIENCE:
        return {}
    found = [_holding(row, validation) for row in history[-PATIENCE:]]
    return {kind: text for kind, text in found[-1].items() if all(kind in one for one in found)}


def changes(history: Sequence[Mapping[str, float]], validation: Validation) -> list[str]:
    """Sentences on the alarms that the last epoch began and ended."""
    before, now = standing(history[:-1], validation), standing(history, validation)
    began = [
        f"ALARM: for {PATIENCE} epochs now: {text}"
        for kind, text in now.items()
        if kind not in before
    ]
    return began + [f"{_OVER[kind]}." for kind in before if kind not in now]


def _holding(row: Mapping[str, float], validation: Validation) -> dict[str, str]:
    """What is wrong with one epoch. Images count as independent, which two eyes are not."""
    counts, names = np.asarray(validation.counts), validation.names
    total, found = int(counts.sum()), {}
    # A model that ranks well may only have its scores on one side of 0.5.
    ranks = (
        f"; the AUC of its scores is {row['val_auc']:.3f}" if np.isfinite(row["val_auc"]) else ""
    )
    truth = counts / total
    share = row.get(SHARE, float("nan"))
    decided = np.array([1 - share, share])
    top, common = int(decided.argmax()), int(truth.argmax())
    if decided[top] == 1 or (decided[top] >= _ONE_CLASS and truth[top] < _ONE_CLASS):
        found["one_answer"] = (
            f"{100 * decided[top]:.1f} % of the validation images are called '{names[top]}' at "
            f"threshold 0.5, yet only {100 * truth[top]:.1f} % are: the model (almost) always says "
            f"the same{ranks}."
        )
    # Of the Mann-Whitney statistic where scores say nothing (Mann and Whitney 1947).
    margin = _Z * np.sqrt((total + 1) / (12 * counts.prod())) if counts.all() else float("nan")
    if row["val_auc"] - margin <= 0.5:
        found["chance"] = (
            f"The validation AUC, {row['val_auc']:.3f}, is not above what guessing gives on so few "
            f"images, 0.5 ± {margin:.3f}."
        )
    if np.isfinite(row["val_accuracy"]):
        accuracy = metrics.wilson(round(row["val_accuracy"] * total), total)
        if accuracy.low <= truth[common]:
            found["majority"] = (
                f"The validation accuracy at threshold 0.5, {accuracy.value:.3f} "
                f"({accuracy.low:.3f}–{accuracy.high:.3f}), is not clearly above "
                f"{truth[common]:.3f}, which always saying '{names[common]}' reaches{ranks}."
            )
    return found
