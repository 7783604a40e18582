"""Config files: Python files whose `get_config()` returns the settings of a run.

The files are loaded by their path alone. A config that starts from another one loads that file from
its own folder by `load_beside`, and never imports it: the name `configs` may belong to anybody.
Those that come with dr_tfx lie in a clone's folder `configs`, and an installation puts them where
data of programs are, `share/`, out of the way of packages. They are given by their name as well.
"""

import difflib
import importlib.metadata
import importlib.util
from pathlib import Path
from typing import Any

import ml_collections

from dr_tfx.config import specs, typed


def to_config(experiment: specs.Experiment) -> ml_collections.ConfigDict:
    """Return the settings of an experiment as a ConfigDict, to be changed by files and flags."""
    settings = typed.to_dict(experiment)
    return ml_collections.ConfigDict(_with_tuples(settings), allow_dotted_keys=False)


def shipped() -> Path:
    """Return the folder of the config files that come with dr_tfx."""
    root = Path(__file__).parents[2]
    if not (root / "setup.py").is_file():  # This is no clone.
        for file in importlib.metadata.files("dr_tfx") or ():
            if file.match("share/dr_tfx/configs/base.py"):
                return Path(file.locate()).resolve().parent
    return root / "configs"


def names() -> list[str]:
    """Return the names of the config files that come with dr_tfx."""
    return sorted(path.stem for path in shipped().glob("*.py"))


def find(given: str) -> str:
    """Return a config as FILE or FILE:ARGUMENT, where FILE may be given as the name of one of ours.

    Args:
      given: for example `dr_binary`, `ct_hemorrhage:demo` or `configs/dr_binary.py`.
    """
    name, colon, argument = given.partition(":")
    return f"{shipped() / name}.py{colon}{argument}" if name in names() else given


def unknown(given: str) -> str:
    """Return a sentence, without its full stop, about a config that is neither a file nor ours."""
    name = Path(given.partition(":")[0]).stem
    like = difflib.get_close_matches(name, names(), n=1)
    meant = f"; did you mean {like[0]}?" if like else "; there are " + ", ".join(names())
    return f"--config={given}: there is no such file, and no config of this name{meant}"


def load(path: Path, *arguments: str) -> ml_collections.ConfigDict:
    """Return what `get_config(*arguments)` of the file at this path returns.

    Raises:
      FileNotFoundError: there is no such file.
      AttributeError: the file has no `get_config`.
    """
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist; expected a config file such as smoke.py.")
    spec = importlib.util.spec_from_file_location(f"config_file_{path.stem}", path)
    if spec is None or spec.loader is None:
        raise FileNotFoundError(f"{path} is no Python file; expected a config such as smoke.py.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.get_config(*arguments)


def load_beside(file: str, name: str, *arguments: str) -> ml_collections.ConfigDict:
    """Return the config of another file in the same folder, to be changed.

    Args:
      file: `__file__` of the config that starts from the other one.
      name: name of the other file, for example `eyepacs.py`.
      arguments: for its `get_config`, for example the kind of task of `base.py`.

    Raises:
      FileNotFoundError: there is no such file.
    """
    path = Path(file).with_name(name)
    if not path.is_file():
        raise FileNotFoundError(
            f"{file} starts from {path}, which does not exist. Copy {name} into the same folder, "
            "or change the name in load_beside."
        )
    return load(path, *arguments)


def _with_tuples(settings: dict[str, Any]) -> dict[str, Any]:
    """Turn lists into tuples, which flags such as --config.model.hidden=(64,) can override."""
    return {
        key: _with_tuples(value)
        if isinstance(value, dict)
        else tuple(value)
        if isinstance(value, list)
        else value
        for key, value in settings.items()
    }
