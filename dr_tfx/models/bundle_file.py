"""`bundle.json`, which says what a trained model is and which bytes its files have.

A bundle may come from a stranger. Its text is bounded, and each value has the type that is declared
here. The other files are read only after their digests were compared, and none of their names is
taken from the text. Loads no TensorFlow.
"""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Final, Literal, NamedTuple

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.dataset import manifest
from dr_tfx.storage import files, json_files

BUNDLE_FILE = "bundle.json"
WEIGHTS_FILE = "weights.safetensors"
MODEL_FILE = "model.keras"
FILES = (MODEL_FILE, WEIGHTS_FILE, BUNDLE_FILE)
FORMAT: Final = 2
POLICIES = ("float32", "mixed_float16", "mixed_bfloat16")
MOST_BYTES = 1 << 30  # Of another file of a bundle. ResNet50V2 with a wide head has half of it.
MOST_MEMBERS = 10

_Policy = Annotated[str, typed.Rule(lambda name: name in POLICIES, ", ".join(POLICIES))]
_MEND = "Copy the run again from where it was trained, or train again."


class Config(NamedTuple):
    """The config of a run, before anything was changed on the command line.

    Attributes:
      name: its name or path, as it was typed.
      settings: all of them, as `typed.to_dict` gives them.
    """

    name: str
    settings: Mapping[str, Any]


@dataclasses.dataclass(frozen=True)
class Member:
    """A run that an ensemble is made of.

    Attributes:
      folder: of the run, as it was given.
      experiment: its settings, as `typed.to_dict` gives them.
      precision: its dtype policy.
      best_epoch: the epoch whose weights it has, from 1 on.
      fitted: what `FittedSettings.to_dict` gave for it.
      weights: SHA-256 of its file of weights.
      config: as that of a run, see `BundleFile`.
      config_settings: likewise.
    """

    folder: str
    experiment: Mapping[str, Any]
    precision: _Policy
    best_epoch: int
    fitted: Mapping[str, Any]
    weights: str
    config: str = ""
    config_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)


@dataclasses.dataclass(frozen=True)
class BundleFile:
    """The content of bundle.json.

    Attributes:
      experiment: the settings of the run, as `typed.to_dict` gives them.
      manifest: the manifest of the data set, as `Manifest.to_dict` gives it.
      precision: the dtype policy of the run.
      best_epoch: the epoch whose weights the model has, from 1 on; 0 of an ensemble.
      libraries: the versions that trained the model, by name.
      files: the SHA-256 digests of the other files of the bundle, by name.
      fitted: what `FittedSettings.to_dict` gives; None until validation has been evaluated.
      members: the runs that an ensemble is made of; none for a run.
      config: the name or path of the config that the run was begun with, as it was typed; or "".
      config_settings: all settings of that config, before any were changed on the command line.
      format: version of this format.
    """

    experiment: Mapping[str, Any]
    manifest: Mapping[str, Any]
    precision: _Policy
    best_epoch: int
    libraries: Mapping[str, str]
    files: Mapping[str, str]
    fitted: Mapping[str, Any] | None = None
    members: Annotated[
        tuple[Member, ...],
        typed.Rule(lambda members: len(members) <= MOST_MEMBERS, f"{MOST_MEMBERS} at most"),
    ] = ()
    config: str = ""
    config_settings: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    format: Literal[2] = FORMAT


def read(workdir: Path) -> BundleFile:
    """Return the content of a folder's bundle.json.

    Raises:
      FileNotFoundError: there is none: the training did not finish, or the folder is another one.
      ValueError: the file is damaged, or was written by another version; names it.
    """
    path = workdir / BUNDLE_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: {workdir} holds no finished training. "
            "Run drtfx-train (the same command again resumes it), or check --workdir."
        )
    found: BundleFile = record(path, BundleFile, FORMAT, "Train again.")
    return found


def record(path: Path, kind: type, version: int, mend: str) -> Any:
    """Return the content of a JSON file that says its `format`, as a checked record.

    Args:
      path: the file.
      kind: the class of the record.
      version: the format that this version reads.
      mend: a sentence that says how to come by such a file.

    Raises:
      ValueError: the file is damaged, or was written by another version; names it.
    """
    content = json_files.read(path)
    if content.get("format") != version:
        raise ValueError(
            f"{path} was written by another version of dr_tfx: its format is "
            f"{str(content.get('format'))[:20]}, and this version reads {version}. {mend}"
        )
    return typed.record(kind, content, str(path))


def write(workdir: Path, content: BundleFile) -> None:
    """Write bundle.json whole or not at all."""
    plain = json.dumps(
        dataclasses.asdict(content), indent=2, sort_keys=True, ensure_ascii=False, allow_nan=False
    )
    files.write_text(workdir / BUNDLE_FILE, plain + "\n")


def experiment(content: BundleFile | Member, workdir: Path) -> specs.Experiment:
    """Return the settings of a run, or of a member of an ensemble.

    Raises:
      ValueError: they cannot be run by this version; names the file and the setting.
    """
    try:
        return tasks.from_config(content.experiment)
    except typed.ConfigError as error:
        raise ValueError(f"{workdir / BUNDLE_FILE} cannot be used: {error}") from error


def begun_with(content: BundleFile | Member, workdir: Path) -> Config | None:
    """Return the config that a run, or a member of an ensemble, was begun with, if it is known.

    Raises:
      ValueError: its settings cannot be run by this version; names the file and the setting.
    """
    if not content.config:
        return None
    try:
        settings = tasks.from_config(dict(content.config_settings))
    except ValueError as error:
        raise ValueError(f"{workdir / BUNDLE_FILE}: {error}") from error
    return Config(content.config, typed.to_dict(settings))


def trained_on(content: BundleFile, workdir: Path) -> manifest.Manifest:
    """Return the manifest of the data set that the model was trained on.

    Raises:
      ValueError: it is damaged; names the file.
    """
    try:
        return manifest.from_dict(content.manifest)
    except ValueError as error:
        raise ValueError(f"{workdir / BUNDLE_FILE}: {error}") from error


def fitted(content: BundleFile | Member, kind: tasks.Kind, workdir: Path) -> Any:
    """Return what was fitted on validation, or None.

    Raises:
      ValueError: it is damaged; names the file.
    """
    if content.fitted is None:
        return None
    try:
        return kind.judgement.fitted_from(content.fitted)
    except ValueError as error:
        raise ValueError(f"{workdir / BUNDLE_FILE}: {error}") from error


def digest(data: bytes) -> str:
    """Return the SHA-256 digest of the bytes of a file, hexadecimal."""
    return hashlib.sha256(data).hexdigest()


def checked_weights(content: BundleFile, workdir: Path) -> bytes:
    """Compare every file of a bundle with its digest, and return the bytes of its weights.

    Raises:
      ValueError: a file is missing, too large, or another one than the training wrote; names it.
    """
    checked_bytes(workdir / MODEL_FILE, content.files, BUNDLE_FILE, _MEND)
    return checked_bytes(workdir / WEIGHTS_FILE, content.files, BUNDLE_FILE, _MEND)


def checked_bytes(path: Path, digests: Mapping[str, str], where: str, mend: str) -> bytes:
    """Return the bytes of a file whose digest is known.

    Args:
      path: the file.
      digests: SHA-256 digests by the names of files.
      where: name of the file that says them.
      mend: a sentence that says how to come by the right file.

    Raises:
      ValueError: the file is missing, too large, or has another digest; names it.
    """
    if not path.is_file():
        what = "is a folder; expected a file" if path.is_dir() else "is missing"
        raise ValueError(f"{path} {what}. {mend}")
    with path.open("rb") as stream:
        data = stream.read(min(path.stat().st_size, MOST_BYTES) + 1)
    if len(data) > MOST_BYTES:
        raise ValueError(f"{path} has more than {MOST_BYTES:,} bytes. {mend}")
    found, expected = digest(data), digests.get(path.name, "nothing")
    if found != expected:
        raise ValueError(
            f"{path} is not the file that was written there: its SHA-256 digest begins with "
            f"{found[:12]}, and {where} says {expected[:12]}. It was cut short, damaged or "
            f"exchanged. {mend}"
        )
    return data
