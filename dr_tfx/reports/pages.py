"""Pages that need no network: HTML files without fonts or addresses of others.

They can be archived and opened in ten years. Those of evaluations and comparisons need no other
file and no script, so that they can be mailed. The shells of the pages, their style and the words
for figures are here; every room, and every kind of task, says its own part. Everything that comes
from data is escaped.

A page is in the language that is spoken where it is rendered (`words.languages`). A template writes
`{{ _("A sentence with {n} values.", n=3) }}`; a sentence that it was handed passes the filter
`said`.
"""

import datetime
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jinja2
from markupsafe import Markup

from dr_tfx import NOTICE
from dr_tfx.words import languages

# Hebrew, Arabic and the scripts beside them.
_LEFTWARD = re.compile(
    "[\u0590-\u08ff\ufb1d-\ufdff\ufe70-\ufefc\U00010800-\U00010fff\U0001e800-\U0001eeff]"
)
_MINUS, _UNKNOWN, _PERCENT = "−", "–", "\u00a0%"  # The number stays with its sign.


def render(template: str, *, templates: Path | None = None, **values: Any) -> str:
    """Return the HTML text of a template.

    Args:
      template: the name of its file.
      templates: a folder of templates, which may extend those of this room.
      values: for the template; one that it uses and does not get is an error.
    """
    environment = _environment(templates, languages.current())
    environment.globals["today"] = datetime.datetime.now(datetime.UTC).date().isoformat()
    return environment.get_template(template).render(**values)


@functools.cache
def _environment(templates: Path | None, language: languages.Language) -> jinja2.Environment:
    """Return what makes pages of templates: it compiles each once, which takes half a second."""
    loaders: list[jinja2.BaseLoader] = [jinja2.PackageLoader("dr_tfx.reports")]
    if templates is not None:
        loaders.append(jinja2.FileSystemLoader(templates))
    environment = jinja2.Environment(
        loader=jinja2.ChoiceLoader(loaders),
        autoescape=True,
        finalize=isolated,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = (percent, number, interval, signed, signed_interval, ratio, count, place, md)
    environment.filters |= {word.__name__: word for word in words} | {
        "attributed": attributed,
        "listed": language.listed,
        "said": language.said,
    }
    environment.globals |= {"_": written, "language": language.code, "notice": NOTICE}
    return environment


def written(english: str, **values: Any) -> Markup:
    """Return a sentence of a template in the language of the page, its values escaped."""
    sentence = languages.current().template(english)
    filled = {name: isolated(value) for name, value in values.items()}
    return Markup(sentence).format(**filled)


def attributed(sentence: str) -> str:
    """Return a sentence behind the names that it concerns, as 'fold_0, fold_2: Too few ...'."""
    names, colon, said = sentence.partition(": ")
    return names + colon + languages.current().said(said)


def isolated(value: Any) -> Any:
    """Return a text that is written from right to left so that it moves nothing beside it.

    It stands between an isolate and its end (Unicode's annex 9), which attributes take too, where
    no element `bdi` can be.
    """
    plain = not isinstance(value, str) or hasattr(value, "__html__") or value.isascii()
    return value if plain or not _LEFTWARD.search(value) else f"\u2068{value}\u2069"


def percent(value: Any, digits: int = 1) -> str:
    """Write a share, or the estimate of one, as '96.0 %', and an undefined one as a dash."""
    value = _plain(value)
    return _UNKNOWN if value is None else f"{100 * value:.{digits}f}{_PERCENT}"


def number(value: Any, digits: int = 3) -> str:
    """Write a number, or the estimate of one, and an undefined one as a dash."""
    value = _plain(value)
    return _UNKNOWN if value is None else f"{value:.{digits}f}".replace("-", _MINUS)


def ratio(value: float | None) -> str:
    """Write a likelihood ratio: the larger, the fewer decimals; None, as in JSON, is ∞."""
    if value is None:
        return "∞"
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def count(value: int) -> str:
    """Write a count with its thousands apart."""
    return f"{value:,}"


def interval(estimate: Mapping[str, Any], kind: str = "percent", digits: int = 1) -> str:
    """Write the ends of an interval as '89.5–97.4', and an end that is not known as '?'.

    Args:
      estimate: low and high; either may be None.
      kind: 'percent' for shares, 'number', or 'ratio', whose upper end may be infinite.
      digits: decimals of percents.
    """
    low, high = estimate["low"], estimate["high"]
    if low is None and high is None:
        return written("not known")
    if kind == "ratio":
        return f"{'?' if low is None else ratio(low)}–{ratio(high)}"
    scale, digits = (100, digits) if kind == "percent" else (1, 3)
    first, last = ("?" if end is None else number(scale * end, digits) for end in (low, high))
    if low is not None and low < 0:
        return written("{low} to {high}", low=first, high=last)
    return f"{first}–{last}"


def signed(value: Any, kind: str = "percent") -> str:
    """Write a difference with its sign: in percentage points, as a 'number', or as a 'ratio'."""
    value = _plain(value)
    if value is None:
        return _UNKNOWN
    text = f"{100 * value:+.1f}" if kind == "percent" else f"{value:+.3f}"
    if kind == "ratio":
        text = ("-" if value < 0 else "+") + ratio(abs(value))
    bare = text.strip("+-")
    return bare if not float(bare) else text.replace("-", _MINUS)


def signed_interval(estimate: Mapping[str, Any], kind: str = "percent") -> str:
    """Write the ends of a difference's interval as '−0.3 to +2.7'."""
    ends = estimate["low"], estimate["high"]
    if None in ends:
        return written("not known")
    low, high = (signed(end, kind) for end in ends)
    return written("{low} to {high}", low=low, high=high)


def place(value: float | None) -> str:
    """Return where a share lies on a bar, as CSS."""
    return f"{100 * min(1.0, max(0.0, value or 0.0)):.2f}%"


def md(value: Any) -> Markup:
    """Write a text within Markdown so that it is nothing but text, in one line."""
    plain = " ".join(str(isolated(value)).split())
    plain = re.sub(r"([\\`*_\[\]|#~])", r"\\\1", plain)
    return Markup(plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;"))


def _plain(value: Any) -> Any:
    return value["value"] if isinstance(value, Mapping) else value
