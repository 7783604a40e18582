"""PyTorch's DataLoader as in its tutorial: one example at a time out of a mapped array."""

from typing import Any

import numpy as np

from benchmarks.input_pipeline.contenders import array_file, torch_loader
from benchmarks.input_pipeline.contenders.contender import Batches, Contender, Job


class MappedExamples:
    """A map-style data set of (image, class)."""

    def __init__(self, job: Job, classes: np.ndarray) -> None:
        self._images, self._classes = array_file.load(job, mapped=True), classes

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, i: int) -> tuple[np.ndarray, np.ndarray]:
        return self._images[i], self._classes[i]


def _join(examples: list) -> Any:
    return map(np.stack, zip(*examples, strict=True))


def read(job: Job) -> Batches:
    """Stack examples to a batch."""
    return torch_loader.read(job, MappedExamples, _join)


CONTENDER = Contender("torch", "mapped", array_file.write, read, needs=("torch",), workers=(0, 2))
