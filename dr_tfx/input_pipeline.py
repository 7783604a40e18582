"""Shards to batches: balanced, augmented and bounded for training; in order for evaluation.

What training sees is a pure function of (seed, epoch, step): every epoch is a data set of its own,
seeded from those alone, so that a run restarted at an epoch sees what it would have seen.
Serialized records are shuffled, not images: a record is a quarter of the float32 picture.
"""

import contextlib
import math
from collections.abc import Iterator
from pathlib import Path

import tensorflow as tf

from dr_tfx import heads, manifest, records, specs

PARALLEL = tf.data.AUTOTUNE


def train_dataset(
    data_dir: Path,
    data: manifest.Manifest,
    experiment: specs.Experiment,
    *,
    first_epoch: int = 0,
) -> tuple[tf.data.Dataset, int]:
    """Training batches from `first_epoch` on, epoch after epoch.

    Oversampling draws every class equally often from one stream per label; a stream is a chain of
    whole shuffled passes, so no example comes twice before all of its label came once. An epoch
    is then (number of classes) x (size of the largest class) examples long.

    Returns:
      Batches of float32 pixels 0..255 (batch, size, size, 3) and float32 targets (batch, units),
      and the number of batches in an epoch.
    """
    training = experiment.training
    streams, weights = stratum_weights(data, experiment)
    examples = _epoch_examples(data, experiment)
    head = heads.make(experiment.task)
    total = sum(shard.records for shard in data.shards_of("train"))

    def epoch_dataset(epoch: tf.Tensor) -> tf.data.Dataset:
        seed = tf.random.experimental.stateless_fold_in(tf.constant([training.seed, 0]), epoch)
        parts = []
        for label, shards in streams.items():
            count = sum(shard.records for shard in shards)
            files = [str(data_dir / shard.name) for shard in shards]
            buffer = math.ceil(2048 * count / total)
            parts.append(_stream(files, tf.cast(seed[0], tf.int64) + label, min(buffer, count)))
        mixed = tf.data.Dataset.sample_from_datasets(
            parts,
            weights=weights,
            seed=tf.cast(seed[1], tf.int64),
            rerandomize_each_iteration=False,  # The seed already differs by epoch.
        )
        batches = mixed.take(examples).batch(training.batch_size)
        return batches.enumerate().map(lambda step, batch: (seed, step, batch))

    def decode(seed: tf.Tensor, step: tf.Tensor, batch: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        parsed = _parse(batch, data.dataset)
        step_seed = tf.random.experimental.stateless_fold_in(seed, step)
        images = augment(parsed["image"], training.augmentation, step_seed)
        return images, head.encode(parsed["label"])

    epochs = tf.data.Dataset.range(first_epoch, training.epochs)
    dataset = epochs.flat_map(epoch_dataset).map(decode, PARALLEL, deterministic=True)
    return dataset.prefetch(2), math.ceil(examples / training.batch_size)


def evaluation_dataset(
    data_dir: Path, data: manifest.Manifest, split: str, *, batch_size: int
) -> tf.data.Dataset:
    """A whole split, in order, untouched.

    Returns:
      Batches of a dict: `image` uint8 (batch, size, size, 3), `label` int64 (batch,), `id` and
      `patient` string (batch,).
    """
    shards = data.shards_of(split)
    files = [str(data_dir / shard.name) for shard in shards]
    batches = tf.data.TFRecordDataset(files).batch(batch_size)
    # Declared, so that Keras does not take the end of the split for a mistake.
    count = math.ceil(sum(shard.records for shard in shards) / batch_size)
    batches = batches.apply(tf.data.experimental.assert_cardinality(count))
    return batches.map(lambda b: _parse(b, data.dataset), PARALLEL).prefetch(2)


@contextlib.contextmanager
def damage_named(data_dir: Path) -> Iterator[None]:
    """Turns TensorFlow's complaint of a damaged shard into an error that says what to do.

    Raises:
      ValueError: a record's checksum is wrong, or a shard ends early.
    """
    try:
        yield
    except tf.errors.DataLossError as error:
        raise ValueError(
            f"A shard in {data_dir} is damaged or was changed after the build: {error.message}. "
            "Build the data set again with drtfx-build-examples --overwrite."
        ) from error


def validation_dataset(
    data_dir: Path, data: manifest.Manifest, experiment: specs.Experiment
) -> tf.data.Dataset:
    """The validation split as (pixels, targets) batches for Keras."""
    head = heads.make(experiment.task)
    batch_size = experiment.evaluation.batch_size
    dataset = evaluation_dataset(data_dir, data, "validation", batch_size=batch_size)
    return dataset.map(lambda x: (tf.cast(x["image"], tf.float32), head.encode(x["label"])))


def stratum_weights(
    data: manifest.Manifest, experiment: specs.Experiment
) -> tuple[dict[int, list[manifest.Shard]], list[float]]:
    """Training shards by label and the share of each label in the stream.

    With `balance='oversample'` every class gets the same share, divided among its labels as they
    occur; otherwise every label keeps its own.

    Raises:
      ValueError: a class has no training example.
    """
    streams: dict[int, list[manifest.Shard]] = {}
    for shard in data.shards_of("train"):
        streams.setdefault(shard.label, []).append(shard)
    counts = {label: sum(s.records for s in shards) for label, shards in streams.items()}
    by_class = _class_counts(data, experiment)
    total = sum(counts.values())
    if experiment.training.balance == "none":
        return streams, [count / total for count in counts.values()]
    share = 1 / len(by_class)
    label_map = experiment.task.label_map
    return streams, [share * n / by_class[label_map[label]] for label, n in counts.items()]


def _class_counts(data: manifest.Manifest, experiment: specs.Experiment) -> list[int]:
    classes = experiment.task.class_names
    counts = [0] * len(classes)
    for shard in data.shards_of("train"):
        counts[experiment.task.label_map[shard.label]] += shard.records
    if 0 in counts:
        raise ValueError(
            f"The training split has no example of class {classes[counts.index(0)]!r}; there is "
            "nothing to learn. Check labels.csv, config.task.label_map and config.dataset.split."
        )
    return counts


def _epoch_examples(data: manifest.Manifest, experiment: specs.Experiment) -> int:
    counts = _class_counts(data, experiment)
    oversampled = experiment.training.balance == "oversample"
    return len(counts) * max(counts) if oversampled else sum(counts)


def _stream(files: list[str], seed: tf.Tensor, buffer: int) -> tf.data.Dataset:
    """Endless shuffled passes over the serialized records of one label."""
    order = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files), seed=seed)
    read = order.interleave(tf.data.TFRecordDataset, cycle_length=min(4, len(files)))
    return read.shuffle(buffer, seed=seed + 1).repeat()


def _parse(batch: tf.Tensor, dataset: specs.DatasetSpec) -> dict[str, tf.Tensor]:
    """A batch of serialized examples; parsing whole batches costs a fraction of one by one."""
    text = tf.io.FixedLenFeature([], tf.string)
    parsed = tf.io.parse_example(
        batch,
        {
            records.IMAGE_ENCODED: text,
            records.IMAGE_ID: text,
            records.IMAGE_PATIENT: text,
            records.LABEL_PREFIX + dataset.label_column: tf.io.FixedLenFeature([], tf.int64),
        },
    )
    size = dataset.recipe.size
    encoded = parsed[records.IMAGE_ENCODED]
    if dataset.recipe.encoding == "raw":
        images = tf.reshape(tf.io.decode_raw(encoded, tf.uint8), (-1, size, size, 3))
    else:
        images = tf.map_fn(
            lambda data: tf.ensure_shape(tf.io.decode_png(data, channels=3), (size, size, 3)),
            encoded,
            fn_output_signature=tf.uint8,
        )
    return {
        "image": images,
        "label": parsed[records.LABEL_PREFIX + dataset.label_column],
        "id": parsed[records.IMAGE_ID],
        "patient": parsed[records.IMAGE_PATIENT],
    }


def augment(images: tf.Tensor, spec: specs.Augmentation, seed: tf.Tensor) -> tf.Tensor:
    """Randomly flips, turns, zooms and changes contrast and brightness of each image.

    Args:
      images: uint8 (batch, size, size, 3).
      spec: what to do and how much; meanings as in Keras' preprocessing layers.
      seed: int32 (2,); the same seed gives the same changes.

    Returns:
      float32 pixels 0..255, same shape.
    """
    seeds = tf.unstack(tf.random.experimental.stateless_split(seed, 6))
    count = tf.shape(images)[0]

    def uniform(which: int, limit: float) -> tf.Tensor:
        return tf.random.stateless_uniform([count], seeds[which], -limit, limit)

    if spec.horizontal_flip:
        images = _flip(images, uniform(0, 1.0) < 0, axis=2)
    if spec.vertical_flip:
        images = _flip(images, uniform(1, 1.0) < 0, axis=1)
    images = tf.cast(images, tf.float32)
    if spec.rotation or spec.zoom:
        angle = uniform(2, max(spec.rotation, 1e-9)) * (2 * math.pi)
        scale = 1 + uniform(3, max(spec.zoom, 1e-9))
        images = _rotate_and_zoom(images, angle, scale)
    if spec.contrast:
        factor = 1 + uniform(4, spec.contrast)[:, tf.newaxis, tf.newaxis, tf.newaxis]
        mean = tf.reduce_mean(images, axis=(1, 2), keepdims=True)
        images = tf.clip_by_value((images - mean) * factor + mean, 0, 255)
    if spec.brightness:
        factor = 1 + uniform(5, spec.brightness)[:, tf.newaxis, tf.newaxis, tf.newaxis]
        images = tf.clip_by_value(images * factor, 0, 255)
    return images


def _flip(images: tf.Tensor, which: tf.Tensor, *, axis: int) -> tf.Tensor:
    return tf.where(
        which[:, tf.newaxis, tf.newaxis, tf.newaxis], tf.reverse(images, [axis]), images
    )


def _rotate_and_zoom(images: tf.Tensor, angle: tf.Tensor, scale: tf.Tensor) -> tf.Tensor:
    """One bilinear resampling about the centre; the border is filled by reflection."""
    size = tf.shape(images)[1:3]
    middle = tf.cast(size[0] - 1, tf.float32) / 2
    cos, sin = tf.cos(angle) * scale, tf.sin(angle) * scale
    shift_x = middle - (cos * middle - sin * middle)
    shift_y = middle - (sin * middle + cos * middle)
    zero = tf.zeros_like(angle)
    transforms = tf.stack([cos, -sin, shift_x, sin, cos, shift_y, zero, zero], axis=1)
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=images,
        transforms=transforms,
        output_shape=size,
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )
