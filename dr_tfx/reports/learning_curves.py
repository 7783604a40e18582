"""The figure of a training: its history, epoch by epoch."""

from collections.abc import Iterator, Sequence

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from dr_tfx.reports.style import INK, SERIES, ReportFigure, draw

MEASURES = {
    "val_auc": "validation AUC",
    "val_accuracy": "validation accuracy",
    "val_loss": "validation loss",
}
"""Words for the columns of history.csv that can decide something."""


def learning_curves(history: pd.DataFrame, rule: str) -> ReportFigure:
    """Loss, AUC and accuracy of training and validation, as far as the history has them.

    Args:
      history: one row an epoch or more; columns are drawn when present: epoch, loss, val_loss,
        accuracy, val_accuracy, auc, val_auc.
      rule: the column by which the checkpoint was chosen; its best epoch is marked.
    """
    panels = max(1, len(list(_panels(history))))
    return draw(
        "learning_curves",
        lambda axes: _paint(axes, history, rule),
        title="Learning curves",
        alt=f"Training and validation curves, {len(history)} epochs; {_best(history, rule)}",
        rows=(1,) * panels,
        height=3.9 if panels == 1 else 0.6 + 1.9 * panels,
    )


def _panels(history: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    for name, title in (("loss", "loss"), ("auc", "AUC"), ("accuracy", "accuracy")):
        if name in history or f"val_{name}" in history:
            yield name, f"val_{name}", title


def _best_row(history: pd.DataFrame, rule: str) -> int | None:
    """Position of the epoch whose checkpoint was kept: of equals the first."""
    if rule not in history or history[rule].isna().all():
        return None
    values = history[rule].to_numpy(np.float64)
    return int(np.nanargmin(values) if rule.endswith("loss") else np.nanargmax(values))


def _epochs(history: pd.DataFrame) -> pd.Series:
    return history.get("epoch", pd.Series(range(1, len(history) + 1), index=history.index))


def _best(history: pd.DataFrame, rule: str) -> str:
    best = _best_row(history, rule)
    if best is None:
        return "no epoch is marked."
    value = history[rule].iloc[best]
    return f"best epoch {_epochs(history).iloc[best]:g}, {MEASURES.get(rule, rule)} {value:.4f}."


def _paint(axes: Sequence[Axes], history: pd.DataFrame, rule: str) -> None:
    epochs, best = _epochs(history), _best_row(history, rule)
    for axis, (train, validation, title) in zip(axes, _panels(history), strict=False):
        for column, label, colour in (
            (train, "training", SERIES[0]),
            (validation, "validation", SERIES[1]),
        ):
            if column in history:
                axis.plot(epochs, history[column], color=colour, label=label, marker=".", ms=4)
        axis.set_ylabel(title)
        axis.grid(axis="y")
        if best is not None:
            axis.axvline(epochs.iloc[best], color=INK, lw=1, ls=":", label="best epoch")
    axes[0].legend(loc="best")
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))
