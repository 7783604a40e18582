"""The shards that the build job writes, for `ours` and for tf.data written by hand."""

from benchmarks import synthetic_examples
from benchmarks.input_pipeline.contenders.contender import Job


def write(job: Job) -> None:
    """Write shards of every label and their manifest."""
    synthetic_examples.write_shards(job.path("records"), job.count, job.size, encoding=job.encoding)
