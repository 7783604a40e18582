"""Test-time augmentation: the time of five views, and the memory of many images.

    python -m benchmarks.inference.tta speed               # some minutes
    python -m benchmarks.inference.tta speed --size=224 --count=256
    python -m benchmarks.inference.tta memory              # 500 against 5,000 images

`ours` is `scoring.stream` over shards on disk, with the five views of the published recipe and
MobileNetV2: examples are read, shown in every view and scored, batch by batch.

`speed` runs three contenders in one process, in turn, --rounds times, after a turn that is not
counted. `plain` is the least that five views can cost: five compiled forward passes of the same
batches, float32 in memory already, nothing read and nothing changed. `arrays` is the published way:
a copy of all images for each view, flipped beforehand, and `model.predict` of each; making the
copies counts, loading the images does not. Ratios are medians over the rounds of ours to each.

`memory` gives every number of images a process of its own. Its table shows the most memory
(proportional set size) of that process above `import tensorflow`, and that of the arrays where the
machine has room. Every table is followed by what is promised and whether it was kept: at most 1.05
times the plain passes, less time than the arrays, and the same memory within 10 % for ten times as
many images.
"""

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import psutil

from benchmarks import processes, synthetic_examples
from dr_tfx.machine import resources

VIEWS = ("identity", "left_right", "up_down", "left_right_up_down", "brighter")
BATCH = 64


def speed_of(folder: str, size: int, count: int, rounds: int) -> dict[str, list[float]]:
    """Return the seconds that each contender took in every round."""
    bundle = _bundle(folder, size)
    images = _images(folder, bundle)
    contenders: dict[str, Callable[[], np.ndarray]] = {
        "ours": _ours(folder, bundle),
        "plain": _plain(bundle.model, images),
        "arrays": lambda: _arrays(bundle.model, images),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        scores = {}
        for name, contender in contenders.items():
            start = time.perf_counter()
            scores[name] = contender()
            if turn:
                seconds[name].append(time.perf_counter() - start)
        if not np.allclose(scores["ours"], scores["arrays"], atol=1e-4):
            sys.exit("ours and the arrays give different scores")
    return seconds


def memory_of(folder: str, size: int, count: int, name: str) -> dict[str, float]:
    """Make one pass by `ours` or `arrays`; return the memory of `import tensorflow` in MiB."""
    import tensorflow  # noqa: F401 - Its memory is the base.

    base = processes.of_tree(os.getpid()).total
    bundle = _bundle(folder, size)
    if name == "ours":
        _ours(folder, bundle)()
    else:
        _arrays(bundle.model, _images(folder, bundle))
    return {"base": base}


def write(folder: str, size: int, count: int) -> None:
    """Write our shards."""
    synthetic_examples.write_shards(Path(folder) / "data", count, size)


def _bundle(folder: str, size: int) -> Any:
    """Return an untrained MobileNetV2 as a bundle of the shards."""
    import dataclasses

    from dr_tfx.dataset import manifest
    from dr_tfx.models import bundles, network

    plain = synthetic_examples.experiment(size)
    evaluation = dataclasses.replace(plain.evaluation, views=VIEWS, batch_size=BATCH)
    experiment = dataclasses.replace(plain, evaluation=evaluation)
    return bundles.Bundle(
        folder=Path(folder),
        model=network.build(experiment),
        experiment=experiment,
        manifest=manifest.load(Path(folder) / "data"),
        fitted=None,
        best_epoch=1,
        precision="float32",
        libraries={},
    )


def _ours(folder: str, bundle: Any) -> Callable[[], np.ndarray]:
    from dr_tfx.inference import scoring

    score, data_dir = scoring.view_scorer(bundle), Path(folder) / "data"
    settings = {"data": bundle.manifest, "split": "train"}
    return lambda: scoring.stream(bundle, score, data_dir, **settings)["score"].to_numpy()


def _images(folder: str, bundle: Any) -> np.ndarray:
    """Return all examples as float32 (n, size, size, 3), as the published recipe holds them."""
    from dr_tfx.input_pipeline import in_order

    data = Path(folder) / "data"
    batches = in_order.Batches(data, bundle.manifest, "train", batch_size=BATCH, features={})
    return np.concatenate([batch["image"] for batch in batches]).astype(np.float32)


def _plain(model: Any, images: np.ndarray) -> Callable[[], np.ndarray]:
    import tensorflow as tf

    spec = tf.TensorSpec((None, *images.shape[1:]), tf.float32)
    forward = tf.function(lambda x: model(x, training=False)[:, 0], input_signature=[spec])
    batches = [tf.constant(images[i : i + BATCH]) for i in range(0, len(images), BATCH)]

    def passes() -> np.ndarray:
        scores = [[forward(batch).numpy() for _ in VIEWS] for batch in batches]
        return np.concatenate([np.mean(views, axis=0) for views in scores])

    return passes


def _arrays(model: Any, images: np.ndarray) -> np.ndarray:
    scores = [model.predict(view, batch_size=BATCH, verbose=0)[:, 0] for view in _copies(images)]
    return np.mean(scores, axis=0)


def _copies(images: np.ndarray) -> Iterator[np.ndarray]:
    """Yield the views of all images; all views are in memory before the first is scored."""
    views = [
        images,
        np.ascontiguousarray(images[:, :, ::-1]),
        np.ascontiguousarray(images[:, ::-1]),
        np.ascontiguousarray(images[:, ::-1, ::-1]),
        np.minimum(images * np.float32(1.1), np.float32(255)),
    ]
    yield from views


def speed(arguments: argparse.Namespace) -> None:
    """Print the table of times."""
    with tempfile.TemporaryDirectory(dir=arguments.work_dir) as folder:
        job = (folder, arguments.size, arguments.count)
        processes.run(__file__, "write", *job)
        seconds, _ = processes.run(__file__, "speed_of", *job, arguments.rounds)
    rows, ratios = {}, {}
    for name, taken in seconds.items():
        pairs = zip(seconds["ours"], taken, strict=True)
        ratios[name] = statistics.median(ours / theirs for ours, theirs in pairs)
        rows[name] = {
            "seconds": f"{statistics.median(taken):.2f}",
            "views/s": f"{len(VIEWS) * arguments.count / statistics.median(taken):,.0f}",
            "ours to it": f"{ratios[name]:.3f}",
        }
    cores = resources.cores()
    print(
        f"{arguments.count} images of {arguments.size} px, {arguments.rounds} rounds, {cores} cores"
    )
    print(pd.DataFrame(rows).T.to_string())
    _say(ratios["plain"] <= 1.05, f"{ratios['plain']:.3f} x five plain passes, at most 1.05")
    _say(ratios["arrays"] < 1, f"{ratios['arrays']:.3f} x five predictions of arrays, less than 1")


def memory(arguments: argparse.Namespace) -> None:
    """Print the table of memory."""
    rows, ours = {}, []
    for count in map(int, arguments.counts.split(",")):
        with tempfile.TemporaryDirectory(dir=arguments.work_dir) as folder:
            job = (folder, arguments.size, count)
            processes.run(__file__, "write", *job)
            ours.append(_peak("ours", *job))
            needed = len(VIEWS) * count * arguments.size**2 * 3 * 4
            fits = 1.5 * needed < psutil.virtual_memory().available
            arrays = f"{_peak('arrays', *job):,.0f}" if fits else "does not fit"
        rows[f"{count:,} images"] = {"ours": f"{ours[-1]:,.0f}", "arrays": arrays}
    print(f"{arguments.size} px, five views: peak MiB above import tensorflow")
    print(pd.DataFrame(rows).T.to_string())
    if len(ours) > 1:
        ratio = max(ours) / min(ours)
        _say(ratio <= 1.1, f"the most of ours is {ratio:.2f} x the least, at most 1.10")


def _peak(name: str, folder: str, size: int, count: int) -> float:
    result, peak = processes.run(__file__, "memory_of", folder, size, count, name)
    print(f"{name}, {count}: {peak.total - result['base']:.0f}", file=sys.stderr)
    return peak.total - result["base"]


def _say(kept: bool, text: str) -> None:
    print("kept   " if kept else "MISSED ", text)


def main() -> None:
    """Run one of the benchmarks."""
    if processes.serve(write, speed_of, memory_of):
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one, two = commands.add_parser("speed"), commands.add_parser("memory")
    one.add_argument("--count", type=int, default=1024, help="Number of images.")
    one.add_argument("--rounds", type=int, default=7, help="Turns of each contender.")
    one.set_defaults(run=speed)
    two.add_argument("--counts", default="500,5000", help="Numbers of images.")
    two.set_defaults(run=memory)
    for command in (one, two):
        command.add_argument("--size", type=int, default=96, help="Pixels a side.")
        command.add_argument(
            "--work_dir", help="Folder in which the files are made and removed again."
        )
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
