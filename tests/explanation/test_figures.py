"""The figure of a photograph beside its heat map: what is drawn, in which colours."""

import dataclasses
import io

import matplotlib as mpl
import numpy as np
import pytest
from PIL import Image

from dr_tfx.config import specs
from dr_tfx.explanation import figures


def drawn(rows, **options):
    """The picture as uint8 RGB."""
    return np.asarray(
        Image.open(io.BytesIO(figures.draw(rows, title="eye.png", **options))).convert("RGB")
    )


def share(picture, colour):
    """Of the pixels that have a colour, near enough."""
    return (np.abs(picture.astype(int) - colour).max(axis=-1) <= 2).mean()


@pytest.fixture
def row():
    """A grey photograph, of which the map marks the right half."""
    heatmap = np.repeat([[0, 1]], 2, axis=0).astype(np.float32)
    heatmap = np.kron(heatmap, np.ones((8, 8), np.float32))
    return figures.FigureRow(np.full((16, 16, 3), 100, np.uint8), heatmap, "abnormal")


@pytest.mark.parametrize("colormap", specs.COLORMAPS)
def test_a_row_is_photograph_heat_map_and_overlay_with_a_colour_bar(row, colormap):
    picture = drawn([row], colormap=colormap)
    low, high = (np.array(mpl.colormaps[colormap](x, bytes=True)[:3]) for x in (0.0, 1.0))
    thirds = np.array_split(picture, 3, axis=1)
    assert share(thirds[0], [100, 100, 100]) > 0.4
    assert share(thirds[1], low) > 0.15 and share(thirds[1], high) > 0.15
    if colormap != "jet":  # Nothing is laid over the half without evidence.
        assert share(thirds[2], [100, 100, 100]) > 0.15
        assert share(thirds[2], np.floor(0.4 * 100 + 0.6 * high)) > 0.15
    bar = picture[-100:, picture.shape[1] // 3 : -picture.shape[1] // 3]
    colours = mpl.colormaps[colormap](np.linspace(0, 1, 9), bytes=True)[:, :3]
    assert all(share(bar, colour) > 0 for colour in colours[1:-1])


def test_the_default_is_perceptually_uniform(row):
    assert np.array_equal(drawn([row]), drawn([row], colormap="viridis"))


def test_long_names_are_cut_and_what_follows_them_is_not(row):
    name = "a photograph of the left eye, " * 10
    short, long = (dataclasses.replace(row, caption=f"{n}score 0.1") for n in ("", name))
    pictures = [
        np.asarray(Image.open(io.BytesIO(figures.draw([r], title=name))).convert("L"))
        for r in (short, long)
    ]
    edge = 36  # Of a quarter of an inch at the side, where nothing is.
    assert all((picture[:, -edge:] == 255).all() for picture in pictures)
    # The caption's last word, cut out of the one, is found in the other, at its end.
    strip = slice(round(0.8 * 150), round(1.0 * 150))
    word = pictures[0][strip, edge : edge + 400] < 128
    columns = np.flatnonzero(word.any(axis=0))
    ink = np.flatnonzero((pictures[1][strip] < 128).any(axis=0))
    end = pictures[1][strip, ink[-1] - np.ptp(columns) + 20 : ink[-1] + 1] < 128
    assert abs(end.sum() / word[:, columns[0] + 20 : columns[-1] + 1].sum() - 1) < 0.1


def test_without_rows_the_figure_says_so():
    assert (drawn([]) < 100).any()
