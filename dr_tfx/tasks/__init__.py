"""The kinds of task: all that differs between tasks, one folder and one line in `KINDS` each."""

import logging
from collections.abc import Mapping
from typing import Any

from dr_tfx.config import specs, typed
from dr_tfx.dataset import manifest
from dr_tfx.tasks.binary.kind import Binary
from dr_tfx.tasks.classes.kind import Classes
from dr_tfx.tasks.contrastive.kind import Contrastive
from dr_tfx.tasks.grades.kind import Grades
from dr_tfx.tasks.judging import FittedSettings
from dr_tfx.tasks.kind import Kind, Reading, with_features
from dr_tfx.tasks.masks.kind import Masks
from dr_tfx.tasks.multilabel.kind import Multilabel

__all__ = [
    "KINDS",
    "FittedSettings",
    "Kind",
    "Reading",
    "defaults",
    "from_config",
    "lacking",
    "of",
    "on_data",
    "with_features",
]

_LOG = logging.getLogger(__name__)

KINDS: dict[str, type[Kind]] = {
    "binary": Binary,
    "classes": Classes,
    "contrastive": Contrastive,
    "grades": Grades,
    "masks": Masks,
    "multilabel": Multilabel,
}
"""Every kind of task by its name, the value of `config.task.kind`."""


def of(experiment: specs.Experiment) -> Kind:
    """Return the kind of task of an experiment, bound to its settings."""
    return _kind(experiment.task.kind)(experiment)


def defaults(name: str) -> specs.Experiment:
    """Return the default settings of a kind of task; the kind need not be able to run with them.

    Raises:
      ConfigError: there is no such kind.
    """
    kind = _kind(name)
    return specs.Experiment(task=kind.TASK(kind=name), evaluation=kind.EVALUATION())


def from_config(config: Mapping[str, Any]) -> specs.Experiment:
    """Return a ConfigDict, or nested mapping, as a validated `Experiment`.

    Raises:
      ConfigError: unknown key, wrong type, value out of range or contradicting settings; the
        message names the dotted key.
    """
    task = config.get("task", {})
    name = task.get("kind", specs.Task.kind) if hasattr(task, "get") else specs.Task.kind
    kind = _kind(name)
    experiment = kind.derived(specs.read(config, task=kind.TASK, evaluation=kind.EVALUATION))
    kind(experiment).check()
    return experiment


def on_data(settings: Mapping[str, Any], data: manifest.Manifest) -> specs.Experiment:
    """Return the settings of a run on this data set, which alone says how it was made.

    What the settings say otherwise about it is logged, and not used.

    Args:
      settings: a ConfigDict, or nested mapping, as `from_config` takes it.
      data: the data set.

    Raises:
      ConfigError: see `from_config`; also if the task, the model or the training does not fit the
        data set.
    """
    made = typed.to_dict(data.dataset)
    wanted, have = typed.flat(settings.get("dataset", {})), typed.flat(made)
    differing = [
        f"config.dataset.{key}={have[key]!r} instead of {value!r}"
        for key, value in wanted.items()
        if value and key in have and typed.plain(value) != have[key]  # Empty ones say nothing.
    ]
    if differing:
        _LOG.info("The data set was built with %s, which counts.", manifest.some(differing, 8))
    return from_config({**settings, "dataset": made})


def lacking(images: Mapping[str, Mapping[str, int]]) -> list[str]:
    """Return a sentence on each split that has no image of a group.

    Args:
      images: how many images of each group the splits have, by the names of both.
    """
    found = []
    for split, counts in images.items():
        missing = [repr(group) for group, count in counts.items() if not count]
        if missing and any(counts.values()):
            has = ", ".join(f"{count:,} of {group!r}" for group, count in counts.items() if count)
            found.append(
                f"Split '{split}' has {has}, and none of {', '.join(missing)}: what tells the "
                "groups apart, such as an AUC, is not defined there. More patients, or a larger "
                "share in config.dataset.split, may help"
            )
    return found


def _kind(name: str) -> type[Kind]:
    """Return the kind of task of this name, or raise a ConfigError."""
    kind = KINDS.get(name) if isinstance(name, str) else None
    if kind is None:
        raise typed.ConfigError(
            f"config.task.kind is {name!r}; expected one of {', '.join(map(repr, KINDS))}."
        )
    return kind
