"""Untrained bundles that are made in no time, photographs for them, and what jobs leave."""

import dataclasses
from pathlib import Path

import cv2
import keras
import numpy as np

from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.models import bundles, network
from tests.helpers import backbones, datasets


def make_bundle(
    folder: Path,
    experiment: specs.Experiment,
    data: manifest.Manifest,
    *,
    seed: int = 0,
    backbone: str = backbones.TINY,
) -> Path:
    """Write an untrained bundle, not yet evaluated, and return its folder.

    Other processes know only the backbones of dr_tfx, and not `tiny`.
    """
    folder.mkdir()
    keras.utils.set_random_seed(seed)
    settings = dataclasses.replace(experiment.model, backbone=backbone)
    experiment = dataclasses.replace(experiment, model=settings)
    model = network.build(experiment, load_weights=False)
    bundles.save(folder, model, experiment=experiment, data=data, precision="float32", best_epoch=1)
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    """Return path within the folder -> bytes of every file."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def evaluated_bundle(folder: Path, *, backbone: str = backbones.TINY) -> Path:
    """Write a bundle with the threshold 0.45 and a data set of its own; return its folder."""
    experiment = datasets.experiment(encoding="png")
    evaluation = dataclasses.replace(
        experiment.evaluation, batch_size=3, views=("identity", "left_right")
    )
    experiment = dataclasses.replace(experiment, evaluation=evaluation)
    data = datasets.write(folder / "data", experiment.dataset, shard_examples=4)
    workdir = make_bundle(folder / "run", experiment, data, backbone=backbone)
    bundles.save_fitted(workdir, datasets.fitted(0.45))
    return workdir


def with_gate(bundle: bundles.Bundle, gate: str) -> bundles.Bundle:
    """Return the bundle with another quality gate."""
    experiment = bundle.experiment
    recipe = dataclasses.replace(experiment.dataset.recipe, quality_gate=gate)
    dataset = dataclasses.replace(experiment.dataset, recipe=recipe)
    return dataclasses.replace(bundle, experiment=dataclasses.replace(experiment, dataset=dataset))


def write_photographs(folder: Path) -> Path:
    """Write eye.jpeg, black.png, the damaged broken.jpg, b/eye.png and the folder empty/."""
    (folder / "b").mkdir(parents=True)
    (folder / "empty").mkdir()
    picture = np.zeros((80, 100, 3), np.uint8)
    cv2.circle(picture, (50, 40), 36, (40, 90, 190), -1)
    cv2.circle(picture, (38, 30), 6, (20, 20, 60), -1)
    cv2.imwrite(str(folder / "eye.jpeg"), picture)
    cv2.imwrite(str(folder / "b" / "eye.png"), picture[:, ::-1])
    cv2.imwrite(str(folder / "black.png"), np.zeros_like(picture))
    (folder / "broken.jpg").write_text("no photograph")
    return folder
