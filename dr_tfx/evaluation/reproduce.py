"""The commands that make a report again, with every setting of the run."""

import json
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.dataset import mirrors, splits
from dr_tfx.evaluation.scored import SELECTION_SPLIT
from dr_tfx.models import bundle_file
from dr_tfx.models.bundle_file import Config, Member

_WIDTH = 96  # Characters of a line on the page.


def commands(
    experiment: specs.Experiment,
    *,
    workdir: Path,
    data_dir: Path,
    split: str,
    members: Sequence[Member] = (),
    config: Config | None = None,
) -> list[list[str]]:
    """Return the commands that give a report, word by word: of a run, or of an ensemble of runs.

    The names of the photographs' folder and of the label CSV are placeholders. The settings are
    given as changes of the config that the run was begun with; or, where that is not known, of the
    config base, which holds the defaults of every kind of task.
    """
    names = list(dict.fromkeys([SELECTION_SPLIT, split]))
    if members:
        before = _until_joined(members, workdir=workdir, data_dir=data_dir)
        if _of_folds(members):  # They are fitted when they are joined.
            names.remove(SELECTION_SPLIT)
    else:
        before = _until_trained(
            experiment, "drtfx-train", workdir=workdir, data_dir=data_dir, config=config
        )
    return [*before, *_evaluations(workdir, data_dir, names)]


def _evaluations(workdir: Path | str, data_dir: Path, names: Sequence[str]) -> list[list[str]]:
    folders = [f"--workdir={workdir}", f"--data_dir={mirrors.address(data_dir)}"]
    return [["drtfx-evaluate", *folders, f"--split={name}"] for name in names]


def _of_folds(members: Sequence[Member]) -> bool:
    return len({member.experiment["training"]["fold"] for member in members}) > 1


def _until_joined(members: Sequence[Member], *, workdir: Path, data_dir: Path) -> list[list[str]]:
    """Return the commands that build, train and evaluate the members of an ensemble, and join."""
    splits_of_each = [SELECTION_SPLIT, "test"] if _of_folds(members) else [SELECTION_SPLIT]
    found: list[list[str]] = []
    for member in members:
        experiment, folder = tasks.from_config(member.experiment), Path(member.folder)
        config = bundle_file.begun_with(member, workdir)
        build, train = _until_trained(
            experiment, "drtfx-train", workdir=folder, data_dir=data_dir, config=config
        )
        found += [train] if found else [build, train]
        found += _evaluations(folder, data_dir, splits_of_each)
    folders = [member.folder for member in members]
    return [*found, ["drtfx-ensemble", *folders, f"--output_dir={workdir}"]]


def crossvalidation_commands(
    experiment: specs.Experiment, *, workdir: Path, data_dir: Path, config: Config | None = None
) -> list[list[str]]:
    """Return the commands that give the report of a cross-validation, as `commands` does."""
    return _until_trained(
        experiment, "drtfx-crossvalidate", workdir=workdir, data_dir=data_dir, config=config
    )


def _until_trained(
    experiment: specs.Experiment,
    command: str,
    *,
    workdir: Path,
    data_dir: Path,
    config: Config | None = None,
) -> list[list[str]]:
    """Return the command of the build, and the one that trains on it."""
    kind = experiment.task.kind
    base = "--config=base" + (f":{kind}" if kind != specs.Task.kind else "")
    defaults = _by_flag(typed.to_dict(tasks.defaults(kind)))
    if config is not None:
        base, defaults = f"--config={config.name}", _by_flag(config.settings)
    settings = [
        f"--config.{key}={_typed(value)}"
        for key, value in _by_flag(typed.to_dict(experiment)).items()
        if value != defaults.get(key)
    ]
    of_data = [s for s in settings if s.startswith("--config.dataset.")]
    of_task = [s for s in settings if s.startswith("--config.task.")]
    others = [s for s in settings if s not in of_data]  # Training asks the data set itself.
    data = mirrors.address(data_dir)
    # A model that gives maps learns from masks, whatever the labels were.
    gives_maps = tasks.of(experiment).scores.gives_maps and len(experiment.dataset.label_names) == 2
    labels = "masks" if gives_maps else "LABELS.csv"
    paths = ["--image_dir=IMAGES", f"--labels={labels}", f"--output_dir={data}"]
    if experiment.dataset.masks:
        paths.insert(2, "--masks_dir=MASKS")
    return [
        ["drtfx-build-examples", base, *paths, *of_data, *of_task],
        [command, base, f"--workdir={workdir}", f"--data_dir={data}", *others],
    ]


def explain_commands(workdir: Path, data_dir: str, split: str) -> list[list[str]]:
    """Return the commands that draw heat maps, each with a page to browse them.

    Args:
      workdir: folder of the run.
      data_dir: where a person finds the data set.
      split: one of its splits.

    Returns:
      That of a split, whose pictures are as large as the model sees them, and that of the
      photographs themselves.
    """
    model, data = f"--workdir={workdir}", f"--data_dir={data_dir}"
    given = {
        split: [data, f"--split={split}"],
        "photographs": ["--image_dir=IMAGES", "--labels=LABELS.csv", data],
    }
    return [
        ["drtfx-explain", model, *words, f"--output_dir={workdir / 'explained' / name}"]
        for name, words in given.items()
    ]


def setting_flags(settings: Mapping[str, Any] | None) -> list[str]:
    """Return the flags of drtfx-evaluate that give settings in place of the training's."""
    given = (settings or {}).items()
    return [f"--setting={name}={_typed(typed.plain(value))}" for name, value in given]


def evaluation_command(workdir: Path, split: str) -> str:
    """Return what to type to have a run evaluated on a split, or on photographs of that name."""
    given = f"--data_dir=DATA_DIR --split={split}"
    if split not in splits.SPLITS:
        given = f"--image_dir=PHOTOS --labels=PHOTOS/labels.csv --name={split}"
    return f"drtfx-evaluate --workdir={workdir} {given}"


def shell(words: Sequence[str]) -> str:
    """Return a command, given word by word, as it is typed: in lines that fit the page."""
    first, *rest = map(shlex.quote, words)
    lines = [first]
    for word in rest:
        if len(lines[-1]) + len(word) < _WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}")
    return " \\\n".join(lines)


def _by_flag(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Return every setting, as `typed.to_dict` gives them, by the dotted name that a flag sets."""
    # The keys of `arguments` are none of base.py's, so that they need one flag together.
    training = dict(settings["training"])
    arguments = training.pop("arguments")
    return {**typed.flat({**settings, "training": training}), "training.arguments": arguments}


def _typed(value: Any) -> str:
    """Return a setting as its flag takes it."""
    return value if isinstance(value, str) else _literal(value)


def _literal(value: Any) -> str:
    """Return a Python literal; names are in double quotes, as a shell's quotes are single."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(k)}: {_literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"({', '.join(map(_literal, value))}{',' * (len(value) == 1)})"
    return repr(value)
