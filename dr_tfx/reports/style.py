"""The look of the figures on a page: one palette for light screens, dark screens and paper.

A figure is drawn once, in the light palette, as SVG. The dark figure is the same drawing with every
colour of the palette exchanged, so that the two cannot disagree. Text stays text: on the page it
has the page's own typeface and is sharp at every size. It is drawn in the language that is spoken
where the figure is made (`words.languages`).
"""

import base64
import io
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Text

from dr_tfx.words import fonts, languages

PAPER, INK, SOFT, FAINT = "#ffffff", "#1f2933", "#7b8794", "#c3cad2"
SERIES = ("#1f5f99", "#c2571a", "#4f8a5b", "#8456a8", "#a88a1c", "#3a8f9c")
"""Colours of things that are told apart, in this order; they also differ in lightness."""
LEGEND_LINE = 0.2
"""Height in inches of a line of a legend below a figure, where long names have room."""


_LINES = ("-", "--", ":")
_TIP, _TIPS = "tip", 40  # The mark of what a page tells of a curve, and of how many points.
_NAME = 44  # Characters of a run's name that a legend has room for.
_DARK = {
    PAPER: "#171b20",
    INK: "#dfe4ea",
    SOFT: "#8b97a4",
    FAINT: "#434c57",
    **dict(
        zip(
            SERIES,
            ("#74b0e8", "#f0955a", "#86c794", "#c3a0e2", "#d9c05f", "#7fcbd6"),
            strict=True,
        )
    ),
}
# In inches: the width of a phone, on which 10 points are readable.
_WIDTH, _HEIGHT, _DPI = 4.5, 3.9, 160
_CSS_DPI, _SVG_DPI = 96, 72
_TYPEFACE = "system-ui, -apple-system, 'Segoe UI', Roboto, 'DejaVu Sans', sans-serif"
_STYLE: Any = {
    "axes.edgecolor": FAINT,
    "axes.facecolor": PAPER,
    "axes.labelcolor": INK,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "figure.facecolor": PAPER,
    "font.size": 10,
    "grid.color": FAINT,
    "grid.alpha": 0.5,
    "grid.linewidth": 0.6,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "svg.fonttype": "none",
    "text.color": INK,
    "text.parse_math": False,  # A name with two dollars in it is a name.
    "xtick.color": INK,
    "ytick.color": INK,
}


class Tip(NamedTuple):
    """What a page tells where the pointer is on a drawing.

    Attributes:
      left: percent of the drawing's width.
      top: percent of its height.
      text: what is told.
    """

    left: float
    top: float
    text: str


@dataclass(frozen=True)
class ReportFigure:
    """A finished figure of a report.

    Attributes:
      name: of its file, without extension.
      title: the caption.
      alt: a text for those who do not see the figure.
      svg: the drawing, in light colours.
      png: the same drawing, for where SVG cannot be used.
      width: in the page's pixels.
      height: in the page's pixels.
      tips: the values of its curves.
    """

    name: str
    title: str
    alt: str
    svg: str
    png: bytes
    width: int
    height: int
    tips: tuple[Tip, ...] = ()

    @property
    def light_uri(self) -> str:
        """The drawing in light colours as a `data:` address, which holds its own content."""
        return data_uri(self.svg.encode(), "image/svg+xml")

    @property
    def dark_uri(self) -> str:
        """The drawing in the colours of a dark screen, as a `data:` address."""
        known = re.compile("|".join(_DARK))
        return data_uri(known.sub(lambda m: _DARK[m[0]], self.svg).encode(), "image/svg+xml")


def data_uri(content: bytes, kind: str) -> str:
    """Return a file of a MIME type as a `data:` address, which holds the file itself."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"


def draw(
    name: str,
    paint: Callable[[Sequence[Axes]], None],
    *,
    title: str,
    alt: str,
    rows: Sequence[float] = (1,),
    height: float = _HEIGHT,
) -> ReportFigure:
    """Draw a figure of one column.

    It does without pyplot, whose figures are global state that outlives the call.

    Args:
      name: of the file; the same name and content give the same bytes.
      paint: draws on the axes with the colours of this module.
      title: the caption.
      alt: a text for those who do not see the figure.
      rows: relative heights of the axes, from the top; they share their x.
      height: in inches.
    """
    families, said = fonts.families(), languages.current().said
    with mpl.rc_context({**_STYLE, "font.family": list(families), "svg.hashsalt": name}):
        figure = Figure((_WIDTH, height), dpi=_DPI, layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(
            len(rows), 1, squeeze=False, sharex=True, gridspec_kw={"height_ratios": list(rows)}
        )[:, 0]
        paint(list(axes))
        # The words of ticks, most of them names, come anew from the axes, and stay as they are.
        for text in figure.findobj(Text):
            text.set_text(said(text.get_text()))
        png, svg = io.BytesIO(), io.StringIO()
        figure.savefig(png, format="png", metadata={"Software": None})
        tips = _tips(figure)
        # The layout is found; to find it again would take most of the time.
        figure.set_layout_engine("none")
        figure.savefig(svg, format="svg", metadata={"Date": None, "Creator": None})
    drawn = ", ".join(f"'{family}'" for family in families)
    typeset = svg.getvalue().replace(drawn, _TYPEFACE)
    pixels = round(_WIDTH * _CSS_DPI), round(height * _CSS_DPI)
    return ReportFigure(name, said(title), said(alt), typeset, png.getvalue(), *pixels, tips)


def tell(axis: Axes, x: npt.ArrayLike, y: npt.ArrayLike, words: Callable[[int], str]) -> None:
    """Let a page tell the values of a curve, at no more than 40 of its points.

    Args:
      axis: where the curve is drawn.
      x: (n,), of its points.
      y: (n,), likewise; where it is NaN, nothing is told.
      words: a sentence for the point of a number, as `languages` knows it.
    """
    across, up = np.asarray(x, np.float64), np.asarray(y, np.float64)
    places = np.unique(np.linspace(0, len(across) - 1, _TIPS).round().astype(int))
    for i in places[np.isfinite(across[places] + up[places])]:
        axis.text(across[i], up[i], words(int(i)), visible=False, gid=_TIP)


def _tips(figure: Figure) -> tuple[Tip, ...]:
    """Return what `tell` was told, at its places in the finished layout."""
    found = []
    for text in figure.findobj(Text):
        if text.get_gid() == _TIP and text.axes is not None:
            pixels = text.axes.transData.transform(text.get_position())
            x, y = figure.transFigure.inverted().transform(pixels)
            found.append(Tip(round(100 * x, 2), round(100 * (1 - y), 2), text.get_text()))
    return tuple(found)


def series(index: int) -> Any:
    """Return colour and line style of the n-th of several runs, as keywords of `Axes.plot`."""
    turn, colour = divmod(index, len(SERIES))
    return {"color": SERIES[colour], "ls": _LINES[turn % len(_LINES)]}


def short(name: str) -> str:
    """Return a name as a legend has room for it; a long one keeps both ends, where runs differ."""
    half = _NAME // 2
    return name if len(name) <= _NAME else f"{name[: half - 1]}…{name[-half:]}"


def unit_square(axis: Axes, x: str, y: str) -> None:
    """Make the axes of two shares a square with these labels."""
    axis.set(xlabel=x, ylabel=y, xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axis.set_aspect("equal")
    axis.grid()
