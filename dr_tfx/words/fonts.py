"""The typefaces of figures: names of photographs and Korean words are drawn, not boxes."""

import dataclasses
import functools

import pylopdf_fonts_ko
from matplotlib import font_manager


@functools.cache
def families() -> tuple[str, ...]:
    """Return the typefaces to draw with: matplotlib's own, then Noto Sans KR for what that lacks.

    Both come with packages, so that every machine draws the same.
    """
    path = pylopdf_fonts_ko.sans_path()
    known = font_manager.fontManager
    known.addfont(path)
    entry = known.ttflist[-1]
    known.ttflist.append(dataclasses.replace(entry, weight="bold"))  # It has no bold of its own.
    return ("DejaVu Sans", entry.name)
