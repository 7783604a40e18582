"""A trained bundle and a split of its data set to figures of merit, pictures and a report.

`evaluate` scores a split; `judge` says what any scores are worth and writes it down. One rule keeps
the numbers honest: whatever a kind of task fits, such as thresholds and a calibration, is fitted on
`validation`, stored in the bundle, and merely used on every other split. Figures of a split that
took part in a choice say so.

These are the keys of metrics.json that every kind of task has, sorted; the kind adds its own, which
stand in its module `summary`, such as `dr_tfx.tasks.binary.summary`.

    alarms                 sentences; empty when nothing is wrong
    counts                 images, patients, patients_known (false: every image counts as its
                           own), joined (groups of patients who share a photograph or copies of
                           one, by name: each is one to all intervals)
    elsewhere              null where the model's own data set was scored; else {external_dir,
                           labels, rows, written, rejected {reason: rows}, compared (false: nobody
                           gave the model's own data), and what is in that, too: copies [{id,
                           training_id, split, identical (once prepared)}], photographs {split:
                           how many of them}, patients [{patient, splits, alike (true: by name
                           only, their photographs are others)}]}
    leakage                {shared_patients (a count), patients (the first names), twins and
                           near_twins [{ids, labels, splits}]}: what the splits of the scored data
                           set share
    notices                sentences on what the data set does not allow to know
    one_numbers            what numbers without a model reach: numbers [{name, auc (in either
                           direction, their mean over the classes if there are several), higher
                           (whether it is higher in 'positive'; null for several classes), same (of
                           all images)}], model (its AUC), positive (a name, null for several
                           classes), by_chance (what 95 % of meaningless numbers do not exceed);
                           null where all images are of one class, or the kind has no classes
    probe                  what a linear probe reaches, on features of the backbone before any of
                           its layers learned: auc (an interval; with several classes the mean of
                           theirs), difference (an interval: the model's AUC less the probe's,
                           paired), model (its AUC), photographs (how many it was fitted to); null
                           where nothing was pre-trained, its weights are not on the machine, or
                           the kind ranks no images
    schema                 version of these keys and the kind's
    selection              checkpoint_rule (column of history.csv), chosen_on (the split of all
                           choices), optimistic, notes
    split, task            what was evaluated
    views                  names of the test-time views; the first is 'identity'
"""

import contextlib
import dataclasses
import errno
import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from dr_tfx.dataset import identities, leakage, mirrors
from dr_tfx.evaluation import (
    drift,
    gallery,
    lesions_beside,
    model_card,
    one_numbers,
    probe,
    report,
    reproduce,
)
from dr_tfx.evaluation.scored import (
    SELECTION_SPLIT,
    Elsewhere,
    Scored,
    notices,
    patients_known,
    usual_folder,
)
from dr_tfx.inference import scoring
from dr_tfx.models import bundles
from dr_tfx.reports import learning_curves
from dr_tfx.storage import claims, files, locks, tables

__all__ = [
    "SELECTION_SPLIT",
    "Elsewhere",
    "Scored",
    "check_folder",
    "evaluate",
    "judge",
    "predict",
    "require_fitted",
    "usual_folder",
]

_LOG = logging.getLogger(__name__)


def evaluate(
    *,
    workdir: Path,
    data_dir: Path,
    split: str,
    output_dir: Path | None = None,
    beside: lesions_beside.LesionsBeside | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Score a split with the bundle in `workdir` and write its report.

    On `validation` everything that the kind of task fits is fitted and stored in the bundle; on any
    other split the stored values are used, and so they are where the bundle has them and cannot be
    written.

    Args:
      workdir: folder of the bundle.
      data_dir: folder of its data set.
      split: what to evaluate.
      output_dir: folder of the report. None: WORKDIR/evaluation/<split>.
      beside: marks lesions in the photographs that the report shows.
      settings: as `bundles.Bundle.evaluated_with` takes them.

    Returns:
      The path of report.html.

    Raises:
      ValueError: there is no such split, nothing is fitted yet, the split cannot be evaluated,
        `beside` has none of its photographs or is not needed, or a setting cannot be given.
      FileNotFoundError: there is no bundle or no data set.
      OSError: a folder cannot be written, or another process writes into it.
    """
    trained = bundles.load(workdir)
    bundle = trained.evaluated_with(settings)
    bundle.manifest.shards_of(split)  # Says which splits there are, before anything else is said.
    fitted = None if split == SELECTION_SPLIT else require_fitted(bundle, workdir, split)
    if beside:
        check_beside(bundle)
        beside.check(identities.load(data_dir, bundle.manifest).text("id"))
    with contextlib.ExitStack() as held:  # What cannot be written is found before the work.
        if fitted is None:
            fitted = _fitted_if_read_only(held, workdir, bundle)
        folder = output_dir or usual_folder(workdir, split)
        held.enter_context(locks.held(folder))
        check_folder(folder)
        predictions = predict(bundle, data_dir, split)
        if fitted is None:
            fitted = bundle.kind.judgement.fit(predictions, split=split)
            bundles.save_fitted(workdir, fitted)
        commands = _commands(trained, workdir=workdir, data_dir=data_dir, split=split)
        commands[-1] += [f"--output_dir={output_dir}"] if output_dir else []
        commands[-1] += reproduce.setting_flags(settings)
        commands[-1] += beside.flags if beside else []
        explain: list[list[str]] = []
        if bundle.kind.scores.explained:
            explain = reproduce.explain_commands(workdir, mirrors.address(data_dir), split)
        scored = Scored(
            bundle,
            workdir,
            split,
            predictions,
            fitted,
            data=bundle.manifest,
            commands=commands,
            images=gallery.reader(data_dir, bundle.manifest, split),
            output_dir=output_dir,
            explain=explain,
            probe=probe.measure(
                bundle, predictions, workdir=workdir, data_dir=data_dir, split=split
            ),
            no_probe=probe.missing(bundle.experiment),
            beside=beside,
            altered=scoring.predict_altered(bundle, data_dir, split),
        )
        drift.keep(scored)
        return judge(scored)


def _commands(
    bundle: bundles.Bundle, *, workdir: Path, data_dir: Path, split: str
) -> list[list[str]]:
    """Return the commands that give the same report, word by word; the last one evaluates."""
    return reproduce.commands(
        bundle.experiment,
        workdir=workdir,
        data_dir=data_dir,
        split=split,
        members=bundle.members,
        config=bundle.config,
    )


def _fitted_if_read_only(
    held: contextlib.ExitStack, workdir: Path, bundle: bundles.Bundle
) -> Any | None:
    """Lock a bundle that can be written; return what is fitted in one that cannot.

    Raises:
      OSError: nothing is fitted yet and the bundle cannot be written, or somebody else writes it.
    """
    try:
        held.enter_context(locks.held(workdir))
    except OSError as error:
        if error.errno not in (errno.EROFS, errno.EACCES, errno.EPERM):
            raise
        if bundle.fitted is None:
            raise OSError(
                f"{workdir} cannot be written ({error.strerror}), and an evaluation of "
                f"'{SELECTION_SPLIT}' stores there what it fits. Evaluate a copy of {workdir}"
            ) from error
        return bundle.fitted
    return None


def check_folder(folder: Path) -> None:
    """Refuse a folder in which a report would replace files that no evaluation made.

    Raises:
      FileExistsError: it holds such files.
    """
    results = ("report.html", "predictions.csv", lesions_beside.FILE, "model_card.md", "*.png")
    claims.check(folder, mark="metrics.json", key="selection", results=results)


def check_beside(bundle: bundles.Bundle) -> None:
    """Refuse to show lesions beside a model that marks them itself.

    Raises:
      ValueError: it does.
    """
    if bundle.kind.scores.gives_maps:
        raise ValueError(
            f"the model {bundle.experiment.task.name} gives maps itself, which its report shows; "
            "another model's are for the report of one that grades or classifies"
        )


def require_fitted(bundle: bundles.Bundle, workdir: Path, name: str) -> Any:
    """Return what was fitted on validation.

    Raises:
      ValueError: nothing is fitted yet; says how to come by it.
    """
    if bundle.fitted is None:
        raise ValueError(
            f"{workdir} has not been evaluated on '{SELECTION_SPLIT}' yet, where thresholds and "
            f"the like are fitted; nothing is ever fitted on '{name}'. Run drtfx-evaluate with "
            f"--split={SELECTION_SPLIT} first"
        )
    return bundle.fitted


def predict(
    bundle: bundles.Bundle, data_dir: Path, split: str, *, external: bool = False
) -> pd.DataFrame:
    """Return the scores of a split, in a table that can be judged.

    Args:
      bundle: the model.
      data_dir: the data set that it was trained on; or, if `external`, one of other photographs
        that was built for it.
      split: which part of it.
      external: whether the photographs come from elsewhere.

    Raises:
      FileNotFoundError, ValueError: there is no data set, it has another contract, or the model's
        scores cannot be judged.
    """
    predictions = scoring.predict_split(bundle, data_dir, split, external=external)
    repeated = predictions["id"][predictions["id"].duplicated()]
    if len(repeated):
        raise ValueError(
            f"{len(repeated)} image ids of {data_dir} repeat, first '{repeated.iloc[0]!s}': the "
            "data set is damaged; build it again"
        )
    return bundle.kind.judgement.checked(predictions)


def judge(scored: Scored) -> Path:
    """Say what scores are worth: figures of merit, alarms and a report.

    The folder of `scored` receives predictions.csv, metrics.json, the figures, model_card.md and
    report.html; and lesions.csv, if lesions are marked.

    Returns:
      The path of report.html.

    Raises:
      ValueError: the predictions cannot be judged.
    """
    summary = metrics_of(scored)
    for alarm in summary["alarms"]:
        _LOG.warning("ALARM: %s", alarm)
    for notice in summary["notices"]:
        _LOG.warning("%s", notice)
    ids = scored.judgement.gallery(summary)
    rows = pd.Index(scored.predictions["id"]).get_indexer(list(ids))
    images = gallery.gallery_images(scored.bundle, scored.images, rows, ids, scored.fitted)
    if scored.beside:
        marked = scored.beside([image.id for image in images])
        images = [dataclasses.replace(one, lesions=marked.get(one.id)) for one in images]
    return write(scored, summary, images)


def metrics_of(scored: Scored) -> dict[str, Any]:
    """Return the content of metrics.json: what the kind tells, and what only the engine knows."""
    judgement, shared = scored.judgement, leakage.within(scored.data.to_dict())
    told = judgement.summarise(
        scored.clustered, scored.fitted, patients_known=patients_known(scored.data)
    )
    told |= judgement.summarise_altered(scored.clustered, scored.altered, scored.fitted)
    experiment, elsewhere = scored.bundle.experiment, scored.elsewhere
    rankings = judgement.rankings(scored.predictions)
    plain = one_numbers.of(scored.predictions, rankings)
    linear = probe.judged(scored.probe, rankings, scored.bootstrap)
    return {
        **told,
        "alarms": [
            *leakage.alarms(shared),
            *elsewhere.alarms,
            *told["alarms"],
            *one_numbers.alarms(plain),
            *probe.alarms(linear),
        ],
        "counts": told["counts"] | scored.counts,
        "elsewhere": elsewhere.shared,
        "leakage": shared,
        "notices": [*elsewhere.notices, *notices(scored.data)],
        "one_numbers": plain,
        "probe": linear,
        "schema": judgement.SCHEMA,
        "selection": _selection(scored),
        "split": scored.name,
        "task": experiment.task.name,
        "views": list(experiment.evaluation.views),
    }


def _selection(scored: Scored) -> dict[str, Any]:
    """Return what was chosen where, and in plain words what that does to the figures."""
    notes: list[str] = []
    if scored.name == scored.fitted.split:
        notes = [
            *scored.judgement.optimism,
            "The checkpoint was chosen on this split: optimistic.",
        ]
    elif scored.name == "train":
        notes = ["The model was fitted to this split: its figures say nothing about new patients."]
    if scored.data.shared_patients:
        notes.append(
            f"{scored.data.shared_patients:,} patients have images in more than one split, so the "
            "model may have learned patients it is tested on: optimistic."
        )
    return {
        "checkpoint_rule": scored.bundle.experiment.training.select_by,
        "chosen_on": scored.fitted.split,
        "notes": notes,
        "optimistic": bool(notes),
        **scored.judgement.chosen(scored.fitted),
    }


def write(
    scored: Scored, summary: dict[str, Any], images: Sequence[gallery.GalleryImage] = ()
) -> Path:
    """Write the tables, metrics.json, the figures, the card and, last, report.html.

    The report of an earlier evaluation is removed first, so that where there is a report, the other
    files belong to it.

    Args:
      scored: what was judged.
      summary: what `metrics_of` returned.
      images: the photographs that the report shows.

    Returns:
      The path of report.html.
    """
    page = scored.folder / "report.html"
    page.unlink(missing_ok=True)
    readings = scored.bundle.kind.scores.read(scored.predictions, scored.fitted)
    table = scored.predictions.assign(decision=[reading.decision for reading in readings])
    text = json.dumps(summary, indent=2, sort_keys=True, allow_nan=False, ensure_ascii=False)
    files.write_text(scored.folder / "metrics.json", text + "\n")  # The mark of the folder.
    files.write_text(scored.folder / "predictions.csv", tables.csv_text(table))
    marked = {image.id: image.lesions for image in images if image.lesions}
    (scored.folder / lesions_beside.FILE).unlink(missing_ok=True)
    if marked:
        text = tables.csv_text(lesions_beside.table(marked))
        files.write_text(scored.folder / lesions_beside.FILE, text)
    history = learning_curves.read(scored.workdir / "history.csv")
    figures = [*scored.judgement.figures(scored.predictions, summary)]
    if history is not None:
        rule, curves = summary["selection"]["checkpoint_rule"], scored.judgement.CURVES
        best = scored.bundle.kind.MONITORS[rule]
        figures.insert(0, learning_curves.learning_curves(history, rule, curves, best=best))
    for figure in figures:
        files.write(scored.folder / f"{figure.name}.png", figure.png)
    card = model_card.render(scored, summary, weights=scored.weights)
    files.write_text(scored.folder / model_card.FILE, card)
    html = report.render(scored, summary, figures=figures, history=history, images=images)
    files.write_text(page, html)
    return page
