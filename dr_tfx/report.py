"""The evaluation as one page that needs nothing else.

`render` is pure: it returns text, and `evaluate` writes it. The page is a single HTML file without
scripts, fonts or addresses: it can be mailed, archived and opened in ten years. Its pictures, from
`report_figures`, are part of it.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import jinja2

from dr_tfx.report_figures import ReportFigure, percent

_SHOWN = 8  # Entries of a list in the data set's contract before it is cut short.


def render(
    summary: Mapping[str, Any],
    figures: Sequence[ReportFigure],
    *,
    contract: Mapping[str, Any],
    commands: Sequence[str],
) -> str:
    """The page, as HTML text; everything that comes from data is escaped.

    Args:
      summary: what `summary.summarise` returned, with schema, selection, split and task.
      figures: from `report_figures.draw_figures`.
      contract: the data set's manifest as plain types.
      commands: shell commands that produce this page again.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("dr_tfx"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"percent": percent, "interval": _interval, "number": _number}
    return environment.get_template("report.html.j2").render(
        s=summary,
        tta=summary["scores"]["tta"],
        figures={figure.name: figure for figure in figures},
        facts=list(_facts(contract)),
        commands=commands,
    )


def _interval(estimate: Mapping[str, Any], scale: float = 100) -> str:
    digits = 1 if scale == 100 else 3
    return "–".join(f"{scale * estimate[end]:.{digits}f}" for end in ("low", "high"))


def _number(value: float | None, digits: int = 3) -> str:
    return "–" if value is None else f"{value:.{digits}f}"


def _facts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """A nested mapping as rows of (dotted name, text), long lists cut short."""
    if isinstance(value, Mapping):
        leaves = [v for v in value.values() if not isinstance(v, Mapping | list | tuple)]
        if name and leaves and len(leaves) == len(value):
            yield name, _listed([f"{k}: {v}" for k, v in value.items()])
        else:
            for key, item in value.items():
                yield from _facts(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        nested = any(isinstance(item, Mapping | list | tuple) for item in value)
        yield name, f"{len(value)} entries" if nested else _listed([str(v) for v in value])
    else:
        yield name, "–" if value in (None, "") else str(value)


def _listed(items: list[str]) -> str:
    rest = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "") or "–"
