"""Which devices a run is spread over, and how each gets its part of every batch."""

import contextlib
import functools
import json
import os
import signal
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import numpy as np
import tensorflow as tf
from absl import logging

_ALIGNMENT = 64  # Bytes. TensorFlow takes memory that begins so as it is.


def strategy(batch_size: int) -> tf.distribute.Strategy:
    """The strategy for the accelerators there are.

    Several workers, if TF_CONFIG names them; else mirrored over the machine's accelerators; else
    the default one. Without a GPU, several logical CPU devices count as accelerators. Has to be
    called before TensorFlow does anything else: workers connect at its start.

    Args:
      batch_size: examples of a step, over all devices of all workers.

    Raises:
      ValueError: the batch cannot be divided among the devices, or TF_CONFIG cannot be read.
      ConnectionError: this worker's port is taken.
    """
    if workers() > 1:
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
    logging.info("Every batch is divided among %d devices.", parts)
    return result


def _connected() -> tf.distribute.Strategy:
    """The strategy over all workers, once they are there."""
    logging.info("Waiting until all workers are there: TF_CONFIG=%s", os.environ["TF_CONFIG"])
    tf.get_logger().setLevel("WARNING")  # It says of every sum how many tensors there are.
    handlers = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # Python cannot act while TensorFlow waits.
    try:
        return tf.distribute.MultiWorkerMirroredStrategy()
    except tf.errors.UnknownError as error:
        raise ConnectionError(
            f"This worker cannot listen at its address in TF_CONFIG: {error.message}. Another "
            "program may have the port, such as a worker of a run that has not ended yet."
        ) from error
    finally:
        for number, handler in handlers.items():  # TensorFlow takes SIGTERM, and does nothing.
            signal.signal(number, handler)


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
    mean = _mean(over)(tf.constant(list(figures.values()), tf.float64))
    return dict(zip(figures, mean.numpy().tolist(), strict=True))


@functools.cache
def _mean(over: tf.distribute.Strategy) -> Callable[[tf.Tensor], tf.Tensor]:
    """float64 (n,) -> its mean over all devices. A graph: run eagerly, strategies warn."""

    @tf.function
    def mean(values: tf.Tensor) -> tf.Tensor:
        each = over.run(lambda: values)
        return over.reduce(tf.distribute.ReduceOp.MEAN, each, axis=None)

    return mean


def worker(over: tf.distribute.Strategy) -> int:
    """Which of the `workers` this process is, from 0 on."""
    mine = _devices(over)
    return mine[0] // len(mine)


def _devices(over: tf.distribute.Strategy) -> range:
    """Those of this process, by their numbers among all."""
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
    """The same batches as tensors, each divided in order among the strategy's devices.

    Args:
      batches: dicts of arrays with an equal first dimension, which nobody writes to any more; what
        of every batch is for this process.
      over: what `strategy` gave.
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
    """Turns TensorFlow's complaint of a worker that is gone into an error that says what to do.

    Raises:
      ConnectionError: another worker has ended, or cannot be reached.
    """
    try:
        yield
    except tf.errors.UnavailableError as error:
        raise ConnectionError(
            "Another worker of TF_CONFIG has ended or cannot be reached; what it printed says why. "
            "The same commands on all workers go on at the last checkpoint."
        ) from error


def _tensor(value: np.ndarray) -> tf.Tensor:
    """The array as a tensor, of the same memory where TensorFlow can take it.

    `tf.convert_to_tensor` copies always, which costs as much as reading the pictures did, and takes
    longer to begin with it than to copy the numbers of a batch.
    """
    if value.ctypes.data % _ALIGNMENT:  # TensorFlow would abort at its first use.
        memory = np.empty(value.nbytes + _ALIGNMENT, np.uint8)
        start = -memory.ctypes.data % _ALIGNMENT
        aligned = memory[start : start + value.nbytes].view(value.dtype).reshape(value.shape)
        aligned[...] = value
        value = aligned
    return tf.experimental.dlpack.from_dlpack(value.__dlpack__())


def workers() -> int:
    """How many processes share the run: those that TF_CONFIG names."""
    try:
        cluster = json.loads(os.environ.get("TF_CONFIG", "") or "{}").get("cluster", {})
        return max(1, sum(len(cluster.get(kind, ())) for kind in ("chief", "worker")))
    except (ValueError, AttributeError, TypeError) as error:
        raise ValueError(f"The environment's TF_CONFIG is no JSON object: {error}.") from error
