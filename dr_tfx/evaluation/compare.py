"""Runs side by side on the same images: their figures, and what differs, with intervals.

Each run is judged as it was evaluated, at its own threshold; nothing is chosen here. Differences
are against the first run and paired: what makes an image hard for both cancels out.
"""

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tqdm import tqdm

from dr_tfx.dataset import manifest, splits
from dr_tfx.evaluation import compare_figures, report
from dr_tfx.reports import pages
from dr_tfx.statistics import differences
from dr_tfx.tasks.binary.summary import SCHEMA

RATES = ("sensitivity", "specificity", "balanced_accuracy", "accuracy")
"""Rates at each run's threshold, in the order of the page."""

_NAMED = 5  # Images that an error names.
_MEASURES = {
    "auc": "AUC",
    "average_precision": "Average precision",
    "sensitivity": "Sensitivity",
    "specificity": "Specificity",
    "balanced_accuracy": "Balanced accuracy",
    "accuracy": "Accuracy",
}


@dataclass(frozen=True)
class Run:
    """A trained bundle's folder with its evaluation of one split."""

    name: str  # As short as tells it from the others.
    folder: Path
    bundle: dict[str, Any]  # bundle.json.
    summary: dict[str, Any]  # metrics.json.
    predictions: pd.DataFrame  # Indexed by id, sorted.


def compare(
    folders: Sequence[Path], *, split: str, output_dir: Path | None = None, command: Sequence[str]
) -> Path:
    """Writes compare.html, compare.json, compare.csv and two figures; returns the page's path.

    Args:
      folders: two runs or more; differences are against the first.
      split: one that every run has been evaluated on.
      output_dir: created if need be; by default RUN_A/comparison/<split>-<the others' names>.
      command: what was typed, word by word.

    Raises:
      FileNotFoundError: a folder holds no run, or one that was not evaluated on the split.
      ValueError: fewer than two runs, one of them twice, another task, or other images.
    """
    runs = load_runs(folders, split)
    check_comparable(runs, split)
    result = figures_of(runs, split)
    if output_dir is None:
        others = "-".join(run.name.replace("/", "_") for run in runs[1:])
        output_dir = runs[0].folder / "comparison" / f"{split}-{others}"
    output_dir.mkdir(parents=True, exist_ok=True)
    page = output_dir / "compare.html"
    page.unlink(missing_ok=True)  # Written last: where it is, the other files belong to it.
    text = json.dumps(result, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    manifest.write_text(output_dir / "compare.json", text + "\n")
    manifest.write_text(output_dir / "compare.csv", _csv(result))
    scores = [(run.name, run.predictions) for run in runs]
    figures = compare_figures.draw_figures(scores, result, measures=_MEASURES)
    for figure in figures:
        (output_dir / f"{figure.name}.png").write_bytes(figure.png)
    html = pages.render(
        "compare.html.j2",
        c=result,
        command=report.shell(command),
        figures={figure.name: figure for figure in figures},
        measures=_MEASURES,
        verdicts=list(_verdicts(result)),
    )
    manifest.write_text(page, html)
    return page


def load_runs(folders: Sequence[Path], split: str) -> list[Run]:
    """The runs with their evaluations of a split.

    Raises:
      FileNotFoundError, ValueError: as `compare`, before any work.
    """
    if len(folders) < 2:
        raise ValueError(f"got {len(folders)} run; expected two or more: RUN_A RUN_B")
    resolved = [folder.resolve() for folder in folders]
    for i, folder in enumerate(resolved):
        if folder in resolved[:i]:
            raise ValueError(f"{folders[i]} is given twice")
    for folder in folders:
        if not (folder / "bundle.json").is_file():
            raise FileNotFoundError(
                f"{folder}/bundle.json does not exist: {folder} holds no finished training"
            )
    missing = [f for f in folders if not (f / "evaluation" / split / "report.html").is_file()]
    if missing:
        raise FileNotFoundError(
            f"not evaluated on '{split}' yet: {', '.join(map(str, missing))}. Run first: "
            + "; ".join(_evaluation(folder, split) for folder in missing)
        )
    names = _short_names(resolved)
    return [_load(f, name, split) for f, name in zip(folders, names, strict=True)]


def _evaluation(folder: Path, split: str) -> str:
    """What to type to have a run evaluated."""
    given = f"--data_dir=DATA_DIR --split={split}"
    if split not in splits.SPLITS:  # The name of photographs from elsewhere.
        given = f"--external_dir=PHOTOS --labels=PHOTOS/labels.csv --name={split}"
    return f"drtfx-evaluate --workdir={folder} {given}"


def _load(folder: Path, name: str, split: str) -> Run:
    where = folder / "evaluation" / split
    bundle = json.loads((folder / "bundle.json").read_text(encoding="utf-8"))
    summary = json.loads((where / "metrics.json").read_text(encoding="utf-8"))
    if summary["schema"] != SCHEMA:
        raise ValueError(
            f"{where}/metrics.json has schema {summary['schema']}; this version reads {SCHEMA}. "
            f"Evaluate again: {_evaluation(folder, split)}"
        )
    # By `float`, every digit is kept: they count where a score is at the threshold.
    converters: dict[Any, Any] = {"id": str, "patient": str, "score": float}
    predictions = pd.read_csv(where / "predictions.csv", converters=converters)
    return Run(name, folder, bundle, summary, predictions.set_index("id").sort_index())


def _short_names(folders: Sequence[Path]) -> list[str]:
    """The last parts of each path, as many as tell them apart."""
    depth = 1
    while len({folder.parts[-depth:] for folder in folders}) < len(folders):
        depth += 1
    return ["/".join(folder.parts[-depth:]) for folder in folders]


def check_comparable(runs: Sequence[Run], split: str) -> None:
    """Refuses runs of another task than the first one's, or evaluated on other images.

    Raises:
      ValueError: names what differs: the setting, or how many images and which.
    """
    first = runs[0]
    for run in runs[1:]:
        ours, theirs = (r.bundle["experiment"]["task"] for r in (first, run))
        different = [
            f"task.{key} is {ours.get(key)} in {first.name} and {theirs.get(key)} in {run.name}"
            for key in sorted({*ours, *theirs})
            if ours.get(key) != theirs.get(key)
        ]
        if different:
            raise ValueError(f"{run.folder} is of another task: {'; '.join(different)}")
        found = list(_other_images(first, run))
        if found:
            raise ValueError(
                f"{first.folder} and {run.folder} were evaluated on other images of '{split}': "
                f"{'; '.join(found)}. Evaluate both on builds of the same photographs, labels and "
                "split"
            )


def _other_images(first: Run, second: Run) -> Iterator[str]:
    ours, theirs = first.predictions, second.predictions
    for run, only in (
        (first, ours.index.difference(theirs.index)),
        (second, theirs.index.difference(ours.index)),
    ):
        if len(only):
            yield f"{len(only)} only in {run.name} ({_some(only)})"
    both = ours.index.intersection(theirs.index)
    for column, what in (("stratum", "label"), ("patient", "patient")):
        other = both[(ours.loc[both, column] != theirs.loc[both, column]).to_numpy()]
        if len(other):
            yield f"{len(other)} with another {what} ({_some(other)})"


def _some(ids: pd.Index) -> str:
    return ", ".join(ids[:_NAMED]) + (", ..." if len(ids) > _NAMED else "")


def figures_of(runs: Sequence[Run], split: str) -> dict[str, Any]:
    """What compare.json holds, as plain JSON types; an interval is {value, low, high}, 95 %.

    Keys: split, task, counts, notes (what makes the figures optimistic, by run), runs (name,
    folder, threshold, alarms, auc, average_precision, brier, ece, rates), differences (of each run
    but the first, from it: auc with DeLong's p, average_precision and rates by bootstrap over
    patients), settings (those that differ: name and the values, run by run).
    """
    first = runs[0]
    base, thresholds = first.predictions, [r.summary["selection"]["threshold"] for r in runs]
    per_class, names = (
        first.summary["counts"]["per_class"],
        first.bundle["experiment"]["task"]["class_names"],
    )
    clusters, found = _clusters(first), []
    bar = tqdm(list(zip(runs, thresholds, strict=True))[1:], desc="compare", unit="run")
    for run, threshold in bar:
        pair = run.predictions["score"].to_numpy(), base["score"].to_numpy()
        target = base["target"].to_numpy()
        auc, p = differences.delong(target, *pair, clusters)
        by_bootstrap = differences.paired_differences(
            target,
            *pair,
            clusters,
            thresholds=(threshold, thresholds[0]),
            resamples=first.bundle["experiment"]["evaluation"]["bootstrap_resamples"],
        )
        found.append(
            {
                "auc": {**auc.to_dict(), "p": p},
                "name": run.name,
                **{key: by_bootstrap[key].to_dict() for key in _MEASURES if key != "auc"},
            }
        )
    return {
        "counts": first.summary["counts"]
        | {"per_class": {name: per_class[name] for name in names}},
        "differences": found,
        "notes": _notes(runs),
        "runs": [_figures_of(run) for run in runs],
        "schema": 1,
        "settings": _settings(runs),
        "split": split,
        "task": first.summary["task"],
    }


def _clusters(run: Run) -> np.ndarray:
    """What is resampled as one, of every image: the first of patients that are joined, or its own.

    Returns:
      (images,) names.
    """
    first = {name: group[0] for group in run.summary["counts"]["joined"] for name in group}
    return np.array([first.get(name, name) for name in run.predictions["patient"]])


def _notes(runs: Sequence[Run]) -> list[str]:
    """What makes figures optimistic, with the runs that it is true of."""
    names: dict[str, list[str]] = {}
    for run in runs:
        for note in run.summary["selection"]["notes"]:
            names.setdefault(note, []).append(run.name)
    return [
        note if len(concerned) == len(runs) else f"{', '.join(concerned)}: {note}"
        for note, concerned in names.items()
    ]


def _figures_of(run: Run) -> dict[str, Any]:
    tta, calibration = run.summary["scores"]["tta"], run.summary["calibration"]["after"]
    rates = tta["at_threshold"]["rates"]
    return {
        "alarms": run.summary["alarms"],
        "auc": tta["auc"],
        "average_precision": tta["average_precision"],
        "brier": calibration["brier"],
        "ece": calibration["ece"],
        "folder": str(run.folder),
        "name": run.name,
        "threshold": run.summary["selection"]["threshold"],
        **{key: rates[key] for key in RATES},
    }


def _settings(runs: Sequence[Run]) -> list[dict[str, Any]]:
    """Settings, versions and data that are not the same in all runs; None where there is none."""
    all_of = [
        manifest.flat(
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


def _verdicts(result: dict[str, Any]) -> Iterator[tuple[str, list[str]]]:
    """A sentence a run: what is clearly better or worse than in the first."""
    for row in result["differences"]:
        words: dict[str, list[str]] = {"better": [], "worse": [], "not clearly different": []}
        for key in ("auc", "sensitivity", "specificity"):
            low, high = row[key]["low"], row[key]["high"]
            told = low is not None and high is not None and (low > 0 or high < 0)
            side = ("better" if low > 0 else "worse") if told else "not clearly different"
            name = _MEASURES[key] if key == "auc" else key
            kind = compare_figures.KINDS[key]
            ends = pages.signed_interval(row[key], kind)
            words[side].append(f"{name} {pages.signed(row[key], kind)} ({ends})")
        yield row["name"], [f"{side}: {', '.join(named)}" for side, named in words.items() if named]


def _csv(result: dict[str, Any]) -> str:
    """One row a run and measure: value and interval, and the same of the difference."""
    by_name = {row["name"]: row for row in result["differences"]}
    rows = []
    for run in result["runs"]:
        for measure in _MEASURES:
            row = {"run": run["name"], "measure": measure, **run[measure]}
            difference = by_name.get(run["name"], {}).get(measure, {})
            rows.append(row | {f"difference_{key}": value for key, value in difference.items()})
    ends = ["value", "low", "high"]
    columns = ["run", "measure", *ends, *(f"difference_{end}" for end in [*ends, "p"])]
    return pd.DataFrame(rows, columns=columns).to_csv(index=False)
