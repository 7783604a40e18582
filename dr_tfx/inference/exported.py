"""A model that `drtfx-export` wrote: it reads photographs without the bundle.

    model = exported.load(Path("EXPORT"))
    for photograph in PhotographReader(model)([Path("eye.jpeg")]):
        print(photograph.reading or photograph.rejected)

The files hold all views of test-time augmentation and the heat map of the photograph as it is, so
that pictures go in as the recipe makes them. What runs them (`runtimes`) is given the files after
their digests were compared. Only that of a SavedModel needs TensorFlow.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dr_tfx import tasks
from dr_tfx.inference import runtimes
from dr_tfx.models import export_file

_PIXELS = 16 * 224**2  # Of the pictures that pass the network at once, times views: bounds memory.


def most_at_once(size: int, views: int) -> int:
    """Return how many pictures, with so many pixels a side, may pass a network at a time."""
    return max(1, _PIXELS // (size**2 * views))


class ExportedModel:
    """An exported model, which reads and explains pictures.

    Attributes:
      folder: where it was read.
      experiment: the settings of the run.
      manifest: the manifest of the data set that the model was trained on.
      fitted: what was fitted on validation.
      alarms: the alarms of the run's evaluations.
      reference: what validation looked like; None where the export does not tell.
      title: the name of the heat maps in a figure.
      at_once: the most pictures that pass the network at a time.
    """

    title = "Grad-CAM"

    def __init__(
        self, found: export_file.Exported, *, network: runtimes.RunningNetwork | None = None
    ):
        """Prepare the network of an export.

        Args:
          found: the export.
          network: what runs its network already, if something does.

        Raises:
          ValueError: what runs the networks is not installed or cannot use a file, or it is another
            network than the settings say; names it.
        """
        self.folder, self.experiment, self.manifest = found.folder, found.experiment, found.manifest
        self.fitted, self.alarms, self.reference = found.fitted, found.alarms, found.reference
        evaluation, size = self.experiment.evaluation, self.experiment.dataset.recipe.size
        self.at_once = min(evaluation.batch_size, most_at_once(size, len(evaluation.views)))
        self._model = network or runtimes.load(
            *(found.runtime, found.folder / export_file.MODEL, found.model),
            given=(export_file.PHOTOGRAPHS, "uint8", [None, size, size, 3]),
            made=[export_file.FEATURES, export_file.OUTPUTS],
        )
        self._heatmap = runtimes.load(
            *(found.runtime, found.folder / export_file.HEATMAP_MAKER, found.heatmap),
            given=(export_file.FEATURES, "float32", [1, None, None, None]),
            made=[export_file.HEATMAP],
        )

    def outputs(self, rgb: np.ndarray) -> np.ndarray:
        """Return float64 (n, views, ...) for pictures, uint8 RGB (n, size, size, 3)."""
        parts = [self._run(part, export_file.OUTPUTS)[0] for part in self._parts(rgb)]
        return np.concatenate(parts).astype(np.float64)

    def read(self, rgb: np.ndarray) -> list[tasks.Reading]:
        """Return what the model says of pictures, uint8 RGB (n, size, size, 3)."""
        if self.reference is None:  # Nobody needs the features.
            return self._readings(self.outputs(rgb))
        outputs, features, _ = self._seen(rgb)
        return tasks.with_features(self._readings(outputs), features)

    def explain(self, rgb: np.ndarray) -> list[tuple[tasks.Reading, np.ndarray]]:
        """Return what the model says of pictures, uint8 RGB (n, size, size, 3), and their maps.

        A map is float32 (h, w), 0 to 1.
        """
        outputs, features, maps = self._seen(rgb, self._map)
        readings = tasks.with_features(self._readings(outputs), features)
        return list(zip(readings, maps, strict=True))

    def outputs_and_maps(self, rgb: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what `outputs` gives, and the heat maps, float32 (n, h, w), 0 to 1."""
        outputs, _, maps = self._seen(rgb, self._map)
        return outputs, np.stack(maps)

    def _seen(
        self, rgb: np.ndarray, work: Callable[[np.ndarray], np.ndarray] | None = None
    ) -> tuple[np.ndarray, np.ndarray, list[np.ndarray]]:
        """Return what `outputs` gives, the mean of the features, (n, channels), and some work."""
        outputs, means = [], []
        results: list[np.ndarray] = []
        for part in self._parts(rgb):
            found, features = self._run(part, export_file.OUTPUTS, export_file.FEATURES)
            outputs.append(found)
            means.append(features.mean(axis=(1, 2)))
            results += map(work, features) if work else ()
        return np.concatenate(outputs).astype(np.float64), np.concatenate(means), results

    def _parts(self, rgb: np.ndarray) -> Iterator[np.ndarray]:
        for i in range(0, len(rgb), self.at_once):
            yield rgb[i : i + self.at_once]

    def _run(self, rgb: np.ndarray, *names: str) -> list[np.ndarray]:
        return self._model.run(rgb, names)

    def _map(self, features: np.ndarray) -> np.ndarray:
        (found,) = self._heatmap.run(features[np.newaxis], [export_file.HEATMAP])
        heatmap: np.ndarray = found[0]
        return heatmap

    def _readings(self, outputs: np.ndarray) -> list[tasks.Reading]:
        scores: Any = tasks.of(self.experiment).scores
        table = pd.DataFrame(scores.checked_columns(outputs, where=self.folder))
        readings: list[tasks.Reading] = scores.read(table, self.fitted)
        return readings


def load(folder: Path) -> ExportedModel:
    """Read an export.

    Raises:
      FileNotFoundError: there is none in the folder.
      ValueError: a file is damaged or exchanged, or was written by another version; names it.
    """
    return ExportedModel(export_file.read(folder))
