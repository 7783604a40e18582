"""Figures as they are written on pages, and a template of another folder."""

import re

import jinja2
import markupsafe
import pytest

from dr_tfx.reports import pages


@pytest.mark.parametrize(
    ("written", "expected"),
    [
        (pages.percent(0.9604), "96.0\u00a0%"),
        (pages.percent({"value": None}), "–"),
        (pages.number(-0.12345), "−0.123"),
        (pages.ratio(7.518), "7.52"),
        (pages.ratio(21.2), "21.2"),
        (pages.ratio(None), "∞"),
        (pages.interval({"low": 0.733, "high": 0.9074}), "73.3–90.7"),
        (pages.interval({"low": -0.1, "high": 0.2}, "number"), "−0.100 to 0.200"),
        (pages.interval({"low": 7.5, "high": None}, "ratio"), "7.50–∞"),
        (pages.interval({"low": 0.5, "high": None}), "50.0–?"),
        (pages.interval({"low": None, "high": None}), "not known"),
        (pages.signed(0.012), "+1.2"),
        (pages.signed(-0.0004), "0.0"),
        (pages.signed({"value": -0.0126}, "number"), "−0.013"),
        (pages.signed({"value": -207.4}, "ratio"), "−207"),
        (pages.signed_interval({"low": -0.003, "high": 0.027}), "−0.3 to +2.7"),
        (pages.place(1.7), "100.00%"),
    ],
)
def test_figures_are_written_for_reading(written, expected):
    assert written == expected


def test_a_template_of_another_folder_extends_those_of_the_room(tmp_path):
    text = (
        '{% extends "page.html.j2" %}{% block title %}T{% endblock %}'
        "{% block main %}<p>{{ word }} {{ 0.5 | percent }}</p>{% endblock %}"
    )
    (tmp_path / "mine.html.j2").write_text(text)
    html = pages.render("mine.html.j2", templates=tmp_path, word="<b>")
    assert "<p>&lt;b&gt; 50.0\u00a0%</p>" in html
    assert re.search(r"<title>T · \d{4}-\d\d-\d\d</title>", html)
    with pytest.raises(jinja2.UndefinedError, match="'word' is undefined"):
        pages.render("mine.html.j2", templates=tmp_path)


def test_a_name_from_right_to_left_moves_nothing_beside_it(tmp_path):
    """By an isolate, in text and in attributes; what is HTML already is left as it is."""
    name = "\u05d0\u05d1 <1>.png"
    (tmp_path / "names.j2").write_text('{{ name }}|<img alt="{{ name }}">|{{ other }}|{{ html }}')
    made = {"name": name, "other": "왼쪽 <1>", "html": markupsafe.Markup("<b>\u05d0</b>")}
    shown = "\u2068\u05d0\u05d1 &lt;1&gt;.png\u2069"
    found = pages.render("names.j2", templates=tmp_path, **made)
    assert found == f'{shown}|<img alt="{shown}">|왼쪽 &lt;1&gt;|<b>\u05d0</b>'
