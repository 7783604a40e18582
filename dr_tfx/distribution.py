"""Which devices a run is spread over, and how each gets its part of every batch."""

import json
import os
from typing import Any

import tensorflow as tf
from absl import logging


def strategy(batch_size: int) -> tf.distribute.Strategy:
    """The strategy for this machine's accelerators: mirrored over several, else the default one.

    Without a GPU, several logical CPU devices count as accelerators.

    Args:
      batch_size: examples of a step, over all devices.

    Raises:
      ValueError: the batch cannot be divided among the devices, or TF_CONFIG names several workers.
    """
    workers = _workers()
    if workers > 1:
        raise ValueError(
            f"TF_CONFIG names {workers} workers; a run has one process, over all accelerators of "
            "one machine. Unset TF_CONFIG."
        )
    devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
    if len(devices) == 1:
        return tf.distribute.get_strategy()
    if batch_size % len(devices):
        raise ValueError(
            f"config.training.batch_size is {batch_size}, which {len(devices)} devices cannot "
            f"share equally. Use a multiple of {len(devices)}, or hide devices with "
            "CUDA_VISIBLE_DEVICES."
        )
    logging.info("Every batch is divided among %d devices.", len(devices))
    return tf.distribute.MirroredStrategy([device.name for device in devices])


def distribute(batches: tf.data.Dataset, over: tf.distribute.Strategy) -> Any:
    """An iterable of the same batches, each divided in order among the strategy's devices.

    Args:
      batches: dicts of tensors with an equal first dimension.
      over: what `strategy` gave.
    """
    parts = over.num_replicas_in_sync
    if parts == 1:
        return batches

    def divide(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {k: tf.reshape(v, (parts, -1, *v.shape[1:])) for k, v in batch.items()}

    def for_worker(_: tf.distribute.InputContext) -> tf.data.Dataset:
        return batches.map(divide).unbatch()

    return over.distribute_datasets_from_function(for_worker)


def _workers() -> int:
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG", "") or "{}").get("cluster", {})
        return sum(len(cluster.get(kind, ())) for kind in ("chief", "worker"))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"The environment's TF_CONFIG is no JSON object: {error}.") from error
