"""The settings of a task of several labels, and the rules that they have to follow."""

import dataclasses

from dr_tfx.config import label_sets, specs, typed
from dr_tfx.tasks import patients


@dataclasses.dataclass(frozen=True)
class MultilabelTask(specs.Task):
    """The labels are the columns of `dataset.label_column`, and `label_sets.names` their sets."""

    # An image's group: no label holds, or one does. Sampling balances them.
    class_names: tuple[str, str] = ("none", "any")
    # The column that decides the group; "": any of them that is above its threshold.
    decided_by: str = ""
    # How often each column counts in the weighted log loss; empty: once.
    column_weights: tuple[typed.Positive, ...] = ()


@dataclasses.dataclass(frozen=True)
class MultilabelEvaluation(patients.PatientEvaluation):
    """The choice of thresholds, one a label, and the fusion of a patient's images."""


MultilabelExperiment = specs.Experiment[MultilabelTask, MultilabelEvaluation]


def check_task(task: MultilabelTask, dataset: specs.DatasetSpec) -> tuple[str, ...]:
    """Return the columns, or refuse settings that do not fit each other.

    Raises:
      ConfigError: the message names the dotted key.
    """
    columns = label_sets.columns_of(dataset.label_column, dataset.label_names)
    typed.require(
        bool(columns),
        f"config.dataset.label_column is {dataset.label_column!r} with {len(dataset.label_names)} "
        f"names in config.dataset.label_names; the kind 'multilabel' expects 2 to "
        f"{label_sets.MOST} columns with commas between, and the names of all sets of them, as "
        "dr_tfx.config.label_sets.names gives them.",
    )
    typed.require(
        not task.decided_by or task.decided_by in columns,
        f"config.task.decided_by is {task.decided_by!r}; expected one of "
        f"{', '.join(columns)}, or '' for any of them.",
    )
    typed.require(
        len(task.column_weights) in (0, len(columns)),
        f"config.task.column_weights has {len(task.column_weights)} values; expected one for each "
        f"of the {len(columns)} columns, or () for 1.",
    )
    return columns
