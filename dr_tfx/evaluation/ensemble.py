"""Ensembles: the mean of the calibrated probabilities of several runs, as a bundle of its own.

The output for a picture is the mean over the members of the probability that each gives it after
its own calibration, that its validation fitted; all members count alike. With
several views of test-time augmentation, each view is calibrated, and the mean over the views is
taken as for a run. The thresholds, cut-points and the calibration of the mean itself are fitted on
photographs that no member was trained on:

- The members were trained on one split, with other seeds, backbones or recipes of training: on its
  validation, when drtfx-evaluate evaluates it, as for a run.
- The members are the runs of a cross-validation: on all photographs, each with the calibrated score
  of the one member that it tested. A single model's scores spread more than the mean does, to which
  what they fitted is applied. Each photograph of the data set was trained on by the other members:
  the bundle says so (`folds.every`), and no part of that data set can test it any more.
"""

import dataclasses
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from dr_tfx import tasks
from dr_tfx.config import typed
from dr_tfx.dataset import folds, manifest
from dr_tfx.evaluation import compare, evaluate, out_of_fold
from dr_tfx.models import bundle_file, bundles, ensembles
from dr_tfx.models.bundle_file import BundleFile, Member
from dr_tfx.storage import claims, files, locks

MARK = "ensemble.json"
OUT_OF_FOLD = "out of fold"
"""The split that the ensemble of a cross-validation is fitted on."""

_RESULTS = (*bundle_file.FILES, "config.json", "history.csv", "checkpoints")
# Settings in which members may differ, besides their networks and trainings.
_CHECKED = ("dataset", "task", "evaluation")


@dataclasses.dataclass(frozen=True)
class JoinedRun:
    """A run that becomes a member.

    Attributes:
      folder: as it was given.
      content: its bundle.json.
      kind: its kind of task.
      data: the manifest of what it was trained on.
      fitted: what its validation has fitted.
    """

    folder: Path
    content: BundleFile
    kind: tasks.Kind
    data: manifest.Manifest
    fitted: Any

    @property
    def member(self) -> Member:
        """What the bundle of the ensemble says of it."""
        return Member(
            folder=str(self.folder),
            experiment=self.content.experiment,
            precision=self.content.precision,
            best_epoch=self.content.best_epoch,
            fitted=self.fitted.to_dict(),
            weights=self.content.files[bundle_file.WEIGHTS_FILE],
            config=self.content.config,
            config_settings=self.content.config_settings,
        )


def ensemble(folders: Sequence[Path], *, output_dir: Path) -> Path:
    """Write the bundle of an ensemble; the same call again does nothing.

    Args:
      folders: of two runs or more, trained and evaluated on validation; those of the folds of a
        cross-validation evaluated on test, too. The runs are read and not changed.
      output_dir: folder of the ensemble, created if need be.

    Returns:
      OUTPUT_DIR.

    Raises:
      FileNotFoundError: a folder holds no run, or one that was not evaluated.
      ValueError: fewer than two runs, one of them twice, runs that contradict each other, which the
        message names with the setting, or a damaged bundle.
      FileExistsError: OUTPUT_DIR holds somebody else's files.
      OSError: OUTPUT_DIR cannot be written, or another process writes into it.
    """
    runs = read(folders)
    check_agree(runs)
    data = trained_on(runs)
    members = [run.member for run in runs]
    with locks.held(output_dir):
        if _is_finished(output_dir, members):
            return output_dir
        mark = {"ensemble_of": [member.folder for member in members]}
        files.write_text(output_dir / MARK, json.dumps(mark, indent=2, ensure_ascii=False) + "\n")
        experiment = runs[0].kind.averaging.settings()
        policies = {run.content.precision for run in runs}
        policy = policies.pop() if len(policies) == 1 else "float32"
        fitted = fitted_out_of_fold(runs) if data.fold == manifest.EVERY_FOLD else None
        with files.named(output_dir / bundles.MODEL_FILE):
            bundles.save(
                output_dir,
                ensembles.join(_parts(runs), side=tasks.of(experiment).side, policy=policy),
                experiment=experiment,
                data=data,
                precision=policy,
                best_epoch=0,
                fitted=fitted,
                members=members,
            )
    return output_dir


def read(folders: Sequence[Path]) -> list[JoinedRun]:
    """Return runs as members, before any network is built.

    Raises:
      FileNotFoundError, ValueError: see `ensemble`.
    """
    if len(folders) < 2:
        raise ValueError(f"got {len(folders)} run; expected two or more: RUN_A RUN_B")
    if len(folders) > bundle_file.MOST_MEMBERS:
        raise ValueError(
            f"got {len(folders)} runs; an ensemble has {bundle_file.MOST_MEMBERS} at most"
        )
    runs: list[JoinedRun] = []
    for folder in folders:
        run = _read(folder)
        digest = run.member.weights
        same = [other.folder for other in runs if other.member.weights == digest]
        if same:
            raise ValueError(
                f"{folder} is given twice"
                if folder.resolve() == same[0].resolve()
                else f"{same[0]} and {folder} hold the same weights: one model would count twice"
            )
        runs.append(run)
    return runs


def _read(folder: Path) -> JoinedRun:
    content = bundle_file.read(folder)
    if content.members:
        listed = " ".join(member.folder for member in content.members)
        raise ValueError(f"{folder} is an ensemble itself; give its runs instead: {listed}")
    experiment = bundle_file.experiment(content, folder)
    kind = tasks.of(experiment)
    fitted = bundle_file.fitted(content, kind, folder)
    if fitted is None:
        raise ValueError(
            f"{folder} has no calibration yet, which a mean of calibrated probabilities needs. Run "
            f"first: drtfx-evaluate --workdir={folder} --data_dir=DATA_DIR "
            f"--split={evaluate.SELECTION_SPLIT}"
        )
    if bundle_file.WEIGHTS_FILE not in content.files:
        raise ValueError(f"{folder / bundle_file.BUNDLE_FILE} names no weights")
    return JoinedRun(folder, content, kind, bundle_file.trained_on(content, folder), fitted)


def check_agree(runs: Sequence[JoinedRun]) -> None:
    """Refuse runs whose mean would mean nothing.

    Raises:
      ValueError: names two runs and each setting in which they contradict each other.
    """
    first = runs[0]
    may_differ = first.kind.judgement.comparison.MAY_DIFFER
    of_evaluation = (f"evaluation.{key}" for key in first.kind.CHANGES_NO_SCORE)
    free = {"dataset.name", *of_evaluation, *(f"task.{key}" for key in may_differ)}
    ours = _settings(first)
    for run in runs[1:]:
        theirs = _settings(run)
        different = [
            f"{key} is {ours.get(key)!r} in {first.folder} and {theirs.get(key)!r} in {run.folder}"
            for key in {**ours, **theirs}
            if ours.get(key) != theirs.get(key) and key not in free
        ]
        if ours["task.kind"] != theirs["task.kind"]:  # Each kind has settings of its own.
            different = [text for text in different if text.startswith("task.kind ")]
        if not different and first.data.fingerprint != run.data.fingerprint:
            different = [
                f"{first.folder} and {run.folder} were trained on different data: the rows or the "
                "split of their data sets differ, so that one may have been trained on what "
                "another is judged by"
            ]
        if different:
            raise ValueError(
                f"the runs contradict each other: {'; '.join(different)}. An ensemble is of models "
                "of one task, trained on one data set and scored alike"
            )
    first.kind.averaging.settings()  # Raises for a kind whose models have no mean.


def _settings(run: JoinedRun) -> dict[str, Any]:
    """Return the settings that the members have to have in common, by their dotted keys."""
    plain = typed.to_dict(run.kind.experiment)
    settings = {key: plain[key] for key in _CHECKED}
    return typed.flat(settings) | {"prepared": run.data.prepared}


def trained_on(runs: Sequence[JoinedRun]) -> manifest.Manifest:
    """Return the data set as all members together have seen it.

    Raises:
      ValueError: some folds of a cross-validation are missing, or are there twice.
    """
    tested = [run.data.fold for run in runs]
    if len(set(tested)) == 1:
        return runs[0].data
    count = runs[0].data.dataset.split.folds
    if sorted(tested) != list(range(count)):
        listed = ", ".join(f"{run.folder} tests fold {run.data.fold}" for run in runs)
        raise ValueError(
            f"{listed}, of {count} folds; expected runs that test one and the same fold, or one "
            "run for each fold. In any other set some members know what others are judged by"
        )
    return folds.every(runs[0].data)


def fitted_out_of_fold(runs: Sequence[JoinedRun]) -> Any:
    """Return what is fitted on all photographs, each scored by the member that it tested.

    Args:
      runs: one for each fold.

    Raises:
      FileNotFoundError: a run was not evaluated on test.
      ValueError: an evaluation is damaged or of another version, or photographs are missing.
    """
    calibrated = []
    told = compare.load_runs([run.folder for run in runs], "test")
    for run, evaluated in zip(runs, told, strict=True):
        columns = run.kind.averaging.columns(evaluated.predictions, run.fitted)
        table = evaluated.predictions.assign(**columns)
        calibrated.append(dataclasses.replace(evaluated, predictions=table))
    table = out_of_fold.pooled(calibrated, runs[0].data)
    judgement = tasks.of(runs[0].kind.averaging.settings()).judgement
    return judgement.fit(judgement.checked(table), split=OUT_OF_FOLD)


def _parts(runs: Sequence[JoinedRun]) -> Iterator[ensembles.Part]:
    """Yield the trained networks with their calibration."""
    for run in runs:
        bundle = bundles.load(run.folder)
        yield ensembles.Part.calibrated(
            str(run.folder), bundle.model, bundle.experiment, bundle.fitted
        )


def _is_finished(output_dir: Path, members: Sequence[Member]) -> bool:
    """Tell whether OUTPUT_DIR holds this ensemble already.

    Raises:
      ValueError: it holds another one.
      FileExistsError: it holds somebody else's files.
    """
    claims.check(output_dir, mark=MARK, key="ensemble_of", results=_RESULTS)
    if not (output_dir / bundles.BUNDLE_FILE).is_file():
        return False
    found = bundle_file.read(output_dir)
    if found.members == tuple(members):
        return True
    listed = ", ".join(member.folder for member in found.members)
    raise ValueError(
        f"{output_dir} holds another ensemble, of {listed}, or these runs have changed since. "
        "Choose another --output_dir, or delete this one"
    )
