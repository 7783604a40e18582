"""The drawing of a reliability curve, of scores as they are and calibrated."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from dr_tfx.reports.style import PAPER, SERIES, SOFT

_AFTER, _BEFORE = SERIES[:2]


def paint(axis: Axes, sides: Mapping[str, Any]) -> None:
    """Draw both curves, the intervals of the second one, and the diagonal.

    Calibration moves no image past another, so both curves have the same bins and intervals.

    Args:
      axis: where to draw.
      sides: `before` and `after`, each with its `ece` and its `bins`: `mean_score`, and `rate` with
        its interval. Bins without a rate are left out.
    """
    axis.plot([0, 1], [0, 1], color=SOFT, lw=1, ls="--", label="perfect")
    for key, colour, label, face in (
        ("before", _BEFORE, "as it is", PAPER),
        ("after", _AFTER, "calibrated", _AFTER),
    ):
        bins = [b for b in sides[key]["bins"] if None not in b["rate"].values()]
        x = [b["mean_score"] for b in bins]
        low, value, high = (
            np.array([b["rate"][end] for b in bins]) for end in ("low", "value", "high")
        )
        if key == "after":
            axis.vlines(x, low, high, color=colour, lw=3, alpha=0.25)
        said = f"{label}, ECE {sides[key]['ece']:.3f}"
        axis.plot(x, value, color=colour, label=said, marker="o", ms=4, mfc=face, lw=1.2)
