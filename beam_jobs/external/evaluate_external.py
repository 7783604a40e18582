"""The evaluation of a trained bundle on raw photographs from elsewhere.

They are built with the bundle's recipe and scored. Nothing is fitted: threshold, operating points
and calibration are those of the model's validation split. So the report shows what a change of
camera, clinic or population does to them.
"""

import csv
import dataclasses
import io
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from beam_jobs.build_examples import job
from dr_tfx.config import specs, typed
from dr_tfx.dataset import folds, identities, leakage, manifest, mirrors, splits
from dr_tfx.evaluation import evaluate, gallery, lesions_beside, reproduce
from dr_tfx.inference import scoring
from dr_tfx.models import bundles
from dr_tfx.sources import find_source, given, refusals
from dr_tfx.storage import locks

DATA = "data"  # Folder of the prepared photographs, beside the report.
SPLIT = "test"  # The split of everything from elsewhere, in its own data set; it is never named.
FLAGS = refusals.BUILD_FLAGS | {
    "image_dir": "--image_dir",
    "output_dir": "--name",
    "image_column": "--image_column",
    "label_column": "--label_column",
    "patient_column": "--patient_column",
    "split_method": "dataset.split.method of the model",
    "split_column": "dataset.split.column of the model",
    "split_folds": "dataset.split.folds of the model",
    "label_values": "--label_values",
    "label_names": "dataset.label_names of the model",
    "masks": "dataset.masks of the model",
    "size": "dataset.recipe.size of the model",
}
"""Parameter of a build -> the flag of `drtfx-evaluate` for it, or the setting of the model."""
_THEIRS = ("image_column", "label_column", "label_values", "patient_column", "patient_pattern")


@dataclasses.dataclass(frozen=True)
class ExternalPhotographs:
    """Photographs and their labels. A None stands for the setting of the model's own data set."""

    image_dir: str  # A folder, a pattern or an archive, as for a build.
    labels: str
    masks_dir: str | None = None  # For a model of lesions, as for a build.
    name: str = ""  # The name of the report; "": that of the folder.
    image_column: str | None = None
    label_column: str | None = None
    label_values: tuple[str, ...] | None = None  # As `specs.DatasetSpec.label_values`.
    patient_column: str | None = None
    patient_pattern: str | None = None


def run(
    photographs: ExternalPhotographs,
    *,
    workdir: Path,
    data_dir: Path | None,
    output_dir: Path | None = None,
    overwrite: bool = False,
    beside: lesions_beside.LesionsBeside | None = None,
    settings: Mapping[str, Any] | None = None,
) -> Path:
    """Write a report and return the path of its report.html.

    The photographs are prepared in the folder `data` beside it. The same call again goes on where
    an interrupted one stopped, and prepares nothing twice.

    Args:
      photographs: the photographs to evaluate.
      workdir: a trained bundle that was evaluated on validation.
      data_dir: the data set it was trained on, to find photographs and patients that are in both.
        None: they are not looked for, and the report says so.
      output_dir: folder of the report. None: WORKDIR/evaluation/<name>.
      overwrite: prepare other photographs in the place of those that an earlier call prepared.
      beside: marks lesions in the photographs that the report shows.
      settings: as `bundles.Bundle.evaluated_with` takes them.

    Raises:
      FileNotFoundError: there is no bundle, or there are no photographs or labels.
      ValueError: nothing is fitted yet, the model was made of arrays, the photographs cannot be
        evaluated, one of them lies in `output_dir`, or a setting cannot be given. A
        `refusals.UnusableInput` may be told with FLAGS.
      OSError: the folder cannot be written, or another process writes into it.
    """
    trained = bundles.load(workdir)
    bundle = trained.evaluated_with(settings)
    name = _name(photographs)
    fitted = evaluate.require_fitted(bundle, workdir, name)
    if beside:
        evaluate.check_beside(bundle)
    manifest.check_reads_photographs(bundle.manifest)
    known = None
    if data_dir is not None:
        training = folds.load_trained_on(bundle.manifest, data_dir)
        known = identities.load(data_dir, training)
    report = output_dir or evaluate.usual_folder(workdir, name)
    if output_dir:
        source = find_source.open_source(photographs.image_dir)
        found = (given.GivenPhotograph(source.path(n), source, n) for n, _ in source.names())
        given.check_apart(found, output_dir)
    commands = _commands(
        trained, photographs, name, workdir=workdir, data_dir=data_dir, report=report
    )
    commands[-1] += reproduce.setting_flags(settings)
    commands[-1] += beside.flags if beside else ()
    with locks.held(report):
        evaluate.check_folder(report)
        return _evaluated(
            photographs,
            bundle,
            fitted,
            name=name,
            workdir=workdir,
            report=report,
            commands=commands,
            known=known,
            overwrite=overwrite,
            beside=beside,
        )


def _evaluated(
    photographs: ExternalPhotographs,
    bundle: bundles.Bundle,
    fitted: Any,
    *,
    name: str,
    workdir: Path,
    report: Path,
    commands: Sequence[Sequence[str]],
    known: identities.Identities | None,
    overwrite: bool,
    beside: lesions_beside.LesionsBeside | None,
) -> Path:
    """Prepare, score and judge the photographs in the folder of the report; see `run`."""
    folder = report / DATA
    data = job.build(
        _spec(bundle, photographs, name),
        image_dir=photographs.image_dir,
        labels=photographs.labels,
        output_dir=str(folder),
        masks_dir=photographs.masks_dir or "",
        overwrite=overwrite,
    )
    shared = None
    if known is not None:
        shared = leakage.with_training(identities.load(folder, data), known)
    scored = evaluate.Scored(
        bundle,
        workdir,
        name,
        evaluate.predict(bundle, folder, SPLIT, external=True),
        fitted,
        data=data,
        commands=commands,
        images=gallery.reader(folder, data, SPLIT),
        elsewhere=_elsewhere(photographs, data, bundle, shared),
        output_dir=report,
        beside=beside,
        altered=scoring.predict_altered(bundle, folder, SPLIT, external=True),
    )
    return evaluate.judge(scored)


def _name(photographs: ExternalPhotographs) -> str:
    """Return the name of the report's folder.

    Raises:
      ValueError: it cannot be the name of a folder, or is that of a split.
    """
    name = photographs.name or find_source.name_of(photographs.image_dir)
    if not re.fullmatch(r"\w[\w.-]*", name):
        raise ValueError(
            f"--name={name} cannot be the name of a report; expected letters, digits, _ . and -"
        )
    if name in splits.SPLITS:
        raise ValueError(
            f"--name={name} is a split of the model's own data set; give these photographs "
            "another name, such as that of their clinic or camera"
        )
    return name


def _spec(bundle: bundles.Bundle, photographs: ExternalPhotographs, name: str) -> specs.DatasetSpec:
    """Return the model's own settings, except those that belong to these photographs.

    Raises:
      ValueError: one of these cannot be.
    """
    given = {key: value for key in _THEIRS if (value := getattr(photographs, key)) is not None}
    split = specs.Split(method="external")
    # No number of rejects is too many: the report counts them, and many are an alarm.
    spec = dataclasses.replace(bundle.experiment.dataset, name=name, split=split, **given)
    spec = dataclasses.replace(spec, max_reject_rate=1.0)
    try:
        spec.check()
    except typed.ConfigError as error:
        raise ValueError(str(error).replace("config.dataset.", "--")) from error
    return spec


def _elsewhere(
    photographs: ExternalPhotographs,
    data: manifest.Manifest,
    bundle: bundles.Bundle,
    shared: dict[str, Any] | None,
) -> evaluate.Elsewhere:
    rejected = sum(data.rejected.values())
    listed = ", ".join(f"{n:,} {why.replace('_', ' ')}" for why, n in data.rejected.items())
    unscored = (
        f"{rejected:,} of the {data.rows:,} rows of the CSV could not be scored ({listed}) and are "
        f"in none of the figures; {DATA}/rejects.csv, beside this report, names them."
    )
    notices = [
        f"These photographs are from elsewhere ({data.dataset.name}): no split of the model's own "
        "data set. Threshold, operating points and calibration were fitted on its validation split "
        "and are used unchanged."
    ]
    if shared is None:
        notices.append(
            "Whether the model has seen these photographs or patients in training was not looked "
            "for: give its data set with --data_dir."
        )
    theirs = bundle.manifest.libraries
    ours = {k: v for k, v in data.libraries.items() if theirs.get(k) != v}
    others = [f"{k} {v} (then {theirs.get(k, 'not used')})" for k, v in ours.items()]
    if others:
        notices.append(f"Prepared with other versions than the model's own: {', '.join(others)}.")
    alarms = leakage.training_alarms(shared) if shared else []
    notices += leakage.training_notices(shared) if shared else []
    if rejected:
        many = rejected > bundle.experiment.dataset.max_reject_rate * data.rows
        (alarms if many else notices).append(unscored)
    return evaluate.Elsewhere(
        alarms=alarms,
        notices=notices,
        shared={
            "external_dir": photographs.image_dir,
            "labels": photographs.labels,
            "rows": data.rows,
            "written": data.written,
            "rejected": data.rejected,
            "compared": shared is not None,
            **(shared or {"copies": [], "patients": [], "photographs": {}}),
        },
    )


def _commands(
    bundle: bundles.Bundle,
    photographs: ExternalPhotographs,
    name: str,
    *,
    workdir: Path,
    data_dir: Path | None,
    report: Path,
) -> list[list[str]]:
    """Return the commands that made the model, and the one that makes this report again."""
    before = reproduce.commands(
        bundle.experiment,
        workdir=workdir,
        data_dir=data_dir or Path("DATA"),
        split=evaluate.SELECTION_SPLIT,
        members=bundle.members,
        config=bundle.config,
    )
    usual = evaluate.usual_folder(workdir, name)
    settings = {
        **dataclasses.asdict(photographs),
        "name": name,
        "data_dir": data_dir and mirrors.address(data_dir),
        "output_dir": None if report == usual else report,
    }
    flags = [f"--{key}={_typed(value)}" for key, value in settings.items() if value is not None]
    return [*before, ["drtfx-evaluate", f"--workdir={workdir}", *flags]]


def _typed(value: Any) -> str:
    """Return the value of a flag as it is typed, a list with commas between."""
    if not isinstance(value, tuple):
        return str(value)
    line = io.StringIO()
    csv.writer(line, lineterminator="").writerow(value)
    return line.getvalue()
