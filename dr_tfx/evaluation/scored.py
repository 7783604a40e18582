"""The subject of an evaluation: photographs, their scores by a bundle, and the origin of both."""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dr_tfx.dataset import manifest, splits
from dr_tfx.models import bundle_file
from dr_tfx.statistics.intervals import PatientBootstrap

if TYPE_CHECKING:
    from dr_tfx.evaluation.lesions_beside import LesionsBeside
    from dr_tfx.evaluation.probe import Probe
    from dr_tfx.models import bundles
    from dr_tfx.tasks.judging import JudgementSide

SELECTION_SPLIT = "validation"
"""The split on which checkpoints are chosen, and everything that a kind of task fits."""


@dataclasses.dataclass(frozen=True)
class Elsewhere:
    """Remarks on photographs from elsewhere; there are none for the model's own data set.

    Attributes:
      alarms: sentences on what spoils the figures.
      notices: sentences on what else to know.
      shared: `elsewhere` of metrics.json; None for the model's own data set.
    """

    alarms: Sequence[str] = ()
    notices: Sequence[str] = ()
    shared: Mapping[str, Any] | None = None


@dataclasses.dataclass(frozen=True)
class Scored:
    """Photographs that a bundle has scored, and everything that is needed to judge the scores.

    Attributes:
      bundle: the model.
      workdir: the bundle's folder.
      name: of the split, or of photographs from elsewhere.
      predictions: one row an image, as `JudgementSide.checked` returns it.
      fitted: what was fitted on validation, used as it is.
      data: the manifest of what was scored.
      commands: what to type to get the report again, word by word.
      images: what `gallery.reader` returned: numbers of rows -> what the model saw.
      elsewhere: what is to be said of photographs that are not of the model's own data set.
      output_dir: the folder of the report, if it is not the usual one.
      explain: what to type to have heat maps of these photographs, as the model sees them and as
        they are; empty where there are none.
      probe: what a linear probe says of them; None where there is none.
      no_probe: what `probe.missing` says of the model.
      beside: marks lesions in the photographs that the report shows; None if nothing does.
      altered: what `scoring.predict_altered` gives of these photographs; by default nothing.
    """

    bundle: "bundles.Bundle"
    workdir: Path
    name: str
    predictions: pd.DataFrame
    fitted: Any
    data: manifest.Manifest
    commands: Sequence[Sequence[str]]
    images: Callable[[np.ndarray], dict[str, np.ndarray]]
    elsewhere: Elsewhere = Elsewhere()
    output_dir: Path | None = None
    explain: Sequence[Sequence[str]] = ()
    probe: "Probe | None" = None
    no_probe: str = ""
    beside: "LesionsBeside | None" = None
    altered: Iterable[tuple[str, pd.DataFrame]] = ()

    @property
    def folder(self) -> Path:
        """The folder of the report and of everything beside it."""
        return self.output_dir or usual_folder(self.workdir, self.name)

    @property
    def weights(self) -> str:
        """SHA-256 of the bundle's file of weights, "" if there is none."""
        path = self.workdir / bundle_file.WEIGHTS_FILE
        return bundle_file.digest(path.read_bytes()) if path.is_file() else ""

    @property
    def judgement(self) -> "JudgementSide":
        """The side of the task's kind that judges."""
        return self.bundle.kind.judgement

    @functools.cached_property
    def clustered(self) -> pd.DataFrame:
        """The predictions with a column `cluster`: what the bootstrap draws as one.

        Patients who share a photograph, byte-identical or as a copy in another size, compression or
        crop, are one cluster, because the same photograph under two names tells nothing new.
        """
        return clustered(self.predictions, self.data)

    def bootstrap(self) -> PatientBootstrap:
        """Return the resamples of the patients of these photographs."""
        resamples = self.bundle.experiment.evaluation.bootstrap_resamples
        return PatientBootstrap(self.clustered["cluster"], resamples=resamples)

    @property
    def counts(self) -> dict[str, Any]:
        """Images, patients, whether patients are known, and which of them are drawn as one."""
        return counts(self.clustered, self.data)


def clustered(predictions: pd.DataFrame, data: manifest.Manifest) -> pd.DataFrame:
    """Return predictions for a data set with a column `cluster`; see `Scored.clustered`."""
    twins = [twin["ids"] for twin in (*data.twins, *data.near_twins)]
    return predictions.assign(cluster=splits.clusters(predictions, twins))


def counts(predictions: pd.DataFrame, data: manifest.Manifest) -> dict[str, Any]:
    """Return images, patients, whether patients are known, and which of them are drawn as one.

    Args:
      predictions: what `clustered` returned.
      data: the manifest of the data set.
    """
    patients = predictions.drop_duplicates("patient").groupby("cluster")["patient"]
    return {
        "images": len(predictions),
        "joined": [sorted(map(str, names)) for _, names in patients if len(names) > 1],
        "patients": int(predictions["patient"].nunique()),
        "patients_known": patients_known(data),
    }


def usual_folder(workdir: Path, name: str) -> Path:
    """Return the folder of the report on a split, or on photographs from elsewhere of this name."""
    return workdir / "evaluation" / name


def patients_known(data: manifest.Manifest) -> bool:
    """Return whether the patients of a data set are known.

    They are if a column tells them, or if some photographs share one.
    """
    told = bool(data.dataset.patient_column) and data.unknown_patients < data.written
    return told or bool(data.shared_patients) or sum(data.patients.values()) != data.written


def notices(data: manifest.Manifest) -> list[str]:
    """Return sentences on what a data set does not allow to know."""
    found = []
    if not patients_known(data):
        elsewhere = data.dataset.split.method == "external"
        column, pattern = (
            f"{'--' if elsewhere else 'config.dataset.'}patient_{by}"
            for by in ("column", "pattern")
        )
        parted = "" if elsewhere else "the split may part the two eyes of one patient, and "
        found.append(
            "As far as is known, no photograph shares a patient with another. If a column tells "
            f"the patient, set {column}, and if the file names do, set {pattern}; otherwise "
            f"{parted}two eyes of one patient count as two patients: the intervals are then too "
            "narrow."
        )
    elif data.unknown_patients:
        found.append(
            f"The patients of {data.unknown_patients:,} of {data.written:,} photographs are not "
            "known: each counts as a patient of its own."
        )
    names = data.dataset.label_names
    contradicting = [
        ", ".join(f"{i} ({names[n]})" for i, n in zip(twin["ids"], twin["labels"], strict=True))
        for twin in (*data.twins, *data.near_twins)
        if len(set(twin["labels"])) > 1
    ]
    if contradicting:
        found.append(
            "Copies of one photograph have different labels, so that one of each group is "
            f"wrong: {'; '.join(contradicting)}."
        )
    return found
