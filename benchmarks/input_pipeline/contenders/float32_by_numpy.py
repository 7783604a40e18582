"""The published way: float32 images in memory, positives drawn again up to 1:1."""

import numpy as np

from benchmarks.input_pipeline.contenders import array_file
from benchmarks.input_pipeline.contenders.augmentation import augment
from benchmarks.input_pipeline.contenders.contender import Batches, Contender, Job


def read(job: Job) -> Batches:
    """Gather batches by NumPy's indexing."""
    yield None
    images = array_file.load(job).astype(np.float32)
    for index, classes in array_file.balanced(job):
        yield (augment(images[index]) if job.augmented else images[index]), classes


CONTENDER = Contender("float32 in memory by NumPy", "memory", array_file.write, read)
