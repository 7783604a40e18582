"""What --config and its settings say to a command, above all to those that train on a data set."""

from pathlib import Path
from typing import Any

import ml_collections
from absl import flags
from ml_collections import config_flags

from dr_tfx import tasks
from dr_tfx.config import config_files, specs, typed
from dr_tfx.dataset import manifest

_GROUP = "dataset."


def define(default: str | None = None) -> flags.FlagHolder[ml_collections.ConfigDict]:
    """Define the flag --config, by which each setting can be given as `--config.some.setting`.

    Args:
      default: the name of the config where none is given.
    """
    default = default and config_files.find(default)
    words = "Name of a config, such as dr_binary, or a file of your own."
    return config_flags.DEFINE_config_file("config", default, words, lock_config=True)


def typed_name(config: flags.FlagHolder[ml_collections.ConfigDict]) -> str:
    """Return what --config was given, with its variant; one of ours by its name alone."""
    file, *variant = config_flags.get_config_filename(flags.FLAGS[config.name]).split(":", 1)
    path = Path(file)
    return ":".join([path.stem if path.parent == config_files.shipped() else file, *variant])


def unchanged(
    config: flags.FlagHolder[ml_collections.ConfigDict],
) -> tuple[str, dict[str, Any]]:
    """Return a config's name, as it is typed, and its settings but for the command line's."""
    given = config_flags.get_config_filename(flags.FLAGS[config.name])
    file, _, argument = given.partition(":")
    settings = config_files.load(Path(file), *filter(None, [argument])).to_dict()
    return typed_name(config), typed.to_dict(tasks.from_config(settings))


def read(config: flags.FlagHolder[ml_collections.ConfigDict], data_dir: Path) -> specs.Experiment:
    """Return the settings, of which those of the data set are to be the data set's own.

    A config file may say otherwise, as one file serves data sets of several sizes. What the command
    line itself says otherwise is a mistake.

    Raises:
      FileNotFoundError: there is no data set.
      ValueError: a setting on the command line is another one in the data set; or see
        `tasks.on_data`.
    """
    settings, data = config.value.to_dict(), manifest.load(data_dir)
    wanted = typed.flat(settings["dataset"])
    have = typed.flat(typed.to_dict(data.dataset))
    given: dict[str, Any] = config_flags.get_override_values(flags.FLAGS[config.name])
    said = sorted(key.removeprefix(_GROUP) for key in given if key.startswith(_GROUP))
    wrong = [
        f"--config.{_GROUP}{key} says {wanted[key]!r}, and the data set was built with "
        f"{have[key]!r}"
        for key in said
        if typed.plain(wanted[key]) != have[key]
    ]
    if wrong:
        raise ValueError(
            f"{data_dir} is another data set: {'; '.join(wrong)}. Leave it out, as a data set "
            "tells its settings itself, or build one with this setting."
        )
    return tasks.on_data(settings, data)
