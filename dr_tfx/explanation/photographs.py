"""Raw photographs with their heat maps: what `inference.photographs` reads, and where it looks.

No data set and no Beam is needed, and no more than one batch is in memory at a time. Loads no
TensorFlow; see `inference.photographs`.
"""

import dataclasses
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.explanation import figures
from dr_tfx.inference import photographs
from dr_tfx.storage import seen_text


@dataclasses.dataclass(frozen=True)
class ExplainedPhotograph(photographs.ReadPhotograph):
    """A photograph that was read, with the heat map of its number.

    Attributes:
      heatmap: float32 (h, w), 0 to 1, over the picture; None if the photograph was rejected.
    """

    heatmap: np.ndarray | None = None


class PictureExplainer(Protocol):
    """A model that explains pictures: `explainer.Explainer`, or one that was exported."""

    @property
    def experiment(self) -> specs.Experiment:
        """The settings of the run."""

    @property
    def manifest(self) -> manifest.Manifest:
        """The manifest of the data set that the model was trained on."""

    @property
    def title(self) -> str:
        """The name of the maps in a figure."""

    @property
    def at_once(self) -> int:
        """The most pictures that pass the network at a time."""

    def explain(self, rgb: np.ndarray) -> list[tuple[tasks.Reading, np.ndarray]]:
        """Return what the model says of pictures, uint8 RGB (n, size, size, 3), and their maps.

        A map is float32 (h, w), 0 to 1.
        """


class PhotographExplainer:
    """Reads and explains raw photographs with one model."""

    def __init__(self, model: PictureExplainer):
        """Take the model.

        Raises:
          ValueError: the model's own pictures were prepared elsewhere, nobody knows how.
        """
        manifest.check_reads_photographs(model.manifest)
        self._model = model

    def __call__(
        self,
        raw: Iterable[photographs.RawPhotograph],
        others: Sequence[photographs.RawPhotograph] = (),
    ) -> Iterator[ExplainedPhotograph]:
        """Yield what the model says of each photograph and its heat map, in order.

        A photograph that gives no picture is rejected, and the others are explained.

        Args:
          raw: what is explained.
          others: as `photographs.in_batches`.
        """
        recipe, work = self._model.experiment.dataset.recipe, self._model.explain
        at_once = self._model.at_once
        batches = photographs.in_batches(raw, recipe, at_once, work=work, others=others)
        for one, result in batches:
            reading, heatmap = result or (None, None)
            yield ExplainedPhotograph(one.name, one.picture, reading, one.rejected, heatmap)

    def figure(
        self,
        explained: ExplainedPhotograph,
        *,
        colormap: str,
        outlined: figures.Outlined | None = None,
    ) -> bytes:
        """Return a PNG of a photograph that was not rejected, beside its heat map.

        Args:
          explained: the photograph.
          colormap: a name in `specs.COLORMAPS`.
          outlined: the lesions in it, if they are to stand beside.
        """
        if explained.picture is None or explained.reading is None or explained.heatmap is None:
            raise ValueError(f"{explained.name} was rejected: {explained.rejected}")
        ungradable = f"   ungradable: {explained.ungradable}" if explained.ungradable else ""
        words = explained.reading.words + ungradable
        row = figures.FigureRow(explained.picture.rgb, explained.heatmap, words, outlined=outlined)
        name = seen_text.printable(Path(explained.name).name)
        title = f"{name}   {self._model.title}"
        return figures.draw([row], title=title, colormap=colormap)
