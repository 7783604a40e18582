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

BUNDLE_FILE = "bundle.json"
MODEL_FILE = "model.keras"


@dataclasses.dataclass(frozen=True)
class Bundle:
    """Everything needed to score a raw photograph."""

    model: keras.Model
    experiment: specs.Experiment
    manifest: manifest.Manifest  # Of the data the model was trained on.
    fitted: Any  # What the kind of task fits; None until an evaluation of validation has done so.
    best_epoch: int
    precision: str
    libraries: dict[str, str]  # Versions that trained it.

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
    """Writes model.keras, model.weights.h5 and, last, bundle.json."""
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
    """Reads a bundle; needs no custom objects.

    Raises:
      FileNotFoundError: no bundle: the training did not finish, or the folder is another one.
      ValueError: the bundle is damaged.
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
    """Store what an evaluation of validation fitted."""
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
            f"{path} was written by an earlier version of dr_tfx, whose tasks had a head in the "
            'place of a kind. Replace "head": "sigmoid" in it by "kind": "binary", or train again.'
        )
    return content


def _write_bundle(workdir: Path, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=2, sort_keys=True, ensure_ascii=False) + "\n"
    manifest.write_text(workdir / BUNDLE_FILE, text)
