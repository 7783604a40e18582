"""A config and a build command that fit what was found."""

import dataclasses
import itertools
import math
import posixpath
import re
import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from beam_jobs.inspection import guess_columns
from beam_jobs.inspection.look_at_labels import LabelFindings
from beam_jobs.inspection.look_at_photographs import PhotographFindings
from dr_tfx.sources import find_source, trees

_WITH_MASKS = (
    "Photographs with masks of lesions need none: drtfx-build-examples --config=lesions "
    "--labels=masks --masks_dir=FOLDER, see its --help."
)
_FEW_REJECTS = 0.015  # Less than what the default of dataset.max_reject_rate allows.
# What serves small sets of photographs, as measured in docs/results, and differs from the defaults.
_TRAINING: dict[str, Any] = {
    "model.dropout": (0.3,),
    "training.epochs": 25,
    "training.batch_size": 16,
    "training.learning_rate": 2e-4,
    "training.plateau_monitor": "val_auc",
    "training.plateau_patience": 4,
    "training.augmentation.vertical_flip": True,
    "training.augmentation.rotation": 0.1,
    "training.augmentation.zoom": 0.1,
    "training.augmentation.contrast": 0.1,
    "training.augmentation.brightness": 0.1,
    "evaluation.views": ("identity", "left_right", "up_down", "left_right_up_down"),
}
_CONFIG = '''"""Settings for {place}, as drtfx-inspect proposes them. Look through them first."""

import ml_collections

from dr_tfx import tasks
from dr_tfx.config import config_files


def get_config() -> ml_collections.ConfigDict:
    """Return the columns and labels of these photographs, and how a model is trained on them."""
    config = config_files.to_config(tasks.defaults("binary"))
{settings}
    return config
'''


@dataclasses.dataclass(frozen=True)
class Proposal:
    """What a person can type, or why there is nothing yet."""

    file: str  # The name of the config file: one that is not there yet.
    config: str  # Its text.
    command: list[str]  # The build; empty if something is missing.
    look: list[str]  # Sentences on what a person should look at first.
    after: tuple[str, ...] = ()  # The commands that follow the build.


def propose(photographs: PhotographFindings, labels: LabelFindings | None) -> Proposal:
    """Return the settings and the command for photographs and their labels."""
    if labels is None or not labels.values:
        why = labels.missing if labels else "No labels were found: pass --labels=FILE."
        marked = f"{why} {_WITH_MASKS}" if trees.IN_MASKS in photographs.left_out else why
        return Proposal("", "", [], [marked])
    settings, look = _dataset(photographs, labels)
    settings |= {"task.name": settings["dataset.name"], **_task(labels, look), **_TRAINING}
    lines = "\n".join(f"    config.{key} = {value!r}" for key, value in settings.items())
    place = re.sub(r"[^\w ./,*:-]", "_", photographs.place)  # It stands in a docstring.
    text = _CONFIG.format(place=place, settings=lines)
    endings = itertools.chain([""], (f"-{i}" for i in itertools.count(2)))
    end = next(end for end in endings if not _is_taken(end))
    command = [
        "drtfx-build-examples",
        f"--config=own{end}.py",
        f"--image_dir={photographs.place}",
        f"--labels={labels.given}",
        f"--output_dir=data{end}",
    ]
    return Proposal(f"own{end}.py", text, command, look, _after(end))


def script(proposal: Proposal) -> str:
    """Return the lines of a shell that write the config and build with it."""
    command = " \\\n    ".join(map(shlex.quote, proposal.command))
    after = "".join(f"# Then: {line}\n" for line in proposal.after)
    return f"cat > {proposal.file} <<'END'\n{proposal.config}END\n{command}\n{after}"


def _is_taken(end: str) -> bool:
    """Return whether a config, data set or run with this ending is there already."""
    return any(Path(name).exists() for name in (f"own{end}.py", f"data{end}", f"run{end}"))


def _after(end: str) -> tuple[str, ...]:
    return (
        f"drtfx-train --config=own{end}.py --data_dir=data{end} --workdir=run{end}",
        f"drtfx-evaluate --workdir=run{end} --data_dir=data{end} --split=validation",
    )


def _dataset(
    photographs: PhotographFindings, labels: LabelFindings
) -> tuple[dict[str, Any], list[str]]:
    """Return the settings of the data set, and what to look at."""
    name = re.sub(r"[^\w.-]+", "_", find_source.name_of(photographs.place))
    settings: dict[str, Any] = {"dataset.name": name or "dataset"}
    settings |= labels.settings
    settings["dataset.label_names"] = tuple(labels.values)
    look = []
    stems = [posixpath.splitext(posixpath.basename(name))[0] for name in photographs.files]
    if "dataset.patient_column" not in settings:
        pattern = guess_columns.patient_pattern(stems)
        settings["dataset.patient_pattern"] = pattern
        if not pattern and photographs.have_tag:
            settings["dataset.patient_column"] = "PatientID"
        elif not pattern and "," in settings.get("dataset.image_column", ""):
            look.append("The photographs of a row count as one patient's")
        elif not pattern:
            look.append(
                "Nothing tells the patients, so that each photograph counts as its own: set "
                "dataset.patient_column or dataset.patient_pattern if a patient has several"
            )
    if rate := _rejects(photographs, labels, look):
        settings["dataset.max_reject_rate"] = rate
    if set(photographs.formats) == {"DICOM"}:
        look.append("The recipe is that of a head CT; see dataset.recipe for others")
        settings |= {"dataset.recipe.name": "ct_windows", "dataset.recipe.quality_gate": "off"}
    else:
        look.append("The recipe is that of fundus photographs; see dataset.recipe for others")
    return settings, look


def _rejects(photographs: PhotographFindings, labels: LabelFindings, look: list[str]) -> float:
    """Return the share of the rows that the build will reject, rounded up, or 0 if it is small."""
    share = 1 - (1 - labels.lost) * (1 - len(photographs.damaged) / photographs.looked_at)
    if share <= _FEW_REJECTS:
        return 0.0
    look.append(
        f"{100 * share:.0f} % of the rows will give no example; dataset.max_reject_rate allows it"
    )
    return min(1.0, math.ceil(100 * share + 1) / 100)


def _task(labels: LabelFindings, look: list[str]) -> Mapping[str, Any]:
    """Return the settings of the task: the first label that occurs against all others."""
    values, healthy = labels.values, labels.healthy
    classes = tuple(int(label > healthy) for label in range(len(values)))
    if sum(classes) > 1:
        look.append(
            f"The task is {values[healthy]!r} against all other labels; task.label_map has the "
            "class of each label"
        )
    if not guess_columns.is_number(values) and not guess_columns.is_healthy(values[0]):
        look.append(f"No name of a label says that it is the healthy one: {values[0]!r} was taken")
    names = (values[healthy], values[-1] if sum(classes) == 1 else f"not {values[healthy]}")
    if guess_columns.is_number(values):
        names = ("negative", "positive")
    return {"task.class_names": names, "task.label_map": classes}
