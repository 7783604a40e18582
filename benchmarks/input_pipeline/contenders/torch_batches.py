"""PyTorch's DataLoader that asks for whole batches, `__getitems__`, out of a mapped array."""

from typing import Any

import numpy as np

from benchmarks.input_pipeline.contenders import array_file, torch_loader
from benchmarks.input_pipeline.contenders.contender import Batches, Contender, Job


class MappedBatches:
    """A map-style data set that gives the images and classes of a batch at once."""

    def __init__(self, job: Job, classes: np.ndarray) -> None:
        self._images, self._classes = array_file.load(job, mapped=True), classes

    def __len__(self) -> int:
        return len(self._images)

    def __getitems__(self, index: list[int]) -> tuple[np.ndarray, np.ndarray]:
        return self._images[index], self._classes[index]


def _join(batch: Any) -> Any:
    return batch


def read(job: Job) -> Batches:
    """Index the array once a batch."""
    return torch_loader.read(job, MappedBatches, _join)


CONTENDER = Contender(
    "torch whole batches", "mapped", array_file.write, read, needs=("torch",), workers=(0, 2)
)
