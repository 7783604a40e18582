"""The Apache Beam job that makes TFRecord shards and `dataset.json` of photographs and a label CSV.

The shard is the unit of work. Beam distributes the names of shards, and one call of `WriteShard`
reads, preprocesses and writes one shard. No image passes through a shuffle, which a local runner
would keep in memory, and no byte depends on the runner or on the number of workers.
"""

import contextlib
import dataclasses
import logging
import posixpath

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.build_examples import (
    accounting,
    destination,
    planning,
    progress,
    twin_files,
    write_shard,
)
from beam_jobs.runners import beam_flags
from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.preprocessing import recipes
from dr_tfx.sources import find_source, folders
from dr_tfx.storage import files, locks

_LOG = logging.getLogger(__name__)


def build(
    spec: specs.DatasetSpec,
    *,
    image_dir: str,
    labels: str,
    output_dir: str,
    masks_dir: str = "",
    overwrite: bool = False,
    options: PipelineOptions | None = None,
) -> manifest.Manifest:
    """Build the data set, or resume its build, and return its manifest.

    Args:
      spec: the data set's settings.
      image_dir: the photographs: a folder, a pattern, an archive or an array.
      labels: their labels: a table, several tables with commas between, or `folders`. Both are on
        a disk or in an object store.
      output_dir: a folder, of a disk or an object store, that every worker sees.
      masks_dir: the masks that `spec.masks` names, a folder for each, in files named after their
        photographs; "" if it names none.
      overwrite: delete what an earlier build left in `output_dir`.
      options: Beam's options, from which `beam_flags.create` makes the runner. None: this process.

    Raises:
      FileNotFoundError: the CSV or the folder is missing, or a finished data set lacks a shard.
      ValueError: the input is unusable, too many rows were rejected, or `output_dir` holds another
        build, cannot be written, or holds the photographs. Most are `refusals.UnusableInput`.
      OSError: no space is left, a worker was killed, or another build writes into `output_dir`.
    """
    options = options or PipelineOptions([])
    beam_flags.check_folders(options, image_dir=image_dir, output_dir=output_dir)
    beam_flags.check_dataflow(options, image_dir, labels, output_dir)
    output_dir = files.absolute(output_dir)
    destination.check_place(output_dir)
    destination.check_ours(output_dir)
    # A finished data set is only looked at, so that nobody has to be able to write there.
    is_there = files.exists(posixpath.join(output_dir, manifest.FILE_NAME)) and not overwrite
    with contextlib.nullcontext() if is_there else locks.held(output_dir):
        return _build(
            spec,
            image_dir=image_dir,
            labels=labels,
            output_dir=output_dir,
            masks_dir=masks_dir,
            overwrite=overwrite,
            options=options,
        )


def _build(
    spec: specs.DatasetSpec,
    *,
    image_dir: str,
    labels: str,
    output_dir: str,
    masks_dir: str,
    overwrite: bool,
    options: PipelineOptions,
) -> manifest.Manifest:
    """Build the data set in a folder that nobody else writes into; see `build`."""
    source = find_source.open_photographs(image_dir, spec.recipe)
    spec = dataclasses.replace(spec, name=spec.name or find_source.name_of(image_dir))
    plan = planning.make_plan(spec, labels=labels, source=source, masks_dir=masks_dir)
    destination.check_apart(output_dir, plan, source)
    # Too many rejects end the job here, and a data set that exists is left as it is.
    is_there = files.exists(posixpath.join(output_dir, manifest.FILE_NAME))
    accounting.report_rejects(plan.rejects, plan, output_dir, write=not is_there)
    if overwrite:
        destination.delete(output_dir)
    if finished := destination.finished(output_dir, plan, source):
        destination.forget(output_dir)
        locks.clear(output_dir)
        _LOG.info("%s is finished and up to date: nothing to do", output_dir)
        return finished
    return _write(plan, source, output_dir, options)


def _write(
    plan: planning.Plan, source: folders.Source, output_dir: str, options: PipelineOptions
) -> manifest.Manifest:
    """Write the shards, again if it turns out that the split parts copies, and the manifest."""
    writer = write_shard.WriteShard(
        plan.spec,
        source,
        output_dir,
        masks=plan.masks,
        threads=beam_flags.threads_per_worker(options),
    )
    of_series = recipes.takes_neighbours(plan.spec.recipe)
    near = destination.near_twins(output_dir)  # An earlier run may have come as far as that.
    while True:
        reunited = plan.reunited(near)
        tasks, shards = destination.claim(output_dir, plan, reunited, source)
        if tasks:
            with progress.of_build(output_dir, total=len(plan.rows)):
                _run(tasks, writer, options, output_dir)
        written = accounting.read_written(shards, output_dir)
        found = twin_files.find_near(written.identities, of_series=of_series)
        if found == near or plan.reunited(found) is reunited:
            return accounting.finish(reunited, written, found, source, output_dir)
        near = found
        destination.note_near_twins(output_dir, near)
        _LOG.warning(
            "the split parts some of %d groups of copies of one photograph: it is made anew, and "
            "the shards that change are written again",
            len(near),
        )


def _run(
    tasks: list[write_shard.ShardTask],
    writer: write_shard.WriteShard,
    options: PipelineOptions,
    output_dir: str,
) -> None:
    # Local runners deal shards out in turn; with the large ones first, none is late at the end.
    tasks = sorted(tasks, key=lambda task: -task.length)
    try:
        with beam.Pipeline(runner=beam_flags.create(options), options=options) as pipeline:
            (
                pipeline
                | "Shards" >> beam.Create(tasks, reshuffle=False)
                | "Distribute" >> beam.Reshuffle()
                | "WriteShard" >> beam.ParDo(writer)
            )
    except Exception as error:  # Runners give a worker's error as text, in an error of their own.
        left = files.sizes(destination.in_progress(output_dir))
        if any(name.endswith(write_shard.NO_SPACE_SUFFIX) for name in left):
            raise OSError(
                f"no space left in {output_dir}: the shards that are finished are kept. Make room "
                "and run the same command again"
            ) from error
        raise
