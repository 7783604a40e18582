"""Figures of photographs beside their heat maps, as PNG files in memory."""

import dataclasses
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.cm import ScalarMappable
from matplotlib.figure import Figure
from matplotlib.text import Text

from dr_tfx import NOTICE
from dr_tfx.config import specs
from dr_tfx.explanation import overlays
from dr_tfx.words import fonts, languages

COLORMAP = specs.COLORMAPS[0]
# What the strongest colour means: in maps that are shares of their maximum, and in probabilities.
MOST, CERTAIN = "most in this map", "certain"
_SEEN, _MAPS, _MARKS = "as the model sees it", ("heat map", "overlay"), "lesions"
_CELL, _CAPTION, _HEAD, _FOOT, _EDGE, _GAP = 2.3, 0.34, 0.72, 0.82, 0.25, 0.06  # Inches.
_INK, _FAINT = "#1f2933", "#66717d"
_DPI = 150


class Outlined(NamedTuple):
    """A photograph with outlines of lesions, uint8 RGB (h, w, 3), and what their colours are."""

    rgb: np.ndarray
    legend: str


@dataclasses.dataclass(frozen=True)
class FigureRow:
    """One row of a figure: a photograph, its heat map, and the lesions that are marked in it.

    All rows of a figure have a heat map, or none has; and likewise lesions.
    """

    rgb: np.ndarray  # uint8 (size, size, 3): the photograph as the model sees it.
    heatmap: np.ndarray | None  # float32 (h, w), 0 to 1.
    caption: str
    outlined: Outlined | None = None


def draw(
    rows: Sequence[FigureRow], *, title: str, colormap: str = COLORMAP, most: str = MOST
) -> bytes:
    """Return a PNG with one row per photograph: the photograph, its heat map, the two overlaid.

    What is outlined in it, if anything is, stands at the end of the row. Its words are in the
    language that is spoken here (`words.languages`).

    Args:
      rows: the photographs; if there are none, the figure says so.
      title: the line above all rows.
      colormap: a name in `specs.COLORMAPS`.
      most: what the other end of the colours means, MOST or CERTAIN.
    """
    has_maps = not rows or rows[0].heatmap is not None
    has_marks = bool(rows) and rows[0].outlined is not None
    columns = (_SEEN, *(_MAPS if has_maps else ()), *((_MARKS,) if has_marks else ()))
    height = _HEAD + max(len(rows), 1) * (_CAPTION + _CELL) + _FOOT
    width = 2 * _EDGE + len(columns) * _CELL + (len(columns) - 1) * _GAP
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)

    def place(left: float, top: float, across: float, down: float) -> Axes:
        """Return axes at a place in inches from the top left corner."""
        box = (left / width, 1 - (top + down) / height, across / width, down / height)
        return figure.add_axes(box, xticks=[], yticks=[], frame_on=False)

    def write(left: float, top: float, text: str, size: float, colour: str = _INK) -> None:
        at = (left / width, 1 - top / height)
        look: dict[str, Any] = {
            "family": fonts.families(),
            "size": size,
            "color": colour,
            "parse_math": False,
        }
        drawn = figure.text(*at, languages.current().said(text), va="baseline", **look)
        _shorten(drawn, most=(width - left - _EDGE) * _DPI)

    write(_EDGE, 0.34, title, 11)
    lefts = [_EDGE + i * (_CELL + _GAP) for i in range(len(columns))]
    for left, name in zip(lefts, columns, strict=True):
        write(left, 0.62, name, 8, _FAINT)
    for i, row in enumerate(rows):
        top = _HEAD + i * (_CAPTION + _CELL)
        write(_EDGE, top + 0.23, row.caption, 8.5)
        for left, picture in zip(lefts, _pictures(row, colormap), strict=True):
            axes = place(left, top + _CAPTION, _CELL, _CELL)
            axes.imshow(picture, aspect="auto", interpolation="lanczos")
        if row.outlined:
            write(lefts[-1], top + _CAPTION + _CELL + 0.16, row.outlined.legend, 7, _FAINT)
    if not rows:
        write(_EDGE, _HEAD + 0.23, "No examples.", 8.5)
    write(_EDGE, height - 0.16, NOTICE, 8, _FAINT)
    if has_maps:
        _draw_scale(figure, place(lefts[1], height - 0.62, _CELL, 0.09), colormap, most)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _pictures(row: FigureRow, colormap: str) -> list[np.ndarray]:
    """Return the pictures of a row, uint8 RGB, from the left."""
    found = [row.rgb]
    if row.heatmap is not None:
        heatmap = overlays.upsample(row.heatmap, *row.rgb.shape[:2])
        found.append(overlays.colorize(heatmap, colormap))
        found.append(overlays.overlay(row.rgb, heatmap, colormap=colormap))
    return [*found, row.outlined.rgb] if row.outlined else found


def _shorten(text: Text, *, most: float) -> None:
    """Shorten a text to a number of pixels; cut its first half, where a long name stands."""
    whole = text.get_text()
    kept = len(whole)
    while kept > 3 and (width := text.get_window_extent().width) > most:
        kept = min(kept - 1, int(kept * most / width))
        end = 2 * kept // 3
        text.set_text(f"{whole[: kept - end]}…{whole[-end:]}")


def _draw_scale(figure: Figure, axes: Axes, colormap: str, most: str) -> None:
    """Draw the colour bar."""
    colours = ScalarMappable(cmap=mpl.colormaps[colormap])
    bar = figure.colorbar(colours, cax=axes, orientation="horizontal", ticks=[])
    bar.outline.set_visible(False)
    for x, side, text in ((0, "left", "no evidence"), (1, "right", most)):
        look: dict[str, Any] = {
            "family": fonts.families(),
            "size": 7,
            "color": _FAINT,
            "ha": side,
            "va": "top",
        }
        axes.text(x, -0.5, languages.current().said(text), transform=axes.transAxes, **look)
