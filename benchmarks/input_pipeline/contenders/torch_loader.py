"""PyTorch's DataLoader over an array, for the two contenders that use it."""

from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.input_pipeline.contenders.augmentation import float_batch
from benchmarks.input_pipeline.contenders.contender import Batches, Job


def read(job: Job, dataset: type, join: Callable[[Any], Any]) -> Batches:
    """Draw both classes equally often by PyTorch's WeightedRandomSampler.

    Args:
      job: what to read.
      dataset: a map-style data set that is made of the job and the classes of its examples.
      join: turns what the data set gives for a batch into arrays of images and of classes.
    """
    import torch
    from torch.utils import data

    yield None
    classes = job.classes()

    def collate(examples: Any) -> Any:
        images, chosen = join(examples)
        # NumPy's augmentation is faster here than torch's own operations on a batch.
        return torch.from_numpy(float_batch(job, images)), torch.from_numpy(chosen)

    weights = (1 / np.bincount(classes))[classes]
    loader = data.DataLoader(
        dataset(job, classes),
        batch_size=job.batch_size,
        sampler=data.WeightedRandomSampler(weights, job.count),
        num_workers=job.workers,
        collate_fn=collate,
        persistent_workers=job.workers > 0,
    )
    while True:
        yield from loader
