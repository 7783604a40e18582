"""Memory of the training input: examples in memory against our loader, as a table.

    python -m benchmarks.input_pipeline.memory             # some minutes, 3 GB of disk
    python -m benchmarks.input_pipeline.memory --train     # with training steps of MobileNetV2
    python -m benchmarks.input_pipeline.memory --cases='96:2000,96:35000' --batches=200

Every figure comes from a process of its own: the most memory (proportional set size) that it and
its children take at once, above what `import tensorflow` takes. `in memory` is the published way: a
fifth of the float32 images in an array for validation, the others in a second one, a third with the
rare class drawn again up to 1:1, and the tensor that `model.fit` makes of that. It is run at the
first case's size where the machine has the memory. Otherwise it is calculated from the largest case
that was run, in proportion to the pixels, and marked `(calculated)`.

`ours` is `loader.train_batches` and what a training step does first, for --batches batches of 64.
Its shards are as many, and as large, as those of a real data set, but one file of each label stands
for all: the others are hard links to it, so that 512 px take 2 GB and not 27.

The lines below the table say what is promised and whether it was kept: at most 400 MiB at 96 px,
the same within 10 % from 2,000 to 350,000 examples, and less than 2 GiB at 512 px. With --train the
model, its gradients and its activations are counted too, and nothing is promised. No other process
should use TensorFlow meanwhile, because the pages of its libraries are then divided among more
processes.
"""

import argparse
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

from benchmarks import processes, synthetic_examples
from benchmarks.input_pipeline.contenders import array_file
from benchmarks.input_pipeline.contenders import ours as ours_contender
from benchmarks.input_pipeline.contenders.contender import Job

HELD_OUT = 0.2  # The share of photographs for validation, in memory as well.
CASES = "96:2000,96:35000,96:350000,224:35000,512:35000"
MIB = 2**20


def write(folder: str, size: int, count: int) -> None:
    """Write our shards, most of them hard links."""
    path = Job(folder, count, size).path("records")
    synthetic_examples.write_shards(path, count, size, linked=True)


def in_memory(folder: str, size: int, count: int, batches: int, train: bool) -> dict[str, float]:
    """Take the published way; return the memory of `import tensorflow` in MiB."""
    import tensorflow as tf

    base = processes.of_tree(os.getpid()).total
    # Where the estimate of the memory is too low, the system kills this process and no other.
    Path("/proc/self/oom_score_adj").write_text("1000")
    held_out = round(HELD_OUT * count)
    classes = Job(folder, count - held_out, size).classes()
    # Full arrays, as `np.load` gives them: pages that were never written would take no memory.
    validation = np.full((held_out, size, size, 3), 0.5, np.float32)
    images = np.full((count - held_out, size, size, 3), 0.5, np.float32)
    index = np.concatenate([index for index, _ in array_file.one_epoch(classes, batch_size=64)])
    balanced, targets = images[index], tf.constant(classes[index])
    tensor = tf.constant(balanced)
    order = tf.data.Dataset.range(len(index)).shuffle(len(index)).repeat().batch(64)
    dataset = order.map(lambda i: (tf.gather(tensor, i), tf.gather(targets, i))).prefetch(2)
    _consume(dataset, size, batches, train)
    return {"base": base, "examples": len(images) + len(validation)}


def ours(folder: str, size: int, count: int, batches: int, train: bool) -> dict[str, float]:
    """Read the shards in `folder`; return the memory of `import tensorflow` in MiB."""
    from dr_tfx.machine import resources

    resources.tune_malloc()  # drtfx-train does the same.
    import tensorflow  # noqa: F401 - Its memory is the base.

    base = processes.of_tree(os.getpid()).total
    source = ours_contender.read(Job(folder, count, size, augmented=True))
    next(source)
    _consume(source, size, batches, train)
    return {"base": base}


def _consume(source: Any, size: int, batches: int, train: bool) -> None:
    """Take so many batches, and make training steps of them if `train`."""
    step = _training_step(size) if train else None
    for number, (images, classes) in enumerate(source, start=1):
        if step:
            step(images, classes)
        if number == batches:
            return


def _training_step(size: int) -> Any:
    import tensorflow as tf

    from dr_tfx.models import network

    model = network.build(synthetic_examples.experiment(size))
    optimizer = tf.keras.optimizers.Adam(1e-3)
    loss = tf.keras.losses.BinaryCrossentropy()

    @tf.function(reduce_retracing=True)
    def step(images: Any, classes: Any) -> None:
        target = tf.reshape(tf.cast(classes, tf.float32), (-1, 1))
        with tf.GradientTape() as tape:
            value = loss(target, model(images, training=True))
        variables = model.trainable_variables
        optimizer.apply_gradients(zip(tape.gradient(value, variables), variables, strict=True))

    return step


def peak_of(function: str, arguments: argparse.Namespace, size: int, count: int) -> float:
    """Return the most memory of one way above `import tensorflow`, in MiB."""
    with tempfile.TemporaryDirectory(dir=arguments.work_dir) as folder:
        if function == "ours":
            # One shard of each label is written, of 512 examples at most.
            needed = len(synthetic_examples.EYEPACS) * synthetic_examples.SHARD * size**2 * 3
            if shutil.disk_usage(folder).free < 2 * needed:
                sys.exit(f"{folder} lacks {2 * needed / 2**30:.1f} GB: choose another --work_dir")
            processes.run(__file__, "write", folder, size, count)
        rest = (folder, size, count, arguments.batches, arguments.train)
        result, peak = processes.run(__file__, function, *rest)
    print(f"{function}, {size} px, {count}: {peak.total - result['base']:.0f}", file=sys.stderr)
    return peak.total - result["base"]


def float_mib(size: int, count: int) -> float:
    """Return the size of a float32 array of so many images, in MiB."""
    return count * size**2 * 3 * 4 / MIB


def fits(size: int, count: int) -> bool:
    """Return whether all images, a balanced array and the tensor of it have room here."""
    copies = 2 * 2 * synthetic_examples.EYEPACS[0] / sum(synthetic_examples.EYEPACS)
    needed = (1 + (1 - HELD_OUT) * copies) * float_mib(size, count)
    return needed < 0.7 * psutil.virtual_memory().available / MIB


def compare(arguments: argparse.Namespace) -> None:
    """Print the table, and whether the promises were kept."""
    cases = [tuple(map(int, case.split(":"))) for case in arguments.cases.split(",")]
    published: dict[tuple[int, int], float] = {}
    measured: dict[tuple[int, int], float] = {}
    for size, count in cases:
        if size == cases[0][0] and fits(size, count):
            published[size, count] = peak_of("in_memory", arguments, size, count)
        measured[size, count] = peak_of("ours", arguments, size, count)
    rows = {}
    for case in cases:
        rows["{} px, {:,} examples".format(*case)] = {
            "float32 array": f"{float_mib(*case):,.0f}",
            "in memory": _published(case, published),
            "ours": f"{measured[case]:,.0f}",
        }
    what = "training" if arguments.train else "input"
    print(f"{what}, {arguments.batches} batches of 64: peak MiB above import tensorflow")
    print(pd.DataFrame(rows).T.to_string())
    if not arguments.train:
        _promises(measured)


def _published(case: tuple[int, int], published: dict[tuple[int, int], float]) -> str:
    if case in published:
        return f"{published[case]:,.0f}"
    if not published:
        return "does not fit"
    largest = max(published, key=lambda c: float_mib(*c))
    calculated = published[largest] * float_mib(*case) / float_mib(*largest)
    return f"{calculated:,.0f} (calculated)"


def _promises(measured: dict[tuple[int, int], float]) -> None:
    small = [peak for (size, _), peak in measured.items() if size == 96]
    large = [peak for (size, _), peak in measured.items() if size == 512]
    if small:
        _say(max(small) <= 400, f"96 px: {max(small):.0f} MiB, at most 400")
    if len(small) > 1:
        ratio = max(small) / min(small)
        _say(ratio <= 1.1, f"96 px: the most is {ratio:.2f} x the least, at most 1.10")
    if large:
        _say(max(large) < 2048, f"512 px: {max(large):.0f} MiB, less than 2048")


def _say(kept: bool, text: str) -> None:
    print("kept   " if kept else "MISSED ", text)


def main() -> None:
    """Run the benchmark."""
    if processes.serve(write, in_memory, ours):
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--cases", default=CASES, help="SIZE:COUNT of each row, in pixels a side and examples."
    )
    parser.add_argument(
        "--batches", type=int, default=2000, help="Batches of 64 that each row takes."
    )
    parser.add_argument(
        "--train", action="store_true", help="Also make training steps of MobileNetV2."
    )
    parser.add_argument("--work_dir", help="Folder in which the files are made and removed again.")
    compare(parser.parse_args())


if __name__ == "__main__":
    main()
