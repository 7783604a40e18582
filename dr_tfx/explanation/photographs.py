"""Raw photographs with their heat maps: what `inference.photographs` reads, and where it looks.

No data set and no Beam is needed, and no more than one batch is in memory at a time.
"""

import dataclasses
import itertools
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.explanation import explainer, figures
from dr_tfx.inference import photographs
from dr_tfx.models import bundles
from dr_tfx.storage import files, tables

TABLE_FILE = "predictions.csv"


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
        title = f"{Path(explained.name).name}   {self._explain.title}"
        return figures.draw([row], title=title, colormap=colormap)


def write_figures(
    explain: PhotographExplainer, paths: Sequence[Path], *, output_dir: Path, colormap: str
) -> Iterator[tuple[ExplainedPhotograph, str]]:
    """Explain photographs, and write a figure of each that was not rejected.

    Args:
      explain: the model.
      paths: files.
      output_dir: the folder of the figures, `<stem>.png`; created if it is missing.
      colormap: a name in `specs.COLORMAPS`.

    Yields:
      Each photograph, in order, with the file name of its figure; "" if it was rejected.
    """
    for explained, name in zip(explain(paths), _figure_names(paths), strict=True):
        if explained.rejected:
            yield explained, ""
            continue
        files.write(output_dir / name, explain.figure(explained, colormap=colormap))
        yield explained, name


def table_row(
    explained: ExplainedPhotograph, figure: str, answer_names: Sequence[str]
) -> dict[str, Any]:
    """Return a photograph's row of predictions.csv.

    Args:
      explained: the photograph.
      figure: the file name of its figure, or "".
      answer_names: `ScoreSide.answer_names`; a photograph that was rejected has no answer.
    """
    answer = explained.reading.answer if explained.reading else dict.fromkeys(answer_names)
    return {
        "photo": explained.name,
        **answer,
        "figure": figure,
        "rejected": explained.rejected,
        "ungradable": explained.ungradable,
    }


def write_table(rows: Sequence[dict[str, Any]], output_dir: Path) -> Path:
    """Write predictions.csv, one row a photograph, and return its path."""
    files.write_text(output_dir / TABLE_FILE, tables.csv_text(pd.DataFrame(rows)))
    return output_dir / TABLE_FILE


def _figure_names(paths: Sequence[Path]) -> list[str]:
    """Return `<stem>.png` of each file, with -2, -3 ... where several files share a stem."""
    names: dict[str, None] = {}
    for path in paths:
        endings = itertools.chain([""], (f"-{n}" for n in itertools.count(2)))
        candidates = (f"{path.stem}{ending}.png" for ending in endings)
        names[next(name for name in candidates if name not in names)] = None
    return list(names)
