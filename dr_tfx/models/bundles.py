"""The bundle: everything needed to score a raw photograph, on disk and in memory."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import keras
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.storage import files

BUNDLE_FILE = "bundle.json"
MODEL_FILE = "model.keras"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A trained model with everything that is needed to score a raw photograph.

    Attributes:
      model: the network, float32 pixels 0 to 255 (n, size, size, 3) -> float32 (n, units).
      experiment: the settings of the run.
      manifest: the manifest of the data set that the model was trained on.
      fitted: the result of `JudgementSide.fit`; None until validation has been evaluated.
      best_epoch: the epoch whose weights the model has, from 1 on.
      precision: the dtype policy of the run.
      libraries: the versions that trained the model, by name.
    """

    model: keras.Model
    experiment: specs.Experiment
    manifest: manifest.Manifest
    fitted: Any
    best_epoch: int
    precision: str
    libraries: dict[str, str]

    @property
    def kind(self) -> tasks.Kind:
        """The kind of the task, bound to the experiment."""
        return tasks.of(self.experiment)


def save(
    workdir: Path,
    model: keras.Model,
    *,
    experiment: specs.Experiment,
    data: manifest.Manifest,
    precision: str,
    best_epoch: int,
) -> None:
    """Write model.keras, model.weights.h5 and, last, bundle.json."""
    for name, save in (
        (MODEL_FILE, model.save),
        ("model.weights.h5", model.save_weights),
    ):
        temporary = workdir / f"tmp.{name}"
        save(str(temporary))
        temporary.replace(workdir / name)
    content = {
        "experiment": specs.to_dict(experiment),
        "manifest": data.to_dict(),
        "precision": precision,
        "best_epoch": best_epoch,
        "libraries": {"tensorflow": tf.__version__, "keras": keras.__version__},
        "fitted": None,
    }
    _write_bundle(workdir, content)


def load(workdir: Path) -> Bundle:
    """Read a bundle; it needs no custom objects.

    Raises:
      FileNotFoundError: there is no bundle, because the training did not finish or the folder is
        another one.
      ValueError: the bundle is damaged, or was written by another version.
    """
    content = _read_bundle(workdir)
    experiment = tasks.from_config(content["experiment"])
    fitted = content.get("fitted")
    return Bundle(
        model=keras.models.load_model(workdir / MODEL_FILE, compile=False),
        experiment=experiment,
        manifest=manifest.from_dict(content["manifest"]),
        fitted=tasks.of(experiment).judgement.fitted_from(fitted) if fitted else None,
        best_epoch=content["best_epoch"],
        precision=content["precision"],
        libraries=content["libraries"],
    )


def save_fitted(workdir: Path, fitted: tasks.FittedSettings) -> None:
    """Add to a bundle what an evaluation of validation has fitted."""
    _write_bundle(workdir, {**_read_bundle(workdir), "fitted": fitted.to_dict()})


def _read_bundle(workdir: Path) -> dict[str, Any]:
    path = workdir / BUNDLE_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: {workdir} holds no finished training. "
            "Run drtfx-train (the same command again resumes it), or check --workdir."
        )
    content = json.loads(path.read_text(encoding="utf-8"))
    if "head" in content["experiment"]["task"]:
        raise ValueError(
            f"{path} was written by an earlier version of dr_tfx, whose tasks had a "
            'head instead of a kind. Replace "head": "sigmoid" in it by "kind": "binary", or train '
            "again."
        )
    return content


def _write_bundle(workdir: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    files.write_text(workdir / BUNDLE_FILE, text)
