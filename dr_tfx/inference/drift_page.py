"""The page of photographs beside those of validation: one of a day, or of a folder."""

import itertools
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from dr_tfx.inference import drift as watching
from dr_tfx.reports import pages, style
from dr_tfx.statistics import drift
from dr_tfx.storage import seen_text
from dr_tfx.words import languages

_MOST_FIGURES = 8
_NAMES = {
    drift.PICTURES: "The pictures themselves",
    drift.FEATURES: "What the model sees",
    drift.SCORES: "What the model says",
    drift.QUALITY: "The quality gate",
}
_WIDTH = 0.42  # Of a bar; two stand side by side.


class Window(NamedTuple):
    """Photographs that are judged together.

    Attributes:
      name: a day, or words for them.
      judged: what they are beside validation.
    """

    name: str
    judged: drift.Judged

    @property
    def kind(self) -> str:
        """How serious `sentence` is: the class of a box."""
        return watching.told(self.judged)[0]

    @property
    def sentence(self) -> str:
        """Whether camera or population seem to be others."""
        return watching.told(self.judged)[1]

    @property
    def differing(self) -> list[str]:
        """Words for the comparisons that are beyond their limits."""
        return [_NAMES[name] for name in self.judged.differing]


def html(
    windows: Sequence[Window],
    reference: drift.Reference,
    *,
    model: str,
    language: str,
    about: str = "",
    links: Mapping[str, str] | None = None,
) -> str:
    """Return the page.

    Args:
      windows: the first is shown in full.
      reference: what validation looked like.
      model: the name of the model.
      language: of the page.
      about: a sentence on what is counted.
      links: the names of the languages that the page can be had in, by their codes.
    """
    with languages.speaking(language):
        drawn = list(windows[0].judged.shares.items())[:_MOST_FIGURES]
        figures = [
            _figure(name, edges, *shares)
            for (name, shares), edges in zip(drawn, reference.edges, strict=False)
            if len(edges)
        ]
        return pages.render(
            "drift.html.j2",
            windows=windows,
            names=_NAMES,
            figures=figures,
            model=seen_text.printable(model),
            about=about,
            links=links or {},
            level=drift.LEVEL,
            patients=len(reference.patients),
            fewest=drift.FEWEST,
        )


def _figure(
    name: str,
    edges: npt.NDArray[np.float64],
    here: npt.NDArray[np.float64],
    before: npt.NDArray[np.float64],
) -> style.ReportFigure:
    """Return the shares of photographs in the bins of a score, beside those of validation."""
    ends = [f"{edge:.3g}" for edge in edges]
    labels = [
        f"< {ends[0]}",
        *(f"{a}–{b}" for a, b in itertools.pairwise(ends)),
        f"≥ {ends[-1]}",
    ]

    def paint(axes: Sequence[Axes]) -> None:
        (axis,) = axes
        places = np.arange(len(here))
        for shift, shares, colour, label in (
            (-_WIDTH / 2, here, style.SERIES[1], "these photographs"),
            (_WIDTH / 2, before, style.SERIES[0], "validation"),
        ):
            axis.bar(places + shift, 100 * shares, _WIDTH, color=colour, label=label)
        axis.set_xticks(places, labels, rotation=35, ha="right")
        axis.set(xlabel=name, ylabel="percent of the photographs")
        axis.grid(axis="y")
        axis.legend(loc="best")

    told = ", ".join(
        f"{label}: {100 * a:.0f} against {100 * b:.0f} percent"
        for label, a, b in zip(labels, here, before, strict=True)
    )
    return style.draw(
        f"drift_{seen_text.file_stem(name)}",
        paint,
        title=f"Distribution of {name}",
        alt=f"Distribution of {name}, here and on validation. {told}",
        height=3.4,
    )
