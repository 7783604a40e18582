"""The figures of the report of a model of several classes."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import PercentFormatter

from dr_tfx.reports import confusion, reliability
from dr_tfx.reports.pages import percent
from dr_tfx.reports.style import SERIES, ReportFigure, draw, unit_square

_FIRST, _SECOND = SERIES[:2]


def draw_figures(summary: Mapping[str, Any]) -> list[ReportFigure]:
    """Return the figures of the report but the learning curves."""
    names = list(summary["counts"]["per_class"])
    return [
        draw(
            "confusion",
            lambda axes: confusion.paint(axes[0], summary["confusion"], names),
            title="Confusion matrix",
            alt=f"Confusion matrix, {recalls(summary)}.",
            height=4.2,
        ),
        draw_recalls(summary),
        draw_reliability(summary["calibration"], "probability of the decided class"),
    ]


def recalls(summary: Mapping[str, Any]) -> str:
    """Return the share of each class that is decided correctly, in words."""
    shares = [f"{row['name']} {percent(row['recall'])}" for row in summary["classes"]]
    return f"share decided correctly: {', '.join(shares)}"


def draw_recalls(summary: Mapping[str, Any]) -> ReportFigure:
    """Return the figure of each class's share that is decided correctly."""
    rows = summary["classes"]
    return draw(
        "recalls",
        lambda axes: _recalls(axes[0], rows),
        title="Decided correctly, by class",
        alt=f"With intervals, {recalls(summary)}.",
        height=1.0 + 0.42 * len(rows),
    )


def _recalls(axis: Axes, rows: Sequence[Mapping[str, Any]]) -> None:
    for i, row in enumerate(rows):
        recall = row["recall"]
        if recall["value"] is None:
            continue
        ends = [recall["value"] if end is None else end for end in (recall["low"], recall["high"])]
        axis.plot(ends, [i, i], color=_FIRST, lw=5, alpha=0.3, solid_capstyle="round")
        axis.plot([recall["value"]], [i], color=_FIRST, marker="o", ms=6, clip_on=False)
    axis.set_yticks(range(len(rows)), [f"{row['name']} ({row['images']:,})" for row in rows])
    axis.set(xlim=(-0.02, 1.02), ylim=(len(rows) - 0.5, -0.5))
    axis.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axis.grid(axis="x")
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)


def draw_reliability(
    sides: Mapping[str, Any], what: str, name: str = "calibration"
) -> ReportFigure:
    """Return the reliability curve of probabilities before and after a temperature.

    Args:
      sides: 'before' and 'after', each what `calibration.assess` gave.
      what: words for the probability.
      name: of the figure's file.
    """
    return draw(
        name,
        lambda axes: _reliability(axes[0], sides, what),
        title="Reliability",
        alt=f"Reliability curve: share that is true by mean {what}; expected calibration error "
        f"{sides['before']['ece']:.3f} before the temperature, {sides['after']['ece']:.3f} after.",
    )


def _reliability(axis: Axes, sides: Mapping[str, Any], what: str) -> None:
    reliability.paint(axis, sides)
    unit_square(axis, f"mean {what}", "share that is true")
    axis.legend(loc="upper left")
