"""Grain over ArrayRecord files: a mix of two shuffled sources, on threads or in processes."""

from typing import Any

import numpy as np

from benchmarks.input_pipeline.contenders.augmentation import float_batch
from benchmarks.input_pipeline.contenders.contender import Batches, Contender, Job


def write(job: Job) -> None:
    """Write files of one record a chunk, as Grain advises for reading in any order."""
    from array_record.python import array_record_module

    for c, part, examples in job.parts():
        path = job.path("array_record") / f"{c}-{part:05d}.array_record"
        path.parent.mkdir(exist_ok=True)
        writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
        for _, picture in examples:
            writer.write(bytes([c]) + picture.tobytes())
        writer.close()


def read(job: Job) -> Batches:
    """Shuffle each class as a whole, mix the classes, and join batches out of their bytes."""
    import grain

    yield None
    length = 1 + job.size * job.size * 3

    def join(serialized: Any) -> Any:
        rows = np.frombuffer(bytearray(b"".join(serialized)), np.uint8).reshape(-1, length)
        images = rows[:, 1:].reshape(-1, job.size, job.size, 3)
        return float_batch(job, images), rows[:, 0].astype(np.int64)

    sources = []
    for c in (0, 1):
        files = sorted(map(str, job.path("array_record").glob(f"{c}-*")))
        source = grain.MapDataset.source(grain.sources.ArrayRecordDataSource(files))
        sources.append(source.shuffle(seed=c).repeat())
    mixed = grain.MapDataset.mix(sources, [0.5, 0.5]).batch(job.batch_size, batch_fn=join)
    # Threads may run ahead by this many batches; Grain's own 500 are meant for single examples.
    options = grain.ReadOptions(num_threads=4, prefetch_buffer_size=16)
    batches = mixed.to_iter_dataset(options)
    if job.workers:
        batches = batches.mp_prefetch(grain.MultiprocessingOptions(num_workers=job.workers))
    yield from batches


CONTENDER = Contender(
    "grain", "bounded", write, read, needs=("grain", "array_record"), workers=(0, 2)
)
