"""`export.json`, which says what an exported model is and how photographs become its input.

It stands beside the files of the network and is all that is needed to read photographs with it:
recipe, labels, thresholds and calibration. An export may come from a stranger, as a bundle may; the
same rules hold for it. Loads no TensorFlow.
"""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.dataset import manifest
from dr_tfx.models import bundle_file, drift_file
from dr_tfx.statistics import drift
from dr_tfx.storage import files

EXPORT_FILE = "export.json"
MODEL, HEATMAP_MAKER = "model", "heatmap"
"""What the names of the files of the two networks begin with."""
ENDINGS: Final[Mapping[str, tuple[str, ...]]] = {
    "onnx": (".onnx",),
    "saved_model": (
        "/saved_model.pb",
        "/variables/variables.index",
        "/variables/variables.data-00000-of-00001",
    ),
    "litert": (".tflite",),
    "openvino": (".xml", ".bin"),
    "triton": ("/1/model.onnx",),
}
"""How these names end, by the format of the export."""
OF_TRITON = (
    "model/config.pbtxt",
    "heatmap/config.pbtxt",
    "photographs/config.pbtxt",
    "photographs/1/model.py",
)
"""What the format triton has besides: settings, which are there to be changed, and a model that
takes the bytes of photographs."""
QUANTIZED = ("float16", "int8")
FORMAT: Final = 1
PHOTOGRAPHS, OUTPUTS, FEATURES, HEATMAP = "photographs", "outputs", "features", "heatmap"
"""Names in the files. The model makes of photographs, uint8 RGB (n, size, size, 3) as the recipe
gives them, outputs, float32 (n, views, ...), and the last features of the photographs as they are,
float32 (n, h, w, channels). The other makes of the features of one photograph its heat map,
(1, h, w), from 0 to 1. A model that gives maps makes of tiles, or of whole photographs, uint8 RGB
(n, side, side, 3), nothing but these outputs, float32 (n, side, side, maps), the mean of all
views."""

Files = Mapping[str, bytes]
"""The files of a network: their bytes by the ending of their name."""

_Runtime = Annotated[str, typed.Rule(lambda name: name in ENDINGS, ", ".join(ENDINGS))]
_Quantized = Annotated[
    str, typed.Rule(lambda name: name in ("", *QUANTIZED), f"'', {', '.join(QUANTIZED)}")
]
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
      compared: how far the export is from the bundle, as `drtfx-export` found: `split`, `images`,
        the largest difference, `outputs` and `heatmaps`, and what else it tells.
      bundle: the SHA-256 digest of the run's weights.
      libraries: the versions that exported the model, by name.
      files: the SHA-256 digests of the other files, by name; `drift_file.FILE` is among them where
        the run says what validation looked like.
      runtime: the format of the networks, which says what runs them.
      quantized: how their numbers are stored, if not in float32.
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
    runtime: _Runtime = "onnx"
    quantized: _Quantized = ""
    format: Literal[1] = FORMAT


@dataclasses.dataclass(frozen=True)
class Exported:
    """An export as it was read.

    Attributes:
      folder: where it was read.
      experiment: the settings of the run.
      manifest: the manifest of the data set that the model was trained on.
      fitted: the result of `JudgementSide.fit`.
      alarms: the alarms of the run's evaluations.
      runtime: the format of its networks, a name in `ENDINGS`.
      model: the files of the network that makes outputs.
      heatmap: the files of the network that makes heat maps; None where there are maps.
      reference: what validation looked like; None where the export does not tell.
    """

    folder: Path
    experiment: specs.Experiment
    manifest: manifest.Manifest
    fitted: Any
    alarms: tuple[str, ...]
    runtime: str
    model: Files
    heatmap: Files | None
    reference: drift.Reference | None = None


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
    of_run = folder, experiment, trained_on, fitted, content.alarms
    model, *others = (_checked(folder, content, name) for name in networks(experiment))
    heatmap = others[0] if others else None
    return Exported(*of_run, content.runtime, model, heatmap, _reference(folder, content))


def networks(experiment: specs.Experiment) -> tuple[str, ...]:
    """Return the names of the networks of an export; where there are maps, no heat map is made."""
    return (MODEL,) if tasks.of(experiment).scores.gives_maps else (MODEL, HEATMAP_MAKER)


def _reference(folder: Path, content: ExportFile) -> drift.Reference | None:
    """Return what validation looked like to the model, if the export tells it."""
    if drift_file.FILE not in content.files:
        return None
    path = folder / drift_file.FILE
    bundle_file.checked_bytes(path, content.files, EXPORT_FILE, _MEND)
    return drift_file.read(path, key=drift_file.key(content.bundle, content.fitted))


def _checked(folder: Path, content: ExportFile, network: str) -> Files:
    """Return the files of a network, compared with their digests."""
    found = {}
    for ending in ENDINGS[content.runtime]:
        path = folder / (network + ending)
        digests = {path.name: content.files.get(network + ending, "nothing")}
        found[ending] = bundle_file.checked_bytes(path, digests, EXPORT_FILE, _MEND)
    return found
