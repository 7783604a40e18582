"""Raw photographs with their heat maps: what `inference.photographs` reads, and where it looks.

No data set and no Beam is needed, and no more than one batch is in memory at a time.
"""

import dataclasses
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.explanation import explainer, figures
from dr_tfx.inference import photographs
from dr_tfx.models import bundles
from dr_tfx.storage import seen_text


@dataclasses.dataclass(frozen=True)
class ExplainedPhotograph(photographs.ReadPhotograph):
    """A photograph that was read, with the heat map of its number.

    Attributes:
      heatmap: float32 (h, w), 0 to 1, over the picture; None if the photograph was rejected.
    """

    heatmap: np.ndarray | None = None


class PhotographExplainer:
    """Reads and explains raw photographs with one bundle. Compiles the model once."""

    def __init__(
        self, bundle: bundles.Bundle, method: str = specs.METHODS[0], *, average_views: bool = False
    ):
        """Compile the scores and the maps of a bundle.

        Args:
          bundle: the model.
          method: of the heat maps, a name in `specs.METHODS`.
          average_views: whether maps are means over the views of test-time augmentation.

        Raises:
          ValueError: no such method, or the model's own pictures were prepared elsewhere.
        """
        manifest.check_reads_photographs(bundle.manifest)
        self._explain = explainer.Explainer(bundle, method, average_views=average_views)

    def __call__(self, raw: Iterable[photographs.RawPhotograph]) -> Iterator[ExplainedPhotograph]:
        """Yield what the model says of each photograph and its heat map, in order.

        A photograph that gives no picture is rejected, and the others are explained.
        """
        recipe = self._explain.bundle.experiment.dataset.recipe
        batches = photographs.in_batches(raw, recipe, self._explain.at_once, work=self._work)
        for one, result in batches:
            reading, heatmap = result or (None, None)
            yield ExplainedPhotograph(one.name, one.picture, reading, one.rejected, heatmap)

    def _work(self, rgb: np.ndarray) -> list[tuple[tasks.Reading, np.ndarray]]:
        maps, table = self._explain(rgb)
        return list(zip(self._explain.read(table), maps, strict=True))

    def figure(self, explained: ExplainedPhotograph, *, colormap: str) -> bytes:
        """Return a PNG of a photograph that was not rejected, beside its heat map.

        Args:
          explained: the photograph.
          colormap: a name in `specs.COLORMAPS`.
        """
        if explained.picture is None or explained.reading is None or explained.heatmap is None:
            raise ValueError(f"{explained.name} was rejected: {explained.rejected}")
        ungradable = f"   ungradable: {explained.ungradable}" if explained.ungradable else ""
        row = figures.FigureRow(
            explained.picture.rgb, explained.heatmap, explained.reading.words + ungradable
        )
        name = seen_text.printable(Path(explained.name).name)
        title = f"{name}   {self._explain.title}"
        return figures.draw([row], title=title, colormap=colormap)
