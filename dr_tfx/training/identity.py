"""The settings and the data that WORKDIR belongs to, and how a run goes on to more epochs."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dr_tfx.config import specs, typed
from dr_tfx.dataset import manifest
from dr_tfx.storage import claims, files, json_files, seen_text

CONFIG_FILE = "config.json"
HISTORY_FILE = "history.csv"
# Settings of the training that may change when a run is resumed. They change what is learnt by no
# more than rounding, and a run that stopped at its memory ceiling has to resume with a higher one.
FREE = ("checkpoint_steps", "deterministic", "max_memory_gb")
_RESULTS = (HISTORY_FILE, "checkpoints", "bundle.json", "model.keras", "weights.safetensors")

_Settings = Mapping[str, Any]


def claim(workdir: Path, experiment: specs.Experiment, data: manifest.Manifest) -> None:
    """Write config.json, which says which experiment and data WORKDIR belongs to."""
    files.write_text(workdir / CONFIG_FILE, _claim(experiment, data))


def is_claimed(workdir: Path, experiment: specs.Experiment, data: manifest.Manifest) -> bool:
    """Tell whether WORKDIR belongs to a run, and that run has begun all its epochs or some.

    Returns:
      False if nothing has begun, or the run has yet to go on to more epochs than it was to have.

    Raises:
      ValueError: WORKDIR belongs to a run with other settings or data; the message names each.
      FileExistsError: it holds somebody else's files.
    """
    path = workdir / CONFIG_FILE
    if not path.is_file():
        claims.check(workdir, mark=CONFIG_FILE, key="experiment", results=_RESULTS)
        return False
    claimed, own = json_files.read(path), json.loads(_claim(experiment, data))
    if claimed == own:
        return True
    if not isinstance(claimed.get("experiment"), dict) or claimed.keys() != own.keys():
        raise ValueError(
            f"{path} was not written by drtfx-train: it has {_named(claimed)}, and not the "
            f"settings of a run, {_named(own)}. Choose another --workdir."
        )
    theirs, mine = claimed["experiment"], own["experiment"]
    if claimed["data"] == own["data"] and _goes_on(theirs, mine):
        return False
    theirs, mine = typed.flat(theirs), typed.flat(mine)
    different = [
        f"config.{key}: {theirs.get(key)!r} there, {mine.get(key)!r} now"
        for key in {**mine, **theirs}
        if theirs.get(key) != mine.get(key)
    ] or ["It was trained on another data set"]
    raise ValueError(
        f"{workdir} holds a run of another config. {'; '.join(different)}. "
        "Choose another --workdir, or delete this one to train anew."
    )


def with_waves(workdir: Path, asked: specs.Experiment) -> specs.Experiment:
    """Return the settings by which the run in WORKDIR comes to the epochs that are asked for.

    At a plateau, the rate follows what was seen so far, so that more epochs are nothing but more.
    A cosine is 0 at its last epoch, and a longer one would have been another from the first step
    on. So the epochs that are added are a stage of their own, a further wave, and what had been the
    last stage stands before it: a warm restart, see the source of `stages.Phase.rate`.
    """
    path, training = workdir / CONFIG_FILE, asked.training
    if training.schedule != "cosine" or not path.is_file():
        return asked
    claimed = json_files.read(path).get("experiment")
    try:
        *before, last = _phases(claimed)
        stages, wave = training.stages, _phases(typed.to_dict(asked))[-1]
    except (KeyError, TypeError):
        return asked  # It is somebody else's file, as `is_claimed` will say.
    own = len(stages)
    waves = [*before[own:], last]
    added = training.epochs - sum(epochs for *_, epochs in waves)
    if added < 0 or any(one[:2] != wave[:2] for one in waves):
        return asked
    lengths = [epochs for *_, epochs in waves] + [added] * bool(added)
    further = [
        specs.Stage(asked.model.trainable_layers, training.learning_rate, epochs)
        for epochs in lengths[:-1]
    ]
    changed = dataclasses.replace(training, stages=(*stages, *further), epochs=lengths[-1])
    return dataclasses.replace(asked, training=changed)


def same_run(made: _Settings, experiment: specs.Experiment) -> bool:
    """Tell whether settings, as a bundle has them, are those of a run, but for what is free."""
    return _without_free(made) == _without_free(typed.to_dict(experiment))


def _goes_on(theirs: _Settings, mine: _Settings) -> bool:
    """Tell whether settings differ in nothing but stages and epochs that come after theirs."""
    if _without_length(theirs) != _without_length(mine):
        return False
    before, after = _phases(theirs), _phases(mine)
    if mine["training"]["schedule"] == "plateau" and len(before) == len(after):
        *layers_and_rate, epochs = before.pop()
        *same, more = after.pop()
        return before == after and layers_and_rate == same and more > epochs
    return before == after[: len(before)]


def _phases(settings: Any) -> list[tuple[int, float, int]]:
    """Return (layers, learning rate, epochs) of each stage, the last one included."""
    training = settings["training"]
    stages = [
        (stage["trainable_layers"], stage["learning_rate"], stage["epochs"])
        for stage in training["stages"]
    ]
    last = (settings["model"]["trainable_layers"], training["learning_rate"], training["epochs"])
    return [*stages, last]


def _without_length(settings: _Settings) -> dict[str, Any]:
    flat = typed.flat(settings)
    of_stages = ("training.stages", "training.epochs")
    of_last = ("training.learning_rate", "model.trainable_layers")
    return {key: value for key, value in flat.items() if key not in (*of_stages, *of_last)}


def _without_free(settings: _Settings) -> dict[str, Any]:
    free = {f"training.{name}" for name in FREE}
    return {key: value for key, value in typed.flat(settings).items() if key not in free}


def _named(content: dict[str, Any]) -> str:
    """Return the first keys of a file, for an error."""
    return manifest.some([repr(seen_text.printable(key[:40])) for key in content]) or "nothing"


def _claim(experiment: specs.Experiment, data: manifest.Manifest) -> str:
    """Return the text of config.json, without the settings in `FREE`."""
    settings = typed.to_dict(experiment)
    for name in FREE:
        del settings["training"][name]
    mine = {"experiment": settings, "data": data.fingerprint}
    return json.dumps(mine, indent=2, sort_keys=True) + "\n"
