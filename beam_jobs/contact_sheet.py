"""Photographs before and after preprocessing, side by side: what a person looks at first."""

import dataclasses
import io
from collections.abc import Sequence

import numpy as np
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

COLUMNS = 4  # Photographs in a row.
_CELL, _CAPTION, _HEAD, _EDGE, _GAP, _BETWEEN = 1.6, 0.26, 0.5, 0.2, 0.04, 0.2  # Inches.
_INK, _FAINT = "#1f2933", "#66717d"
_DPI = 110
_LONGEST_CAPTION = 34  # Characters; file names can be long.


@dataclasses.dataclass(frozen=True)
class Pair:
    """One photograph."""

    before: np.ndarray  # uint8 RGB (height, width, 3), any size.
    after: np.ndarray | None  # uint8 RGB (size, size, 3); None where there is no example.
    caption: str


def draw(rows: Sequence[tuple[str, Sequence[Pair]]], *, title: str) -> bytes:
    """A PNG with a line of text and up to COLUMNS pairs in each row. Same input, same bytes."""
    width = 2 * _EDGE + COLUMNS * (2 * _CELL + _GAP) + (COLUMNS - 1) * _BETWEEN
    down = _CELL + 2 * _CAPTION
    height = _HEAD + len(rows) * down + _EDGE
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)

    def write(left: float, top: float, text: str, size: float, colour: str = _INK) -> None:
        at = (left / width, 1 - top / height)
        figure.text(*at, text, size=size, color=colour, ha="left", va="baseline", parse_math=False)

    def show(left: float, top: float, picture: np.ndarray) -> None:
        box = (left / width, 1 - (top + _CELL) / height, _CELL / width, _CELL / height)
        axes = figure.add_axes(box, xticks=[], yticks=[], frame_on=False)
        axes.imshow(picture, aspect="equal", interpolation="antialiased")

    write(_EDGE, 0.28, title, 11)
    for i, (name, pairs) in enumerate(rows):
        top = _HEAD + i * down
        write(_EDGE, top + 0.16, name, 9.5)
        for j, pair in enumerate(pairs[:COLUMNS]):
            left = _EDGE + j * (2 * _CELL + _GAP + _BETWEEN)
            show(left, top + _CAPTION, pair.before)
            if pair.after is not None:
                show(left + _CELL + _GAP, top + _CAPTION, pair.after)
            write(left, top + _CAPTION + _CELL + 0.14, _short(pair.caption), 7, _FAINT)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _short(text: str) -> str:
    """The end of a long text: names differ there."""
    return text if len(text) <= _LONGEST_CAPTION else f"…{text[1 - _LONGEST_CAPTION :]}"
