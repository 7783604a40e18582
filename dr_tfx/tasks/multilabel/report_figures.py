"""The figures of the report of a model of several labels."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from dr_tfx.reports import confusion
from dr_tfx.reports.style import SERIES, ReportFigure, draw


def draw_figures(summary: Mapping[str, Any], groups: Sequence[str]) -> list[ReportFigure]:
    """Return the figures of the report but the learning curves."""
    rows = [row for row in summary["labels"] if row["auc"]["value"] is not None]
    told = ", ".join(f"{row['name']} {row['auc']['value']:.3f}" for row in rows)
    return [
        draw(
            "labels",
            lambda axes: _areas(axes[0], rows),
            title="AUC of each label",
            alt=f"With intervals, AUC of {told or 'no label'}.",
            height=1.0 + 0.42 * max(1, len(rows)),
        ),
        draw(
            "confusion",
            lambda axes: confusion.paint(axes[0], summary["decision"]["confusion"], groups),
            title="Confusion matrix of the decision",
            alt=f"Confusion matrix of {' and '.join(groups)}: {summary['decision']['confusion']}.",
            height=4.2,
        ),
    ]


def _areas(axis: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for i, row in enumerate(rows):
        area = row["auc"]
        ends = [area["value"] if end is None else end for end in (area["low"], area["high"])]
        axis.plot(ends, [i, i], color=SERIES[0], lw=5, alpha=0.3, solid_capstyle="round")
        axis.plot([area["value"]], [i], color=SERIES[0], marker="o", ms=6, clip_on=False)
    axis.axvline(0.5, color="gray", lw=1, ls=":")
    axis.set_yticks(range(len(rows)), [f"{row['name']} ({row['images']:,})" for row in rows])
    axis.set(xlim=(0.28, 1.02), ylim=(max(1, len(rows)) - 0.5, -0.5))
    axis.grid(axis="x")
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
