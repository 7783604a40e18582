"""Raw photographs with the outlines of what a model of lesions marks, and how much of it there is.

Loads no TensorFlow; see `inference.photographs`.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np
import numpy.typing as npt

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.explanation import figures
from dr_tfx.inference import photographs
from dr_tfx.preprocessing import optic_disc, outlines
from dr_tfx.statistics import lesion_counts
from dr_tfx.storage import seen_text

_SIDE = 690  # Pixels of what a figure shows, as many as it has there.


@dataclasses.dataclass(frozen=True)
class MarkedPhotograph(photographs.ReadPhotograph):
    """A photograph that was read, with what is marked in it.

    Attributes:
      marked: bool (kinds, size, size), over the picture; None if the photograph was rejected.
    """

    marked: npt.NDArray[np.bool_] | None = None


class PictureMarker(Protocol):
    """A model that marks lesions in pictures: `scoring.BundleReader`, or one that was exported."""

    @property
    def experiment(self) -> specs.Experiment:
        """The settings of the run."""

    @property
    def manifest(self) -> manifest.Manifest:
        """The manifest of the data set that the model was trained on."""

    def mark(self, rgb: np.ndarray) -> list[tuple[tasks.Reading, np.ndarray]]:
        """Return what the model says of pictures, uint8 RGB (n, size, size, 3), and its marks.

        The marks are bool (kinds, size, size).
        """


class LesionMarker:
    """Marks lesions in raw photographs with one model.

    Attributes:
      task: the name of what the model was trained for.
      digest: of the model's own file.
      kinds: the names of the lesions.
      names: of what `measured` returns.
    """

    def __init__(self, model: PictureMarker, digest: str = ""):
        """Take the model, and the digest of its own file.

        Raises:
          ValueError: its own pictures were prepared elsewhere, or it does not mark lesions.
        """
        manifest.check_reads_photographs(model.manifest)
        self._model, self.kinds = model, model.experiment.dataset.masks
        self.task, self.digest = model.experiment.task.name, digest
        if not tasks.of(model.experiment).scores.gives_maps:
            raise ValueError(
                f"the model {model.experiment.task.name} marks no lesions; expected one of the "
                "kind masks, such as --config=lesions trains"
            )
        self.names = tuple(_measured(dict.fromkeys(self.kinds, np.zeros((2, 2), bool))))

    def __call__(
        self,
        raw: Iterable[photographs.RawPhotograph],
        others: Sequence[photographs.RawPhotograph] = (),
    ) -> Iterator[MarkedPhotograph]:
        """Yield what the model says of each photograph and marks in it, in order.

        A photograph that gives no picture is rejected, and the others are marked.

        Args:
          raw: what is marked.
          others: as `photographs.in_batches`.
        """
        experiment, work = self._model.experiment, self._model.mark
        recipe, size = experiment.dataset.recipe, experiment.evaluation.batch_size
        for one, result in photographs.in_batches(raw, recipe, size, work=work, others=others):
            reading, marked = result or (None, None)
            yield MarkedPhotograph(one.name, one.picture, reading, one.rejected, marked)

    def measured(self, one: MarkedPhotograph) -> dict[str, float | None]:
        """Return how many marks of each kind a photograph has, and their share of the picture.

        These are `count_<kind>` and `area_<kind>`, and the same of each quadrant, as in
        `count_<kind>_upper_left`; and, of a model that marks the optic disc and its cup, the
        vertical cup-to-disc ratio. All are None of a photograph that was rejected.
        """
        if one.marked is None:
            return dict.fromkeys(self.names)
        return _measured(dict(zip(self.kinds, one.marked, strict=True)))

    def outlined(self, one: MarkedPhotograph, *, side: int = _SIDE) -> figures.Outlined:
        """Return a photograph that was not rejected, with the outlines of what is marked.

        The legend has the cup-to-disc ratio, too, where `measured` tells one.

        Args:
          one: the photograph.
          side: its width and height in the result.
        """
        if one.picture is None or one.marked is None:
            raise ValueError(f"{one.name} was rejected: {one.rejected}")
        rgb = outlines.draw(one.picture.rgb, list(one.marked), side=side)
        seen = [kind for kind, mask in zip(self.kinds, one.marked, strict=True) if mask.any()]
        legend = outlines.legend(self.kinds, shown=seen)
        ratio = self.measured(one).get(optic_disc.RATIO)
        return figures.Outlined(
            rgb, legend if ratio is None else f"{legend}   {optic_disc.RATIO} {ratio:.2f}"
        )

    def figure(self, one: MarkedPhotograph) -> bytes:
        """Return a PNG of a photograph that was not rejected, beside what is marked in it."""
        outlined = self.outlined(one)
        assert one.picture is not None and one.reading is not None
        ungradable = f"   ungradable: {one.ungradable}" if one.ungradable else ""
        row = figures.FigureRow(
            one.picture.rgb, None, one.reading.words + ungradable, outlined=outlined
        )
        return figures.draw([row], title=seen_text.printable(Path(one.name).name))


def _measured(marked: Mapping[str, npt.NDArray[np.bool_]]) -> dict[str, float | None]:
    """Return what `LesionMarker.measured` returns, of masks by their kinds."""
    found: dict[str, float | None] = {}
    for kind, mask in marked.items():
        parts = lesion_counts.by_quadrant(mask)
        found[f"count_{kind}"] = sum(count for count, _ in parts.values())
        found[f"area_{kind}"] = float(mask.mean())
        for name, (count, area) in parts.items():
            found |= {f"count_{kind}_{name}": count, f"area_{kind}_{name}": area}
    if set(optic_disc.MASKS) <= marked.keys():
        # A photograph has one of each: what is marked besides is a mistake.
        disc, cup = (lesion_counts.largest(marked[kind]) for kind in optic_disc.MASKS)
        ratio = optic_disc.cup_to_disc(disc, cup)
        found[optic_disc.RATIO] = None if np.isnan(ratio) else ratio
    return found
