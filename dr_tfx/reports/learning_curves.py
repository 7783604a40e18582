"""The figure of a training: its history, epoch by epoch."""

import functools
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dr_tfx.reports.style import INK, SERIES, ReportFigure, draw, tell

_VALIDATION = "val_"
_COSTS = {"seconds", "input_wait", "peak_memory_gb"}
_LOG = logging.getLogger(__name__)


def read(path: Path) -> pd.DataFrame | None:
    """Return history.csv; None if there is none, or if it is not the history of a training."""
    if not path.is_file():
        return None
    try:
        history = pd.read_csv(path)
    except ValueError:  # So are pandas' own errors.
        history = pd.DataFrame()
    numbers = all(pd.api.types.is_numeric_dtype(dtype) for dtype in history.dtypes)
    if not len(history) or not numbers or _COSTS & {*history} not in (set(), _COSTS):
        _LOG.warning("%s is no history of a training: the report has no learning curves.", path)
        return None
    return history


def learning_curves(
    history: pd.DataFrame, rule: str, curves: Mapping[str, str], *, best: str
) -> ReportFigure:
    """Return the curves of training and validation, as far as the history has them.

    Args:
      history: history.csv, one row or more.
      rule: the column by which the checkpoint was chosen; its best epoch is marked.
      curves: the columns to draw, without the `val_` of validation, and words for them.
      best: whether the `max` or the `min` of the rule's column is best.
    """
    drawn = {
        name: words
        for name, words in curves.items()
        if name in history or f"{_VALIDATION}{name}" in history
    }
    panels = max(1, len(drawn))
    row = _best_row(history, rule, best)
    said = f"{len(history)} epochs; {_best(history, row, rule, curves)}"
    return draw(
        "learning_curves",
        lambda axes: _paint(axes, history, row, drawn),
        title="Learning curves",
        alt=f"Training and validation curves, {said}",
        rows=(1,) * panels,
        height=3.9 if panels == 1 else 0.6 + 1.9 * panels,
    )


def words_of(column: str, curves: Mapping[str, str]) -> str:
    """Return words for a column of history.csv, such as 'validation AUC' for val_auc."""
    name = column.removeprefix(_VALIDATION)
    if name == column or name not in curves:
        return column
    return f"validation {curves[name]}"


def _best_row(history: pd.DataFrame, rule: str, best: str) -> int | None:
    """Return the row of the epoch whose checkpoint was kept; of equals it is the first."""
    if rule not in history or history[rule].isna().all():
        return None
    values = history[rule].to_numpy(np.float64)
    return int(np.nanargmin(values) if best == "min" else np.nanargmax(values))


def _epochs(history: pd.DataFrame) -> pd.Series:
    return history.get("epoch", pd.Series(range(1, len(history) + 1), index=history.index))


def _best(history: pd.DataFrame, row: int | None, rule: str, curves: Mapping[str, str]) -> str:
    if row is None:
        return "no epoch is marked."
    value = history[rule].iloc[row]
    return f"best epoch {_epochs(history).iloc[row]:g}, {words_of(rule, curves)} {value:.4f}."


def _told(label: str, points: Sequence[tuple[float, float]], number: int) -> str:
    epoch, value = points[number]
    return f"epoch {epoch:g}, {label}: {value:.4f}"


def _paint(
    axes: Sequence[Axes], history: pd.DataFrame, best: int | None, curves: Mapping[str, str]
) -> None:
    epochs = _epochs(history)
    for axis, (name, title) in zip(axes, curves.items(), strict=False):
        for column, label, colour in (
            (name, "training", SERIES[0]),
            (f"{_VALIDATION}{name}", "validation", SERIES[1]),
        ):
            if column in history:
                axis.plot(epochs, history[column], color=colour, label=label, marker=".", ms=4)
                told = list(zip(epochs, history[column], strict=True))
                tell(axis, epochs, history[column], functools.partial(_told, label, told))
        axis.set_ylabel(title)
        axis.grid(axis="y")
        if best is not None:
            axis.axvline(epochs.iloc[best], color=INK, lw=1, ls=":", label="best epoch")
    axes[0].legend(loc="best")
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
