"""The report of a cross-validation: every photograph, as the model that has not seen it scored it.

It is made of what lies in the folders of the runs, and trains and scores nothing. These are the
keys of metrics.json, sorted; an interval is {value, low, high}, 95 %:

    alarms      sentences that the evaluations of the folds raised, with the folds
    counts      images, patients, patients_known, joined, as in metrics.json of an evaluation
    folds       for each its name, folder (beside this one), images, patients, best_epoch, chosen
                (what was fitted on its validation fold), and an interval of each measure
    measures    key -> name, unit, mean and sd (of the folds' values; null if one has none), and
                pooled (the interval of all photographs at once, patients drawn within their folds;
                of a measure that ranks scores, the mean, with the interval of independent folds)
    notices     sentences on how to read the figures
    one_numbers what numbers without a model reach on all photographs, as in metrics.json of an
                evaluation
    probe       the means of `probe` of metrics.json of the evaluations; null where a fold has none
    schema      version of these keys
    task        what was evaluated
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest, splits
from dr_tfx.evaluation import compare, fold_figures, one_numbers, reproduce, scored
from dr_tfx.models import bundle_file
from dr_tfx.reports import pages
from dr_tfx.statistics.intervals import PatientBootstrap
from dr_tfx.statistics.metrics import Estimate
from dr_tfx.storage import claims, files, locks, tables
from dr_tfx.tasks import alarms as task_alarms
from dr_tfx.tasks.judging import ComparedRun, Measure

FOLDER = "out_of_fold"
SCHEMA = 2

_READ = (
    "Each photograph was scored by the one model that was neither trained on it nor chosen by it. "
    "The figures are those of the recipe: none of the {count} models is the one that a training on "
    "all photographs would give.",
    "Each model decides by what was fitted for it. The scores of different models are not on one "
    "scale, so that none is compared with another model's: figures that rank scores, such as an "
    "AUC, are means of the folds.",
    "The intervals over all photographs draw patients within their folds, or join those of the "
    "folds, with the models as they are. What another training or another deal would change is in "
    "the spread of the folds, whose models share most of their training data.",
)


def report(experiment: specs.Experiment, *, data_dir: Path, workdir: Path) -> Path:
    """Write predictions.csv, metrics.json, the figure and report.html of a cross-validation.

    Args:
      experiment: the settings of the runs.
      data_dir: folder of the data set.
      workdir: holds a folder for each fold, whose run was evaluated on `test`.

    Returns:
      The path of WORKDIR/out_of_fold/report.html.

    Raises:
      FileNotFoundError: a run is missing.
      ValueError: the runs do not have all photographs of the data set, or are damaged.
      OSError: the folder cannot be written, or holds files that no cross-validation made.
    """
    names = splits.names_of(experiment.dataset.split)
    runs = [compare.load_run(workdir / name, name, "test") for name in names]
    data = manifest.load(data_dir)
    first = workdir / names[0]
    commands = reproduce.crossvalidation_commands(
        experiment,
        workdir=workdir,
        data_dir=data_dir,
        config=bundle_file.begun_with(bundle_file.read(first), first),
    )
    with locks.held(workdir / FOLDER):
        return write(runs, experiment, data, folder=workdir / FOLDER, commands=commands)


def write(
    runs: Sequence[ComparedRun],
    experiment: specs.Experiment,
    data: manifest.Manifest,
    *,
    folder: Path,
    commands: Sequence[Sequence[str]],
) -> Path:
    """Write the files of a report, the page last, and return its path.

    Args:
      runs: those of all folds, in order.
      experiment: the settings of the runs.
      data: the manifest of the data set.
      folder: of the report.
      commands: what to type to get it again, word by word.

    Raises:
      FileExistsError: the folder holds files that no cross-validation made.
    """
    results = ("report.html", "predictions.csv", "*.png")
    claims.check(folder, mark="metrics.json", key="folds", results=results)
    table = pooled(runs, data)
    result = result_of(runs, table, experiment, data)
    page = folder / "report.html"
    page.unlink(missing_ok=True)  # It is written last: where it is, the other files belong to it.
    text = json.dumps(result, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    files.write_text(folder / "metrics.json", text + "\n")  # The mark of the folder.
    files.write_text(folder / "predictions.csv", tables.csv_text(table.drop(columns="cluster")))
    measures = tasks.of(experiment).judgement.comparison.MEASURES
    figure = fold_figures.draw_folds(result, [m for m in measures if m.decides])
    files.write(folder / f"{figure.name}.png", figure.png)
    choices = [fold["chosen"] for fold in result["folds"]]
    html = pages.render(
        "out_of_fold.html.j2",
        r=result,
        data_name=data.dataset.name,
        model=experiment.model.backbone,
        chosen=[key for key in choices[0] if any(c[key] != choices[0][key] for c in choices)],
        measures=measures,
        figure=figure,
        commands=[reproduce.shell(words) for words in commands],
    )
    files.write_text(page, html)
    return page


def pooled(runs: Sequence[ComparedRun], data: manifest.Manifest) -> pd.DataFrame:
    """Return the predictions of all folds, sorted by id, with the columns `fold` and `cluster`.

    Raises:
      ValueError: a photograph of the data set is missing, or is there twice.
    """
    parts = [run.predictions.reset_index().assign(fold=k) for k, run in enumerate(runs)]
    table = pd.concat(parts, ignore_index=True).sort_values("id", ignore_index=True)
    if table["id"].duplicated().any() or len(table) != data.written:
        raise ValueError(
            f"the folds have {table['id'].nunique():,} photographs in {len(table):,} rows; the "
            f"data set has {data.written:,}. Delete the folders of the folds and start again"
        )
    return scored.clustered(table, data)


def result_of(
    runs: Sequence[ComparedRun],
    table: pd.DataFrame,
    experiment: specs.Experiment,
    data: manifest.Manifest,
) -> dict[str, Any]:
    """Return the content of metrics.json.

    Args:
      runs: those of all folds, in order.
      table: what `pooled` returned.
      experiment: the settings of the runs.
      data: the manifest of the data set.
    """
    judgement = tasks.of(experiment).judgement
    bootstrap = PatientBootstrap(
        table["cluster"],
        within=table["fold"],
        resamples=experiment.evaluation.bootstrap_resamples,
    )
    measured = judgement.comparison.measured(table, bootstrap)
    of_folds = [judgement.comparison.figures_of(run.summary) for run in runs]
    measures = judgement.comparison.MEASURES
    told = {
        measure.key: (
            mean_of_folds([figures[measure.key] for figures in of_folds])
            if measure.ranks
            else measured[measure.key]
        )
        for measure in measures
    }
    plain = one_numbers.of_folds(table, judgement.rankings(table), table["fold"].to_numpy())
    notices = [sentence.format(count=len(runs)) for sentence in _READ]
    return {
        "alarms": [*_guessing(measures, told), *alarms(runs), *one_numbers.alarms(plain)],
        "counts": scored.counts(table, data),
        "folds": [
            {
                "best_epoch": run.bundle["best_epoch"],
                "chosen": judgement.chosen(judgement.fitted_from(run.bundle["fitted"])),
                "folder": run.folder.name,
                "images": run.summary["counts"]["images"],
                "name": run.name,
                "patients": run.summary["counts"]["patients"],
                **{measure.key: figures[measure.key] for measure in measures},
            }
            for run, figures in zip(runs, of_folds, strict=True)
        ],
        "measures": {
            measure.key: {
                "name": measure.name,
                "unit": measure.unit,
                "pooled": told[measure.key],
                **_spread([figures[measure.key]["value"] for figures in of_folds]),
            }
            for measure in measures
        },
        "notices": [*notices, *scored.notices(data)],
        "one_numbers": plain,
        "probe": _mean_probe([run.summary.get("probe") for run in runs]),
        "schema": SCHEMA,
        "task": experiment.task.name,
    }


def mean_of_folds(
    folds: Sequence[Mapping[str, float | None]],
) -> dict[str, float | None]:
    """Return the mean of estimates of independent folds, with a 95 % interval.

    Forman and Scholz 2010, "Apples-to-apples in cross-validation studies", SIGKDD Explorations
    12(1): an AUC over pooled scores is off by as much as the scales of the models differ. It lies
    between the ends of the folds' own intervals, which no figure can leave.

    Args:
      folds: {value, low, high} of each; with one that has no interval, the mean has none.
    """
    value = _spread([fold["value"] for fold in folds])["mean"]
    ends = [
        (fold["low"], fold["high"])
        for fold in folds
        if fold["low"] is not None and fold["high"] is not None
    ]
    if value is None or len(ends) < len(folds):
        return {"value": value, "low": None, "high": None}
    lows, highs = np.array(ends).T
    half = float(np.linalg.norm(highs - lows)) / 2 / len(folds)
    low, high = max(value - half, lows.min()), min(value + half, highs.max())
    return {"value": value, "low": float(low), "high": float(high)}


def _spread(values: Sequence[float | None]) -> Mapping[str, float | None]:
    """Return mean and standard deviation (n - 1) of the folds' values."""
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return {"mean": None, "sd": None}
    return {"mean": float(np.mean(known)), "sd": float(np.std(known, ddof=1))}


def _guessing(
    measures: Sequence[Measure], told: Mapping[str, Mapping[str, float | None]]
) -> list[str]:
    """Return an alarm for each measure that is not clearly above guessing over all folds."""
    found = []
    for measure in measures:
        ends = [told[measure.key][end] for end in ("value", "low", "high")]
        known = [end for end in ends if end is not None]
        if measure.guessing is not None and len(known) == len(ends):
            name = f"The {measure.word} over all folds"
            found += task_alarms.chance(name, Estimate(*known), measure.guessing)
    return found


def _mean_probe(folds: Sequence[Mapping[str, Any] | None]) -> dict[str, Any] | None:
    """Return the means of what linear probes reach in the folds."""
    known = [fold for fold in folds if fold is not None]
    if len(known) < len(folds):
        return None
    return {
        "auc": mean_of_folds([fold["auc"] for fold in known]),
        "difference": mean_of_folds([fold["difference"] for fold in known]),
        "model": float(np.mean([fold["model"] for fold in known])),
        "photographs": min(fold["photographs"] for fold in known),
    }


def alarms(runs: Sequence[ComparedRun]) -> list[str]:
    """Return the alarms of all folds, each with the folds that raised it."""
    raised: dict[str, list[str]] = {}
    for run in runs:
        for alarm in run.summary["alarms"]:
            raised.setdefault(alarm, []).append(run.name)
    return [f"{', '.join(names)}: {alarm}" for alarm, names in raised.items()]
