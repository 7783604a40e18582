"""A data set as a plain `tf.data.Dataset`, for anybody's own `model.fit`.

Training of this package itself reads by `loader`, whose order can be resumed at any step. This is
the usual way of TensorFlow instead: streams of records, a buffer to shuffle in for each stratum,
and `sample_from_datasets` to mix them.
"""

import math
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest, records
from dr_tfx.input_pipeline import loader, parsing, sampling, shard_check, strata

_FILES_AT_ONCE = 4  # Shards of a stratum that are read in turn.


def as_tf_dataset(
    data_dir: Path,
    data: manifest.Manifest,
    split: str,
    *,
    experiment: specs.Experiment | None = None,
    label_weights: Sequence[float] = (),
    batch_size: int = 32,
    shuffle_buffer: int = 512,
    seed: int = 0,
    repeat: bool = False,
    prefetch: int = 2,
) -> tf.data.Dataset:
    """Return a split as batches of (images, targets, weights), which `model.fit` takes as they are.

    The training split is shuffled and its labels are mixed by `sample_from_datasets`, so that an
    example may come several times an epoch, or not at all. Every other split comes once, in order,
    with weights of 1. Nothing is augmented.

    Args:
      data_dir: folder of the shards.
      data: their manifest.
      split: `train`, `validation` or `test`.
      experiment: the settings of a run, whose task gives targets and weights, and whose training
        gives the labels' shares (those of its first epoch). Without one the target is the finest
        label itself, int64 (batch,), every weight is 1, and labels are as frequent as they are.
      label_weights: how often each label is drawn in training, relative to each other, one value
        for every name in `data.dataset.label_names`; they overrule the experiment.
      batch_size: examples of a batch; the last one of a split in order may be smaller.
      shuffle_buffer: examples that each stratum of the training split is shuffled among. They are
        held in memory. With 0 the training split comes in order, too, each example once.
      seed: another seed gives another order; every epoch has its own.
      repeat: whether the data set goes on for ever; `model.fit` then needs `steps_per_epoch`.
      prefetch: batches that are prepared ahead.

    Returns:
      A data set whose length is known: images, float32 pixels 0..255 (batch, size, size, 3);
      targets as the task encodes them; and weights, float32 (batch,).

    Raises:
      ValueError: the data set has no such split, `label_weights` does not fit its labels, or a
        shard has other records than the manifest says.
    """
    shard_check.places(data_dir, data.shards_of(split))
    training = split == "train" and shuffle_buffer > 0
    if training:
        mixed = _strata(data, experiment, label_weights)
        serialized = _mixed(data_dir, mixed, shuffle_buffer=shuffle_buffer, seed=seed)
        steps = mixed.steps(batch_size)
    else:
        shards = data.shards_of(split)
        serialized = tf.data.TFRecordDataset(_files(data_dir, shards))
        steps = math.ceil(sum(shard.records for shard in shards) / batch_size)
    batches = serialized.batch(batch_size)
    if not (training and repeat):  # What is mixed is endless.
        batches = batches.take(steps).apply(tf.data.experimental.assert_cardinality(steps))
        batches = batches.repeat() if repeat else batches
    parse = _parser(data, experiment, weighted=training)
    return sampling.untuned(batches.map(sampling.as_it_is(parse)).prefetch(prefetch))


def _strata(
    data: manifest.Manifest, experiment: specs.Experiment | None, label_weights: Sequence[float]
) -> strata.Strata:
    """Return the strata of the training split, in one row of shares for all epochs."""
    names = data.dataset.label_names
    if label_weights and (len(label_weights) != len(names) or min(label_weights) <= 0):
        raise ValueError(
            f"label_weights is {tuple(label_weights)}; expected a number above 0 for each of "
            f"{len(names)} labels: {', '.join(names)}."
        )
    if experiment and not label_weights:
        mixed = strata.of_training(data, experiment)
        return strata.Strata(mixed.shards, mixed.shares[:1])
    shards = strata.by_label(data)
    shares = [label_weights[i] for i in shards] if label_weights else strata.counts_of(shards)
    return strata.Strata(shards, np.array([shares]) / sum(shares))


def _mixed(
    data_dir: Path, mixed: strata.Strata, *, shuffle_buffer: int, seed: int
) -> tf.data.Dataset:
    """Return the endless serialized examples of the training split, shuffled and mixed."""
    streams = []
    for number, shards in enumerate(mixed.shards.values(), seed):
        files = tf.data.Dataset.from_tensor_slices(_files(data_dir, shards))
        examples = files.shuffle(len(shards), seed=number).interleave(
            tf.data.TFRecordDataset, cycle_length=min(_FILES_AT_ONCE, len(shards))
        )
        streams.append(examples.shuffle(shuffle_buffer, seed=number).repeat())
    return tf.data.Dataset.sample_from_datasets(
        streams, mixed.shares[0], seed=seed, rerandomize_each_iteration=True
    )


def _files(data_dir: Path, shards: Sequence[manifest.Shard]) -> list[str]:
    return [str(data_dir / shard.name) for shard in shards]


def _parser(
    data: manifest.Manifest, experiment: specs.Experiment | None, *, weighted: bool
) -> Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor, tf.Tensor]]:
    """Return a function: serialized examples, string (batch,) -> images, targets and weights.

    Args:
      data: manifest of the data set.
      experiment: the settings whose task encodes targets and weights; None for the label itself.
      weighted: whether weights are those of the task, and not 1.
    """
    kind = tasks.of(experiment) if experiment else None
    label = records.LABEL_PREFIX + data.dataset.label_column
    schema = loader.schema_of(
        data, kind.data.features if kind else {label: records.Feature("int64")}
    )

    def parse(serialized: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
        arrays = parsing.parse(serialized, schema)
        if kind:
            targets, weights = kind.model.encode(arrays)
        else:
            targets, weights = arrays[label], tf.ones_like(arrays[label], tf.float32)
        images = tf.cast(arrays[records.IMAGE], tf.float32)
        return images, targets, weights if weighted else tf.ones_like(weights)

    return parse
