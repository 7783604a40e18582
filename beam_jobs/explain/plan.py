"""The plan of the explain job: what is asked for, checked and made ready before any work."""

import dataclasses
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from absl import logging

from beam_jobs.explain import mask_measures, units, worker
from dr_tfx.config import specs
from dr_tfx.dataset import folds, identities, manifest, records, splits
from dr_tfx.models import bundles
from dr_tfx.preprocessing import mask_files
from dr_tfx.sources import find_source, frames, given

_FORMAT = 4  # The format of the parts' files: a folder with another one is not continued.
_TRAINED_ON = (
    "The model was trained on these photographs: their heat maps flatter it, and their scores say "
    "little about other photographs."
)
_NOT_COMPARED = (
    "It is not known whether the model was trained on any of these photographs, whose maps would "
    "flatter it. To find out, give its data set with --data_dir too."
)


@dataclasses.dataclass(frozen=True)
class ExplainRequest:
    """A request to explain: the input, the method, the folders, which all workers must see alike.

    Attributes:
      workdir: the trained bundle.
      output_dir: the folder of the results; created if it is missing. What an interrupted run
        left in it is continued.
      data_dir: the data set of the training. One of its splits is explained; or, with
        `image_dir`, the page says which photographs are in it.
      split: the split of `data_dir`.
      image_dir: raw photographs instead: what `find_source.open_source` takes.
      labels: a CSV of the raw photographs' labels, or "".
      methods: names in `specs.METHODS`. The first makes the maps; all are measured.
      average_views: whether maps are means over the views, as the scores are.
      colormap: a name in `specs.COLORMAPS`.
      overlays: one of `worker.OVERLAYS`.
      masks_dir: lesion masks of the raw photographs, one folder a kind; None: there are none.
      lesions: the folders of `masks_dir` that count; (): every folder but OD.
      overwrite: discard what earlier runs left, and start again.
    """

    workdir: Path
    output_dir: Path
    data_dir: Path | None = None
    split: str = "validation"
    image_dir: str = ""
    labels: str = ""
    methods: tuple[str, ...] = specs.METHODS[:1]
    average_views: bool = False
    colormap: str = specs.COLORMAPS[0]
    overlays: str = "full"
    masks_dir: Path | None = None
    lesions: tuple[str, ...] = ()
    overwrite: bool = False


@dataclasses.dataclass(frozen=True)
class TrainingData:
    """The data set that the model was trained on."""

    folder: Path
    data: manifest.Manifest
    identities: identities.Identities | None  # None: a split of it is explained.


@dataclasses.dataclass(frozen=True)
class ExplainPlan:
    """All that the job does.

    Attributes:
      settings: shared by all workers.
      inputs: give the pictures.
      parts: the units of work.
      training: the data set of the training, if it was given.
      title: what is explained, for people.
      model: the backbone of the model, or those of an ensemble.
      notices: sentences that a reader of the results should know.
      source: everything that decides what the folder will hold, as plain JSON types.
      output_dir: the folder of the results.
    """

    settings: worker.ExplainSettings
    inputs: units.ExplainInputs
    parts: Sequence[units.HeatmapPart]
    training: TrainingData | None
    title: str
    model: str
    notices: Sequence[str]
    source: dict[str, Any]
    output_dir: Path


def make(request: ExplainRequest, *, threads: int) -> ExplainPlan:
    """Check a request, load the model, and list the parts.

    Args:
      request: what to explain.
      threads: of every worker.

    Raises:
      FileNotFoundError: there is no bundle, no data set or no photograph.
      ValueError: the request contradicts itself, or bundle, data, labels or masks do not fit each
        other.
    """
    _check(request)
    of_bundle = (bundles.WEIGHTS_FILE, bundles.BUNDLE_FILE)
    hashes = [_sha256(request.workdir / file) for file in of_bundle]
    masks = None
    if request.masks_dir:
        masks = mask_files.open_folder(str(request.masks_dir), request.lesions)
    settings = worker.ExplainSettings(
        workdir=request.workdir,
        version=" ".join(hashes),
        methods=request.methods,
        overlays=request.overlays,
        average_views=request.average_views,
        colormap=request.colormap,
        masks=masks,
        threads=threads,
    )
    logging.info("loading the model of %s", request.workdir)
    bundle = next(iter(worker.load(settings).values())).bundle
    training = _training(request, bundle)
    if training and not request.image_dir:
        plan = _of_split(request, settings, training, bundle=bundle)
    else:
        plan = _of_photographs(request, settings, training, bundle=bundle)
    if masks:
        mask_measures.check_names(masks, plan.parts)
    source = plan.source | _source(settings, bundle, model_hash=hashes[0])
    return dataclasses.replace(plan, source=source)


def _check(request: ExplainRequest) -> None:
    """Refuse a request that contradicts itself, before any work.

    Raises:
      ValueError: it does.
    """
    if request.data_dir is None and not request.image_dir:
        raise ValueError("expected --data_dir, a data set, or --image_dir, raw photographs")
    for flag, value in (("labels", request.labels), ("masks_dir", request.masks_dir)):
        if value and not request.image_dir:
            raise ValueError(
                f"--{flag} goes with --image_dir: a data set has labels already, and does not say "
                "where in a photograph its pictures lie, so that no mask can be laid on them"
            )
    if request.lesions and not request.masks_dir:
        raise ValueError("--lesions names folders of --masks_dir, which is not given")
    unknown = [name for name in request.methods if name not in specs.METHODS]
    if unknown or not request.methods:
        raise ValueError(
            f"--method={','.join(request.methods)}: expected some of {', '.join(specs.METHODS)}"
        )
    if len(request.methods) > 1 and not request.masks_dir:
        raise ValueError(
            f"several methods, {', '.join(request.methods)}, are for comparison with lesion masks: "
            "give --masks_dir too, or one --method"
        )


def _training(request: ExplainRequest, bundle: bundles.Bundle) -> TrainingData | None:
    if request.data_dir is None:
        return None
    data = folds.load_trained_on(bundle.manifest, request.data_dir)
    known = identities.load(request.data_dir, data) if request.image_dir else None
    return TrainingData(request.data_dir, data, known)


def _of_split(
    request: ExplainRequest,
    settings: worker.ExplainSettings,
    training: TrainingData,
    *,
    bundle: bundles.Bundle,
) -> ExplainPlan:
    """Return the plan for a split of the data set."""
    spec = training.data.dataset
    return ExplainPlan(
        settings=settings,
        inputs=units.SplitInputs(
            training.folder, records.Schema(spec.recipe.size, spec.recipe.encoding)
        ),
        parts=units.parts_of_split(training.data, request.split),
        training=training,
        title=f"{spec.name}, {request.split}",
        model=bundle.backbone,
        notices=(_TRAINED_ON,) if request.split == splits.SPLITS[0] else (),
        source={"data": training.data.fingerprint, "split": request.split},
        output_dir=request.output_dir,
    )


def _of_photographs(
    request: ExplainRequest,
    settings: worker.ExplainSettings,
    training: TrainingData | None,
    *,
    bundle: bundles.Bundle,
) -> ExplainPlan:
    """Return the plan for raw photographs."""
    manifest.check_reads_photographs(bundle.manifest)
    spec = bundle.experiment.dataset
    photographs = frames.split(find_source.open_source(request.image_dir), spec.recipe)
    parts, digests = units.parts_of_source(
        photographs, spec, labels=request.labels, by_name=request.masks_dir is not None
    )
    inputs = units.PhotographInputs(photographs, spec.recipe, settings.threads)
    names = (item.name for part in parts for item in part.items)
    found = (given.GivenPhotograph(photographs.path(n), photographs, n) for n in names)
    given.check_apart(found, request.output_dir)
    return ExplainPlan(
        settings=settings,
        inputs=inputs,
        parts=parts,
        training=training,
        title=request.image_dir,
        model=bundle.backbone,
        notices=() if training else (_NOT_COMPARED,),
        source=digests,
        output_dir=request.output_dir,
    )


def _source(
    settings: worker.ExplainSettings, bundle: bundles.Bundle, *, model_hash: str
) -> dict[str, Any]:
    """Return the settings that decide what is in the folder."""
    return {
        "format": _FORMAT,
        "model": model_hash,
        "views": list(bundle.experiment.evaluation.views),
        "methods": list(settings.methods),
        "overlays": settings.overlays,
        "average_views": settings.average_views,
        "colormap": settings.colormap,
        "masks": settings.masks and settings.masks.digest,
    }


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: {path.parent} holds no finished training. Check --workdir."
        )
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()
