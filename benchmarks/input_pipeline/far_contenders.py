"""The contenders of `benchmarks.input_pipeline.remote`: the files of each, and how it reads them.

A reader is given the job, yields an empty array as soon as its libraries are imported, and then
endless batches of 64 pictures, uint8 (64, size, size, 3). A job holds:

    folder    what the store serves, for names alone: no contender reads pixels there
    cache     a folder in which a contender with a cache may keep what came
    cache_gb  the size of our cache
    size      pixels a side
    epoch     examples of an epoch in which both classes come equally often
"""

import contextlib
import importlib.util
import io
import itertools
import os
import tarfile
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks import synthetic_examples
from benchmarks.input_pipeline import slow_store
from dr_tfx.dataset import manifest, records

BATCH = 64
SHUFFLE = 1024  # Examples of each class in the buffer of those that stream.
THREADS = 32  # Of Grain; as many requests at a time as ours. Its own 16 are for disks.
ADDRESS = f"gs://{slow_store.BUCKET}/records"

Batches = Iterator[np.ndarray]


def write(folder: Path, count: int, size: int) -> tuple[float, int]:
    """Write the examples in each form that can be read here; return GB and samples of an epoch."""
    data = synthetic_examples.write_shards(folder / "records", count, size)
    (folder / "tar").mkdir()
    for c in (0, 1):
        found = _pictures(folder, data, c)
        for part in itertools.count():
            some = list(itertools.islice(found, synthetic_examples.SHARD))
            if not some:
                break
            with tarfile.open(folder / "tar" / f"{c}-{part:05d}.tar", "w") as tar:
                for name, pixels in some:
                    entry = tarfile.TarInfo(f"{name}.raw")
                    entry.size = pixels.nbytes
                    tar.addfile(entry, io.BytesIO(pixels.tobytes()))
    if not missing("mosaicml-streaming, cold"):
        _write_mds(folder, data)
    classes = np.minimum(synthetic_examples.labels(count), 1)
    return sum(shard.bytes for shard in data.shards) / 1e9, 2 * int(np.bincount(classes).max())


def _write_mds(folder: Path, data: manifest.Manifest) -> None:
    """Write the examples as shards of MosaicML, in a folder for each class."""
    import streaming

    size = data.dataset.recipe.size
    columns = {"image": f"ndarray:uint8:{size},{size},3"}
    for c in (0, 1):
        with streaming.MDSWriter(out=str(folder / "mds" / str(c)), columns=columns) as sink:
            for _, pixels in _pictures(folder, data, c):
                sink.write({"image": pixels})


def _pictures(
    folder: Path, data: manifest.Manifest, of_class: int
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield names and pictures of a class: grade 0, or the others."""
    for shard in data.shards:
        if min(shard.label, 1) == of_class:
            with (folder / "records" / shard.name).open("rb") as stream:
                yield from records.read_images(stream, data.dataset.recipe.size)


def ours(job: dict[str, Any]) -> Batches:
    """Yield what `train` is given."""
    import gcsfs  # noqa: F401 - The client, as that of others, before the time is taken.

    from dr_tfx.dataset import places
    from dr_tfx.input_pipeline import loader

    yield np.empty(0)
    folder = places.folder(ADDRESS, cache_dir=job["cache"], cache_gb=job["cache_gb"])
    experiment = synthetic_examples.experiment(job["size"], batch_size=BATCH)
    batches, _ = loader.train_batches(folder, manifest.load(folder), experiment)
    with contextlib.closing(batches):
        for batch in batches:
            yield batch["image"]


def by_tf_data(job: dict[str, Any]) -> Batches:
    """Yield batches of shards that come as a whole, by tf.data."""
    import gcsfs
    import tensorflow as tf

    yield np.empty(0)
    store = gcsfs.GCSFileSystem(token="anon")
    features = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}

    def fetch(name: bytes) -> np.ndarray:
        content = store.cat_file(name.decode())
        return np.array(list(records.read(io.BytesIO(content))), object)

    def of_shard(name: Any) -> Any:
        found = tf.numpy_function(fetch, [name], tf.string)
        return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(found, [None]))

    streams = []
    names = [name for name in store.ls(ADDRESS) if ".tfrecord-" in name]
    for of_class in ("train-0", "train-[1-4]"):
        chosen = [name for name in names if Path(name).match(f"{of_class}.*")]
        stream = tf.data.Dataset.from_tensor_slices(chosen).shuffle(len(chosen)).repeat()
        stream = stream.interleave(of_shard, cycle_length=4, num_parallel_calls=4)
        streams.append(stream.shuffle(SHUFFLE))
    mixed = tf.data.Dataset.sample_from_datasets(streams, [0.5, 0.5]).batch(BATCH)

    def parse(batch: Any) -> Any:
        pixels = tf.io.parse_example(batch, features)["image/encoded"]
        return tf.reshape(tf.io.decode_raw(pixels, tf.uint8), (-1, job["size"], job["size"], 3))

    parsed = mixed.map(parse, tf.data.AUTOTUNE, deterministic=False).prefetch(tf.data.AUTOTUNE)
    yield from parsed.as_numpy_iterator()


def by_webdataset(job: dict[str, Any]) -> Batches:
    """Yield batches of tar files that curl fetches."""
    import webdataset

    yield np.empty(0)
    streams: list[Any] = []
    for c in (0, 1):
        urls = [f"pipe:curl -sf {_url(f'tar/{path.name}')}" for path in _tar_files(job, c)]
        stream = webdataset.WebDataset(urls, shardshuffle=len(urls), empty_check=False).repeat()
        streams.append(stream.shuffle(SHUFFLE))
    size = job["size"]
    made: list[np.ndarray] = []
    for both in zip(*streams, strict=True):
        made += [np.frombuffer(one["raw"], np.uint8).reshape(size, size, 3) for one in both]
        if len(made) >= BATCH:
            yield np.stack(made[:BATCH])
            del made[:BATCH]


class TarMembers:
    """Pictures in tar files of the store by their numbers, as Grain asks for them.

    Args:
      job: of the benchmark.
      of_class: 0 or 1.
      store: Google's client.
    """

    def __init__(self, job: dict[str, Any], of_class: int, store: Any) -> None:
        self._store = store
        self._shape = job["size"], job["size"], 3
        self._places: list[tuple[str, int]] = []
        for path in _tar_files(job, of_class):  # An index, which costs no requests here.
            with tarfile.open(path) as tar:
                key = f"{slow_store.BUCKET}/tar/{path.name}"
                self._places += [(key, member.offset_data) for member in tar]

    def __len__(self) -> int:
        return len(self._places)

    def __getitem__(self, number: int) -> np.ndarray:
        key, start = self._places[number]
        end = start + int(np.prod(self._shape))
        return np.frombuffer(self._store.cat_file(key, start=start, end=end), np.uint8).reshape(
            self._shape
        )


def by_grain(job: dict[str, Any]) -> Batches:
    """Yield batches of pictures that threads of Grain ask for one by one."""
    import gcsfs
    import grain

    yield np.empty(0)
    store = gcsfs.GCSFileSystem(token="anon")
    sources = [
        grain.MapDataset.source(TarMembers(job, c, store)).shuffle(seed=c).repeat() for c in (0, 1)
    ]
    options = grain.ReadOptions(num_threads=THREADS, prefetch_buffer_size=8 * BATCH)
    mixed = grain.MapDataset.mix(sources, [0.5, 0.5]).to_iter_dataset(options)
    yield from mixed.batch(BATCH)


def by_mosaicml(job: dict[str, Any]) -> Batches:
    """Yield batches of MosaicML's streams, which keep whole shards in a folder."""
    import boto3  # noqa: F401 - Its client.
    import streaming
    import torch

    yield np.empty(0)
    # Its client of gs:// insists on Google's own address, that of s3:// does not.
    os.environ |= {
        "S3_ENDPOINT_URL": os.environ["STORAGE_EMULATOR_HOST"],
        "AWS_ACCESS_KEY_ID": "anybody",
        "AWS_SECRET_ACCESS_KEY": "anything",
    }
    streaming.base.util.clean_stale_shared_memory()
    streams = [
        streaming.Stream(
            remote=f"s3://{slow_store.BUCKET}/mds/{c}", local=f"{job['cache']}/{c}", proportion=0.5
        )
        for c in (0, 1)
    ]
    dataset = streaming.StreamingDataset(
        streams=streams, epoch_size=job["epoch"], shuffle=True, batch_size=BATCH
    )

    def join(examples: list[dict[str, np.ndarray]]) -> Any:
        return torch.from_numpy(np.stack([example["image"] for example in examples]))

    loader = streaming.StreamingDataLoader(dataset, batch_size=BATCH, collate_fn=join)
    while True:
        yield from (batch.numpy() for batch in loader)


def in_order(job: dict[str, Any]) -> Batches:
    """Yield batches of the shards one after the other, each once."""
    yield np.empty(0)
    made = []
    for path in sorted(Path(job["folder"], "records").glob("train-*.tfrecord-*")):
        with urllib.request.urlopen(_url(f"records/{path.name}")) as answer:
            content = io.BytesIO(answer.read())
        for _, pixels in records.read_images(content, job["size"]):
            made.append(pixels)
            if len(made) == BATCH:
                yield np.stack(made)
                made = []


def _tar_files(job: dict[str, Any], of_class: int) -> list[Path]:
    return sorted(Path(job["folder"], "tar").glob(f"{of_class}-*"))


def _url(name: str) -> str:
    """Return the address of an object for those who read it as a whole."""
    key = urllib.parse.quote(name, safe="")
    host = os.environ["STORAGE_EMULATOR_HOST"]
    return f"{host}/download/storage/v1/b/{slow_store.BUCKET}/o/{key}"


IN_ORDER = "in order"
COLD = ", cold"  # The end of the name of a contender whose cache is empty,
WARM = ", warm"  # and of the same once more, which finds what an epoch has brought.
READ: dict[str, Callable[[dict[str, Any]], Batches]] = {
    "ours, cold": ours,
    "ours, warm": ours,
    "mosaicml-streaming, cold": by_mosaicml,
    "mosaicml-streaming, warm": by_mosaicml,
    "tf.data": by_tf_data,
    "grain": by_grain,
    "webdataset": by_webdataset,
    IN_ORDER: in_order,
}
_NEEDS = {by_mosaicml: ("streaming", "torch"), by_grain: ("grain",), by_webdataset: ("webdataset",)}


def missing(name: str) -> list[str]:
    """Return the modules that a contender needs and that are not installed."""
    needed = _NEEDS.get(READ[name], ())
    return [module for module in needed if importlib.util.find_spec(module) is None]
