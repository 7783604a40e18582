"""MosaicML's StreamingDataset over shards of its own: two streams of equal share."""

import itertools
from typing import Any

import numpy as np

from benchmarks.input_pipeline.contenders.augmentation import float_batch
from benchmarks.input_pipeline.contenders.contender import Batches, Contender, Job


def write(job: Job) -> None:
    """Write MDS shards, in a folder per class."""
    import streaming

    columns = {"image": f"ndarray:uint8:{job.size},{job.size},3", "class": "int"}
    for c, group in itertools.groupby(job.parts(), key=lambda part: part[0]):
        folder = str(job.path("mds") / str(c))
        with streaming.MDSWriter(out=folder, columns=columns) as sink:
            for _, _, examples in group:
                for _, picture in examples:
                    sink.write({"image": picture, "class": c})


def read(job: Job) -> Batches:
    """Stack examples to a batch."""
    import streaming
    import torch

    yield None

    def join(examples: list[dict]) -> Any:
        images = np.stack([e["image"] for e in examples])
        classes = torch.tensor([e["class"] for e in examples])
        return torch.from_numpy(float_batch(job, images)), classes

    streaming.base.util.clean_stale_shared_memory()
    streams = [
        streaming.Stream(local=str(job.path("mds") / str(c)), proportion=0.5) for c in (0, 1)
    ]
    dataset = streaming.StreamingDataset(streams=streams, shuffle=True, batch_size=job.batch_size)
    loader = streaming.StreamingDataLoader(
        dataset, batch_size=job.batch_size, num_workers=job.workers, collate_fn=join
    )
    while True:
        yield from loader


CONTENDER = Contender(
    "mosaicml-streaming", "bounded", write, read, needs=("streaming", "torch"), workers=(0, 2)
)
