"""A trained bundle and a split of its data set -> figures of merit, pictures and a report.

`summary.summarise` is the pure part: predictions in, plain dict out; the keys of metrics.json are
listed there. `evaluate` scores a split, `judge` says what any scores are worth and writes it down.
Here is the one rule that keeps the numbers honest: operating points and calibration are fitted on
`validation`, stored in the bundle, and merely used on every other split. Figures from a split that
took part in a choice say so.
"""

import json
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pandas as pd

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import leakage, manifest
from dr_tfx.evaluation import report
from dr_tfx.tasks.binary import report_figures
from dr_tfx.tasks.binary import fitting
from dr_tfx.tasks.binary.summary import SCHEMA, checked, notices, patients_known, summarise

if TYPE_CHECKING:
    from dr_tfx.models import bundles

SELECTION_SPLIT = "validation"
"""The split on which checkpoints, thresholds and calibration are chosen."""

_LOG = logging.getLogger(__name__)


class Elsewhere(NamedTuple):
    """What is to be said of photographs from elsewhere; of the model's own data set, nothing."""

    alarms: Sequence[str] = ()
    notices: Sequence[str] = ()
    shared: Mapping[str, Any] | None = None  # For metrics.json; None: they are of its own.


def evaluate(*, workdir: Path, data_dir: Path, split: str) -> Path:
    """Scores a split with the bundle in `workdir` and writes WORKDIR/evaluation/<split>/.

    On `validation` the operating points and the temperature are fitted by the experiment's rules
    and stored in the bundle; on any other split the stored ones are used.

    Returns:
      The path of report.html.

    Raises:
      ValueError: if there is no such split, nothing is fitted yet, or the split cannot be
        evaluated.
      FileNotFoundError: if there is no bundle or no data set.
    """
    from dr_tfx.evaluation import gallery
    from dr_tfx.inference import scoring
    from dr_tfx.models import bundles

    bundle = bundles.load(workdir)
    bundle.manifest.shards_of(split)  # Or says which splits there are.
    fitted = None if split == SELECTION_SPLIT else require_fitted(bundle, workdir, split)
    predictions = checked(scoring.predict_split(bundle, data_dir, split))
    if fitted is None:
        fitted = fitting.fit(predictions, bundle.experiment.evaluation, split=split)
        bundles.save_fitted(workdir, fitted)
    return judge(
        bundle,
        predictions,
        fitted=fitted,
        workdir=workdir,
        name=split,
        contract=bundle.manifest.to_dict(),
        commands=commands(bundle.experiment, workdir=workdir, data_dir=data_dir, split=split),
        images=gallery.reader(data_dir, split),
    )


def judge(
    bundle: "bundles.Bundle",
    predictions: pd.DataFrame,
    *,
    fitted: fitting.Fitted,
    workdir: Path,
    name: str,
    contract: Mapping[str, Any],
    commands: Sequence[Sequence[str]],
    images: Callable[[np.ndarray], np.ndarray],
    elsewhere: Elsewhere | None = None,
) -> Path:
    """Figures, alarms and report of predictions, wherever they come from.

    WORKDIR/evaluation/<name>/ receives predictions.csv, metrics.json, the figures and report.html.
    The report is removed first and written last, so where there is a report the other files belong
    to it.

    Args:
      bundle: the model that made them.
      predictions: as for `summarise`.
      fitted: on validation, used as it is; see `require_fitted`.
      workdir: the bundle's folder.
      name: of the split, or of another data set.
      contract: the manifest of what was scored, as plain types.
      commands: what to type to get this report again, word by word.
      images: numbers of rows int64 (n,) -> what the model saw, uint8 RGB (n, size, size, 3); for
        the worst mistakes only.
      elsewhere: of photographs that are not of the model's own data set.

    Returns:
      The path of report.html.

    Raises:
      ValueError: if the predictions cannot be judged.
    """
    from dr_tfx.evaluation import gallery

    summary = _told(
        bundle,
        predictions,
        fitted=fitted,
        name=name,
        contract=contract,
        elsewhere=elsewhere or Elsewhere(),
    )
    for alarm in summary["alarms"]:
        _LOG.warning("ALARM: %s", alarm)
    for notice in summary["notices"]:
        _LOG.warning("%s", notice)
    wrong = [mistake["id"] for mistake in summary["most_wrong"]]
    rows = pd.Index(predictions["id"]).get_indexer(wrong)
    path = workdir / "history.csv"
    return write(
        workdir / "evaluation" / name,
        predictions=predictions,
        summary=summary,
        history=pd.read_csv(path) if path.exists() else None,
        contract=contract,
        training={
            "best_epoch": bundle.best_epoch,
            "experiment": specs.to_dict(bundle.experiment),
            "libraries": bundle.libraries,
            "precision": bundle.precision,
        },
        commands=commands,
        pictures=gallery.pictures(bundle, images, rows, wrong),
    )


def _told(
    bundle: "bundles.Bundle",
    predictions: pd.DataFrame,
    *,
    fitted: fitting.Fitted,
    name: str,
    contract: Mapping[str, Any],
    elsewhere: Elsewhere,
) -> dict[str, Any]:
    """What metrics.json holds: all that `summarise` tells, and what only its caller knows."""
    experiment, shared = bundle.experiment, leakage.within(contract)
    told = summarise(
        predictions,
        class_names=experiment.task.class_names,
        stratum_names=experiment.dataset.label_names,
        fitted=fitted,
        grid=experiment.evaluation.threshold_grid,
        resamples=experiment.evaluation.bootstrap_resamples,
        patients_known=patients_known(contract),
        twins=[twin["ids"] for twin in contract["twins"]],
    )
    return {
        **told,
        "alarms": [*leakage.alarms(shared), *elsewhere.alarms, *told["alarms"]],
        "elsewhere": elsewhere.shared,
        "leakage": shared,
        "notices": [*elsewhere.notices, *notices(contract)],
        "schema": SCHEMA,
        "selection": selection(
            name,
            fitted=fitted,
            checkpoint_rule=experiment.training.select_by,
            shared_patients=contract["shared_patients"],
        ),
        "split": name,
        "task": experiment.task.name,
    }


def require_fitted(bundle: "bundles.Bundle", workdir: Path, name: str) -> fitting.Fitted:
    """What validation fitted, or a ValueError that says how to come by it."""
    if bundle.fitted is None:
        raise ValueError(
            f"{workdir} has no threshold yet, and none is ever chosen on '{name}': run "
            f"--split={SELECTION_SPLIT} first"
        )
    return bundle.fitted


def selection(
    name: str, *, fitted: fitting.Fitted, checkpoint_rule: str, shared_patients: int
) -> dict[str, Any]:
    """What was chosen where, and in plain words what that does to the figures of this split."""
    notes, decides = [], fitted.points[0]
    if name == fitted.split:
        notes = [
            "The threshold, and every other operating point, was chosen on this split: optimistic.",
            "The temperature of the calibration was fitted on this split: optimistic.",
            "The checkpoint was chosen on this split: optimistic.",
        ]
    elif name == "train":
        notes = ["The model was fitted to this split: its figures say nothing about new patients."]
    if shared_patients:
        notes.append(
            f"{shared_patients:,} patients have images in more than one split, so the model may "
            "have learned patients it is tested on: optimistic."
        )
    return {
        "checkpoint_rule": checkpoint_rule,
        "chosen_on": fitted.split,
        "notes": notes,
        "optimistic": bool(notes),
        "threshold": decides.threshold,
        "threshold_description": decides.description,
        "threshold_rule": decides.rule,
    }


def write(
    folder: Path,
    *,
    predictions: pd.DataFrame,
    summary: dict[str, Any],
    history: pd.DataFrame | None,
    contract: Mapping[str, Any],
    training: Mapping[str, Any],
    commands: Sequence[Sequence[str]],
    pictures: Sequence[report.Picture] = (),
) -> Path:
    """Writes predictions.csv, metrics.json, the figures and, last, report.html; returns its path.

    Args:
      folder: created if need be.
      predictions: as for `summarise`.
      summary: what `summarise` returned, with notices, schema, selection, split and task.
      history: one row an epoch, or None.
      contract: the data set's manifest.
      training: experiment (as plain types), best_epoch, precision and libraries of the model.
      commands: what to type to get this report again, word by word.
      pictures: of the most wrong.
    """
    folder.mkdir(parents=True, exist_ok=True)
    page = folder / "report.html"
    page.unlink(missing_ok=True)
    negative, positive = summary["counts"]["per_class"]
    decision = np.where(
        predictions["score"] >= summary["selection"]["threshold"], positive, negative
    )
    table = predictions.assign(decision=decision)
    _replace(folder / "predictions.csv", table.to_csv(index=False).encode())
    text = json.dumps(summary, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    _replace(folder / "metrics.json", (text + "\n").encode())
    figures = report_figures.draw_figures(predictions, summary, history)
    for figure in figures:
        _replace(folder / f"{figure.name}.png", figure.png)
    html = report.render(
        summary,
        figures,
        contract=contract,
        training=training,
        history=history,
        commands=commands,
        pictures=pictures,
    )
    _replace(page, html.encode())
    return page


def commands(
    experiment: specs.Experiment, *, workdir: Path, data_dir: Path, split: str
) -> list[list[str]]:
    """What to type, word by word, to get this report again, but for the paths of the photographs.

    The name of the config file is in no bundle; every setting is, so they are given as changes of
    configs/base.py, which holds the defaults of `specs.Experiment`.
    """
    kind = {"kind": experiment.task.kind}
    defaults = _by_flag(tasks.from_config({"task": kind}))
    settings = [
        f"--config.{key}={_typed(value)}"
        for key, value in _by_flag(experiment).items()
        if value != defaults[key]
    ]
    for_data = [s for s in settings if s.startswith(("--config.dataset.", "--config.task."))]
    folders = [f"--workdir={workdir}", f"--data_dir={data_dir}"]
    base = "--config=configs/base.py"
    paths = ["--image_dir=IMAGES", "--labels=LABELS.csv", f"--output_dir={data_dir}"]
    splits = [split] if split == SELECTION_SPLIT else [SELECTION_SPLIT, split]
    return [
        ["drtfx-build-examples", base, *paths, *for_data],
        ["drtfx-train", base, *folders, *settings],
        *(["drtfx-evaluate", *folders, f"--split={name}"] for name in splits),
    ]


def _by_flag(experiment: specs.Experiment) -> dict[str, Any]:
    """Every setting by the dotted name that a flag can set."""
    settings = specs.to_dict(experiment)
    arguments = settings["training"].pop("arguments")  # Its keys are none of base.py's: one flag.
    return {**manifest.flat(settings), "training.arguments": arguments}


def _typed(value: Any) -> str:
    """A setting as its flag takes it."""
    return value if isinstance(value, str) else _literal(value)


def _literal(value: Any) -> str:
    """A Python literal; names in double quotes, as a shell's quotes are single."""
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)
    if isinstance(value, dict):
        return f"{{{', '.join(f'{_literal(k)}: {_literal(v)}' for k, v in value.items())}}}"
    if isinstance(value, list):
        return f"({', '.join(map(_literal, value))}{',' * (len(value) == 1)})"
    return repr(value)


def _replace(path: Path, content: bytes) -> None:
    """Writes under a temporary name, then renames: a kill leaves the old file or the new one."""
    temporary = path.with_name(f".{path.name}.tmp")
    temporary.write_bytes(content)
    os.replace(temporary, path)
