"""One drawing in two palettes, and how runs are told apart."""

import base64
import re

import numpy as np

from dr_tfx.reports import style
from dr_tfx.words import languages


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


def test_values_of_a_curve_lie_where_its_points_are_drawn():
    x, y = np.linspace(0, 1, 120), np.linspace(1, 3, 120)
    y[7] = np.nan

    def paint(axes):
        axes[0].plot(x, y, "o", color="#4f8a5b")
        style.tell(axes[0], x, y, lambda i: f"guessing {i}")

    with languages.speaking("ko"):
        figure = style.draw("dots", paint, title="Dots", alt="dots")
    width, height = map(float, re.search(r'viewBox="0 0 ([\d.]+) ([\d.]+)"', figure.svg).groups())
    dots = re.findall(r'<use [^>]*x="([\d.]+)" y="([\d.]+)" style="fill: #4f8a5b', figure.svg)
    drawn = dict(zip(np.delete(np.arange(120), 7), dots, strict=True))
    assert len(figure.tips) in (39, 40)
    for tip in figure.tips:
        left, top = map(float, drawn[int(tip.text.removeprefix("무작위 추측 "))])
        assert abs(tip.left - 100 * left / width) < 0.1 and abs(tip.top - 100 * top / height) < 0.1


def test_runs_are_told_apart_by_colour_and_then_by_line():
    styles = [tuple(style.series(i).values()) for i in range(18)]
    assert len(set(styles)) == 18 and len({colour for colour, _ in styles}) == 6


def test_long_names_keep_both_ends():
    name = "first" + "x" * 60 + "last"
    assert style.short("short") == "short"
    assert len(style.short(name)) <= 44
    assert style.short(name).startswith("first") and style.short(name).endswith("last")
