"""`export.json`, which says what an exported model is and how photographs become its input.

It stands beside the files of the network and is all that is needed to read photographs with it:
recipe, labels, thresholds and calibration. An export may come from a stranger, as a bundle may; the
same rules hold for it. Loads no TensorFlow.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.models import bundle_file
from dr_tfx.storage import files

EXPORT_FILE = "export.json"
MODEL_FILE, HEATMAP_FILE = "model.onnx", "heatmap.onnx"
FORMAT: Final = 1
PHOTOGRAPHS, OUTPUTS, FEATURES, HEATMAP = "photographs", "outputs", "features", "heatmap"
"""Names in the files. The model makes of photographs, uint8 RGB (n, size, size, 3) as the recipe
gives them, outputs, float32 (n, views, ...), and the last features of the photographs as they are,
float32 (n, h, w, channels). The other makes of the features of one photograph its heat map,
(1, h, w), from 0 to 1."""

_MEND = "Export the run again with drtfx-export."


@dataclasses.dataclass(frozen=True)
class ExportFile:
    """The content of export.json.

    Attributes:
      experiment: the settings of the run, as `typed.to_dict` gives them; its recipe says how a
        photograph becomes the input.
      manifest: the manifest of the data set that the model was trained on.
      fitted: what `FittedSettings.to_dict` gives: thresholds, calibration and the like.
      alarms: the alarms of the run's evaluations.
      compared: how far the export's outputs are from the bundle's: `split`, `images`, and the
        largest difference, `outputs` and `heatmaps`.
      bundle: the SHA-256 digest of the run's weights.
      libraries: the versions that exported the model, by name.
      files: the SHA-256 digests of the other files, by name.
      format: version of this format.
    """

    experiment: Mapping[str, Any]
    manifest: Mapping[str, Any]
    fitted: Mapping[str, Any]
    alarms: tuple[str, ...]
    compared: Mapping[str, Any]
    bundle: str
    libraries: Mapping[str, str]
    files: Mapping[str, str]
    format: Literal[1] = FORMAT


@dataclasses.dataclass(frozen=True)
class Exported:
    """An export as it was read: everything but the network.

    Attributes:
      folder: where it was read.
      experiment: the settings of the run.
      manifest: the manifest of the data set that the model was trained on.
      fitted: the result of `JudgementSide.fit`.
      alarms: the alarms of the run's evaluations.
      model: the bytes of `model.onnx`.
      heatmap: the bytes of `heatmap.onnx`.
    """

    folder: Path
    experiment: specs.Experiment
    manifest: manifest.Manifest
    fitted: Any
    alarms: tuple[str, ...]
    model: bytes
    heatmap: bytes


def write(folder: Path, content: ExportFile) -> None:
    """Write export.json whole or not at all."""
    plain = json.dumps(
        dataclasses.asdict(content), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False
    )
    files.write_text(folder / EXPORT_FILE, plain + "\n")


def read(folder: Path) -> Exported:
    """Read an export, and compare the files of its network with their digests.

    Raises:
      FileNotFoundError: there is none in the folder.
      ValueError: a file is damaged or exchanged, or was written by another version; names it.
    """
    path = folder / EXPORT_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: {folder} holds no exported model. Run drtfx-export, or check "
            "--model."
        )
    content: ExportFile = bundle_file.record(path, ExportFile, FORMAT, _MEND)
    try:
        experiment = tasks.from_config(content.experiment)
        trained_on = manifest.from_dict(content.manifest)
        fitted = tasks.of(experiment).judgement.fitted_from(content.fitted)
    except ValueError as error:
        raise ValueError(f"{path} cannot be used: {error}") from error
    model, heatmap = (
        bundle_file.checked_bytes(folder / name, content.files, EXPORT_FILE, _MEND)
        for name in (MODEL_FILE, HEATMAP_FILE)
    )
    return Exported(folder, experiment, trained_on, fitted, content.alarms, model, heatmap)
