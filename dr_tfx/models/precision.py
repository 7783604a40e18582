"""The numeric precision of a run, chosen by the device."""

import contextlib
from collections.abc import Iterator

import keras
import tensorflow as tf
from absl import logging


def choose(requested: str) -> str:
    """Return the Keras dtype policy to use; `auto` lets the first accelerator decide.

    It is float16 on a GPU with tensor cores (compute capability 7.x), bfloat16 on Ampere or newer
    and on TPU, and float32 on a CPU, where 16-bit arithmetic is emulated and several times slower.
    """
    if requested != "auto":
        return requested
    if tf.config.list_logical_devices("TPU"):
        return "mixed_bfloat16"
    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return "float32"
    details = tf.config.experimental.get_device_details(gpus[0])
    capability = details.get("compute_capability", (0, 0))
    if capability >= (8, 0):
        return "mixed_bfloat16"
    return "mixed_float16" if capability >= (7, 0) else "float32"


def set_policy(requested: str) -> str:
    """Set Keras' global dtype policy, log the choice, and return it."""
    policy = choose(requested)
    keras.mixed_precision.set_global_policy(policy)
    device = next(x for x in ("TPU", "GPU", "CPU") if tf.config.list_logical_devices(x))
    logging.info("Precision %s (asked for: %s) on %s.", policy, requested, device)
    return policy


@contextlib.contextmanager
def within(policy: str) -> Iterator[None]:
    """Build models in a dtype policy, and go back to the one before."""
    before = keras.mixed_precision.global_policy()
    keras.mixed_precision.set_global_policy(policy)
    try:
        yield
    finally:
        keras.mixed_precision.set_global_policy(before)
