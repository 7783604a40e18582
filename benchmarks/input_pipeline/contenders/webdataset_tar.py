"""WebDataset over tar files: a random mix of two endless streams, one for each class."""

from typing import Any

import numpy as np

from benchmarks.input_pipeline.contenders.augmentation import float_batch
from benchmarks.input_pipeline.contenders.contender import SHUFFLE, Batches, Contender, Job


def write(job: Job) -> None:
    """Write tar files, each of one class."""
    import webdataset

    for c, part, examples in job.parts():
        path = job.path("tar") / f"{c}-{part:05d}.tar"
        path.parent.mkdir(exist_ok=True)
        with webdataset.TarWriter(str(path)) as sink:
            for number, picture in examples:
                sink.write({"__key__": str(number), "bin": picture.tobytes(), "cls": c})


def read(job: Job) -> Batches:
    """Shuffle each class in a buffer and join batches out of their bytes."""
    import webdataset

    yield None
    shape = (-1, job.size, job.size, 3)

    def join(examples: list) -> Any:
        images, classes = zip(*examples, strict=True)
        images = np.frombuffer(bytearray(b"".join(images)), np.uint8).reshape(shape)
        return float_batch(job, images), np.array([int(c) for c in classes])

    streams = [
        webdataset.DataPipeline(
            webdataset.ResampledShards(sorted(map(str, job.path("tar").glob(f"{c}-*.tar")))),
            webdataset.tarfile_to_samples(),
            webdataset.shuffle(SHUFFLE),
            webdataset.to_tuple("bin", "cls"),
        )
        for c in (0, 1)
    ]
    mixed = webdataset.DataPipeline(
        webdataset.RandomMix(streams, [0.5, 0.5]),
        webdataset.batched(job.batch_size, collation_fn=join),
    )
    yield from webdataset.WebLoader(mixed, batch_size=None, num_workers=job.workers)


CONTENDER = Contender(
    "webdataset", "bounded", write, read, needs=("webdataset", "torch"), workers=(0, 2)
)
