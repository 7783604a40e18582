"""Runs side by side on the same images: their figures, and what differs, with intervals.

Each run is judged as it was evaluated, with what was fitted for it; nothing is chosen here.
Differences are against the first run and paired, so that what makes an image hard for both cancels
out. The kind of task says what runs are compared by.
"""

import dataclasses
import json
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dr_tfx import tasks
from dr_tfx.config import typed
from dr_tfx.evaluation import compare_figures, evaluation_files, reproduce, scored
from dr_tfx.machine import progress
from dr_tfx.models import bundle_file
from dr_tfx.reports import pages
from dr_tfx.reports.style import ReportFigure
from dr_tfx.storage import claims, files, locks, tables
from dr_tfx.tasks.judging import ComparedRun, Measure

_NAMED = 5  # Images that an error names.
_RESULTS = ("compare.html", "compare.csv", "*.png")


def compare(
    folders: Sequence[Path], *, split: str, output_dir: Path | None = None, command: Sequence[str]
) -> Path:
    """Write compare.html, compare.json, compare.csv and the figures.

    Args:
      folders: two runs or more; differences are against the first.
      split: one that every run has been evaluated on.
      output_dir: created if need be; by default RUN_A/comparison/<split>-<the others' names>.
      command: what was typed, word by word.

    Returns:
      The path of the page.

    Raises:
      FileNotFoundError: a folder holds no run, or one that was not evaluated on the split.
      ValueError: fewer than two runs, one of them twice, another task, or other images.
      OSError: the folder cannot be written, another process writes into it, or it holds files that
        no comparison made.
    """
    runs = load_runs(folders, split)
    check_comparable(runs, split)
    output_dir = output_dir or usual_folder(folders[0], [run.name for run in runs[1:]], split)
    with locks.held(output_dir):
        check_folder(output_dir)
        result = result_of(runs, split)
        comparison = kind_of(runs[0]).judgement.comparison
        figures = [*comparison.draw(runs, result), drawn(result, comparison.MEASURES)]
        html = rendered(runs, result, command=command, figures=figures)
        return write(
            result, html, measures=comparison.MEASURES, figures=figures, output_dir=output_dir
        )


def usual_folder(first: Path, others: Sequence[str], split: str) -> Path:
    """Return where a comparison is written if nobody says where: beside the first of its runs."""
    names = "-".join(name.replace("/", "_") for name in others)
    return first / "comparison" / f"{split}-{names}"


def drawn(result: Mapping[str, Any], measures: Sequence[Measure]) -> ReportFigure:
    """Return the figure of the differences in the measures that decide."""
    return compare_figures.draw_differences(result, [m for m in measures if m.decides])


def check_folder(output_dir: Path) -> None:
    """Refuse a folder that holds files which no comparison made.

    Raises:
      FileExistsError: names one of them.
    """
    claims.check(output_dir, mark="compare.json", key="differences", results=_RESULTS)


def write(
    result: Mapping[str, Any],
    html: str,
    *,
    measures: Sequence[Measure],
    figures: Sequence[ReportFigure],
    output_dir: Path,
) -> Path:
    """Write the files of a comparison, the page last, and return its path.

    Args:
      result: the content of compare.json.
      html: the page.
      measures: those of the kind of task.
      figures: of the page.
      output_dir: a folder that is held, and was checked.
    """
    page = output_dir / "compare.html"
    page.unlink(missing_ok=True)  # It is written last: where it is, the other files belong to it.
    text = json.dumps(result, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    files.write_text(output_dir / "compare.json", text + "\n")
    files.write_text(output_dir / "compare.csv", _csv(result, measures))
    for figure in figures:
        files.write(output_dir / f"{figure.name}.png", figure.png)
    files.write_text(page, html)
    return page


def rendered(
    runs: Sequence[ComparedRun],
    result: Mapping[str, Any],
    *,
    command: Sequence[str],
    figures: Sequence[ReportFigure],
) -> str:
    """Return the page of a comparison, whose content is `result`."""
    kind = kind_of(runs[0])
    measures = kind.judgement.comparison.MEASURES
    return pages.render(
        "comparison.html.j2",
        templates=kind.judgement.TEMPLATES,
        c=result,
        data_name=runs[0].bundle["manifest"]["dataset"]["name"],
        command=reproduce.shell(command),
        figures=figures,
        groups=kind.data.groups,
        measures=measures,
        verdicts=list(verdicts(result, [measure for measure in measures if measure.decides])),
    )


def load_runs(folders: Sequence[Path], split: str) -> list[ComparedRun]:
    """Return the runs with their evaluations of a split.

    Raises:
      FileNotFoundError, ValueError: as `compare`, before any work.
    """
    names = short_names(folders)
    for folder in folders:
        if not (folder / "bundle.json").is_file():
            raise FileNotFoundError(
                f"{folder}/bundle.json does not exist: {folder} holds no finished training"
            )
    missing = [f for f in folders if not (f / "evaluation" / split / "report.html").is_file()]
    if missing:
        raise FileNotFoundError(
            f"not evaluated on '{split}' yet: {', '.join(map(str, missing))}. Run first: "
            + "; ".join(reproduce.evaluation_command(folder, split) for folder in missing)
        )
    return [load_run(f, name, split) for f, name in zip(folders, names, strict=True)]


def load_run(folder: Path, name: str, split: str) -> ComparedRun:
    """Return a run that has been evaluated on a split.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: the bundle or the evaluation is damaged, or of another version; names the file.
    """
    bundle = bundle_file.read(folder)
    bundle_file.trained_on(bundle, folder)  # Refuses damage.
    experiment = bundle_file.experiment(bundle, folder)
    judgement = tasks.of(experiment).judgement
    again = f"Evaluate again: {reproduce.evaluation_command(folder, split)}"
    if bundle.fitted is None:  # Its evaluation is that of a model of fewer epochs.
        needed = reproduce.evaluation_command(folder, scored.SELECTION_SPLIT)
        raise ValueError(f"{folder} has been trained since it was evaluated. Run first: {needed}")
    summary, predictions = evaluation_files.read(
        scored.usual_folder(folder, split), judgement, again=again
    )
    # Patients who share photographs go by the name of the first of them.
    first = {name: group[0] for group in summary["counts"]["joined"] for name in group}
    clusters = [first.get(patient, patient) for patient in predictions["patient"]]
    predictions = predictions.assign(cluster=clusters).set_index("id").sort_index()
    settings = dataclasses.asdict(bundle) | {"experiment": typed.to_dict(experiment)}
    return ComparedRun(name, folder, settings, summary, predictions)


def kind_of(run: ComparedRun) -> tasks.Kind:
    """Return the kind of task of a run."""
    return tasks.of(tasks.from_config(run.bundle["experiment"]))


def short_names(folders: Sequence[Path]) -> list[str]:
    """Return the last parts of each path, as many as tell them apart.

    Raises:
      ValueError: there are fewer than two folders, or one of them is there twice.
    """
    if len(folders) < 2:
        raise ValueError(f"got {len(folders)} run; expected two or more: RUN_A RUN_B")
    resolved = [folder.resolve() for folder in folders]
    for i, folder in enumerate(resolved):
        if folder in resolved[:i]:
            raise ValueError(f"{folders[i]} is given twice")
    depth = 1
    while len({folder.parts[-depth:] for folder in resolved}) < len(resolved):
        depth += 1
    return ["/".join(folder.parts[-depth:]) for folder in resolved]


def check_comparable(runs: Sequence[ComparedRun], split: str) -> None:
    """Refuse runs of another task than the first one's, or evaluated on other images.

    Raises:
      ValueError: names what differs: the setting, or how many images and which.
    """
    first, comparison = runs[0], kind_of(runs[0]).judgement.comparison
    for run in runs[1:]:
        ours, theirs = (r.bundle["experiment"]["task"] for r in (first, run))
        different = [
            f"task.{key} is {ours.get(key)} in {first.name} and {theirs.get(key)} in {run.name}"
            for key in sorted({*ours, *theirs})
            if ours.get(key) != theirs.get(key) and key not in comparison.MAY_DIFFER
        ]
        if different:
            raise ValueError(f"{run.folder} is of another task: {'; '.join(different)}")
        found = list(_other_images(first, run, comparison.TRUTH))
        if found:
            raise ValueError(
                f"{first.folder} and {run.folder} were evaluated on other images of '{split}': "
                f"{'; '.join(found)}. Evaluate both on builds of the same photographs, labels and "
                "split"
            )


def _other_images(
    first: ComparedRun, second: ComparedRun, truth: Mapping[str, str]
) -> Iterator[str]:
    ours, theirs = first.predictions, second.predictions
    for run, only in (
        (first, ours.index.difference(theirs.index)),
        (second, theirs.index.difference(ours.index)),
    ):
        if len(only):
            yield f"{len(only)} only in {run.name} ({_some(only)})"
    both = ours.index.intersection(theirs.index)
    for column, what in {**truth, "patient": "patient"}.items():
        other = both[(ours.loc[both, column] != theirs.loc[both, column]).to_numpy()]
        if len(other):
            yield f"{len(other)} with another {what} ({_some(other)})"


def _some(ids: pd.Index) -> str:
    return ", ".join(ids[:_NAMED]) + (", ..." if len(ids) > _NAMED else "")


def result_of(runs: Sequence[ComparedRun], split: str) -> dict[str, Any]:
    """Return the content of compare.json, plain JSON types; an interval is {value, low, high}.

    Keys: split, task, schema, counts, notes (what makes the figures optimistic, by run), runs
    (name, folder, alarms, an interval of each measure, and what else the kind of task shows),
    differences (for each run but the first its name, and an interval of each measure), settings
    (those that differ: name and the values, run by run).
    """
    first, comparison = runs[0], kind_of(runs[0]).judgement.comparison
    differences = []
    with progress.bar(total=len(runs) - 1, unit="run", title="compare") as bar:
        for run in runs[1:]:
            differences.append({"name": run.name, **comparison.differences(run, first)})
            bar.update()
    return {
        "counts": first.summary["counts"],
        "differences": differences,
        "notes": notes({run.name: run.summary["selection"]["notes"] for run in runs}),
        "runs": [
            {
                "alarms": run.summary["alarms"],
                "folder": str(run.folder),
                "name": run.name,
                **comparison.figures_of(run.summary),
            }
            for run in runs
        ],
        "schema": 1,
        "settings": settings_that_differ(runs),
        "split": split,
        "task": first.summary["task"],
    }


def notes(of_runs: Mapping[str, Sequence[str]]) -> list[str]:
    """Return what makes figures optimistic, with the runs for which that is true.

    Args:
      of_runs: the sentences of each run, by its name.
    """
    names: dict[str, list[str]] = {}
    for name, sentences in of_runs.items():
        for note in sentences:
            names.setdefault(note, []).append(name)
    return [
        note if len(concerned) == len(of_runs) else f"{', '.join(concerned)}: {note}"
        for note, concerned in names.items()
    ]


def settings_that_differ(runs: Sequence[ComparedRun]) -> list[dict[str, Any]]:
    """Return the settings, versions and data that differ; None where a run does not have one."""
    all_of = [
        typed.flat(
            {
                **run.bundle["experiment"],
                "best_epoch": run.bundle["best_epoch"],
                "data": {"fingerprint": run.bundle["manifest"]["fingerprint"][:12]},
                "libraries": run.bundle["libraries"],
                "precision": run.bundle["precision"],
            }
        )
        for run in runs
    ]
    names = sorted(set().union(*all_of))
    rows = [{"name": name, "values": [s.get(name) for s in all_of]} for name in names]
    return [row for row in rows if any(value != row["values"][0] for value in row["values"])]


def verdicts(
    result: Mapping[str, Any], measures: Sequence[Measure]
) -> Iterator[tuple[str, list[str]]]:
    """Yield each run's name, and what is clearly better or worse than in the first run."""
    for row in result["differences"]:
        words: dict[str, list[str]] = {"better": [], "worse": [], "not clearly different": []}
        for measure in measures:
            difference = row[measure.key]
            low, high = difference["low"], difference["high"]
            told = low is not None and high is not None and (low > 0 or high < 0)
            side = ("better" if low > 0 else "worse") if told else "not clearly different"
            value = pages.signed(difference, measure.unit)
            ends = pages.signed_interval(difference, measure.unit)
            words[side].append(f"{measure.word} {value} ({ends})")
        yield row["name"], [f"{side}: {', '.join(named)}" for side, named in words.items() if named]


def _csv(result: Mapping[str, Any], measures: Sequence[Measure]) -> str:
    """Return a table of one row a run and measure: value, interval, and those of the difference."""
    by_name = {row["name"]: row for row in result["differences"]}
    rows = []
    for run in result["runs"]:
        for key in (measure.key for measure in measures):
            row = {"run": run["name"], "measure": key, **run[key]}
            difference = by_name.get(run["name"], {}).get(key, {})
            rows.append(row | {f"difference_{end}": value for end, value in difference.items()})
    ends = ["value", "low", "high"]
    columns = ["run", "measure", *ends, *(f"difference_{end}" for end in [*ends, "p"])]
    return tables.csv_text(pd.DataFrame(rows, columns=columns))
