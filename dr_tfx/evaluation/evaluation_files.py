"""metrics.json and predictions.csv of an evaluation, read as files that others may have written."""

import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow
import pyarrow.compute
import pyarrow.csv

from dr_tfx.config import typed
from dr_tfx.storage import json_files, seen_text, tables
from dr_tfx.tasks import judging

_ENGINE = {
    "alarms": [str],
    "counts": {
        "images": typed.Count,
        "joined": [tuple[str, ...]],
        "patients": typed.Count,
        "patients_known": bool,
    },
    "selection": {"notes": [str]},
    "task": str,
}
_PROBE = {
    "auc": judging.INTERVAL,
    "difference": judging.INTERVAL,
    "model": typed.Share,
    "photographs": typed.Count,
}


def read(
    folder: Path, judgement: judging.JudgementSide, *, again: str
) -> tuple[dict[str, Any], pd.DataFrame]:
    """Return what an evaluation has told, and its predictions, which can be judged.

    Args:
      folder: of the evaluation.
      judgement: of the kind of task.
      again: a sentence that says how to come by the files.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: a file is damaged, or of another version; names it.
    """
    path = folder / "metrics.json"
    summary = json_files.read(path)
    found = summary.get("schema")
    if found != judgement.SCHEMA:
        raise ValueError(
            f"{path} has schema {str(found)[:20]}; this version reads {judgement.SCHEMA}. {again}"
        )
    try:
        for shape in (_ENGINE, judgement.comparison.reads):
            typed.check(shape, summary, "metrics")
        if summary.get("probe") is not None:
            typed.check(_PROBE, summary["probe"], "metrics.probe")
    except typed.ConfigError as error:
        raise ValueError(f"{path} is damaged: {error} {again}") from error
    path = folder / "predictions.csv"
    try:
        predictions = _checked(_table(path), judgement)
        if len(predictions) != summary["counts"]["images"]:
            raise ValueError(
                f"it has {len(predictions):,} rows, and metrics.json says "
                f"{summary['counts']['images']:,}"
            )
    except ValueError as error:  # Arrow's errors are such, too.
        told = " ".join(str(error).split())[:500].rstrip(".")
        raise ValueError(f"{path} is damaged: {seen_text.printable(told)}. {again}") from error
    return summary, predictions


def _table(path: Path) -> pd.DataFrame:
    """Return the table with names as text, and with every digit of a score.

    Arrow's parser rounds correctly, which counts where a score is at a threshold; that of pandas
    does so only on request, and some versions warn of the request.
    """
    text = dict.fromkeys(("id", "patient", "decision"), pyarrow.string())
    options = pyarrow.csv.ConvertOptions(column_types=text)
    table = pyarrow.csv.read_csv(path, convert_options=options)
    repeated = {name for name in table.column_names if table.column_names.count(name) > 1}
    missing = [name for name in text if name not in table.column_names]
    if repeated or missing:
        what = f"has several columns {sorted(repeated)}" if repeated else f"lacks {missing}"
        raise ValueError(f"it {what}; its columns are {table.column_names}")
    for name in text:
        unseen = pyarrow.compute.match_substring_regex(table[name], seen_text.UNSEEN)
        if pyarrow.compute.any(unseen).as_py():
            raise ValueError(f"it has control characters in the column {name}")
    return table.to_pandas()


def _checked(table: pd.DataFrame, judgement: judging.JudgementSide) -> pd.DataFrame:
    """Return a table whose images are there once, and whose values are possible."""
    if table["id"].duplicated().any():
        twice = table["id"][table["id"].duplicated()].iloc[0]
        raise ValueError(f"it has several rows of the image '{twice}'")
    for column, possible in judgement.comparison.values.items():
        if column not in table:
            raise ValueError(f"it lacks the column {column}")
        # A text may have been made harmless for spreadsheets.
        meant = {tables.harmless(value): value for value in possible}
        known = table[column].map(meant)
        if known.isna().any():
            row = table[known.isna()].iloc[0]
            raise ValueError(
                f"{column} of the image '{row['id']}' is {str(row[column])[:40]!r}; expected one "
                f"of {', '.join(map(str, possible))}"
            )
        table[column] = known
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return judgement.checked(table)
        except TypeError as error:  # A score that is a text.
            raise ValueError(str(error)) from error
