"""All images as one array in an .npy file, for contenders that hold or map it."""

from collections.abc import Iterator

import numpy as np

from benchmarks.input_pipeline.contenders.contender import Job


def write(job: Job) -> None:
    """Write uint8 (count, size, size, 3)."""
    job.path("array").mkdir()
    shape = (job.count, job.size, job.size, 3)
    images = np.lib.format.open_memmap(job.path("array") / "images.npy", "w+", np.uint8, shape)
    for number, picture, _ in job.examples():
        images[number] = picture
    images.flush()


def load(job: Job, *, mapped: bool = False) -> np.ndarray:
    """Return the array, in memory or mapped."""
    return np.load(job.path("array") / "images.npy", mmap_mode="r" if mapped else None)


def one_epoch(classes: np.ndarray, *, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (indices, classes) per batch; the rare class is redrawn up to the other's number."""
    rng = np.random.default_rng()
    by_class = [np.flatnonzero(classes == c) for c in (0, 1)]
    most = max(map(len, by_class))
    index = np.concatenate(
        [c if len(c) == most else rng.choice(c, most, replace=True) for c in by_class]
    )
    rng.shuffle(index)
    for start in range(0, len(index) - batch_size + 1, batch_size):
        chosen = index[start : start + batch_size]
        yield chosen, classes[chosen]


def balanced(job: Job) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (indices, classes) per batch, epoch after epoch."""
    classes = job.classes()
    while True:
        yield from one_epoch(classes, batch_size=job.batch_size)
