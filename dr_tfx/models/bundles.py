"""The bundle: everything needed to score a raw photograph, on disk and in memory.

The network is built anew from the settings and then filled with numbers. So a bundle loads beside
any TensorFlow and Keras of the project, whichever trained it, and no graph, layer or code of a
stranger is ever run. `model.keras` is for programs without dr_tfx, which does not read it.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.dataset import manifest
from dr_tfx.models import bundle_file, ensembles, network, weights
from dr_tfx.models import precision as dtype_policy
from dr_tfx.models.bundle_file import BUNDLE_FILE, MODEL_FILE, WEIGHTS_FILE, BundleFile, Member
from dr_tfx.storage import files

__all__ = ["BUNDLE_FILE", "MODEL_FILE", "WEIGHTS_FILE", "Bundle", "load", "save", "save_fitted"]


@dataclasses.dataclass(frozen=True)
class Bundle:
    """A trained model with everything that is needed to score a raw photograph.

    Attributes:
      folder: where it was read.
      model: the network, float32 pixels 0 to 255 (n, size, size, 3) -> float32 (n, units). One
        that was trained on patches takes tiles (`Patches.tile`).
      experiment: the settings of the run.
      manifest: the manifest of the data set that the model was trained on.
      fitted: the result of `JudgementSide.fit`; None until validation has been evaluated.
      best_epoch: the epoch whose weights the model has, from 1 on; 0 of an ensemble.
      precision: the dtype policy that the model computes in.
      libraries: the versions that trained the model, by name.
      members: the runs that an ensemble is made of; none for a run.
      config: what the run was begun with; None if that is not known.
    """

    folder: Path
    model: keras.Model
    experiment: specs.Experiment
    manifest: manifest.Manifest
    fitted: Any
    best_epoch: int
    precision: str
    libraries: dict[str, str]
    members: Sequence[Member] = ()
    config: bundle_file.Config | None = None

    @property
    def kind(self) -> tasks.Kind:
        """The kind of the task, bound to the experiment."""
        return tasks.of(self.experiment)

    @property
    def backbone(self) -> str:
        """The name of the backbone, or those of an ensemble, for people."""
        if not self.members:
            return self.experiment.model.backbone
        names = [tasks.from_config(member.experiment).model.backbone for member in self.members]
        return " + ".join(names)

    def columns(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return what the model tells of some images: `ScoreSide.columns` of its outputs.

        Args:
          outputs: float64 (images, views, ...).

        Raises:
          ValueError: an output is not finite.
        """
        return self.kind.scores.checked_columns(outputs, where=self.folder)

    def evaluated_with(self, settings: Mapping[str, Any] | None) -> "Bundle":
        """Return the bundle with other settings of `evaluation` than it was trained with.

        Args:
          settings: names and values, of `Kind.CHANGES_NO_SCORE`; None: there are none.

        Raises:
          ValueError: a setting is none of these, or its value is not possible.
        """
        if not settings:
            return self
        free = self.kind.CHANGES_NO_SCORE
        if refused := [name for name in settings if name not in free]:
            raise ValueError(
                f"evaluation.{refused[0]} cannot be given to an evaluation of {self.folder}: what "
                f"was fitted belongs to the value of the training; expected {' or '.join(free)}"
            )
        config = typed.to_dict(self.experiment)
        config["evaluation"] |= settings
        return dataclasses.replace(self, experiment=tasks.from_config(config))


def save(
    workdir: Path,
    model: keras.Model,
    *,
    experiment: specs.Experiment,
    data: manifest.Manifest,
    precision: str,
    best_epoch: int,
    fitted: tasks.FittedSettings | None = None,
    members: Sequence[Member] = (),
    config: bundle_file.Config | None = None,
) -> None:
    """Write model.keras, weights.safetensors and, last, bundle.json.

    Args:
      workdir: the folder of the run.
      model: what `network.build` gives for the experiment, trained, or `ensembles.join`.
      experiment: the settings of the run.
      data: the manifest of the data set.
      precision: the dtype policy of the run.
      best_epoch: the epoch whose weights the model has; 0 of an ensemble.
      fitted: what was fitted already.
      members: the runs that an ensemble is made of.
      config: what the run was begun with, if that is known.

    Raises:
      ValueError: the weights have more bytes than a bundle may have.
    """
    numbers = weights.to_bytes(model)
    if len(numbers) > bundle_file.MOST_BYTES:
        raise ValueError(
            f"the weights of the model have {len(numbers):,} bytes; expected "
            f"{bundle_file.MOST_BYTES:,} at most. Take fewer or smaller networks"
        )
    temporary = workdir / f"tmp.{MODEL_FILE}"
    model.save(str(temporary))
    temporary.replace(workdir / MODEL_FILE)
    files.write(workdir / WEIGHTS_FILE, numbers)
    content = bundle_file.BundleFile(
        experiment=typed.to_dict(experiment),
        manifest=data.to_dict(),
        precision=precision,
        best_epoch=best_epoch,
        libraries={"tensorflow": tf.__version__, "keras": keras.__version__},
        files={
            MODEL_FILE: bundle_file.digest((workdir / MODEL_FILE).read_bytes()),
            WEIGHTS_FILE: bundle_file.digest(numbers),
        },
        fitted=None if fitted is None else fitted.to_dict(),
        members=tuple(members),
        config=config.name if config else "",
        config_settings=config.settings if config else {},
    )
    bundle_file.write(workdir, content)


def load(workdir: Path, *, precision: str | None = None) -> Bundle:
    """Read a bundle; it needs no custom objects, and not the versions that wrote it.

    Args:
      workdir: folder of the run.
      precision: the dtype policy to compute in; None for that of the run.

    Raises:
      FileNotFoundError: there is no bundle, because the training did not finish or the folder is
        another one.
      ValueError: a file is damaged or missing, asks for what no training makes, or was written by
        another version; names it.
    """
    content = bundle_file.read(workdir)
    data = bundle_file.checked_weights(content, workdir)
    experiment = bundle_file.experiment(content, workdir)
    trained_on = bundle_file.trained_on(content, workdir)
    fitted = bundle_file.fitted(content, tasks.of(experiment), workdir)
    return Bundle(
        folder=workdir,
        model=_model(workdir, experiment, content, data, precision),
        experiment=experiment,
        manifest=trained_on,
        fitted=fitted,
        best_epoch=content.best_epoch,
        precision=precision or content.precision,
        libraries=dict(content.libraries),
        members=content.members,
        config=bundle_file.begun_with(content, workdir),
    )


def _model(
    workdir: Path,
    experiment: specs.Experiment,
    content: BundleFile,
    data: bytes,
    precision: str | None,
) -> keras.Model:
    """Return the network of the settings, filled with the bytes of its weights."""
    policy = precision or content.precision
    members = [_member(workdir, experiment, member) for member in content.members]
    try:
        if members:
            parts = (
                ensembles.Part.calibrated(
                    m.folder, _built(own, precision or m.precision), own, fitted
                )
                for m, own, fitted in members
            )
            model = ensembles.join(parts, side=tasks.of(experiment).side, policy=policy)
        else:
            model = _built(experiment, policy)
    except ValueError as error:
        raise ValueError(f"{workdir / BUNDLE_FILE} cannot be used: {error}") from error
    try:
        weights.fill(model, data)
    except ValueError as error:
        raise ValueError(f"{workdir / WEIGHTS_FILE} cannot be used: {error}.") from error
    return model


def _built(experiment: specs.Experiment, policy: str) -> keras.Model:
    with dtype_policy.within(policy):
        return network.build(experiment, load_weights=False, side=tasks.of(experiment).side)


def _member(
    workdir: Path, joined: specs.Experiment, member: Member
) -> tuple[Member, specs.Experiment, Any]:
    """Return a member of an ensemble, its settings, and what was fitted for it.

    Raises:
      ValueError: it is damaged, or of another task than the ensemble.
    """
    own = bundle_file.experiment(member, workdir)
    if _reads(own) != _reads(joined):
        raise ValueError(
            f"{workdir / BUNDLE_FILE} cannot be used: its member {member.folder!r} is of another "
            "recipe or task than the ensemble."
        )
    return member, own, bundle_file.fitted(member, tasks.of(own), workdir)


def _reads(experiment: specs.Experiment) -> tuple[Any, ...]:
    """Return what a model is given and what it tells apart."""
    kind = tasks.of(experiment)
    return kind.NAME, kind.data.groups, kind.data.group_of, experiment.dataset.recipe


def save_fitted(workdir: Path, fitted: tasks.FittedSettings) -> None:
    """Add to a bundle what an evaluation of validation has fitted."""
    content = dataclasses.replace(bundle_file.read(workdir), fitted=fitted.to_dict())
    bundle_file.write(workdir, content)
