"""The contenders of `input.py`: how each stores the examples, and how it reads them.

Each is held to the same: endless batches of 64, shuffled, both classes equally often, float32
pixels 0..255 in the host's memory, and with augmentation a flip left-right, a flip up-down and a
brightness factor of 0.9 to 1.1, drawn for every picture anew. For all else each is written as its
own documentation advises for speed: whole batches at once wherever there is a way.

A contender is a function that writes its files and a generator that reads them. The generator first
gives None, once its libraries are imported: what it takes from there on is its own.
"""

import dataclasses
import importlib.util
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import synthetic_examples

SHUFFLE = 1024  # Examples in the buffer of those that have one, for each class.


@dataclasses.dataclass(frozen=True)
class Job:
    """What is read, and how."""

    folder: str  # Holds a folder for every way of storing the examples.
    count: int
    size: int
    batch_size: int = 64
    augmented: bool = False
    workers: int = 0
    encoding: str = "raw"

    def path(self, name: str) -> Path:
        """Where one way of storing has its files."""
        return Path(self.folder) / name

    def examples(self) -> Iterator[tuple[int, np.ndarray, int]]:
        """Number, picture and label of every example."""
        pictures = synthetic_examples.pictures(self.count, self.size)
        labels = synthetic_examples.labels(self.count).tolist()
        return zip(itertools.count(), pictures, labels, strict=False)

    def classes(self) -> np.ndarray:
        """0 or 1 of every example, int64 (count,)."""
        return np.minimum(synthetic_examples.labels(self.count), 1)


Batches = Iterator[Any]  # None, then (images, classes).


# --- Arrays in memory -----------------------------------------------------------------------------


def write_array(job: Job) -> None:
    """uint8 (count, size, size, 3) in an .npy file."""
    job.path("array").mkdir()
    shape = (job.count, job.size, job.size, 3)
    images = np.lib.format.open_memmap(job.path("array") / "images.npy", "w+", np.uint8, shape)
    for number, picture, _ in job.examples():
        images[number] = picture
    images.flush()


def float_array(job: Job) -> Batches:
    """The published route: float32 pictures in memory, positives drawn again up to 1:1."""
    yield None
    images = np.load(job.path("array") / "images.npy").astype(np.float32)
    for index, classes in _balanced_indices(job):
        yield (augment(images[index]) if job.augmented else images[index]), classes


def float_tensor(job: Job) -> Batches:
    """The same pictures as one tensor, gathered a batch at a time, as `model.fit` does."""
    import tensorflow as tf

    yield None
    images = tf.constant(np.load(job.path("array") / "images.npy").astype(np.float32))
    classes = tf.constant(job.classes())
    epoch = one_epoch(job.classes(), batch_size=job.batch_size)
    index = np.concatenate([index for index, _ in epoch])

    def gather(chosen: Any) -> Any:
        return _tf_augmented(job, tf.gather(images, chosen)), tf.gather(classes, chosen)

    batches = tf.data.Dataset.from_tensor_slices(index).shuffle(len(index)).repeat()
    yield from batches.batch(job.batch_size).map(gather, tf.data.AUTOTUNE).prefetch(2)


def byte_array(job: Job) -> Batches:
    """The upper limit: uint8 pictures in memory, gathered by NumPy and cast a batch at a time."""
    yield None
    images = np.load(job.path("array") / "images.npy")
    for index, classes in _balanced_indices(job):
        batch = images[index]
        yield (augment(batch) if job.augmented else batch.astype(np.float32)), classes


def one_epoch(classes: np.ndarray, *, batch_size: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Batches of indices and classes: the rare class is drawn again up to the other's number."""
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


def _balanced_indices(job: Job) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    classes = job.classes()
    while True:
        yield from one_epoch(classes, batch_size=job.batch_size)


def augment(images: np.ndarray) -> np.ndarray:
    """Flips and brightness of a batch for all who hold NumPy arrays; may overwrite it.

    Rows of three bytes are turned by OpenCV fifteen times as fast as by NumPy's indices. Returns
    float32.
    """
    rng = np.random.default_rng()
    left_right, up_down = rng.random((2, len(images))) < 0.5
    for i in np.flatnonzero(left_right):
        images[i] = cv2.flip(images[i], 1)
    images[up_down] = images[up_down, ::-1]
    factor = rng.uniform(0.9, 1.1, (len(images), 1, 1, 1)).astype(np.float32)
    result = np.multiply(images, factor, dtype=np.float32)
    return np.minimum(result, 255, out=result)


# --- TensorFlow -----------------------------------------------------------------------------------


def write_files(job: Job) -> None:
    """A PNG file an example, in a folder a class."""
    for number, picture, label in job.examples():
        folder = job.path("files") / str(min(label, 1))
        folder.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / f"{number}.png"), picture[..., ::-1])


def keras_directory(job: Job) -> Batches:
    """`image_dataset_from_directory`, once for each class: half a batch of either."""
    import keras
    import tensorflow as tf

    keras.utils.image_dataset_from_directory  # noqa: B018 - Keras imports what it needs now.
    yield None
    halves = [
        keras.utils.image_dataset_from_directory(
            str(job.path("files") / str(c)),
            labels=None,
            batch_size=job.batch_size // 2,
            image_size=(job.size, job.size),
            verbose=False,
        ).repeat()
        for c in (0, 1)
    ]
    classes = tf.repeat(tf.constant([0, 1], tf.int64), job.batch_size // 2)

    def join(*parts: Any) -> Any:
        images = tf.concat(parts, 0)
        return _tf_augmented(job, images), classes[: tf.shape(images)[0]]

    yield from tf.data.Dataset.zip(*halves).map(join, tf.data.AUTOTUNE).prefetch(2)


def write_records(job: Job) -> None:
    """Our shards."""
    synthetic_examples.write_shards(job.path("records"), job.count, job.size, encoding=job.encoding)


def tuned_tf_data(job: Job) -> Batches:
    """tf.data by hand over the same records: batched parsing, no order promised."""
    import tensorflow as tf

    yield None
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "label/level": tf.io.FixedLenFeature([], tf.int64),
    }

    def decode(encoded: Any) -> Any:
        if job.encoding == "raw":
            return tf.reshape(tf.io.decode_raw(encoded, tf.uint8), (-1, job.size, job.size, 3))
        return tf.map_fn(
            lambda data: tf.ensure_shape(
                tf.io.decode_image(data, 3, expand_animations=False), (job.size, job.size, 3)
            ),
            encoded,
            fn_output_signature=tf.uint8,
        )

    def parse(batch: Any) -> Any:
        parsed = tf.io.parse_example(batch, features)
        images = decode(parsed["image/encoded"])
        return _tf_augmented(job, images), tf.minimum(parsed["label/level"], 1)

    streams = []
    for pattern in ("train-0.*", "train-[1-4].*"):
        files = sorted(map(str, job.path("records").glob(pattern)))
        stream = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files)).repeat()
        stream = stream.interleave(
            tf.data.TFRecordDataset, cycle_length=4, num_parallel_calls=tf.data.AUTOTUNE
        )
        streams.append(stream.shuffle(SHUFFLE))
    mixed = tf.data.Dataset.sample_from_datasets(streams, [0.5, 0.5])
    batches = mixed.batch(job.batch_size).map(parse, tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.deterministic = False
    yield from batches.prefetch(tf.data.AUTOTUNE).with_options(options)


def _tf_augmented(job: Job, images: Any) -> Any:
    """Flips by tf.image, which take whole batches, while pixels are bytes; then brightness."""
    import tensorflow as tf

    if not job.augmented:
        return tf.cast(images, tf.float32)
    images = tf.image.random_flip_left_right(images)
    images = tf.cast(tf.image.random_flip_up_down(images), tf.float32)
    factor = tf.random.uniform([tf.shape(images)[0], 1, 1, 1], 0.9, 1.1)
    return tf.minimum(images * factor, 255.0)


def ours(job: Job) -> Batches:
    """What `train` gives to its step, and what the step does first: to float32, augmented."""
    from dr_tfx.machine import resources

    resources.tune_malloc()  # As drtfx-train does.
    import tensorflow as tf

    from dr_tfx.dataset import manifest
    from dr_tfx.input_pipeline import augmentation, loader
    from dr_tfx.training import distribution

    yield None
    changes = {"horizontal_flip": True, "vertical_flip": True, "brightness": 0.1}
    experiment = synthetic_examples.experiment(
        job.size,
        encoding=job.encoding,
        batch_size=job.batch_size,
        augmentation=changes if job.augmented else None,
    )
    data = manifest.load(job.path("records"))
    batches, _ = loader.train_batches(job.path("records"), data, experiment)
    for batch in distribution.distribute(batches, tf.distribute.get_strategy()):
        if job.augmented:
            spec = experiment.training.augmentation
            images = augmentation.augment(batch["image"], batch["draws"], spec)
        else:
            images = tf.cast(batch["image"], tf.float32)
        yield images, batch["target"]


# --- Peers with a library of their own ------------------------------------------------------------


def torch_examples(job: Job) -> Batches:
    """DataLoader as in PyTorch's tutorial: one example at a time out of a mapped array."""
    return _torch(job, whole_batches=False)


def torch_batches(job: Job) -> Batches:
    """DataLoader that asks for whole batches, `Dataset.__getitems__`, out of a mapped array."""
    return _torch(job, whole_batches=True)


def _torch(job: Job, *, whole_batches: bool) -> Batches:
    import torch
    from torch.utils import data

    yield None
    classes = job.classes()

    class Examples(data.Dataset):
        def __init__(self) -> None:
            self.images = np.load(job.path("array") / "images.npy", mmap_mode="r")

        def __len__(self) -> int:
            return len(self.images)

        def __getitem__(self, i: int) -> Any:
            return self.images[i], classes[i]

    class Whole(Examples):
        def __getitems__(self, index: list[int]) -> Any:
            return self.images[index], classes[index]

    def collate(examples: Any) -> Any:
        if whole_batches:
            images, chosen = examples
        else:
            images, chosen = map(np.stack, zip(*examples, strict=True))
        # NumPy's, which is faster here than torch's own operations on a batch.
        images = augment(images) if job.augmented else images.astype(np.float32)
        return torch.from_numpy(images), torch.from_numpy(chosen)

    weights = (1 / np.bincount(classes))[classes]
    loader = data.DataLoader(
        Whole() if whole_batches else Examples(),
        batch_size=job.batch_size,
        sampler=data.WeightedRandomSampler(weights, job.count),
        num_workers=job.workers,
        collate_fn=collate,
        persistent_workers=job.workers > 0,
    )
    while True:
        yield from loader


def write_tar(job: Job) -> None:
    """WebDataset's tar files, those of a class together."""
    import webdataset

    for c, part, examples in _parts(job):
        path = job.path("tar") / f"{c}-{part:05d}.tar"
        path.parent.mkdir(exist_ok=True)
        with webdataset.TarWriter(str(path)) as sink:
            for number, picture in examples:
                sink.write({"__key__": str(number), "bin": picture.tobytes(), "cls": c})


def web_dataset(job: Job) -> Batches:
    """Webdataset over tar files: a mix of two endless streams."""
    import webdataset

    yield None
    shape = (-1, job.size, job.size, 3)

    def join(examples: list) -> Any:
        images, classes = zip(*examples, strict=True)
        images = np.frombuffer(bytearray(b"".join(images)), np.uint8).reshape(shape)
        result = augment(images) if job.augmented else images.astype(np.float32)
        return result, np.array([int(c) for c in classes])

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


def write_array_records(job: Job) -> None:
    """ArrayRecord files of one record a chunk, as Grain advises for reading in any order."""
    from array_record.python import array_record_module

    for c, part, examples in _parts(job):
        path = job.path("array_record") / f"{c}-{part:05d}.array_record"
        path.parent.mkdir(exist_ok=True)
        writer = array_record_module.ArrayRecordWriter(str(path), "group_size:1")
        for _, picture in examples:
            writer.write(bytes([c]) + picture.tobytes())
        writer.close()


def grain_array_record(job: Job) -> Batches:
    """Grain over ArrayRecord: a mix of two shuffled sources, read on threads or in processes."""
    import grain

    yield None
    length = 1 + job.size * job.size * 3

    def join(serialized: Any) -> Any:
        rows = np.frombuffer(bytearray(b"".join(serialized)), np.uint8).reshape(-1, length)
        images = rows[:, 1:].reshape(-1, job.size, job.size, 3)
        result = augment(images) if job.augmented else images.astype(np.float32)
        return result, rows[:, 0].astype(np.int64)

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


def write_mds(job: Job) -> None:
    """MosaicML's shards, a folder a class."""
    import streaming

    columns = {"image": f"ndarray:uint8:{job.size},{job.size},3", "class": "int"}
    for c, group in itertools.groupby(_parts(job), key=lambda part: part[0]):
        folder = str(job.path("mds") / str(c))
        with streaming.MDSWriter(out=folder, columns=columns) as sink:
            for _, _, examples in group:
                for _, picture in examples:
                    sink.write({"image": picture, "class": c})


def mosaic_streaming(job: Job) -> Batches:
    """StreamingDataset of two streams of equal share."""
    import streaming
    import torch

    yield None

    def join(examples: list[dict]) -> Any:
        images = np.stack([e["image"] for e in examples])
        result = augment(images) if job.augmented else images.astype(np.float32)
        return torch.from_numpy(result), torch.tensor([e["class"] for e in examples])

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


def _parts(job: Job) -> Iterator[tuple[int, int, Iterator[tuple[int, np.ndarray]]]]:
    """Class, number of the part and its examples; four parts a class or more, of 512 at most."""
    totals, pictures = np.bincount(job.classes()).tolist(), job.examples()
    for c, total in enumerate(totals):
        length = min(synthetic_examples.SHARD, -(-total // 4))
        for part in range(-(-total // length)):
            chosen = itertools.islice(pictures, min(length, total - part * length))
            yield c, part, ((number, picture) for number, picture, _ in chosen)


@dataclasses.dataclass(frozen=True)
class Contender:
    """A row of the table for every number of workers."""

    kind: str  # `memory`: all examples in memory; `mapped`: pages of a file; `bounded`.
    needs: tuple[str, ...]  # Modules that `pip install -e '.[bench]'` brings.
    write: Callable[[Job], None]
    read: Callable[[Job], Batches]
    workers: tuple[int, ...] = (0,)

    def missing(self) -> list[str]:
        """Modules that are not installed."""
        return [name for name in self.needs if importlib.util.find_spec(name) is None]


CONTENDERS = {
    "float32 in memory by NumPy": Contender("memory", (), write_array, float_array),
    "float32 in memory by tf.data": Contender("memory", (), write_array, float_tensor),
    "uint8 in memory": Contender("memory", (), write_array, byte_array),
    "Keras image folder": Contender("bounded", (), write_files, keras_directory),
    "torch": Contender("mapped", ("torch",), write_array, torch_examples, (0, 2)),
    "torch whole batches": Contender("mapped", ("torch",), write_array, torch_batches, (0, 2)),
    "webdataset": Contender("bounded", ("webdataset", "torch"), write_tar, web_dataset, (0, 2)),
    "grain": Contender(
        "bounded", ("grain", "array_record"), write_array_records, grain_array_record, (0, 2)
    ),
    "mosaicml-streaming": Contender(
        "bounded", ("streaming", "torch"), write_mds, mosaic_streaming, (0, 2)
    ),
    "tf.data by hand": Contender("bounded", (), write_records, tuned_tf_data),
    "ours": Contender("bounded", (), write_records, ours),
}
