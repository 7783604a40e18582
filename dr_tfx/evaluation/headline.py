"""The figures that count most of an evaluation, in one line for the terminal."""

from pathlib import Path

from dr_tfx import tasks
from dr_tfx.models import bundle_file
from dr_tfx.reports.pages import interval, number
from dr_tfx.storage import json_files


def of(folder: Path, workdir: Path) -> str:
    """Return a sentence with the measures that decide, and their intervals.

    Args:
      folder: of an evaluation, with metrics.json.
      workdir: of the run that was evaluated.
    """
    summary = json_files.read(folder / "metrics.json")
    kind = tasks.of(bundle_file.experiment(bundle_file.read(workdir), workdir))
    comparison = kind.judgement.comparison
    found = comparison.figures_of(summary)
    figures = [
        f"{measure.word} {number(found[measure.key])} ({interval(found[measure.key], 'number')})"
        for measure in comparison.MEASURES
        if measure.decides
    ]
    counts, alarms = summary["counts"], len(summary["alarms"])
    told = {0: "no alarm", 1: "one alarm, above"}.get(alarms, f"{alarms} alarms, above")
    return (
        f"{summary['split']}, {counts['images']} images of {counts['patients']} patients: "
        f"{', '.join(figures)}; {told}"
    )
