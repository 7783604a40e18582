"""The figure of a comparison: differences from the first run, with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes

from dr_tfx.reports.pages import signed, signed_interval
from dr_tfx.reports.style import INK, LEGEND_LINE, ReportFigure, draw, series, short
from dr_tfx.tasks.judging import Measure
from dr_tfx.words import languages

_ROW, _GAP = 0.3, 0.25  # Inches of a run, and of what sets its measures apart.


def draw_differences(result: Mapping[str, Any], measures: Sequence[Measure]) -> ReportFigure:
    """Return the differences from the first run.

    Args:
      result: the content of compare.json.
      measures: those to draw, from the top.
    """
    said = [
        f"{row['name']} {measure.name} {signed(row[measure.key], measure.unit)} "
        f"({signed_interval(row[measure.key], measure.unit)})"
        for row in result["differences"]
        for measure in measures
    ]
    others, first = len(result["differences"]), result["runs"][0]["name"]
    rows = len(measures) * others
    return draw(
        "differences",
        lambda axes: _paint(axes[0], result, measures),
        title=f"Difference from {first}",
        alt=f"Differences from {first} with 95 % intervals: {'; '.join(said)}.",
        height=0.9 + _ROW * rows + _GAP * len(measures) + LEGEND_LINE * others,
    )


def _paint(axis: Axes, result: Mapping[str, Any], measures: Sequence[Measure]) -> None:
    """Draw rows of dots and intervals by measure; right of zero a run is better than the first."""
    y, ticks = 0.0, []
    for measure in measures:
        start = y
        for i, row in enumerate(result["differences"], start=1):
            value, low, high = (row[measure.key][end] for end in ("value", "low", "high"))
            colour = series(i)["color"]
            if None not in (value, low, high):
                axis.plot([low, high], [y, y], color=colour, lw=5, alpha=0.35)
                axis.plot([value], [y], color=colour, marker="o", ms=6)
            y += 1
        ticks.append(((start + y - 1) / 2, languages.current().said(measure.name)))
        y += 0.6
    axis.axvline(0, color=INK, lw=1)
    for i, row in enumerate(result["differences"], start=1):
        style = {"color": series(i)["color"], "marker": "o", "ls": "none"}
        axis.plot([], [], **style, label=short(row["name"]))
    axis.set_yticks([at for at, _ in ticks], [name for _, name in ticks])
    axis.set_ylim(y - 0.6, -0.6)
    reach = max(0.01, *(abs(x) for x in axis.get_xlim()))
    axis.set_xlim(-reach, reach)
    axis.set_xlabel("← worse\u2003better →")
    axis.xaxis.set_major_formatter(lambda x, _: f"{x:+.3g}".replace("-", "−") if x else "0")
    axis.grid(axis="x")
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.figure.legend(loc="outside lower center")
