"""The figures that count most of an evaluation, in one line for the terminal."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.evaluation import compare
from dr_tfx.models import bundle_file
from dr_tfx.reports.pages import interval, number
from dr_tfx.storage import json_files
from dr_tfx.words import languages


def of_comparison(folder: Path, first: Path) -> list[str]:
    """Return what is clearly better or worse than in the first run, a sentence for each other one.

    Args:
      folder: of a comparison, with compare.json.
      first: the folder of the first run.
    """
    result = json_files.read(folder / "compare.json")
    kind = tasks.of(bundle_file.experiment(bundle_file.read(first), first))
    deciding = [measure for measure in kind.judgement.comparison.MEASURES if measure.decides]
    other = result["runs"][0]["name"]
    with languages.speaking(languages.ENGLISH):  # As terminals do.
        return [
            f"{name} against {other} is {'; '.join(sentences)}"
            for name, sentences in compare.verdicts(result, deciding)
        ]


def of_folds(folder: Path, experiment: specs.Experiment) -> str:
    """Return a sentence with the measures that decide, over all photographs.

    Args:
      folder: of the report of a cross-validation, with metrics.json.
      experiment: its settings.
    """
    summary = json_files.read(folder / "metrics.json")
    found = {key: row["pooled"] for key, row in summary["measures"].items()}
    figures, counts = _figures(tasks.of(experiment), found), summary["counts"]
    return (
        f"{len(summary['folds'])} folds, {counts['images']} images of {counts['patients']} "
        f"patients: {figures}"
    )


def of(folder: Path, workdir: Path) -> str:
    """Return a sentence with the measures that decide, and their intervals.

    Args:
      folder: of an evaluation, with metrics.json.
      workdir: of the run that was evaluated.
    """
    summary = json_files.read(folder / "metrics.json")
    kind = tasks.of(bundle_file.experiment(bundle_file.read(workdir), workdir))
    figures = _figures(kind, kind.judgement.comparison.figures_of(summary))
    counts, alarms = summary["counts"], len(summary["alarms"])
    told = {0: "no alarm", 1: "one alarm, above"}.get(alarms, f"{alarms} alarms, above")
    return (
        f"{summary['split']}, {counts['images']} images of {counts['patients']} patients: "
        f"{figures}; {told}"
    )


def _figures(kind: tasks.Kind, found: Mapping[str, Any]) -> str:
    """Return the measures that decide, with their intervals."""
    told = []
    for measure in (m for m in kind.judgement.comparison.MEASURES if m.decides):
        figure = found[measure.key]
        value = f"{number(figure)} ({interval(figure, 'number')})"
        told.append(f"{measure.word} {'not defined' if figure['value'] is None else value}")
    return ", ".join(told)
