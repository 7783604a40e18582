"""Raw photographs and a label CSV -> TFRecord shards and `dataset.json`, as an Apache Beam job.

The shard is the unit of work. Beam distributes the names of shards; one call of `WriteShard` reads,
preprocesses and writes one shard. No image passes through a shuffle, which a local runner would
keep in memory, and no byte depends on the runner or the number of workers.
"""

import contextlib
import errno
import logging
import os
import posixpath
import signal
import threading
from collections.abc import Iterator

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.build_examples import accounting, destination, planning, progress, write_shard
from beam_jobs.runners import beam_flags
from beam_jobs.sources import find_source
from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.storage import files

_LOG = logging.getLogger(__name__)


def build(
    spec: specs.DatasetSpec,
    *,
    image_dir: str,
    labels: str,
    output_dir: str,
    overwrite: bool = False,
    options: PipelineOptions | None = None,
) -> manifest.Manifest:
    """Builds the data set, or resumes its build, and returns its manifest.

    Args:
      spec: what to make of the photographs.
      image_dir: folder of the photographs. labels: CSV. Any file system that Beam knows.
      output_dir: a folder or object store that every worker sees.
      overwrite: delete what an earlier build left in `output_dir`.
      options: Beam's; `beam_flags.create` says which runner they mean. None: this process.

    Raises:
      FileNotFoundError: CSV or folder missing, or a finished data set lacks a shard.
      ValueError: unusable input, too many rejects, or `output_dir` was built otherwise, cannot be
        written, or holds the photographs.
    """
    options = options or PipelineOptions([])
    beam_flags.check_folders(options, image_dir=image_dir, output_dir=output_dir)
    beam_flags.check_dataflow(options, image_dir, labels, output_dir)
    output_dir = files.absolute(output_dir)
    destination.check_place(output_dir)
    source = find_source.open_photographs(image_dir, spec.recipe)
    plan = planning.make_plan(spec, labels=labels, source=source)
    destination.check_apart(output_dir, plan, source)
    # Too many already? Then no work is done, and a data set that is there is left as it is.
    is_there = files.exists(posixpath.join(output_dir, manifest.FILE_NAME))
    accounting.report_rejects(plan.rejects, plan, output_dir, write=not is_there)
    if overwrite:
        destination.delete(output_dir)
    if finished := destination.finished(output_dir, plan, source):
        destination.forget(output_dir)
        _LOG.info("%s is finished and up to date: nothing to do", output_dir)
        return finished
    tasks, shards = destination.claim(output_dir, plan, source)
    if tasks:
        writer = write_shard.WriteShard(
            spec, source, output_dir, threads=beam_flags.threads_per_worker(options)
        )
        with progress.of_build(output_dir, total=len(plan.rows)):
            _run(tasks, writer, options, output_dir)
    return accounting.finish(plan, shards, source, output_dir)


def _run(
    tasks: list[write_shard.Task],
    writer: write_shard.WriteShard,
    options: PipelineOptions,
    output_dir: str,
) -> None:
    # Large shards first: local runners deal them out in turn, and none is left over at the end.
    tasks = sorted(tasks, key=lambda task: -task.length)
    try:
        with (
            _watch_workers(),
            beam.Pipeline(runner=beam_flags.create(options), options=options) as pipeline,
        ):
            (
                pipeline
                | "Shards" >> beam.Create(tasks, reshuffle=False)
                | "Distribute" >> beam.Reshuffle()
                | "WriteShard" >> beam.ParDo(writer)
            )
    except Exception as error:  # Beam wraps a worker's error in one of its own, as text.
        if any(os.strerror(number) in str(error) for number in (errno.ENOSPC, errno.EDQUOT)):
            raise OSError(
                f"no space left in {output_dir}: the shards that are finished are kept. Make room "
                "and run the same command again"
            ) from error
        raise


class _WorkerDied(BaseException):
    """Raised in the main thread. No Exception, so that Beam does not take it for its own."""


@contextlib.contextmanager
def _watch_workers() -> Iterator[None]:
    """Ends the body when a worker process of this machine dies; Beam would wait for it for ever.

    Beam notices in a thread of its own, whose exception goes no further. A signal takes it to the
    main thread: not SIGINT, which a shell lets the commands ignore that it starts with `&`.

    Raises:
      OSError: one did.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    died: list[str] = []
    before = threading.excepthook

    def hook(arguments: threading.ExceptHookArgs) -> None:
        said = str(arguments.exc_value)
        if not said.startswith("Worker subprocess exited"):
            before(arguments)
        elif not died:
            died.append(said)
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGUSR1)

    def interrupt(*_: object) -> None:
        raise _WorkerDied

    handler = signal.signal(signal.SIGUSR1, interrupt)
    threading.excepthook = hook
    try:
        yield
    except _WorkerDied:
        raise OSError(
            f"a worker was killed, for want of memory perhaps: {died[0]}. What is finished is "
            "kept: run the same command again, with fewer workers"
        ) from None
    finally:
        signal.signal(signal.SIGUSR1, handler)
        threading.excepthook = before
