"""Cross-validations side by side: two ways to train, on every photograph of a small data set.

Both have tested the same photographs in the same folds. Each fold is compared as any two runs are,
paired by image; what is told is the mean over the folds. The content of compare.json is that of
`compare.result_of`, with what the folds differ by besides: `folds` of each row of `differences`.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dr_tfx.dataset import splits
from dr_tfx.evaluation import compare, out_of_fold, reproduce
from dr_tfx.machine import progress
from dr_tfx.models import bundle_file
from dr_tfx.reports import pages
from dr_tfx.storage import locks
from dr_tfx.tasks.judging import ComparedRun


@dataclasses.dataclass(frozen=True)
class CrossValidation:
    """A cross-validation whose folds have been evaluated.

    Attributes:
      name: as short as tells it from the others.
      folder: of the cross-validation.
      runs: those of all folds, in order.
    """

    name: str
    folder: Path
    runs: Sequence[ComparedRun]


def first_run(folder: Path) -> Path:
    """Return the folder of a run: the one given, or that of the first fold."""
    return folder if (folder / "bundle.json").is_file() else folder / "fold-0"


def are_crossvalidations(folders: Sequence[Path]) -> bool:
    """Return whether folders are those of cross-validations, and not of single runs.

    Raises:
      ValueError: some are and some are not.
    """
    dealt = [folder for folder in folders if first_run(folder) != folder]
    dealt = [folder for folder in dealt if first_run(folder).is_dir()]
    if dealt and len(dealt) < len(folders):
        other = next(folder for folder in folders if folder not in dealt)
        raise ValueError(
            f"{dealt[0]} is a cross-validation and {other} is none. Compare cross-validations with "
            f"each other, or single runs, such as {first_run(dealt[0])}."
        )
    return bool(dealt)


def compare_folds(
    folders: Sequence[Path], *, split: str, output_dir: Path | None = None, command: Sequence[str]
) -> Path:
    """Write the comparison of cross-validations, as `compare.compare` does that of runs.

    Args:
      folders: two cross-validations or more, of the same folds; differences are against the first.
      split: the part of every fold that is compared: `test`, or `validation`.
      output_dir: created if need be; by default CV_A/comparison/<split>-<the others' names>.
      command: what was typed, word by word.

    Returns:
      The path of the page.

    Raises:
      FileNotFoundError: a fold is missing, or was not evaluated.
      ValueError: fewer than two cross-validations, one of them twice, another task, other folds.
      OSError: see `compare.compare`.
    """
    names = compare.short_names(folders)
    loaded = [_load(*each, split=split) for each in zip(folders, names, strict=True)]
    for other in loaded[1:]:
        _check_comparable(loaded[0], other, split)
    output_dir = output_dir or compare.usual_folder(folders[0], names[1:], split)
    with locks.held(output_dir):
        compare.check_folder(output_dir)
        result = result_of(loaded, split)
        bundle = loaded[0].runs[0].bundle
        measures = compare.kind_of(loaded[0].runs[0]).judgement.comparison.MEASURES
        deciding = [measure for measure in measures if measure.decides]
        figures = [compare.drawn(result, measures)]
        html = pages.render(
            "compare_folds.html.j2",
            c=result,
            command=reproduce.shell(command),
            data_name=bundle["manifest"]["dataset"]["name"],
            deciding=deciding,
            figures=figures,
            measures=measures,
            verdicts=list(compare.verdicts(result, deciding)),
        )
        return compare.write(
            result, html, measures=measures, figures=figures, output_dir=output_dir
        )


def _load(folder: Path, name: str, *, split: str) -> CrossValidation:
    """Return a cross-validation with the evaluations of all its folds.

    Raises:
      FileNotFoundError, ValueError: see `compare.load_run`.
    """
    first = first_run(folder)
    experiment = bundle_file.experiment(bundle_file.read(first), first)
    folds = splits.names_of(experiment.dataset.split)
    missing = [fold for fold in folds if not (folder / fold / "bundle.json").is_file()]
    if missing:
        raise FileNotFoundError(
            f"{folder} is not finished: it lacks {', '.join(missing)}. Give the command of "
            "drtfx-crossvalidate again, which goes on where it was interrupted."
        )
    return CrossValidation(
        name, folder, [compare.load_run(folder / fold, fold, split) for fold in folds]
    )


def _check_comparable(first: CrossValidation, other: CrossValidation, split: str) -> None:
    """Refuse a cross-validation of another task, or of other folds.

    Raises:
      ValueError: says what differs.
    """
    if len(first.runs) != len(other.runs):
        raise ValueError(
            f"{first.folder} has {len(first.runs)} folds and {other.folder} {len(other.runs)}. "
            "Only cross-validations of the same folds can be compared: train both on one data set."
        )
    for pair in zip(first.runs, other.runs, strict=True):
        compare.check_comparable(pair, split)


def result_of(loaded: Sequence[CrossValidation], split: str) -> dict[str, Any]:
    """Return the content of compare.json, plain JSON types."""
    first = loaded[0]
    summary = first.runs[0].summary
    return {
        "counts": _counts([run.summary["counts"] for run in first.runs]),
        "differences": _differences(loaded),
        "notes": compare.notes(
            {each.name: each.runs[0].summary["selection"]["notes"] for each in loaded}
        ),
        "runs": [
            {
                "alarms": out_of_fold.alarms(each.runs),
                "folder": str(each.folder),
                "name": each.name,
                **_means([_figures_of(run) for run in each.runs]),
            }
            for each in loaded
        ],
        "schema": 1,
        "settings": [
            row
            for row in compare.settings_that_differ([each.runs[0] for each in loaded])
            if row["name"] != "best_epoch"  # It is another one for each fold.
        ],
        "split": split,
        "task": summary["task"],
    }


def _counts(of_folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return how many images and patients all folds have."""
    return {
        "images": sum(counts["images"] for counts in of_folds),
        "joined": [names for counts in of_folds for names in counts["joined"]],
        "patients": sum(counts["patients"] for counts in of_folds),
        "patients_known": all(counts["patients_known"] for counts in of_folds),
    }


def _figures_of(run: ComparedRun) -> dict[str, Any]:
    """Return {value, low, high} of every measure of a run."""
    comparison = compare.kind_of(run).judgement.comparison
    figures = comparison.figures_of(run.summary)
    return {measure.key: figures[measure.key] for measure in comparison.MEASURES}


def _differences(loaded: Sequence[CrossValidation]) -> list[dict[str, Any]]:
    """Return the differences of all but the first from the first, and those of each fold."""
    first, rows = loaded[0], []
    total = len(first.runs) * (len(loaded) - 1)
    with progress.bar(total=total, unit="fold", title="compare") as bar:
        for other in loaded[1:]:
            folds = []
            for theirs, ours in zip(other.runs, first.runs, strict=True):
                comparison = compare.kind_of(ours).judgement.comparison
                folds.append(comparison.differences(theirs, ours))
                bar.update()
            rows.append({"name": other.name, "folds": folds, **_means(folds)})
    return rows


def _means(folds: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the mean of every measure over the folds, with its interval."""
    return {key: out_of_fold.mean_of_folds([fold[key] for fold in folds]) for key in folds[0]}
