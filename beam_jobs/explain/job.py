"""Heat maps of one split of a data set, or of raw photographs, as a Beam job.

    parts -> Reshuffle -> ExplainPart: one part in, its heat maps, overlays and rows out

A part, which is a shard of the split or some photographs, is the unit of work, as in the build job:
only names pass between workers, memory does not grow with the data set, and a rerun skips what is
finished. OUTPUT_DIR receives

    explain.json             what the folder is made from; written first, compared by a rerun
    heatmaps-<part>          TFRecords: image/id, heatmap/values (float32 bytes), heatmap/height,
                             heatmap/width, score (the number that the map explains)
    overlays/<part>/<id>.png the heat map over the photograph; for raw photographs at their full
                             size, with thumbnails/<part>/<id>.png at the model's
    heatmaps-<part>.csv      the part's rows of the index, with its measures against lesion masks,
                             where there are any; written last: the part is finished
    index.csv                id, label, target, the number that the map explains (`score` for a
                             binary task), decision, shard, overlay, outside; sorted by id; for raw
                             photographs also photograph, ungradable and training_split
    rejects.csv              id, photograph, reason, detail of raw photographs that cannot be read
    localization.json, .csv  the averaged measures; localization_photographs.csv has each
    gradcam_<group>.png      three photographs of each group (`gradcam_normal.png` and
                             `gradcam_abnormal.png` for a binary task)
    gradcam_final.png        the photographs of all groups together
    index.html               a page to look through everything
"""

import json
import shutil
from pathlib import Path
from typing import Any

import apache_beam as beam
from absl import logging
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.build_examples import progress
from beam_jobs.explain import heatmap_shards, page, published_figures, results, worker
from beam_jobs.explain import plan as planning
from beam_jobs.runners import beam_flags, pipelines
from dr_tfx.storage import claims, files, json_files, locks

SOURCE_FILE = "explain.json"
_FILES = (
    *("heatmaps-*", "localization*", published_figures.PATTERN),
    *(results.INDEX_FILE, results.REJECTS_FILE, page.FILE_NAME),
)


def explain(request: planning.ExplainRequest, options: PipelineOptions) -> Path:
    """Explain every photograph (see the module's text), and return the folder.

    Args:
      request: what to explain, how, and where to.
      options: Beam's.

    Raises:
      FileNotFoundError: no bundle, no data set or no photographs.
      ValueError: data and bundle do not fit, a shard or mask is damaged, no photograph can be used,
        or the folder holds something else and `overwrite` is not set.
      OSError: the folder cannot be written, or another process writes into it.
    """
    with locks.held(request.output_dir):
        plan = planning.make(request, threads=beam_flags.threads_per_worker(options))
        _claim(plan.output_dir, plan.source, overwrite=request.overwrite)
        _run(plan, options)
        logging.info("drawing the figures and the page")
        joined = results.join(plan)
        published_figures.write(plan, joined)
        files.write_text(plan.output_dir / page.FILE_NAME, page.render(plan, joined))
        return plan.output_dir


def _claim(output_dir: Path, source: dict[str, Any], *, overwrite: bool) -> None:
    """Note what the folder is made from.

    Raises:
      ValueError: the folder holds the results of something else.
      FileExistsError: it holds somebody else's files.
    """
    results = (*_FILES, heatmap_shards.OVERLAYS, heatmap_shards.THUMBNAILS)
    claims.check(output_dir, mark=SOURCE_FILE, key="overlays", results=results)
    path = output_dir / SOURCE_FILE
    if overwrite and path.is_file():
        for folder in (heatmap_shards.OVERLAYS, heatmap_shards.THUMBNAILS):
            shutil.rmtree(output_dir / folder, ignore_errors=True)
        for pattern in _FILES:
            for old in output_dir.glob(pattern):
                old.unlink()
        path.unlink()
    if path.is_file():
        found = json_files.read(path)
        different = [key for key in {**source, **found} if found.get(key) != source.get(key)]
        if different:
            raise ValueError(
                f"{output_dir} holds heat maps of something else: {', '.join(different)} "
                f"differ{'s' if len(different) == 1 else ''} from {path}. "
                "Choose another --output_dir, or discard them with --overwrite."
            )
    files.write_text(path, json.dumps(source, indent=2, sort_keys=True) + "\n")


def _run(plan: planning.ExplainPlan, options: PipelineOptions) -> None:
    """Explain the parts that are not finished."""
    folder = plan.output_dir
    parts = [part for part in plan.parts if not heatmap_shards.is_done(folder, part.name)]
    if not parts:
        return
    for part in parts:  # The count that a killed job left is not this job's progress.
        heatmap_shards.live_path(folder, part.name).unlink(missing_ok=True)
    pipeline = beam.Pipeline(runner=beam_flags.create(options, with_model=True), options=options)
    work = worker.ExplainPart(plan.settings, plan.inputs, folder)
    _ = pipeline | beam.Create(parts) | beam.Reshuffle() | beam.ParDo(work)
    total, left = sum(p.records for p in plan.parts), {p.name: p.records for p in parts}

    def count() -> tuple[int, dict[str, int]]:
        for name in [name for name in left if heatmap_shards.is_done(folder, name)]:
            del left[name]
        paths = (str(heatmap_shards.live_path(folder, name)) for name in left)
        running = sum(sum(files.read_live(path)) for path in paths)
        return total - sum(left.values()) + running, {}

    with progress.bar(count, total=total, seconds=0.5, title="explain"):
        pipelines.run(pipeline)
