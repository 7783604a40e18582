"""A run or an export, opened as what answers photographs, for the commands that predict.

What a reader of the answers should know, such as the alarms of an evaluation, is said on the way.
"""

import functools
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dr_tfx.machine import tensorflow_start

if TYPE_CHECKING:
    from dr_tfx.explanation import answering, lesions
    from dr_tfx.explanation import photographs as explained_photographs
    from dr_tfx.inference import exported
    from dr_tfx.models import bundles


def of_run(workdir: Path, method: str, *, average_views: bool) -> "answering.AnsweringModel":
    """Load a run; say what a reader of its answers should know about it.

    Args:
      workdir: folder of the run.
      method: of its heat maps, a name in `specs.METHODS`.
      average_views: whether a heat map is the mean over the views, as the score is.

    Raises:
      FileNotFoundError, ValueError: there is none, or it is damaged.
    """
    from dr_tfx.models import bundle_file

    bundle_file.read(workdir)  # What is none is told before TensorFlow is loaded.
    tensorflow_start.load()
    # Imported here, so that --help does not load TensorFlow.
    from dr_tfx.evaluation import known_alarms
    from dr_tfx.explanation import answering, explainer
    from dr_tfx.explanation import photographs as explained_photographs
    from dr_tfx.inference import photographs, scoring
    from dr_tfx.models import bundles, drift_file

    bundle = bundles.load(workdir)
    if bundle.fitted is None:
        print(
            f"note: {workdir} was not evaluated on validation yet, so that nothing is fitted. "
            f"{bundle.kind.scores.rule(None)} Run drtfx-evaluate --split=validation.",
            file=sys.stderr,
        )
    found = known_alarms.of_run(workdir)
    for folder, alarms in found.items():
        _say(alarms, f"the evaluation on {folder.name}", f"See {folder / 'report.html'} before")

    def explain() -> "explained_photographs.PhotographExplainer":
        return explained_photographs.PhotographExplainer(
            explainer.Explainer(bundle, method, average_views=average_views)
        )

    return answering.AnsweringModel(
        workdir,
        bundle_file.digest((workdir / bundle_file.BUNDLE_FILE).read_bytes()),
        bundle.experiment,
        [alarm for alarms in found.values() for alarm in alarms],
        lambda: photographs.PhotographReader(scoring.BundleReader(bundle)),
        None if bundle.kind.scores.gives_maps else explain,
        (lambda: _run_marker(bundle)) if bundle.kind.scores.gives_maps else None,
        drift_file.of_run(workdir),
        drift_file.untold(bundle.manifest, workdir, export=False),
    )


def _run_marker(bundle: "bundles.Bundle") -> "lesions.LesionMarker":
    """Return a run as what marks lesions; errors as those of `_marker`."""
    from dr_tfx.inference import scoring
    from dr_tfx.models import bundle_file

    return _marker(scoring.BundleReader(bundle), bundle.folder / bundle_file.BUNDLE_FILE)


def _marker(model: Any, described_by: Path) -> "lesions.LesionMarker":
    """Return a model as what marks lesions.

    Raises:
      ValueError: the model marks no lesions.
    """
    from dr_tfx.explanation import lesions
    from dr_tfx.models import bundle_file

    return lesions.LesionMarker(model, bundle_file.digest(described_by.read_bytes()))


def beside(folder: Path) -> "lesions.LesionMarker":
    """Return what marks lesions beside the model.

    Raises:
      FileNotFoundError, ValueError: the folder holds no run or export, or one that marks no
        lesions.
    """
    from dr_tfx.models import bundle_file, export_file

    if (folder / export_file.EXPORT_FILE).is_file():
        from dr_tfx.inference import exported

        return _marker(exported.load(folder), folder / export_file.EXPORT_FILE)
    bundle_file.read(folder)
    tensorflow_start.load()
    from dr_tfx.models import bundles

    return _run_marker(bundles.load(folder))


def of_export(folder: Path) -> "answering.AnsweringModel":
    """Load an export; say the alarms of the run that it was made of.

    Raises:
      FileNotFoundError, ValueError: there is none, or it is damaged.
    """
    from dr_tfx.explanation import answering
    from dr_tfx.inference import exported, photographs
    from dr_tfx.models import bundle_file, drift_file, export_file

    model, described_by = exported.load(folder), folder / export_file.EXPORT_FILE
    if model.alarms:
        _say(model.alarms, "the run's evaluation", "See its report before")
    explain, mark = None, None
    if isinstance(model, exported.ExportedMarker):
        mark = functools.partial(_marker, model, described_by)
    else:
        explain = functools.partial(_explainer, model)
    return answering.AnsweringModel(
        folder,
        bundle_file.digest(described_by.read_bytes()),
        model.experiment,
        model.alarms,
        lambda: photographs.PhotographReader(model),
        explain,
        mark,
        reference=model.reference,
        untold=drift_file.untold(model.manifest, folder, export=True),
    )


def _explainer(model: "exported.ExportedModel") -> "explained_photographs.PhotographExplainer":
    """Return what draws the heat maps of an export; loads matplotlib."""
    from dr_tfx.explanation import photographs as explained_photographs

    return explained_photographs.PhotographExplainer(model)


def _say(alarms: Sequence[str], whose: str, see: str) -> None:
    """Print the first alarm, and how many more there are."""
    more = f" ({len(alarms) - 1} more)" if len(alarms) > 1 else ""
    print(f"ALARM of {whose}: {alarms[0]}{more} {see} you rely on this model.", file=sys.stderr)
