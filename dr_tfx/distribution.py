"""Which devices a run is spread over, and how each gets its part of every batch."""

import json
import os
from typing import Any

import tensorflow as tf
from absl import logging


def strategy(batch_size: int) -> tf.distribute.Strategy:
    """The strategy for the accelerators there are.

    Several workers, if TF_CONFIG names them; else mirrored over the machine's accelerators; else
    the default one. Without a GPU, several logical CPU devices count as accelerators. Has to be
    called before TensorFlow does anything else: workers connect at its start.

    Args:
      batch_size: examples of a step, over all devices of all workers.

    Raises:
      ValueError: the batch cannot be divided among the devices, or TF_CONFIG cannot be read.
    """
    if workers() > 1:
        result = tf.distribute.MultiWorkerMirroredStrategy()
    else:
        devices = tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        if len(devices) == 1:
            return tf.distribute.get_strategy()
        result = tf.distribute.MirroredStrategy([device.name for device in devices])
    parts = result.num_replicas_in_sync
    if batch_size % parts:
        raise ValueError(
            f"config.training.batch_size is {batch_size}, which {parts} devices cannot share "
            f"equally. Use a multiple of {parts}, or hide devices with CUDA_VISIBLE_DEVICES."
        )
    logging.info("Every batch is divided among %d devices.", parts)
    return result


def is_chief(over: tf.distribute.Strategy) -> bool:
    """Whether this process writes; of several workers the first one does."""
    resolver = over.cluster_resolver
    if resolver is None or resolver.task_type in (None, "chief"):
        return True
    return (
        resolver.task_type == "worker"
        and resolver.task_id == 0
        and "chief" not in (resolver.cluster_spec().as_dict())
    )


def agreed(over: tf.distribute.Strategy, figures: dict[str, float]) -> dict[str, float]:
    """The mean over all workers of figures that each has found, so that all decide alike."""
    found = over.run(lambda: tf.constant(list(figures.values()), tf.float32))
    mean = over.reduce(tf.distribute.ReduceOp.MEAN, found, axis=None).numpy()
    return dict(zip(figures, map(float, mean), strict=True))


def distribute(batches: tf.data.Dataset, over: tf.distribute.Strategy) -> Any:
    """An iterable of the same batches, each divided in order among the strategy's devices.

    Every worker makes whole batches and keeps its part, so nothing is seen twice.

    Args:
      batches: dicts of tensors with an equal first dimension.
      over: what `strategy` gave.
    """
    parts = over.num_replicas_in_sync
    if parts == 1:
        return batches

    def divide(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
        return {k: tf.reshape(v, (parts, -1, *v.shape[1:])) for k, v in batch.items()}

    def for_worker(context: tf.distribute.InputContext) -> tf.data.Dataset:
        mine = parts // context.num_input_pipelines
        first = context.input_pipeline_id * mine

        def of_worker(batch: dict[str, tf.Tensor]) -> dict[str, tf.Tensor]:
            return {k: v[first : first + mine] for k, v in divide(batch).items()}

        return batches.map(of_worker).unbatch()

    return over.distribute_datasets_from_function(for_worker)


def workers() -> int:
    """How many processes TF_CONFIG names; 0 without it."""
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG", "") or "{}").get("cluster", {})
        return sum(len(cluster.get(kind, ())) for kind in ("chief", "worker"))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"The environment's TF_CONFIG is no JSON object: {error}.") from error
