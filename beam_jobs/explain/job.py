"""Heat maps of one split of a data set, or of raw photographs, as a Beam job.

    parts -> Reshuffle -> ExplainPart: one part in, its heat maps, overlays and rows out

The part, a shard of the split or some photographs, is the unit of work, as in the build job:
nothing but names passes between workers, memory does not grow with the data set, and a rerun skips
what is finished. OUTPUT_DIR receives

    explain.json             what the folder is made from; written first, compared by a rerun
    heatmaps-<part>          TFRecords: image/id, heatmap/values (float32 bytes), heatmap/height,
                             heatmap/width, score
    overlays/<part>/<id>.png the heat map over the photograph; of raw ones at their full size, and
                             thumbnails/<part>/<id>.png at the model's
    heatmaps-<part>.csv      the part's rows of the index, with its measures against lesion masks,
                             where there are any; written last: the part is finished
    index.csv                id, label, target, score, decision, shard, overlay, outside; sorted by
                             id; of raw photographs also photograph, ungradable and training_split
    rejects.csv              id, photograph, reason, detail of raw photographs that cannot be read
    localization.json, .csv  the measures, averaged, and localization_photographs.csv, each
    gradcam_normal.png       three photographs of the negative class
    gradcam_abnormal.png     three of the positive class
    gradcam_final.png        the six together
    index.html               all of it to look at
"""

import dataclasses
import hashlib
import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from absl import logging
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.build_examples import progress
from beam_jobs.explain import heatmap_shards, mask_measures, results, units, worker
from beam_jobs.runners import beam_flags
from beam_jobs.sources import find_source
from dr_tfx.config import specs
from dr_tfx.dataset import manifest, splits
from dr_tfx.explanation import localization
from dr_tfx.models import bundles
from dr_tfx.storage import files

SOURCE_FILE = "explain.json"
_FORMAT = 3  # Of the parts' files: another one is not gone on with.
_TRAINED_ON = (
    "The model was trained on these photographs: their heat maps flatter it, and their scores say "
    "little of others."
)
_NOT_COMPARED = (
    "Whether the model was trained on any of these photographs was not looked for: give its data "
    "set with --data_dir too. Maps of those that it was trained on flatter it."
)


@dataclasses.dataclass(frozen=True)
class Request:
    """What to explain, how, and where to. Workers must see all folders under the same paths."""

    workdir: Path  # A trained bundle.
    output_dir: Path  # Created if need be; what an interrupted run left there is taken up.
    data_dir: Path | None = None  # The data set of the training, of which a split is explained;
    split: str = "validation"
    image_dir: str = ""  # or photographs: what `find_source.open_source` takes. With data_dir it is
    labels: str = ""  # said which of them are in it. And a CSV of their labels, if there is one.
    methods: tuple[str, ...] = specs.METHODS[:1]  # The first makes the maps; all are measured.
    average_views: bool = False  # Maps are means over the views, as the scores are.
    colormap: str = specs.COLORMAPS[0]
    overlays: str = "full"  # One of worker.OVERLAYS.
    masks_dir: Path | None = None  # Lesion masks of the photographs, one folder a kind;
    lesions: tuple[str, ...] = ()  # those that count. None: every folder but OD.
    overwrite: bool = False  # Discard what earlier runs left, and start again.


@dataclasses.dataclass(frozen=True)
class _Given:
    """What there is to explain."""

    inputs: units.Inputs
    parts: list[units.Part]
    source: dict[str, Any]  # What tells it from anything else, for SOURCE_FILE.
    title: str  # For people,
    notices: tuple[str, ...]  # and what they should know of it.


def explain(request: Request, options: PipelineOptions) -> Path:
    """Explains every photograph; see the module's text. Returns the folder.

    Args:
      request: what.
      options: Beam's.

    Raises:
      FileNotFoundError: no bundle, no data set or no photographs.
      ValueError: data and bundle do not fit, a shard or mask is damaged, no photograph can be used,
        or the folder holds something else and `overwrite` is not set.
    """
    _check(request)
    hashes = [_sha256(request.workdir / file) for file in (bundles.MODEL_FILE, bundles.BUNDLE_FILE)]
    version, views = " ".join(hashes), request.average_views
    logging.info("loading the model of %s", request.workdir)
    explainers = worker.load(request.workdir, version, request.methods, average_views=views)
    explain_with = explainers[request.methods[0]]
    bundle, threads = explain_with.bundle, beam_flags.threads_per_worker(options)
    training = _training(request, bundle)
    given = _given(request, bundle, training, threads=threads)
    settings = worker.Settings(
        workdir=request.workdir,
        version=version,
        methods=request.methods,
        overlays=request.overlays,
        average_views=views,
        colormap=request.colormap,
        masks=_masks(request, given.parts),
        threads=threads,
    )
    source = given.source | _settings_source(settings, bundle, model_hash=hashes[0])
    _claim(request.output_dir, source, overwrite=request.overwrite)
    work = worker.ExplainPart(settings, given.inputs, request.output_dir)
    _run(given, work, options, request.output_dir)
    if bundle.fitted is None:
        logging.warning(
            "%s was not evaluated on validation yet: decisions are at the default threshold.",
            request.workdir,
        )
    logging.info("drawing the figures and the page")
    results.write(
        given.parts,
        given.inputs,
        settings,
        explain_with,
        title=given.title,
        notices=given.notices,
        training=training,
        output_dir=request.output_dir,
    )
    return request.output_dir


def _check(request: Request) -> None:
    """Refuses what contradicts itself, before any work.

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


def _training(request: Request, bundle: bundles.Bundle) -> results.Training | None:
    """The data set that the model was trained on, if it was given."""
    if request.data_dir is None:
        return None
    data = manifest.load(request.data_dir)
    manifest.check_same_contract(bundle.manifest, data, where=str(request.data_dir))
    return results.Training(request.data_dir, data)


def _masks(request: Request, parts: Sequence[units.Part]) -> mask_measures.Masks | None:
    """The masks of these photographs, if they were given."""
    if not request.masks_dir:
        return None
    kinds = localization.kinds(request.masks_dir, request.lesions)
    masks = mask_measures.Masks(request.masks_dir, kinds)
    mask_measures.check_names(masks, parts)
    return masks


def _settings_source(
    settings: worker.Settings, bundle: bundles.Bundle, *, model_hash: str
) -> dict[str, Any]:
    """What of the settings decides what is in the folder, for SOURCE_FILE."""
    return {
        "format": _FORMAT,
        "model": model_hash,
        "views": list(bundle.experiment.evaluation.views),
        "methods": list(settings.methods),
        "overlays": settings.overlays,
        "average_views": settings.average_views,
        "colormap": settings.colormap,
        "masks": settings.masks and mask_measures.digest(settings.masks),
    }


def _given(
    request: Request,
    bundle: bundles.Bundle,
    training: results.Training | None,
    *,
    threads: int,
) -> _Given:
    spec = bundle.experiment.dataset
    if training and not request.image_dir:
        return _Given(
            units.Shards(training.folder, spec.recipe.size),
            units.parts_of_split(training.data, request.split),
            {"data": training.data.fingerprint, "split": request.split},
            f"{spec.name}, {request.split}",
            (_TRAINED_ON,) if request.split == splits.SPLITS[0] else (),
        )
    if bundle.manifest.prepared == manifest.ELSEWHERE:
        raise ValueError(
            "the model was trained on pictures that were prepared outside of dr_tfx (an .npy "
            "array): what was done to them cannot be done to a photograph. Explain a split of its "
            "data set, --data_dir"
        )
    photographs = find_source.open_source(request.image_dir)
    parts, digests = units.parts_of_source(
        photographs, spec, labels=request.labels, by_name=request.masks_dir is not None
    )
    inputs = units.Photographs(photographs, spec.recipe, threads)
    paths = (Path(inputs.path(item)) for part in parts for item in part.items)
    if any(path.is_relative_to(request.output_dir) for path in paths):
        raise ValueError(
            f"--output_dir={request.output_dir} holds photographs of --image_dir; choose another, "
            "so that overlays are never taken for photographs"
        )
    notices = () if training else (_NOT_COMPARED,)
    return _Given(inputs, parts, digests, request.image_dir, notices)


def _sha256(path: Path) -> str:
    if not path.is_file():
        raise FileNotFoundError(
            f"{path} does not exist: {path.parent} holds no finished training. Check --workdir."
        )
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def _claim(output_dir: Path, source: dict[str, Any], *, overwrite: bool) -> None:
    """Notes what the folder is made from, after making sure that it holds nothing else."""
    output_dir.mkdir(parents=True, exist_ok=True)
    path = output_dir / SOURCE_FILE
    if overwrite and path.is_file():
        for folder in (heatmap_shards.OVERLAYS, heatmap_shards.THUMBNAILS):
            shutil.rmtree(output_dir / folder, ignore_errors=True)
        for pattern in ("heatmaps-*", "localization*", *results.FILES):
            for old in output_dir.glob(pattern):
                old.unlink()
        path.unlink()
    if path.is_file():
        found = json.loads(path.read_text(encoding="utf-8"))
        different = [key for key in {**source, **found} if found.get(key) != source.get(key)]
        if different:
            raise ValueError(
                f"{output_dir} holds heat maps of something else: {', '.join(different)} "
                f"differ{'s' if len(different) == 1 else ''} from {path}. "
                "Choose another --output_dir, or discard them with --overwrite."
            )
    manifest.write_text(path, json.dumps(source, indent=2, sort_keys=True) + "\n")


def _run(
    given: _Given,
    work: worker.ExplainPart,
    options: PipelineOptions,
    output_dir: Path,
) -> None:
    parts = [part for part in given.parts if not heatmap_shards.is_done(output_dir, part.name)]
    if not parts:
        return
    for part in parts:  # What a killed job has left is no progress.
        heatmap_shards.live_path(output_dir, part.name).unlink(missing_ok=True)
    pipeline = beam.Pipeline(runner=beam_flags.create(options), options=options)
    _ = pipeline | beam.Create(parts) | beam.Reshuffle() | beam.ParDo(work)
    total, left = sum(p.records for p in given.parts), {p.name: p.records for p in parts}

    def count() -> tuple[int, dict[str, int]]:
        for name in [name for name in left if heatmap_shards.is_done(output_dir, name)]:
            del left[name]
        paths = (str(heatmap_shards.live_path(output_dir, name)) for name in left)
        running = sum(sum(files.read_live(path)) for path in paths)
        return total - sum(left.values()) + running, {}

    with progress.bar(count, total=total, seconds=0.5, title="explain"):
        try:
            pipeline.run().wait_until_finish()
        except RuntimeError as error:  # How Beam hands on what a worker raised, as text.
            logging.debug("%s", error)
            last = str(error).strip().splitlines()[-1]
            raise ValueError(f"{last} (--verbosity=1 shows where.)") from error
