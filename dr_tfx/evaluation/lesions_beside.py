"""Lesions in the photographs that a report shows, as another model marks them.

A data set holds pictures of the size that a grade needs, in which the smallest lesions are not to
be seen. So the other model looks at the photographs themselves, by its own recipe, and only at the
few that the report shows.
"""

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import pandas as pd

from dr_tfx.explanation import lesions, overlays
from dr_tfx.machine import progress
from dr_tfx.reports.style import data_uri
from dr_tfx.sources import given
from dr_tfx.statistics import lesion_counts

FILE = "lesions.csv"
"""What is marked in the photographs that a report shows, a row each; it lies beside the report."""

_SIDE = 400  # Pixels of a photograph with outlines, which are a pixel wide.
_PLACES = ("", *(f"_{name}" for name in lesion_counts.QUADRANTS))  # "" is the whole picture.


class KindOfLesion(NamedTuple):
    """The marks of one kind in a photograph.

    Attributes:
      name: of the kind.
      places: (number of marks, their share of the picture): of the whole, and of each quadrant in
        the order of `lesion_counts.QUADRANTS`.
    """

    name: str
    places: list[tuple[int, float]]


@dataclasses.dataclass(frozen=True)
class ShownLesions:
    """A photograph with the outlines of what is marked in it.

    Attributes:
      jpeg: the photograph as a JPEG file of `side` x `side` pixels.
      side: its width and height.
      legend: the colours of the outlines, in words.
      kinds: the marks of each kind.
      measured: as `lesions.LesionMarker.measured` returns it.
    """

    jpeg: bytes
    side: int
    legend: str
    kinds: Sequence[KindOfLesion]
    measured: Mapping[str, float | None]

    @property
    def uri(self) -> str:
        """The photograph as a `data:` address, which holds its own content."""
        return data_uri(self.jpeg, "image/jpeg")


@dataclasses.dataclass(frozen=True)
class LesionsBeside:
    """A model of lesions, and the photographs in which it looks for them.

    Attributes:
      marker: the model.
      photographs: by their ids in the data set that is evaluated.
      where: what the person has given as their place.
      flags: what to type for the same once more, word by word.
    """

    marker: lesions.LesionMarker
    photographs: Mapping[str, given.GivenPhotograph]
    where: str
    flags: Sequence[str]

    def check(self, ids: Iterable[str]) -> None:
        """Refuse photographs that are others than those of the data set.

        Raises:
          ValueError: none of the ids is among them.
        """
        known = list(ids)
        if not self.photographs.keys() & known:
            raise ValueError(
                f"{self.where} holds none of the {len(known):,} photographs of the data set, such "
                f"as {known[0]}. Lesions are looked for in the photographs themselves: give those "
                "that the data set was built from"
            )

    def __call__(self, ids: Sequence[str]) -> dict[str, ShownLesions]:
        """Return what is marked in photographs, by id, but for those that cannot be read."""
        there = [name for name in ids if name in self.photographs]
        found = {}
        with progress.bar(total=len(there), unit="photograph", title="marking lesions") as bar:
            marked = self.marker([self.photographs[name] for name in there])
            for name, one in zip(there, marked, strict=True):
                bar.update()
                if not one.rejected:
                    found[name] = self._shown(one)
        return found

    def _shown(self, one: lesions.MarkedPhotograph) -> ShownLesions:
        outlined, measured = self.marker.outlined(one, side=_SIDE), self.marker.measured(one)
        kinds = [KindOfLesion(kind, _places(kind, measured)) for kind in self.marker.kinds]
        jpeg = overlays.jpeg(outlined.rgb)
        return ShownLesions(jpeg, len(outlined.rgb), outlined.legend, kinds, measured)


def _places(kind: str, measured: Mapping[str, float | None]) -> list[tuple[int, float]]:
    """Return the marks of a kind as `KindOfLesion.places`."""
    counts, areas = (
        [measured[f"{name}_{kind}{place}"] or 0 for place in _PLACES] for name in ("count", "area")
    )
    return list(zip(map(int, counts), areas, strict=True))


def table(shown: Mapping[str, ShownLesions]) -> pd.DataFrame:
    """Return what is marked in photographs, by id: a row each, `id` and the names of `measured`."""
    return pd.DataFrame([{"id": name, **one.measured} for name, one in shown.items()])
