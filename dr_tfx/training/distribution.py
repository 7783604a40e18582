"""The devices and workers of a run, and the division of every batch among them."""

import contextlib
import functools
import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from absl import logging

from dr_tfx.config import specs

_ALIGNMENT = 64  # Bytes. TensorFlow uses memory in place only if it begins at a multiple.


_KINDS = ("chief", "worker")


def strategy(batch_size: int, *, xla: bool = False) -> tf.distribute.Strategy:
    """Return the strategy for the workers and devices that are there.

    It spans several workers if TF_CONFIG names them, and the cores of a TPU if TPU_NAME names one.
    Otherwise it is mirrored over the machine's GPUs if there are several, and else the default
    strategy. Without a GPU, several logical CPU devices count as such. This has to be called before
    any other TensorFlow operation, because workers and TPUs connect when TensorFlow starts.

    Args:
      batch_size: examples of a step, over all devices of all workers.
      xla: whether `training.xla` is set.

    Raises:
      ValueError: the batch cannot be divided among the devices, or they are several and XLA is to
        compile what they do, TF_CONFIG cannot be read or gives
        this process a task in which it would not train, or it names workers and TPU_NAME a TPU.
      ConnectionError: this worker's port is taken, or the TPU cannot be reached.
    """
    if tpu := os.environ.get("TPU_NAME"):
        result = _of_tpu(tpu)
    elif workers() > 1:
        result = _connected()
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
    if xla and parts > 1 and not on_tpu(result):
        raise ValueError(
            f"config.training.xla is True, and {parts} devices share each step, which XLA does not "
            "compile. Set it to False, or show the training one device with CUDA_VISIBLE_DEVICES."
        )
    logging.info("Every batch is divided among %d devices.", parts)
    return result


def _of_tpu(name: str) -> tf.distribute.Strategy:
    """Start a TPU and return the strategy over its cores."""
    if workers() > 1:
        raise ValueError(
            f"TPU_NAME is {name!r}, and TF_CONFIG names {workers()} workers; expected one of the "
            "two. Unset the other."
        )
    try:
        # Not by `TPUClusterResolver.connect`, which fails in TensorFlow 2.15.
        resolver = tf.distribute.cluster_resolver.TPUClusterResolver(name)
        tf.config.experimental_connect_to_cluster(resolver)
        tf.tpu.experimental.initialize_tpu_system(resolver)
    except (tf.errors.OpError, ImportError, OSError, RuntimeError, ValueError) as error:
        raise ConnectionError(
            f"TPU_NAME is {name!r}, but TensorFlow reaches no TPU by that name: {error}. For the "
            "TPU of this machine it is 'local', and needs the package tensorflow-tpu in place of "
            "tensorflow. Unset TPU_NAME to train without."
        ) from error
    return tf.distribute.TPUStrategy(resolver)


def on_tpu(over: tf.distribute.Strategy) -> bool:
    """Return True if the devices are the cores of a TPU, for which XLA compiles all they do."""
    return isinstance(over, tf.distribute.TPUStrategy)


def outputs(model: keras.Model, images: tf.Tensor, most: int) -> tf.Tensor:
    """Return what a model says of images, with all devices of its strategy if it has one.

    This is a part of a graph. Every device gets the same number of images in every batch, because
    XLA compiles for one: zeros fill up what lacks, and what is said of them is dropped.

    Args:
      model: it was made within the scope of a strategy, or of none.
      images: float32 (n, height, width, channels).
      most: the largest n.
    """
    over = model.distribute_strategy
    if over is tf.distribute.get_strategy():
        return model(images, training=False)
    devices, count = over.num_replicas_in_sync, tf.shape(images)[0]
    room = -(-most // devices) * devices
    filled = tf.pad(images, [[0, room - count], *[[0, 0]] * 3])
    parts = tf.split(tf.ensure_shape(filled, (room, *images.shape[1:])), devices)
    given = over.experimental_distribute_values_from_function(
        lambda context: parts[context.replica_id_in_sync_group]
    )
    found = over.run(lambda part: model(part, training=False), args=(given,))
    return tf.concat(over.experimental_local_results(found), axis=0)[:count]


def _connected() -> tf.distribute.Strategy:
    """Wait for all workers and return the strategy over them."""
    logging.info("Waiting until all workers are there: TF_CONFIG=%s", os.environ["TF_CONFIG"])
    tf.get_logger().setLevel("WARNING")  # It logs the number of tensors of every sum.
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python cannot react while TensorFlow waits.
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.UnknownError as error:
        raise ConnectionError(
            f"This worker cannot listen at its address in TF_CONFIG: {error.message}. Another "
            "program may have the port, such as a worker of a run that has not ended yet. Stop it, "
            "or choose another port."
        ) from error
    finally:
        for number, handler in handlers.items():  # TensorFlow has caught SIGTERM and ignores it.
            signal.signal(number, handler)


def is_chief(over: tf.distribute.Strategy) -> bool:
    """Return True if this process writes the files; the first one of several workers does."""
    resolver = over.cluster_resolver
    if resolver is None or resolver.task_type in (None, "chief"):
        return True
    return (
        resolver.task_type == "worker"
        and resolver.task_id == 0
        and "chief" not in (resolver.cluster_spec().as_dict())
    )


def agreed(over: tf.distribute.Strategy, figures: dict[str, float]) -> dict[str, float]:
    """Return the mean over all workers of figures that each has found, so that all decide alike."""
    if workers() == 1:
        return {name: float(value) for name, value in figures.items()}
    mean = _mean(over)(tf.constant(list(figures.values()), tf.float64))
    return dict(zip(figures, mean.numpy().tolist(), strict=True))


@functools.cache
def _mean(over: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """Return a function from float64 (n,) to its mean over all devices.

    It is a graph, because strategies warn when they run eagerly.
    """

    @tf.function(autograph=False)
    def mean(values: tf.Tensor) -> tf.Tensor:
        each = over.run(lambda: values)
        return over.reduce(tf.distribute.ReduceOp.MEAN, each, axis=None)

    return mean


def worker(over: tf.distribute.Strategy) -> int:
    """Return the number of this process among the `workers`, from 0 on."""
    mine = _devices(over)
    return mine[0] // len(mine)


def _devices(over: tf.distribute.Strategy) -> range:
    """Return the numbers of this process's devices among all devices."""
    if over.num_replicas_in_sync == 1:
        return range(1)
    found = over.experimental_distribute_values_from_function(
        lambda context: context.replica_id_in_sync_group
    )
    numbers = over.experimental_local_results(found)
    return range(numbers[0], numbers[-1] + 1)


def distribute(
    batches: Iterable[dict[str, np.ndarray]], over: tf.distribute.Strategy
) -> Iterator[Any]:
    """Yield the batches as tensors, each divided in order among this process's devices.

    Args:
      batches: this process's part of every batch, a dict of arrays with an equal first dimension.
        Nobody may write to them any more.
      over: the result of `strategy`.
    """
    mine = _devices(over)
    parts = len(mine)
    for batch in batches:
        if over.num_replicas_in_sync == 1:
            yield {name: _tensor(value) for name, value in batch.items()}
            continue

        def part(
            context: tf.distribute.experimental.ValueContext, batch: dict = batch
        ) -> dict[str, tf.Tensor]:
            which = mine.index(context.replica_id_in_sync_group)
            return {name: _tensor(np.split(value, parts)[which]) for name, value in batch.items()}

        yield over.experimental_distribute_values_from_function(part)


@contextlib.contextmanager
def lost_worker_named() -> Iterator[None]:
    """Turn TensorFlow's error about a lost worker into one that says what to do.

    Raises:
      ConnectionError: another worker has ended, or cannot be reached.
    """
    try:
        yield
    except tf.errors.UnavailableError as error:
        raise ConnectionError(
            "Another worker of TF_CONFIG has ended or cannot be reached; its own output says why. "
            "Give the same commands on all workers again: they resume at the last checkpoint."
        ) from error


@contextlib.contextmanager
def full_device_named(experiment: specs.Experiment, precision: str) -> Iterator[None]:
    """Turn TensorFlow's error about a device without memory into one that says what to lower.

    Raises:
      ValueError: a step or a validation does not fit into the memory of the device.
    """
    try:
        yield
    except tf.errors.ResourceExhaustedError as error:
        halved = ", or set config.training.precision=mixed_bfloat16" * (precision == "float32")
        raise ValueError(
            "The device has too little memory for config.training.batch_size="
            f"{experiment.training.batch_size} (config.evaluation.batch_size="
            f"{experiment.evaluation.batch_size} in validation) at "
            f"{experiment.dataset.recipe.size} px in {precision}. Lower the batch size{halved}."
        ) from error


def _tensor(value: np.ndarray) -> tf.Tensor:
    """Return the array as a tensor, which shares its memory where TensorFlow allows it.

    `tf.convert_to_tensor` always copies. For images that costs as much time as reading them did,
    and for small arrays its own overhead exceeds that of the copy.
    """
    if value.ctypes.data % _ALIGNMENT:  # TensorFlow would abort at the first use of this memory.
        memory = np.empty(value.nbytes + _ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % _ALIGNMENT
        aligned = memory[start : start + value.nbytes].view(value.dtype).reshape(value.shape)
        aligned[...] = value
        value = aligned
    return tf.experimental.dlpack.from_dlpack(value.__dlpack__())


def workers() -> int:
    """Return the number of processes that share the run, which TF_CONFIG names.

    Raises:
      ValueError: TF_CONFIG cannot be read, or gives this process another task than `chief` or
        `worker`, which would train a run of its own.
    """
    try:
        config = json.loads(os.environ.get("TF_CONFIG", "") or "{}")
        cluster, task = config.get("cluster", {}), config.get("task", {}).get("type", "worker")
        count = max(1, sum(len(cluster.get(kind, ())) for kind in _KINDS))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(
            f"The environment variable TF_CONFIG is not a JSON object with a cluster: {error}. "
            "Correct it, or unset it to train in this process alone."
        ) from error
    if task not in _KINDS:
        raise ValueError(
            f"TF_CONFIG gives this process the task {task!r}; expected 'chief' or 'worker'. All "
            "workers share the steps, and nothing serves or evaluates beside them: start no "
            f"process for {task!r}."
        )
    return count
