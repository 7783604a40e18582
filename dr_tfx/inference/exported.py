"""A model that `drtfx-export` wrote: it reads photographs without the bundle.

    model = exported.load(Path("EXPORT"))
    for photograph in PhotographReader(model)([Path("eye.jpeg")]):
        print(photograph.reading or photograph.rejected)

The files hold all views of test-time augmentation, and the heat map of the photograph as it is
where the model does not give maps itself, so that pictures go in as the recipe makes them. What
runs them (`runtimes`) is given the files after their digests were compared. Only that of a
SavedModel needs TensorFlow.
"""

import abc
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd

from dr_tfx import tasks
from dr_tfx.inference import runtimes, tiles
from dr_tfx.models import export_file

_PIXELS = 16 * 224**2  # Of the pictures that pass the network at once, times views: bounds memory.


def most_at_once(side: int, views: int) -> int:
    """Return how many pictures, with so many pixels a side, may pass a network at a time."""
    return max(1, _PIXELS // (side**2 * views))


class ExportReader(abc.ABC):
    """An exported model, which reads pictures.

    Attributes:
      folder: where it was read.
      experiment: the settings of the run.
      manifest: the manifest of the data set that the model was trained on.
      fitted: what was fitted on validation.
      alarms: the alarms of the run's evaluations.
      reference: what validation looked like; None where the export does not tell.
      at_once: the most pictures that pass the network at a time.
    """

    def __init__(
        self, found: export_file.Exported, *, network: runtimes.RunningNetwork | None = None
    ):
        """Prepare the network of an export.

        Args:
          found: the export.
          network: what runs its network already, if something does.

        Raises:
          ValueError: what runs the network is not installed or cannot use a file, or it is another
            network than the settings say; names it.
        """
        self.folder, self.experiment, self.manifest = found.folder, found.experiment, found.manifest
        self.fitted, self.alarms, self.reference = found.fitted, found.alarms, found.reference
        self._kind = tasks.of(found.experiment)
        evaluation, side = self.experiment.evaluation, self._kind.side
        self.at_once = min(evaluation.batch_size, most_at_once(side, len(evaluation.views)))
        self._model = network or runtimes.load(
            *(found.runtime, found.folder / export_file.MODEL, found.model),
            given=(export_file.PHOTOGRAPHS, "uint8", [None, side, side, 3]),
            made=self._made,
        )

    @property
    @abc.abstractmethod
    def _made(self) -> list[str]:
        """What the network makes, sorted."""

    @abc.abstractmethod
    def outputs(self, rgb: np.ndarray) -> np.ndarray:
        """Return what `ScoreSide.columns` takes, for pictures, uint8 RGB (n, size, size, 3)."""

    def read(self, rgb: np.ndarray) -> list[tasks.Reading]:
        """Return what the model says of pictures, uint8 RGB (n, size, size, 3)."""
        return self._readings(self.outputs(rgb))

    def _parts(self, rgb: np.ndarray) -> Iterator[np.ndarray]:
        for i in range(0, len(rgb), self.at_once):
            yield rgb[i : i + self.at_once]

    def _run(self, rgb: np.ndarray, *names: str) -> list[np.ndarray]:
        return self._model.run(rgb, names)

    def _readings(self, outputs: np.ndarray) -> list[tasks.Reading]:
        table = pd.DataFrame(self._kind.scores.checked_columns(outputs, where=self.folder))
        return self._kind.scores.read(table, self.fitted)


class ExportedMarker(ExportReader):
    """An exported model that gives maps: it reads pictures, and marks what it finds in them."""

    def __init__(
        self, found: export_file.Exported, *, network: runtimes.RunningNetwork | None = None
    ):
        """As `ExportReader`."""
        super().__init__(found, network=network)
        size, side = self.experiment.dataset.recipe.size, self._kind.side
        self._maps = tiles.tiled(self._of_tiles, tile=side, size=size)

    @property
    def _made(self) -> list[str]:
        return [export_file.OUTPUTS]

    def outputs(self, rgb: np.ndarray) -> np.ndarray:
        """Return float32 maps (n, size, size, kinds) of pictures, uint8 RGB (n, size, size, 3)."""
        return np.concatenate([self._maps(part) for part in self._parts(rgb)])

    def mark(self, rgb: np.ndarray) -> list[tuple[tasks.Reading, np.ndarray]]:
        """Return what the model says of pictures, uint8 RGB (n, size, size, 3), and its marks.

        The marks are bool (kinds, size, size).
        """
        outputs = self.outputs(rgb)
        marked = self._kind.scores.marked(outputs, self.fitted)
        return list(zip(self._readings(outputs), marked, strict=True))

    def _of_tiles(self, rgb: np.ndarray) -> np.ndarray:
        (found,) = self._run(rgb, export_file.OUTPUTS)
        return found


class ExportedModel(ExportReader):
    """An exported model that scores pictures, and draws heat maps of them.

    Attributes:
      title: the name of the heat maps in a figure.
    """

    title = "Grad-CAM"

    def __init__(
        self, found: export_file.Exported, *, network: runtimes.RunningNetwork | None = None
    ):
        """As `ExportReader`."""
        super().__init__(found, network=network)
        assert found.heatmap is not None
        self._heatmap = runtimes.load(
            *(found.runtime, found.folder / export_file.HEATMAP_MAKER, found.heatmap),
            given=(export_file.FEATURES, "float32", [1, None, None, None]),
            made=[export_file.HEATMAP],
        )

    @property
    def _made(self) -> list[str]:
        return [export_file.FEATURES, export_file.OUTPUTS]

    def outputs(self, rgb: np.ndarray) -> np.ndarray:
        """Return float64 (n, views, ...) for pictures, uint8 RGB (n, size, size, 3)."""
        parts = [self._run(part, export_file.OUTPUTS)[0] for part in self._parts(rgb)]
        return np.concatenate(parts).astype(np.float64)

    def read(self, rgb: np.ndarray) -> list[tasks.Reading]:
        """Return what the model says of pictures, uint8 RGB (n, size, size, 3)."""
        if self.reference is None:  # Nobody needs the features.
            return super().read(rgb)
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

    def _map(self, features: np.ndarray) -> np.ndarray:
        (found,) = self._heatmap.run(features[np.newaxis], [export_file.HEATMAP])
        heatmap: np.ndarray = found[0]
        return heatmap


def of(
    found: export_file.Exported, *, network: runtimes.RunningNetwork | None = None
) -> ExportedModel | ExportedMarker:
    """Return the model of an export; the arguments and the errors are those of `ExportReader`."""
    model = ExportedModel if found.heatmap is not None else ExportedMarker
    return model(found, network=network)


def load(folder: Path) -> ExportedModel | ExportedMarker:
    """Read an export.

    Raises:
      FileNotFoundError: there is none in the folder.
      ValueError: a file is damaged or exchanged, or was written by another version; names it.
    """
    return of(export_file.read(folder))
