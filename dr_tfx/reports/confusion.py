"""The drawing of a table of confusion, of two classes or more."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.patches import Rectangle

from dr_tfx.reports.style import SERIES

_RIGHT, _WRONG = SERIES[:2]
_FONT = 26  # Points, divided by the number of classes.


def paint(
    axis: Axes, counts: npt.ArrayLike, names: Sequence[str], costs: npt.ArrayLike | None = None
) -> None:
    """Draw counts and their share of each row.

    Args:
      axis: where to draw.
      counts: int (k, k), rows the truth.
      names: of the k classes.
      costs: what an image in each cell costs, int (k, k); by default it is not told.
    """
    table = np.asarray(counts)
    shares = table / np.maximum(1, table.sum(axis=1, keepdims=True))
    font = min(13.0, max(7.0, _FONT / len(names) * 1.6))
    for (row, column), n in np.ndenumerate(table):
        share = float(shares[row, column])
        # At most half the strength, so that the text stays readable.
        corner, strength = (column - 0.49, row - 0.49), 0.04 + 0.4 * share
        colour = _RIGHT if row == column else _WRONG
        axis.add_patch(Rectangle(corner, 0.98, 0.98, color=colour, alpha=strength, lw=0))
        text = f"{n:,}\n{100 * share:.1f} %"
        if costs is not None and row != column:
            text += f"\ncost {np.asarray(costs)[row, column]}"
        axis.text(column, row, text, ha="center", va="center", fontsize=font)
    end = len(names) - 0.5
    axis.set(xlim=(-0.5, end), ylim=(end, -0.5), xlabel="decision", ylabel="truth")
    few = len(names) < 3
    axis.set_xticks(
        range(len(names)), names, rotation=0 if few else 25, ha="center" if few else "right"
    )
    axis.set_yticks(range(len(names)), names, rotation=90 if few else 0, va="center")
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)
