"""The figures of the report of a model of grades."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from sklearn.metrics import roc_curve

from dr_tfx.reports import confusion
from dr_tfx.reports.pages import number
from dr_tfx.reports.style import (
    LEGEND_LINE,
    PAPER,
    SOFT,
    ReportFigure,
    draw,
    series,
    tell,
    unit_square,
)
from dr_tfx.statistics import multiclass
from dr_tfx.tasks.classes import report_figures as of_classes


def draw_figures(
    truth: np.ndarray, probability: np.ndarray, summary: Mapping[str, Any]
) -> list[ReportFigure]:
    """Return the figures of the report but the learning curves.

    Args:
      truth: grades, int64 (n,).
      probability: float64 (n, grades).
      summary: what `summary.summarise` returned.
    """
    names = list(summary["counts"]["per_class"])
    kappa, cuts = summary["figures"]["kappa"], summary["cuts"]
    areas = [f"{cut['name']} {number(cut['auc'])}" for cut in cuts]
    referred = next(cut["name"] for cut in cuts if cut["referred"])
    return [
        draw(
            "confusion",
            lambda axes: confusion.paint(axes[0], summary["confusion"], names, summary["costs"]),
            title="Confusion matrix, with the cost of each cell",
            alt=f"Confusion matrix, {of_classes.recalls(summary)}; quadratic weighted kappa "
            f"{number(kappa)}.",
            height=4.6,
        ),
        of_classes.draw_recalls(summary),
        draw(
            "cuts",
            lambda axes: _roc(axes[0], truth, multiclass.above(probability), cuts),
            title="ROC curves of every cut of the scale",
            alt=f"ROC curves with their operating points. Areas: {', '.join(areas)}.",
            height=4.0 + LEGEND_LINE * (len(cuts) + 1),
        ),
        of_classes.draw_reliability(summary["calibration"], f"probability of {referred}"),
    ]


def _roc(
    axis: Axes, truth: np.ndarray, above: np.ndarray, cuts: Sequence[Mapping[str, Any]]
) -> None:
    """Draw the curve of each cut in its band; the point that decides is filled."""
    axis.plot([0, 1], [0, 1], color=SOFT, lw=1, ls="--")
    for i, cut in enumerate(cuts):
        target = truth >= cut["grade"]
        if cut["auc"]["value"] is None:
            continue
        # The first point is that of no score.
        false_alarms, found, limits = roc_curve(target, above[:, cut["grade"] - 1])
        label, colour = f"{cut['name']}, {number(cut['auc'])}", series(i)["color"]
        axis.fill_between(*cut["band"].values(), color=colour, alpha=0.1, lw=0)
        axis.plot(false_alarms, found, **series(i), label=label)
        tell(axis, false_alarms[1:], found[1:], _told(cut["name"], false_alarms, found, limits))
        for first, point in enumerate(cut["points"]):
            place = (
                1 - point["rates"]["specificity"]["value"],
                point["rates"]["sensitivity"]["value"],
            )
            face = PAPER if first else colour
            axis.plot(*place, color=colour, mfc=face, marker="o", ms=5, ls="none", clip_on=False)
    axis.fill_between([], [], color=SOFT, alpha=0.2, lw=0, label="95 % of the resamples")
    unit_square(axis, "1 − specificity", "sensitivity")
    axis.figure.legend(loc="outside lower center")


def _told(
    name: str, false_alarms: np.ndarray, found: np.ndarray, limits: np.ndarray
) -> Callable[[int], str]:
    """Return what a page tells of the points of a curve after the first one."""
    return lambda i: (
        f"{name}: sensitivity {found[i + 1]:.3f}, specificity {1 - false_alarms[i + 1]:.3f} from "
        f"a probability of {limits[i + 1]:.3g} on"
    )
