"""The figure of a cross-validation: each fold's figures, and those of all photographs."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from dr_tfx.reports.pages import interval, number, percent
from dr_tfx.reports.style import INK, LEGEND_LINE, SOFT, ReportFigure, draw, series
from dr_tfx.tasks.judging import Measure
from dr_tfx.words import languages

_ROW, _GAP = 0.24, 0.3  # Inches of a fold, and of what sets its measures apart.


def draw_folds(result: Mapping[str, Any], measures: Sequence[Measure]) -> ReportFigure:
    """Return the figures of every fold with their intervals, above those of all photographs.

    Args:
      result: the content of metrics.json; see `out_of_fold`.
      measures: those to draw, from the top.
    """
    said = [
        f"{measure.name} {_written(found['pooled'], measure)}, folds "
        + ", ".join(_written(fold[measure.key], measure) for fold in result["folds"])
        for measure in measures
        for found in [result["measures"][measure.key]]
    ]
    rows = len(measures) * (len(result["folds"]) + 1)
    return draw(
        "folds",
        lambda axes: _paint(axes[0], result, measures),
        title="Folds, and all photographs",
        alt=f"Figures with 95 % intervals, first of all photographs: {'; '.join(said)}.",
        height=0.9 + _ROW * rows + _GAP * len(measures) + LEGEND_LINE,
    )


def _written(estimate: Mapping[str, Any], measure: Measure) -> str:
    value = percent(estimate) if measure.unit == "percent" else number(estimate)
    return f"{value} ({interval(estimate, measure.unit)})"


def _paint(axis: Axes, result: Mapping[str, Any], measures: Sequence[Measure]) -> None:
    y, ticks = 0.0, []
    for measure in measures:
        start = y
        pooled = result["measures"][measure.key]["pooled"]
        rows = [(fold[measure.key], SOFT, 5) for fold in result["folds"]]
        for estimate, colour, size in [*rows, (pooled, series(0)["color"], 7)]:
            value, low, high = (estimate[end] for end in ("value", "low", "high"))
            if value is not None:
                axis.plot([value], [y], color=colour, marker="o", ms=size)
            if None not in (low, high):
                axis.plot([low, high], [y, y], color=colour, lw=5, alpha=0.35)
            y += 1
        ticks.append(((start + y - 1) / 2, languages.current().said(measure.name)))
        y += 0.8
    for colour, label in ((SOFT, "each fold"), (series(0)["color"], "all photographs")):
        axis.plot([], [], color=colour, marker="o", ls="none", label=label)
    axis.set_yticks([at for at, _ in ticks], [name for _, name in ticks])
    axis.set_ylim(y - 0.8, -0.6)
    axis.set_xlim(min(axis.get_xlim()[0], 0.5), 1.01)
    axis.grid(axis="x", color=INK, alpha=0.15)
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.figure.legend(loc="outside lower center", ncols=2)
