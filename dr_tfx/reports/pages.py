"""Pages that need no network: HTML files without fonts or addresses of others.

They can be archived and opened in ten years; those of `report` and `compare` need nothing beside
them and no scripts, so that they can be mailed. Templates, their style and the words for figures
are here; what a page says is its module's business. Everything that comes from data is escaped.
"""

from collections.abc import Mapping
from typing import Any

import jinja2

from dr_tfx import NOTICE

_MINUS, _UNKNOWN, _PERCENT = "−", "–", "\u00a0%"  # The number stays with its sign.


def render(template: str, **values: Any) -> str:
    """The HTML text of a template in `dr_tfx/templates`; a value that is missing is an error."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dr_tfx.reports"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    words = (percent, number, interval, signed, signed_interval, ratio, count, place)
    environment.filters |= {word.__name__: word for word in words}
    return environment.get_template(template).render(notice=NOTICE, **values)


def percent(value: Any, digits: int = 1) -> str:
    """A share, or the estimate of one, as '96.0 %'; undefined as a dash."""
    value = _plain(value)
    return _UNKNOWN if value is None else f"{100 * value:.{digits}f}{_PERCENT}"


def number(value: Any, digits: int = 3) -> str:
    """A number, or the estimate of one; undefined as a dash."""
    value = _plain(value)
    return _UNKNOWN if value is None else f"{value:.{digits}f}".replace("-", _MINUS)


def ratio(value: float | None) -> str:
    """A likelihood ratio: the larger, the fewer decimals; None, as metrics.json has it, is ∞."""
    if value is None:
        return "∞"
    return f"{value:.{2 if value < 10 else 1 if value < 100 else 0}f}"


def count(value: int) -> str:
    """A count with its thousands apart."""
    return f"{value:,}"


def interval(estimate: Mapping[str, Any], kind: str = "percent", digits: int = 1) -> str:
    """The ends of an interval as '89.5–97.4'; an end that is not known as '?'.

    Args:
      estimate: low and high; either may be None.
      kind: 'percent' of shares, 'number', or 'ratio', whose upper end may be infinite.
      digits: of percents.
    """
    low, high = estimate["low"], estimate["high"]
    if low is None and high is None:
        return "not known"
    if kind == "ratio":
        return f"{'?' if low is None else ratio(low)}–{ratio(high)}"
    scale, digits = (100, digits) if kind == "percent" else (1, 3)
    ends = ("?" if end is None else number(scale * end, digits) for end in (low, high))
    return (" to " if low is not None and low < 0 else "–").join(ends)


def signed(value: Any, kind: str = "percent") -> str:
    """A difference with its sign: in percentage points, or as a 'number'."""
    value = _plain(value)
    if value is None:
        return _UNKNOWN
    text = f"{100 * value:+.1f}" if kind == "percent" else f"{value:+.3f}"
    bare = text.strip("+-")
    return bare if not float(bare) else text.replace("-", _MINUS)


def signed_interval(estimate: Mapping[str, Any], kind: str = "percent") -> str:
    """The ends of a difference's interval as '−0.3 to +2.7'."""
    ends = estimate["low"], estimate["high"]
    if None in ends:
        return "not known"
    return " to ".join(signed(end, kind) for end in ends)


def place(value: float | None) -> str:
    """Where a share lies on a bar, in CSS."""
    return f"{100 * min(1.0, max(0.0, value or 0.0)):.2f}%"


def _plain(value: Any) -> Any:
    return value["value"] if isinstance(value, Mapping) else value
