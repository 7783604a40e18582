"""A step of training in each precision, with XLA and without, and whether all learn the same.

    python -m benchmarks.training.accelerator            # the GPU of this machine, or its CPU
    python -m benchmarks.training.accelerator --size=384 --batch_size=64 --seconds=20

Every row is a way to compute the steps of one run, in a process of its own: the weights that it
begins with, the batches and their order are the same in each. The network has no pre-trained
weights; the examples are synthetic, and read and augmented as those of `dr_binary` are. Columns:

    examples/s   of steps with one batch that stays on the device
    x float32    the same, as a multiple of float32 without XLA
    pipeline     examples a second of the whole pipeline, from the shards on, as a share of the
                 first column; the goal is .98
    first step   seconds, in which the step is traced and compiled
    MiB          the most memory that the device gave; on a CPU, that of the whole run without what
                 TensorFlow takes by itself
    loss         the largest relative difference of the loss, over the first steps, from that of
                 float32 on the CPU without XLA
    bound        the most that it may be; where it is more, the benchmark ends with an error

On a GPU, `float32` rounds the factors of products to 10 bits (TF32), as training does, and `exact
float32` does not. Without a GPU the benchmark says so, takes a small network and few small
pictures, and compares the ways of the CPU. It takes 8 minutes at most: rows that would begin too
late are left out, and named.
"""

import argparse
import itertools
import os
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks import processes, synthetic_examples
from dr_tfx.machine import resources

COMPARED = 4  # First steps, of which the losses are compared.
WARM = 3  # Steps before the time is taken.
# The relative difference of a loss that rounding may make. 16 bits keep 8 or 11 of a number's 24.
BOUNDS = {"float32": 0.01, "mixed_bfloat16": 0.05, "mixed_float16": 0.05}
LATEST = 390.0  # Seconds after which no row begins, so that all takes 8 minutes at most.
_WAYS_OF_CPU = ("float32", "float32, XLA", "mixed_bfloat16")  # It has no float16.
_DRIVERS = ("/dev/nvidiactl", "/dev/dxg")  # The second is that of WSL.
EXACT = {"precision": "float32", "xla": False, "exact": True}
ON_GPU = {
    "backbone": "MobileNetV2",
    "size": 224,
    "count": 4096,
    "batch_size": 128,
    "seconds": 8.0,
}
ON_CPU = {"backbone": "SixConvolutions", "size": 64, "count": 256, "batch_size": 16, "seconds": 2.0}


def look() -> str:
    """Return the name of the first GPU, or "" where there is none."""
    import tensorflow as tf

    gpus = tf.config.list_physical_devices("GPU")
    if not gpus:
        return ""
    return tf.config.experimental.get_device_details(gpus[0]).get("device_name", "a GPU")


def write(job: dict[str, Any]) -> None:
    """Write the examples."""
    synthetic_examples.write_shards(Path(job["folder"]) / "data", job["count"], job["size"])


def measure(way: dict[str, Any], job: dict[str, Any]) -> dict[str, Any]:
    """Return the losses of the first steps of one way to compute, and its figures.

    Args:
      way: `precision`, a Keras policy; `xla`; `exact`, whether float32 keeps all its bits.
      job: `folder` of the examples; their `size`; `batch_size`; `seconds` of a measurement, of
        which there is none if they are 0.
    """
    import tensorflow as tf

    tf.config.experimental.enable_tensor_float_32_execution(not way["exact"])
    gpus = tf.config.list_physical_devices("GPU")[:1]
    for gpu in gpus:
        tf.config.set_visible_devices(gpu, "GPU")
        tf.config.experimental.set_memory_growth(gpu, True)
    watch = resources.Memory(float("inf"))
    watch.exceeded()
    before, steps = watch.used_gb, _Steps(way, job, watch)
    began = time.perf_counter()
    losses = [steps.take(1)["loss"]]
    found = {"losses": losses, "first": time.perf_counter() - began}
    losses += [steps.take(1)["loss"] for _ in range(COMPARED - 1)]  # Each is one of its own.
    if job["seconds"]:
        found["piped"] = steps.rate()
        steps.stay_on("/GPU:0" if gpus else "/CPU:0")
        found["resident"] = steps.rate()
        peak = (watch.peak_gb - before) * 1e9
        if gpus:
            peak = tf.config.experimental.get_memory_info("GPU:0")["peak"]
        found["bytes"] = peak
    steps.close()
    return found


class _Steps:
    """The steps of a run, by the loop of `train` itself."""

    def __init__(self, way: dict[str, Any], job: dict[str, Any], watch: resources.Memory):
        import keras
        import tensorflow as tf

        from dr_tfx.dataset import manifest
        from dr_tfx.input_pipeline import loader
        from dr_tfx.training import board, checkpoints, distribution, loop, session, stages

        folder = Path(job["folder"])
        made = _experiment(job, way["precision"], xla=way["xla"])
        self._seconds, self._examples = job["seconds"], job["batch_size"]
        keras.utils.set_random_seed(1)  # As `train` does; the mix of labels depends on it.
        self._run = checkpoints.Run(folder / "run", made)
        stage = stages.of(made)[-1]
        strategy = tf.distribute.get_strategy()
        model = session.make_models(self._run, stage, strategy).trained
        begin = folder / "begin.weights.h5"
        if begin.exists():
            model.load_weights(begin)
        else:
            model.save_weights(begin)
        data = manifest.load(folder / "data")
        self._read, _ = loader.train_batches(folder / "data", data, made)
        self._batches: Iterator[Any] = distribution.distribute(self._read, strategy)
        self._loop = loop.Loop(
            model,
            self._run,
            stage,
            memory=watch,
            batches=iter(lambda: next(self._batches), None),
            tensorboard=board.Board(folder / "board", None),
            interrupted=lambda: False,
            claim=lambda: None,
        )

    def take(self, count: int) -> dict[str, float]:
        """Take so many steps as an epoch of their own, and return its figures."""
        return self._loop.steps_until(self._run.step + count, count)

    def rate(self) -> float:
        """Return the examples a second, of as many steps as the time allows, but two at least."""
        self.take(1)  # The first one with other batches.
        began = time.perf_counter()
        self.take(WARM)
        count = max(2, round(self._seconds / (time.perf_counter() - began) * WARM))
        began = time.perf_counter()
        self.take(count)
        return count * self._examples / (time.perf_counter() - began)

    def stay_on(self, device: str) -> None:
        """Take all further steps with the next batch, which stays on a device."""
        import tensorflow as tf

        with tf.device(device):
            batch = {name: tf.identity(value) for name, value in next(self._batches).items()}
        self._batches = itertools.repeat(batch)

    def close(self) -> None:
        """End the processes that read."""
        self._read.close()


def _experiment(job: dict[str, Any], policy: str, *, xla: bool) -> Any:
    """Return the settings of the run, with the policy set."""
    import dataclasses

    from dr_tfx.models import precision

    changes = {"rotation": 0.1, "zoom": 0.15, "contrast": 0.2, "brightness": 0.2}
    made = synthetic_examples.experiment(
        job["size"], batch_size=job["batch_size"], augmentation={"vertical_flip": True, **changes}
    )
    training = dataclasses.replace(made.training, checkpoint_steps=2**31, xla=xla)
    precision.set_policy(policy)
    # No dropout: its masks are others in other precisions, and with XLA.
    stride = 4 if job["backbone"] == "SixConvolutions" else made.model.output_stride
    model = dataclasses.replace(
        made.model, backbone=job["backbone"], output_stride=stride, dropout=(0.0,)
    )
    return dataclasses.replace(made, model=model, training=training)


def _run(visible: str, function: str, *arguments: Any) -> Any:
    """Call a function in a process that sees these GPUs; "-1" for none."""
    os.environ["CUDA_VISIBLE_DEVICES"] = visible
    return processes.run(__file__, function, *arguments)[0]


def ways(gpu: str) -> dict[str, dict[str, Any]]:
    """Return the ways to compute, by the names of their rows; the first is float32 without XLA."""
    found = {}
    for precision, xla in itertools.product(BOUNDS, (False, True)):
        name = precision + ", XLA" * xla
        if gpu or name in _WAYS_OF_CPU:
            found[name] = {"precision": precision, "xla": xla, "exact": False}
    return {**found, "exact float32": EXACT} if gpu else found


def compare(arguments: argparse.Namespace) -> None:
    """Print the table, and end with an error if a difference is above its bound."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES", "0")
    gpu = _run(visible, "look") if any(map(os.path.exists, _DRIVERS)) else ""
    given = {name: value for name in ON_GPU if (value := getattr(arguments, name)) is not None}
    job = {**(ON_GPU if gpu else ON_CPU), **given}
    print(f"on {gpu}" if gpu else "no GPU here: the ways of the CPU are compared", end="; ")
    print(f"{job['backbone']}, batches of {job['batch_size']} of {job['size']} px", end="; ")
    print(f"{resources.cores()} cores")
    begun, rows, wrong = time.monotonic(), {}, []
    with tempfile.TemporaryDirectory(dir=arguments.work_dir) as folder:
        job["folder"] = folder
        _run("-1", "write", job)
        expected = _run("-1", "measure", EXACT, {**job, "seconds": 0})["losses"] if gpu else []
        for name, way in ways(gpu).items():
            if rows and time.monotonic() - begun > LATEST:
                print(f"not measured, for it would take more than 8 minutes: {name}")
                continue
            found = _run(visible, "measure", way, job)
            expected = expected or found["losses"]
            print(name, found, file=sys.stderr)
            away = max(abs(a / b - 1) for a, b in zip(found["losses"], expected, strict=True))
            first = rows[next(iter(rows))]["rate"] if rows else found["resident"]
            rows[name] = {"rate": found["resident"], "cells": _cells(found, first, away, way)}
            if not away <= BOUNDS[way["precision"]]:
                wrong.append(f"{name}: {away:.4f}")
    print(pd.DataFrame({name: row["cells"] for name, row in rows.items()}).T.to_string())
    if wrong:
        sys.exit(f"the loss is further off than its bound: {', '.join(wrong)}")


def _cells(found: dict[str, Any], first: float, away: float, way: dict[str, Any]) -> dict[str, str]:
    """Return the cells of a row; `first` is the rate of the first row."""
    return {
        "examples/s": f"{found['resident']:,.1f}",
        "x float32": f"{found['resident'] / first:.2f}",
        "pipeline": f"{found['piped'] / found['resident']:.3f}",
        "first step": f"{found['first']:.1f}",
        "MiB": f"{found['bytes'] / 2**20:,.0f}",
        "loss": f"{away:.4f}",
        "bound": f"{BOUNDS[way['precision']]}",
    }


def main() -> None:
    """Run the benchmark."""
    if processes.serve(look, write, measure):
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    for name, usual in ON_GPU.items():
        shown = f"By default {usual} on a GPU and {ON_CPU[name]} without one."
        parser.add_argument(f"--{name}", type=type(usual), help=shown)
    parser.add_argument("--work_dir", help="Folder in which the files are made and removed again.")
    compare(parser.parse_args())


if __name__ == "__main__":
    main()
