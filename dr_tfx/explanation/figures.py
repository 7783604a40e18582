"""Figures of photographs beside their heat maps, as PNG files in memory."""

import dataclasses
import io
from collections.abc import Sequence
from typing import Any

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
_COLUMNS = ("as the model sees it", "heat map", "overlay")
_CELL, _CAPTION, _HEAD, _FOOT, _EDGE, _GAP = 2.3, 0.34, 0.72, 0.82, 0.25, 0.06  # Inches.
_INK, _FAINT = "#1f2933", "#66717d"
_DPI = 150


@dataclasses.dataclass(frozen=True)
class FigureRow:
    """One row of a figure: a photograph and its heat map."""

    rgb: np.ndarray  # uint8 (size, size, 3): the photograph as the model sees it.
    heatmap: np.ndarray  # float32 (h, w), 0 to 1.
    caption: str


def draw(rows: Sequence[FigureRow], *, title: str, colormap: str = COLORMAP) -> bytes:
    """Return a PNG with one row per photograph: the photograph, its heat map, the two overlaid.

    Its words are in the language that is spoken here (`words.languages`).

    Args:
      rows: the photographs; if there are none, the figure says so.
      title: the line above all rows.
      colormap: a name in `specs.COLORMAPS`.
    """
    height = _HEAD + max(len(rows), 1) * (_CAPTION + _CELL) + _FOOT
    width = 2 * _EDGE + 3 * _CELL + 2 * _GAP
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
    lefts = [_EDGE + i * (_CELL + _GAP) for i in range(3)]
    for left, name in zip(lefts, _COLUMNS, strict=True):
        write(left, 0.62, name, 8, _FAINT)
    for i, row in enumerate(rows):
        top = _HEAD + i * (_CAPTION + _CELL)
        write(_EDGE, top + 0.23, row.caption, 8.5)
        heatmap = overlays.upsample(row.heatmap, *row.rgb.shape[:2])
        pictures = (
            row.rgb,
            overlays.colorize(heatmap, colormap),
            overlays.overlay(row.rgb, heatmap, colormap=colormap),
        )
        for left, picture in zip(lefts, pictures, strict=True):
            axes = place(left, top + _CAPTION, _CELL, _CELL)
            axes.imshow(picture, aspect="auto", interpolation="lanczos")
    if not rows:
        write(_EDGE, _HEAD + 0.23, "No examples.", 8.5)
    write(_EDGE, height - 0.16, NOTICE, 8, _FAINT)
    _draw_scale(figure, place(lefts[1], height - 0.62, _CELL, 0.09), colormap)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _shorten(text: Text, *, most: float) -> None:
    """Shorten a text to a number of pixels; cut its first half, where a long name stands."""
    whole = text.get_text()
    kept = len(whole)
    while kept > 3 and (width := text.get_window_extent().width) > most:
        kept = min(kept - 1, int(kept * most / width))
        end = 2 * kept // 3
        text.set_text(f"{whole[: kept - end]}…{whole[-end:]}")


def _draw_scale(figure: Figure, axes: Axes, colormap: str) -> None:
    """Draw the colour bar. Colours are shares of each map's own maximum, not probabilities."""
    colours = ScalarMappable(cmap=mpl.colormaps[colormap])
    bar = figure.colorbar(colours, cax=axes, orientation="horizontal", ticks=[])
    bar.outline.set_visible(False)
    for x, side, text in ((0, "left", "no evidence"), (1, "right", "most in this map")):
        look: dict[str, Any] = {
            "family": fonts.families(),
            "size": 7,
            "color": _FAINT,
            "ha": side,
            "va": "top",
        }
        axes.text(x, -0.5, languages.current().said(text), transform=axes.transAxes, **look)
