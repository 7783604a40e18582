"""A model that `drtfx-export` wrote as ONNX: it reads photographs without TensorFlow.

    model = exported.load(Path("EXPORT"))
    for photograph in PhotographReader(model)([Path("eye.jpeg")]):
        print(photograph.reading or photograph.rejected)

The files hold all views of test-time augmentation and the heat map of the photograph as it is, so
that pictures go in as the recipe makes them. ONNX Runtime (https://onnxruntime.ai) is given their
bytes after their digests were compared, and no library of other operations.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pandas as pd

from dr_tfx import tasks
from dr_tfx.models import export_file

_PIXELS = 16 * 224**2  # Of the pictures that pass the network at once, times views: bounds memory.


class ExportedModel:
    """An exported model, which reads and explains pictures.

    Attributes:
      folder: where it was read.
      experiment: the settings of the run.
      manifest: the manifest of the data set that the model was trained on.
      fitted: what was fitted on validation.
      alarms: the alarms of the run's evaluations.
      title: the name of the heat maps in a figure.
      at_once: the most pictures that pass the network at a time.
    """

    title = "Grad-CAM"

    def __init__(self, found: export_file.Exported):
        """Prepare the network of an export.

        Raises:
          ValueError: ONNX Runtime cannot use a file, or it is another network than the settings
            say; names it.
        """
        self.folder, self.experiment, self.manifest = found.folder, found.experiment, found.manifest
        self.fitted, self.alarms = found.fitted, found.alarms
        evaluation, size = self.experiment.evaluation, self.experiment.dataset.recipe.size
        once = _PIXELS // (size**2 * len(evaluation.views))
        self.at_once = min(evaluation.batch_size, max(1, once))
        self._model = self._session(
            *(export_file.MODEL_FILE, found.model),
            given=(export_file.PHOTOGRAPHS, "tensor(uint8)", [None, size, size, 3]),
            wanted=[export_file.FEATURES, export_file.OUTPUTS],
        )
        self._heatmap = self._session(
            *(export_file.HEATMAP_FILE, found.heatmap),
            given=(export_file.FEATURES, "tensor(float)", [1, None, None, None]),
            wanted=[export_file.HEATMAP],
        )

    def outputs(self, rgb: np.ndarray) -> np.ndarray:
        """Return float64 (n, views, ...) for pictures, uint8 RGB (n, size, size, 3)."""
        parts = [self._run(part, export_file.OUTPUTS)[0] for part in self._parts(rgb)]
        return np.concatenate(parts).astype(np.float64)

    def read(self, rgb: np.ndarray) -> list[tasks.Reading]:
        """Return what the model says of pictures, uint8 RGB (n, size, size, 3)."""
        return self._readings(self.outputs(rgb))

    def explain(self, rgb: np.ndarray) -> list[tuple[tasks.Reading, np.ndarray]]:
        """Return what the model says of pictures, uint8 RGB (n, size, size, 3), and their maps.

        A map is float32 (h, w), 0 to 1.
        """
        found: list[tuple[tasks.Reading, np.ndarray]] = []
        for part in self._parts(rgb):
            outputs, features = self._run(part, export_file.OUTPUTS, export_file.FEATURES)
            maps = [self._map(one) for one in features]
            found += zip(self._readings(outputs.astype(np.float64)), maps, strict=True)
        return found

    def _parts(self, rgb: np.ndarray) -> Iterator[np.ndarray]:
        for i in range(0, len(rgb), self.at_once):
            yield rgb[i : i + self.at_once]

    def _run(self, rgb: np.ndarray, *names: str) -> list[np.ndarray]:
        found: list[np.ndarray] = self._model.run(names, {export_file.PHOTOGRAPHS: rgb})
        return found

    def _map(self, features: np.ndarray) -> np.ndarray:
        given = {export_file.FEATURES: features[np.newaxis]}
        heatmap: np.ndarray = self._heatmap.run([export_file.HEATMAP], given)[0][0]
        return heatmap

    def _session(
        self, name: str, data: bytes, *, given: tuple[str, str, list[Any]], wanted: list[str]
    ) -> Any:
        """Return ONNX Runtime's session of a file.

        Args:
          name: of the file.
          data: its bytes.
          given: name, type and shape of its one input; None is any number.
          wanted: the names of its outputs, sorted.

        Raises:
          ValueError: it cannot be used, or has another input or other outputs; names it.
        """
        path = self.folder / name
        try:
            session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        except Exception as error:  # It raises many kinds, some of them bare.
            why = str(error).splitlines()[0][:200]
            raise ValueError(f"{path} cannot be used by ONNX Runtime: {why}") from error
        inputs = [(one.name, one.type, one.shape) for one in session.get_inputs()]
        outputs = sorted(one.name for one in session.get_outputs())
        sides = [side if isinstance(side, int) else None for side in inputs[0][2]]
        fits = len(sides) == len(given[2]) and all(
            want in (None, side) for side, want in zip(sides, given[2], strict=True)
        )
        if len(inputs) > 1 or inputs[0][:2] != given[:2] or not fits or outputs != wanted:
            raise ValueError(
                f"{path} is another network than {export_file.EXPORT_FILE} says: it makes "
                f"{outputs} of {inputs}; expected {wanted} of {given}"
            )
        return session

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
