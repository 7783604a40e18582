"""The upper limit: uint8 images in memory, gathered by NumPy and cast a batch at a time."""

from benchmarks.input_pipeline.contenders import array_file
from benchmarks.input_pipeline.contenders.augmentation import float_batch
from benchmarks.input_pipeline.contenders.contender import Batches, Contender, Job


def read(job: Job) -> Batches:
    """Gather batches by NumPy's indexing."""
    yield None
    images = array_file.load(job)
    for index, classes in array_file.balanced(job):
        yield float_batch(job, images[index]), classes


CONTENDER = Contender("uint8 in memory", "memory", array_file.write, read)
