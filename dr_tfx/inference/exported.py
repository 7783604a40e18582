"""A model that `drtfx-export` wrote as ONNX: it reads photographs without TensorFlow.

    model = exported.load(Path("EXPORT"))
    for photograph in PhotographReader(model)([Path("eye.jpeg")]):
        print(photograph.reading or photograph.rejected)

The file of the network holds all views of test-time augmentation and the heat map of the photograph
as it is, so that pictures go in as the recipe makes them. ONNX Runtime (https://onnxruntime.ai) is
given its bytes after their digest was compared, and no library of other operations.
"""

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
          ValueError: ONNX Runtime cannot use the file, or it is another network than the settings
            say; names it.
        """
        self.folder, self.experiment, self.manifest = found.folder, found.experiment, found.manifest
        self.fitted, self.alarms = found.fitted, found.alarms
        evaluation, size = self.experiment.evaluation, self.experiment.dataset.recipe.size
        once = _PIXELS // (size**2 * len(evaluation.views))
        self.at_once = min(evaluation.batch_size, max(1, once))
        path = found.folder / export_file.ONNX_FILE
        try:
            self._session = onnxruntime.InferenceSession(
                found.network, providers=["CPUExecutionProvider"]
            )
        except Exception as error:  # It raises many kinds, some of them bare.
            why = str(error).splitlines()[0][:200]
            raise ValueError(f"{path} cannot be used by ONNX Runtime: {why}") from error
        inputs = [(one.name, one.type, one.shape[1:]) for one in self._session.get_inputs()]
        outputs = [(one.name, one.type) for one in self._session.get_outputs()]
        wanted = [(export_file.INPUT, "tensor(uint8)", [size, size, 3])]
        given = [(name, "tensor(float)") for name in (export_file.OUTPUTS, export_file.HEATMAPS)]
        if inputs != wanted or sorted(outputs) != sorted(given):
            raise ValueError(
                f"{path} is another network than {export_file.EXPORT_FILE} says: it takes {inputs} "
                f"and gives {outputs}; expected {wanted} and {given}"
            )

    def outputs(self, rgb: np.ndarray) -> np.ndarray:
        """Return float64 (n, views, ...) for pictures, uint8 RGB (n, size, size, 3)."""
        parts = self._run([export_file.OUTPUTS], rgb)
        return np.concatenate([outputs for (outputs,) in parts]).astype(np.float64)

    def read(self, rgb: np.ndarray) -> list[tasks.Reading]:
        """Return what the model says of pictures, uint8 RGB (n, size, size, 3)."""
        return self._readings(self.outputs(rgb))

    def explain(self, rgb: np.ndarray) -> list[tuple[tasks.Reading, np.ndarray]]:
        """Return what the model says of pictures, uint8 RGB (n, size, size, 3), and their maps.

        A map is float32 (h, w), 0 to 1.
        """
        parts = self._run([export_file.OUTPUTS, export_file.HEATMAPS], rgb)
        outputs, maps = map(np.concatenate, zip(*parts, strict=True))
        return list(zip(self._readings(outputs.astype(np.float64)), maps, strict=True))

    def _run(self, names: list[str], rgb: np.ndarray) -> list[list[np.ndarray]]:
        """Return the arrays of these names for each part of the pictures."""
        return [
            self._session.run(names, {export_file.INPUT: rgb[i : i + self.at_once]})
            for i in range(0, len(rgb), self.at_once)
        ]

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
