"""A trained or exported model as the server holds it: what reads, what explains, and what it is.

Both a run and an export are loaded by what drtfx-predict loads them by, so that the answers are the
same. An export needs no TensorFlow.
"""

import dataclasses
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.dataset import manifest
from dr_tfx.models import bundle_file, drift_file, export_file
from dr_tfx.statistics import drift

_DIGITS = 12  # Of the version of a model.

Result = tuple[tasks.Reading, np.ndarray | None]
"""What the model says of a picture, and what is shown with it, if that was asked: its heat map,
float32 (h, w), 0 to 1; or of a model of lesions what it marks, bool (kinds, size, size)."""

Work = Callable[[np.ndarray], Sequence[Result]]
"""From pictures, uint8 RGB (n, size, size, 3), to n results."""


@dataclasses.dataclass(frozen=True)
class ServedModel:
    """A model that is ready to read.

    Attributes:
      folder: of the run, or of the export.
      version: the beginning of the SHA-256 digest of the file that describes the model, in which
        are the digests of its weights and all that was fitted.
      experiment: the settings of the run.
      rule: a sentence that says how the model decides.
      alarms: those of the run's evaluations.
      read: reads pictures.
      explain: reads pictures and draws their heat maps, or marks their lesions; None for a model
        that does neither.
      reference: what validation looked like to it; None where that is not known.
      untold: a sentence that says why drift cannot be told then.
    """

    folder: Path
    version: str
    experiment: specs.Experiment
    rule: str
    alarms: Sequence[str]
    read: Work
    explain: Work | None
    reference: drift.Reference | None = None
    untold: str = ""

    @property
    def recipe(self) -> specs.Recipe:
        """The recipe that makes pictures of photographs."""
        return self.experiment.dataset.recipe

    def patient_of(self, name: str) -> str | None:
        """Return whose a photograph is by the name of its file; None if that does not tell."""
        pattern = self.experiment.dataset.patient_pattern
        found = re.search(pattern, Path(name).stem) if pattern else None
        return found[1] if found else None

    def described(self) -> dict[str, Any]:
        """Return what a client is told about the model, as plain JSON types."""
        task = self.experiment.task
        return {
            "name": task.name,
            "kind": task.kind,
            "version": self.version,
            "recipe": typed.to_dict(self.recipe),
            "views": list(self.experiment.evaluation.views),
            "answer": list(tasks.of(self.experiment).scores.answer_names),
            "groups": list(tasks.of(self.experiment).data.groups),
            "rule": self.rule,
            "heatmaps": self.explain is not None,
            "alarms": list(self.alarms),
        }


def load_run(workdir: Path) -> ServedModel:
    """Load the bundle of a run, or of an ensemble. TensorFlow has to be there.

    Raises:
      FileNotFoundError, ValueError: as `bundles.load`; or its pictures were prepared elsewhere.
    """
    # Imported here, so that an export is served without TensorFlow.
    from dr_tfx.evaluation import known_alarms
    from dr_tfx.explanation import explainer
    from dr_tfx.inference import scoring
    from dr_tfx.models import bundles

    bundle = bundles.load(workdir)
    reader, gives_maps = scoring.BundleReader(bundle), bundle.kind.scores.gives_maps
    alarms = [alarm for some in known_alarms.of_run(workdir).values() for alarm in some]
    return _served(
        workdir,
        reader,
        described_by=workdir / bundle_file.BUNDLE_FILE,
        fitted=bundle.fitted,
        alarms=alarms,
        explain=reader.mark if gives_maps else explainer.Explainer(bundle).explain,
        reference=drift_file.of_run(workdir),
    )


def load_export(folder: Path) -> ServedModel:
    """Load what drtfx-export wrote.

    Raises:
      FileNotFoundError, ValueError: as `exported.load`; or its pictures were prepared elsewhere.
    """
    from dr_tfx.inference import exported

    model = exported.load(folder)
    return _served(
        folder,
        model,
        described_by=folder / export_file.EXPORT_FILE,
        fitted=model.fitted,
        alarms=model.alarms,
        explain=model.mark if isinstance(model, exported.ExportedMarker) else model.explain,
        reference=model.reference,
    )


def _served(
    folder: Path,
    reader: Any,
    *,
    described_by: Path,
    fitted: Any,
    alarms: Sequence[str],
    explain: Work | None,
    reference: drift.Reference | None,
) -> ServedModel:
    """Return a model that has read one grey picture, so that no client waits for a compilation."""
    manifest.check_reads_photographs(reader.manifest)
    experiment = reader.experiment
    scores = tasks.of(experiment).scores

    def read(rgb: np.ndarray) -> list[Result]:
        return [(reading, None) for reading in reader.read(rgb)]

    size = experiment.dataset.recipe.size
    grey = np.full((1, size, size, 3), 127, np.uint8)
    for work in filter(None, (read, explain)):
        work(grey)
    version = bundle_file.digest(described_by.read_bytes())[:_DIGITS]
    return ServedModel(
        *(folder, version, experiment, scores.rule(fitted), alarms, read, explain, reference),
        untold=drift_file.untold(
            reader.manifest, folder, export=described_by.name == export_file.EXPORT_FILE
        ),
    )
