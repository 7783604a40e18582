"""Pre-trained weights of a backbone: those of Keras, of a file, or of another run of dr_tfx.

`imagenet` is what Keras publishes. Keras downloads it once into its folder `models` and compares it
with a digest in its own source, but for MobileNetV2, of which it gives none. So the digest of what
was read first is kept beside each file, and another file of that name is refused; the log says it,
by which two machines can be compared. A file at a path is read instead, and nothing is downloaded
then. From a file comes a backbone, from the folder of a run the whole network, or, of a
pre-training, the backbone.
"""

import contextlib
import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import keras
from absl import logging

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.models import bundle_file, weights
from dr_tfx.storage import files

IMAGENET, NONE = "imagenet", "none"
PIXELS = 224  # A side: Keras has other files of MobileNetV2 for smaller pictures.
_OF_RUN = ".safetensors"  # The ending of a bundle's file of weights.
_OF_PYTORCH = (".pth", ".pt", ".bin")
_SHOWN = 300  # Characters of what Keras says.


def fill(
    backbone: keras.Model,
    given: str,
    *,
    name: str,
    constructor: Callable[..., keras.Model],
    file: str,
    reads_bgr: bool,
) -> None:
    """Give a backbone pre-trained weights.

    Args:
      backbone: as a part of the network, which may have layers before it.
      given: `imagenet` or the path of a file: `.safetensors` of a bundle of dr_tfx, or what Keras
        has saved of the backbone alone.
      name: of the backbone, for errors.
      constructor: makes what Keras' files are of: the same numbers, in the same order; see
        `network.Backbone`.
      file: the name of Keras' file of ImageNet weights; "" if there is none.
      reads_bgr: whether Keras' weights, and what was trained from them, expect blue before red.

    Raises:
      ValueError: the weights are not available or damaged, or their shapes are not those of the
        backbone; says what was expected.
    """
    if given == IMAGENET:
        _set(backbone, _imagenet(constructor, file, name=name), reads_bgr=reads_bgr)
        return
    path = Path(given).expanduser()
    if not path.is_file():
        raise ValueError(
            f"config.model.weights is {given!r}: no such file. Expected imagenet, none, or the "
            f"path: the folder of a run, its weights{_OF_RUN}, or .h5 of Keras."
        )
    if path.suffix in _OF_PYTORCH:
        raise ValueError(
            f"config.model.weights is {given!r}, as PyTorch names its files, which are not read. "
            f"Expected weights of {name}: {_OF_RUN} of a run, such as drtfx-pretrain leaves, or "
            ".h5 of Keras, to which those of the same network can be converted."
        )
    logging.info("Weights of %s: %s, SHA-256 %s", name, path, _digest(path))
    try:
        if path.suffix == _OF_RUN:
            with path.open("rb") as stream:
                data = stream.read(bundle_file.MOST_BYTES)
            weights.fill(backbone, data, part=True)
            return
        donor = constructor(include_top=False, weights=None, input_shape=(PIXELS, PIXELS, 3))
        donor.load_weights(path)
    except (ValueError, OSError, KeyError) as error:
        raise ValueError(
            f"config.model.weights is {given!r}, which does not hold weights of {name} without "
            f"its top: {_words(error)}"
        ) from error
    _set(backbone, donor, reads_bgr=reads_bgr)


def asked(experiment: specs.Experiment) -> str:
    """Return `config.model.weights`; of the folder of a pre-training, the path of its weights.

    A pre-training that is to go on has the kind of the experiment, and gives its whole network.
    """
    given = experiment.model.weights
    if not is_run(given):
        return given
    folder = Path(given).expanduser()
    try:
        of_run = tasks.of(bundle_file.experiment(bundle_file.read(folder), folder))
    except (FileNotFoundError, ValueError):
        return given  # Who takes it is told what is wrong.
    is_other = of_run.NAME != tasks.of(experiment).NAME
    return str(folder / bundle_file.WEIGHTS_FILE) if of_run.IS_PRETRAINING and is_other else given


def is_run(given: str) -> bool:
    """Tell whether weights are those of the folder of a run, and not of a file."""
    return given not in (IMAGENET, NONE) and Path(given).expanduser().is_dir()


def is_here(given: str, file: str) -> bool:
    """Tell whether weights of a backbone are on this machine.

    Args:
      given: what `asked` returns.
      file: the name of Keras' file of ImageNet weights; "" if there is none.
    """
    if given == IMAGENET:
        return bool(file) and (_folder_of_keras() / file).is_file()
    return given != NONE and Path(given).expanduser().is_file()


def fill_from_run(network: keras.Model, given: str) -> None:
    """Give a whole network the weights of a run, its head included.

    Args:
      network: what `network.build` makes.
      given: the folder of a run.

    Raises:
      ValueError: the folder holds no finished training or a damaged one, or its network is another
        one.
    """
    folder = Path(given).expanduser()
    try:
        data = bundle_file.checked_weights(bundle_file.read(folder), folder)
    except (FileNotFoundError, ValueError) as error:
        raise ValueError(f"config.model.weights is {given!r}: {error}") from error
    try:
        weights.fill(network, data)
    except ValueError as error:
        raise ValueError(
            f"config.model.weights is {given!r}, a run whose network cannot go on as this one: "
            f"{error}. For its backbone alone, set config.model.weights="
            f"{folder / bundle_file.WEIGHTS_FILE}."
        ) from error
    logging.info("Weights of the network: those of %s", folder)


def _imagenet(constructor: Callable[..., keras.Model], file: str, *, name: str) -> keras.Model:
    """Return a separate backbone with Keras' ImageNet weights."""
    if not file:
        raise ValueError(
            f"config.model.weights is {IMAGENET!r}, but there are no pre-trained weights of "
            f"{name}. Set config.model.weights={NONE}, or give a file."
        )
    folder = _folder_of_keras()
    path = folder / file
    _check_first(path)
    try:
        donor = constructor(include_top=False, weights=IMAGENET, input_shape=(PIXELS, PIXELS, 3))
    except Exception as error:  # Keras raises a bare Exception if a download fails.
        raise ValueError(
            f"The ImageNet weights of {name} could not be downloaded or read: {_words(error)}. "
            f"Without a network, copy {file} from another machine into {folder}, give a file with "
            "--config.model.weights=PATH, or train from scratch with "
            f"--config.model.weights={NONE}."
        ) from error
    if path.is_file():  # Where the folder cannot be written, Keras has taken another.
        _check_first(path)  # It may just have been downloaded.
        logging.info("Weights of %s: %s, SHA-256 %s", name, path, _digest(path))
        if not _first(path).exists():
            with contextlib.suppress(OSError):  # Of a folder that can only be read.
                files.write_text(_first(path), f"{_digest(path)}  {file}\n")
    return donor


def _first(path: Path) -> Path:
    """Return the file with the digest of what was read first, as sha256sum writes it."""
    return path.with_name(f"{path.name}.sha256")


def _check_first(path: Path) -> None:
    """Refuse a file of Keras that is not the one that was read first; there may be none yet.

    Raises:
      ValueError: says both digests.
    """
    if not path.is_file() or not _first(path).is_file():
        return
    expected, found = _first(path).read_text()[:64], _digest(path)
    if found != expected:
        raise ValueError(
            f"{path} has the SHA-256 {found}; expected {expected}, that of the file of this name "
            f"that was read first. Delete {path} to have it downloaded again, and "
            f"{_first(path).name} beside it if you trust the new one."
        )


def _folder_of_keras() -> Path:
    """Return where Keras keeps the files that it has downloaded."""
    return (Path(os.environ.get("KERAS_HOME", "~/.keras")) / "models").expanduser()


def _set(backbone: keras.Model, donor: keras.Model, *, reads_bgr: bool) -> None:
    """Give a backbone the weights of a separate one, so that it reads red before blue."""
    first = next(x for x in donor.layers if isinstance(x, keras.layers.Conv2D))
    if reads_bgr:
        kernel, *others = first.get_weights()
        first.set_weights([kernel[:, :, ::-1], *others])
    given = zip(donor.get_weights(), backbone.weights, strict=True)
    backbone.set_weights([values.reshape(tuple(own.shape)) for values, own in given])


def _digest(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _words(error: Any) -> str:
    """Return what Keras says, in one line, and without the values of weights."""
    text = str(error).split("Target variable:")[0].split("List of objects")[0]
    return " ".join(text.split())[:_SHOWN].rstrip(".")
