"""The pictures of a comparison: ROC curves in one frame, and differences with their intervals."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from sklearn.metrics import roc_curve

from dr_tfx.tasks.binary.report_figures import unit_square
from dr_tfx.reports.pages import interval, number, signed, signed_interval
from dr_tfx.reports.style import INK, SERIES, SOFT, ReportFigure, draw

KINDS = {"auc": "number", "average_precision": "number"}
KINDS |= dict.fromkeys(("sensitivity", "specificity", "balanced_accuracy", "accuracy"), "percent")
"""How a measure is written: 'number', or 'percent' (differences in percentage points)."""

_DRAWN = ("auc", "sensitivity", "specificity")
_LINES = ("-", "--", ":")
_LEGEND = 0.2  # Inches a line; below the figure, where names have room.
_NAME = 44  # Characters of a run's name that fit there.


def _colour(index: int) -> str:
    return SERIES[index % len(SERIES)]


def _short(name: str) -> str:
    """A name as the legend has room for it; of a long one both ends, as runs differ at either."""
    half = _NAME // 2
    return name if len(name) <= _NAME else f"{name[: half - 1]}…{name[-half:]}"


def draw_figures(
    scores: Sequence[tuple[str, pd.DataFrame]],
    result: Mapping[str, Any],
    *,
    measures: Mapping[str, str],
) -> list[ReportFigure]:
    """ROC curves with each run's operating point, and the differences from the first run.

    Args:
      scores: name and predictions (target, score) of every run.
      result: what `compare.figures_of` returned.
      measures: key -> name.
    """
    areas = [
        f"{run['name']} {number(run['auc'])} ({interval(run['auc'], 'number')})"
        for run in result["runs"]
    ]
    said = [
        f"{row['name']} {measures[key]} {signed(row[key], KINDS[key])} "
        f"({signed_interval(row[key], KINDS[key])})"
        for row in result["differences"]
        for key in _DRAWN
    ]
    others, first = len(result["differences"]), result["runs"][0]["name"]
    return [
        draw(
            "roc",
            lambda axes: _roc(axes[0], scores, result),
            title="ROC curves",
            alt=f"ROC curves, each with its operating point. Areas: {', '.join(areas)}.",
            height=4.0 + _LEGEND * (others + 1),
        ),
        draw(
            "differences",
            lambda axes: _differences(axes[0], result, measures),
            title=f"Difference from {first}",
            alt=f"Differences from {first} with 95 % intervals: {'; '.join(said)}.",
            height=0.9 + 0.3 * len(_DRAWN) * others + 0.25 * len(_DRAWN) + _LEGEND * others,
        ),
    ]


def _roc(axis: Axes, scores: Sequence[tuple[str, pd.DataFrame]], result: Mapping[str, Any]) -> None:
    axis.plot([0, 1], [0, 1], color=SOFT, lw=1, ls="--")
    for i, ((name, predictions), run) in enumerate(zip(scores, result["runs"], strict=True)):
        false_alarms, found, _ = roc_curve(predictions["target"], predictions["score"])
        style: Any = {"color": _colour(i), "ls": _LINES[i // len(SERIES) % len(_LINES)]}
        axis.plot(false_alarms, found, **style, label=f"{_short(name)}, {number(run['auc'])}")
        point = 1 - run["specificity"]["value"], run["sensitivity"]["value"]
        axis.plot(*point, color=_colour(i), marker="o", ms=7, ls="none", clip_on=False)
    unit_square(axis, "1 − specificity", "sensitivity")
    axis.figure.legend(loc="outside lower center")


def _differences(axis: Axes, result: Mapping[str, Any], measures: Mapping[str, str]) -> None:
    """Rows of dots and intervals by measure; right of zero a run is better than the first."""
    y, ticks = 0.0, []
    for key in _DRAWN:
        start = y
        for i, row in enumerate(result["differences"], start=1):
            value, low, high = (row[key][end] for end in ("value", "low", "high"))
            if None not in (value, low, high):
                axis.plot([low, high], [y, y], color=_colour(i), lw=5, alpha=0.35)
                axis.plot([value], [y], color=_colour(i), marker="o", ms=6)
            y += 1
        ticks.append(((start + y - 1) / 2, measures[key]))
        y += 0.6
    axis.axvline(0, color=INK, lw=1)
    for i, row in enumerate(result["differences"], start=1):
        axis.plot([], [], color=_colour(i), marker="o", ls="none", label=_short(row["name"]))
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
