"""One drawing in two palettes, and how runs are told apart."""

import base64
import re

from dr_tfx.reports import style


def test_a_figure_is_one_drawing_in_two_palettes():
    figure = style.draw(
        "lines",
        lambda axes: [axes[0].plot([0, 1], [0, i], **style.series(i)) for i in range(7)],
        title="Lines",
        alt="seven lines",
    )
    light, dark = (
        base64.b64decode(uri.partition("base64,")[2]).decode()
        for uri in (figure.light_uri, figure.dark_uri)
    )
    colours = [set(re.findall("#[0-9a-f]{6}", svg)) for svg in (light, dark)]
    assert "#ffffff" in colours[0] and colours[0].isdisjoint(colours[1])
    assert re.sub("#[0-9a-f]{6}", "", light) == re.sub("#[0-9a-f]{6}", "", dark)


def test_runs_are_told_apart_by_colour_and_then_by_line():
    styles = [tuple(style.series(i).values()) for i in range(18)]
    assert len(set(styles)) == 18 and len({colour for colour, _ in styles}) == 6


def test_long_names_keep_both_ends():
    name = "first" + "x" * 60 + "last"
    assert style.short("short") == "short"
    assert len(style.short(name)) <= 44
    assert style.short(name).startswith("first") and style.short(name).endswith("last")
