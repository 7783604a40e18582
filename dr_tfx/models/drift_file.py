"""`drift.json`: what the photographs of validation looked like to a model, beside the model.

It holds sums over the photographs of each patient, and neither names nor pictures. Loads no
TensorFlow.
"""

import base64
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt

from dr_tfx.config import typed
from dr_tfx.dataset import manifest
from dr_tfx.models import bundle_file
from dr_tfx.statistics import drift

FILE = "drift.json"
FORMAT: Final = 1
SPLIT = "validation"


@dataclasses.dataclass(frozen=True)
class DriftFile:
    """The content of drift.json; see `drift.Reference`.

    Attributes:
      key: of the model that saw the photographs, what `key` returned.
      scores: names of the numbers that the model gives.
      edges: what parts the bins of each.
      pictures: names of the numbers of a picture.
      verdicts: of the quality gate, how many by why.
      judged: how many photographs it has judged.
      count: how many patients there are.
      channels: of the features.
      centre: numbers as float32, little-endian, in base64.
      directions: likewise.
      patients: likewise.
      format: version of this format.
    """

    key: str
    scores: tuple[str, ...]
    edges: tuple[tuple[float, ...], ...]
    pictures: tuple[str, ...]
    verdicts: Mapping[str, int]
    judged: typed.Count
    count: typed.Count
    channels: typed.Count
    centre: str
    directions: str
    patients: str
    format: Literal[1] = FORMAT


def usual_path(workdir: Path) -> Path:
    """Return the path in a run; in an export the file stands beside export.json."""
    return workdir / "evaluation" / FILE


def key(weights: str, fitted: Mapping[str, Any]) -> str:
    """Return what tells the model that saw the photographs.

    Args:
      weights: SHA-256 of the run's file of weights.
      fitted: what `FittedSettings.to_dict` gave; scores may be calibrated by it.
    """
    return bundle_file.digest(json.dumps([weights, fitted], sort_keys=True).encode())


def to_bytes(reference: drift.Reference, *, key: str) -> bytes:
    """Return the content of the file."""
    content = DriftFile(
        key=key,
        scores=reference.scores,
        edges=tuple(tuple(edges.tolist()) for edges in reference.edges),
        pictures=reference.pictures,
        verdicts=reference.verdicts,
        judged=reference.judged,
        count=len(reference.patients),
        channels=len(reference.centre),
        centre=_text(reference.centre),
        directions=_text(reference.directions),
        patients=_text(reference.patients),
    )
    return (json.dumps(dataclasses.asdict(content), sort_keys=True) + "\n").encode()


def read(path: Path, *, key: str) -> drift.Reference | None:
    """Return what a file tells; None if it is not there, or is of another model.

    Raises:
      ValueError: it is damaged, or was written by another version; names it.
    """
    if not path.is_file():
        return None
    mend = f"Delete it, and run drtfx-evaluate --split={SPLIT} again."
    content: DriftFile = bundle_file.record(path, DriftFile, FORMAT, mend)
    if content.key != key:
        return None
    try:
        return _reference(content)
    except ValueError as error:
        raise ValueError(f"{path} is damaged: {error}. {mend}") from error


def of_run(workdir: Path) -> drift.Reference | None:
    """Return what validation looked like to the model of a run; None if that is not known.

    Raises:
      FileNotFoundError, ValueError: as `bundle_file.read` and `read`.
    """
    content = bundle_file.read(workdir)
    if content.fitted is None:
        return None
    weights = content.files[bundle_file.WEIGHTS_FILE]
    return read(usual_path(workdir), key=key(weights, content.fitted))


def untold(data: manifest.Manifest, workdir: Path, *, export: bool) -> str:
    """Return a sentence that says why a model without a reference cannot tell drift.

    Args:
      data: the manifest of what the model was trained on.
      workdir: the folder of the run or export.
      export: whether it is an export.
    """
    patients = data.patients.get(SPLIT, 0)
    if data.fold == manifest.EVERY_FOLD:
        return (
            "Drift cannot be told: the models of all folds have learned every photograph of their "
            "data set, so that none shows what new ones look like to them. The model of one fold "
            "can tell it."
        )
    if patients < drift.FEWEST:
        return (
            f"Drift cannot be told: {SPLIT} has {patients} patients, and {drift.FEWEST} are needed "
            "to know how much photographs differ by chance."
        )
    again = f"drtfx-evaluate --workdir=RUN --data_dir=DATA --split={SPLIT}"
    then = ", then export it again with drtfx-export; one in int8 never can" if export else ""
    return (
        f"Drift cannot be told: {workdir} does not say what {SPLIT} looked like. Evaluate the run "
        f"again: {again}{then}."
    )


def _reference(content: DriftFile) -> drift.Reference:
    if len(content.edges) != len(content.scores):
        raise ValueError("it has other scores than bins")
    centre = _numbers(content.centre, (content.channels,))
    directions = _numbers(content.directions, (content.channels, -1))
    columns = 1 + sum(len(edges) + 1 for edges in content.edges) + len(content.pictures)
    patients = _numbers(content.patients, (content.count, columns + directions.shape[1]))
    if content.count < drift.FEWEST or not (patients[:, 0] > 0).all():
        raise ValueError("patients are missing")
    return drift.Reference(
        content.scores,
        tuple(np.array(edges, np.float64) for edges in content.edges),
        content.pictures,
        centre,
        directions,
        patients.astype(np.float64),
        dict(content.verdicts),
        content.judged,
    )


def _text(numbers: npt.NDArray[Any]) -> str:
    return base64.b64encode(numbers.astype("<f4").tobytes()).decode()


def _numbers(text: str, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
    """Return float32 numbers of a shape, of which one side may be -1; all are finite.

    Raises:
      ValueError: there are not so many, or some are not finite.
    """
    found = np.frombuffer(base64.b64decode(text, validate=True), "<f4")
    if shape[0] == 0:
        return np.empty((0,) * len(shape), np.float32)
    if not np.isfinite(found).all():
        raise ValueError("numbers are not finite")
    return found.reshape(shape).astype(np.float32)
