"""Beam's DaskRunner for few elements of much work each, which leave files behind."""

import contextlib

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.dask import dask_runner


class DaskRunner(dask_runner.DaskRunner):
    """A runner that deals elements out singly and leaves the cluster when the job ends."""

    def run_pipeline(
        self, pipeline: beam.Pipeline, options: PipelineOptions
    ) -> dask_runner.DaskRunnerResult:
        """Start the job.

        Unless a flag says otherwise, Beam puts 128 elements into one task of Dask, and a whole data
        set would go to a single worker.

        Raises:
          OSError: the scheduler cannot be reached.
        """
        dask_options = options.view_as(dask_runner.DaskOptions)
        if not (dask_options.npartitions or dask_options.partition_size):
            dask_options.partition_size = 1
        try:
            started = super().run_pipeline(pipeline, options)
        except OSError as error:
            if not dask_options.address:
                raise
            raise OSError(
                f"--dask_client_address={dask_options.address}: no scheduler of Dask can be "
                f"reached there: {error}. Is `dask scheduler` running, and is this its address?"
            ) from error
        return _Result(started.client, started.futures)


class _Result(dask_runner.DaskRunnerResult):
    def wait_until_finish(self, duration: int | None = None) -> str:
        """Wait for the job, then let the cluster forget it.

        As long as the client exists, Dask repeats the work whose result it knew only from a worker
        that dies, even after the job has ended: files would change after its end.
        """
        with contextlib.closing(self.client):
            return super().wait_until_finish(duration)
