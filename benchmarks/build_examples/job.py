"""Speed and memory of the build job, as ratios against a reference in the same run.

    python -m benchmarks.build_examples.job speed --image_dir=PHOTOGRAPHS  # against a plain loop
    python -m benchmarks.build_examples.job memory   # is it flat in the number of photographs?
    python -m benchmarks.build_examples.job plan     # a label CSV of a million rows

`speed` repeats the photographs of a folder up to --count and compares the job with the published
loop over them. Every contender runs in a process of its own, in turn, --rounds times; the table
shows the medians. Absolute times mean little on a shared machine; ratios within one run do.
`memory` builds few and many photographs. `plan` takes the time and memory of a plan, as bytes a row
above those of a thousand rows.
"""

import argparse
import collections
import csv
import itertools
import statistics
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from benchmarks import processes
from dr_tfx.machine import resources

SIZES = {"reference": 96, "fundus": 224}  # Recipe -> pixels a side, as in configs/.
TWO = ("--direct_running_mode=multi_processing", "--direct_num_workers=2")


def loop(image_dir: str, threads: int) -> float:
    """Time the published preprocessing: one process, one list of arrays. Return seconds."""
    if threads:
        cv2.setNumThreads(threads)
    start, images = time.perf_counter(), []
    for path in sorted(Path(image_dir).glob("*.jpeg")):
        lab = cv2.cvtColor(cv2.imread(str(path)), cv2.COLOR_BGR2RGB)
        lab = cv2.cvtColor(lab, cv2.COLOR_RGB2LAB)
        lightness, a, b = cv2.split(lab)
        lightness = cv2.createCLAHE(clipLimit=2.0, tileGridSize=(8, 8)).apply(lightness)
        enhanced = cv2.cvtColor(cv2.merge((lightness, a, b)), cv2.COLOR_LAB2RGB)
        images.append(cv2.resize(enhanced, (96, 96)).astype(np.float32) / 255)
    np.stack(images)
    return time.perf_counter() - start


def recipe(image_dir: str, name: str) -> float:
    """Time a recipe on one thread, without the job around it. Return seconds."""
    from dr_tfx.config import specs
    from dr_tfx.preprocessing import recipes

    cv2.setNumThreads(1)
    start = time.perf_counter()
    for path in sorted(Path(image_dir).glob("*.jpeg")):
        recipes.apply_recipe(path.read_bytes(), specs.Recipe(name=name, size=SIZES[name]))
    return time.perf_counter() - start


def build(image_dir: str, recipe: str, flags: list[str], shard_examples: int = 16) -> float:
    """Time the build job on the same photographs. Return seconds, workers' start included."""
    from apache_beam.options.pipeline_options import PipelineOptions

    from beam_jobs.build_examples import job
    from dr_tfx.config import specs

    spec = specs.DatasetSpec(
        patient_pattern=r"^(.+)_(?:left|right)$",
        recipe=specs.Recipe(name=recipe, size=SIZES[recipe]),
        shard_examples=shard_examples,
    )
    with tempfile.TemporaryDirectory(dir=image_dir) as output_dir:
        start = time.perf_counter()
        job.build(
            spec,
            image_dir=image_dir,
            labels=f"{image_dir}/labels.csv",
            output_dir=output_dir,
            options=PipelineOptions(flags),
        )
        return time.perf_counter() - start


def plan(labels: str, method: str) -> float:
    """Time a plan of a CSV and as many photographs. Return seconds."""
    from beam_jobs.build_examples import planning
    from dr_tfx.config import specs
    from dr_tfx.sources import folders

    class SizesOnly(folders.Source):
        """A source that lists photographs of different sizes and can read none."""

        def names(self) -> Iterator[tuple[str, int]]:
            with open(labels, encoding="utf-8") as stream:
                next(stream)
                for size, line in enumerate(stream, start=1):
                    yield line.partition(",")[0] + ".jpeg", size

        def read(self, name: str) -> bytes:
            raise NotImplementedError  # A plan reads only files of equal size.

        def path(self, name: str) -> str:
            return name

    spec = specs.DatasetSpec(
        patient_pattern=r"^(.+)_(?:left|right)$", split=specs.Split(method=method)
    )
    start = time.perf_counter()
    made = planning.make_plan(spec, labels=labels, source=SizesOnly())
    collections.deque(made.shards(), maxlen=0)
    made.contract()
    return time.perf_counter() - start


def fill(folder: Path, photographs: list[bytes], count: int) -> None:
    """Write labels and `count` files, few of one size, so that few are compared as twins."""
    with (folder / "labels.csv").open("w", newline="") as stream:
        table = csv.writer(stream)
        table.writerow(("image", "level"))
        for i, data in zip(range(count), itertools.cycle(photographs)):
            name = f"{i // 2}_{('left', 'right')[i % 2]}"
            (folder / f"{name}.jpeg").write_bytes(data + bytes(i // len(photographs)))
            table.writerow((name, (i % 3 == 0 and 1) or 0))


def speed(arguments: argparse.Namespace) -> None:
    """Print the photographs a second of the loop and of the job."""
    paths = sorted(Path(arguments.image_dir).glob("*.jp*g"))
    if not paths:
        sys.exit(f"{arguments.image_dir} holds no JPEG photographs")
    contenders: dict[str, tuple] = {
        "loop, OpenCV's own threads": ("loop", 0),
        "loop, one thread": ("loop", 1),
        "reference recipe alone, one thread": ("recipe", "reference"),
        "fundus recipe alone, one thread": ("recipe", "fundus"),
        "reference, one process": ("build", "reference", []),
        "reference, two workers": ("build", "reference", list(TWO)),
        "fundus, one process": ("build", "fundus", []),
        "fundus, two workers": ("build", "fundus", list(TWO)),
    }
    seconds: dict[str, list[float]] = {name: [] for name in contenders}
    memory: dict[str, float] = dict.fromkeys(contenders, 0.0)
    with tempfile.TemporaryDirectory() as folder:
        fill(Path(folder), [path.read_bytes() for path in paths], arguments.count)
        for _, (name, (function, *rest)) in itertools.product(
            range(arguments.rounds), contenders.items()
        ):
            taken, peak = processes.run(__file__, function, folder, *rest)
            seconds[name].append(taken)
            memory[name] = max(memory[name], peak.total)
            print(f"{name}: {taken:.1f} s", file=sys.stderr)
    base = statistics.median(seconds["loop, one thread"])
    default = statistics.median(seconds["loop, OpenCV's own threads"])
    table = pd.DataFrame(
        {
            "photographs/s": {
                n: arguments.count / statistics.median(s) for n, s in seconds.items()
            },
            "x loop, one thread": {n: base / statistics.median(s) for n, s in seconds.items()},
            "x loop as it is": {n: default / statistics.median(s) for n, s in seconds.items()},
            "peak MiB": memory,
        }
    )
    print(f"{arguments.count} photographs, {arguments.rounds} rounds, {resources.cores()} cores")
    print(table.to_string(float_format="{:.2f}".format))


def memory(arguments: argparse.Namespace) -> None:
    """Peak memory of the job, all processes together, for few and for many photographs."""
    small = [_photograph(64, 48, seed) for seed in range(50)]
    large = [_photograph(4288, 2848, seed) for seed in range(4)]
    cases = [
        (f"{count} of 64x48, {name}", small, count, flags, 512)
        for count in (2_000, 35_126)
        for name, flags in (("one process", []), ("two workers", list(TWO)))
    ] + [
        ("48 of 12 megapixels, one process", large, 48, [], 8),
        ("48 of 12 megapixels, two workers", large, 48, list(TWO), 8),
    ]
    rows = {}
    for name, photographs, count, flags, shard_examples in cases:
        with tempfile.TemporaryDirectory() as folder:
            fill(Path(folder), photographs, count)
            _, peak = processes.run(__file__, "build", folder, "reference", flags, shard_examples)
        rows[name] = peak.total
        print(f"{name}: {peak.total:.0f} MiB", file=sys.stderr)
    table = pd.DataFrame({"peak MiB": rows})
    for kind in ("one process", "two workers"):
        print(f"{kind}: {rows[f'35126 of 64x48, {kind}'] / rows[f'2000 of 64x48, {kind}']:.2f} x")
    print(table.to_string(float_format="{:.0f}".format))


def plans(arguments: argparse.Namespace) -> None:
    """Print the time and memory of a plan, above those of a plan of a thousand rows."""
    rows: dict[str, dict[str, float]] = {}
    for method in ("patient", "hash"):
        measured = []
        for count in (1_000, arguments.rows):
            with tempfile.NamedTemporaryFile("w", suffix=".csv") as stream:
                stream.write("image,level\n")
                stream.writelines(
                    f"{i // 2}_{('left', 'right')[i % 2]},{int(i % 7 == 0)}\n" for i in range(count)
                )
                stream.flush()
                measured.append(processes.run(__file__, "plan", stream.name, method))
        (_, base), (seconds, peak) = measured
        above = (peak.total - base.total) * 2**20
        rows[method] = {"s": seconds, "peak bytes a row": above / arguments.rows}
    print(f"{arguments.rows:,} rows")
    print(pd.DataFrame(rows).T.to_string(float_format="{:.0f}".format))


def _photograph(width: int, height: int, seed: int) -> bytes:
    """Return a lit disc with soft texture on black, as a JPEG file."""
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(60, 220, (height // 8, width // 8, 3)).astype(np.float32)
    picture = cv2.resize(coarse, (width, height), interpolation=cv2.INTER_CUBIC)
    mask = np.zeros((height, width), np.uint8)
    cv2.circle(mask, (width // 2, height // 2), int(0.48 * height), 1, -1)
    pixels = np.clip(picture, 0, 255).astype(np.uint8) * mask[..., None]
    return cv2.imencode(".jpeg", pixels)[1].tobytes()


def main() -> None:
    """Run one of the benchmarks."""
    if processes.serve(loop, recipe, build, plan):
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("speed")
    one.add_argument("--image_dir", required=True, help="Folder of JPEG photographs.")
    one.add_argument("--count", type=int, default=420, help="Photographs for each contender.")
    one.add_argument("--rounds", type=int, default=3, help="Turns of each contender.")
    one.set_defaults(run=speed)
    two = commands.add_parser("memory")
    two.set_defaults(run=memory)
    three = commands.add_parser("plan")
    three.add_argument("--rows", type=int, default=1_000_000, help="Rows of the CSV.")
    three.set_defaults(run=plans)
    arguments = parser.parse_args()
    arguments.run(arguments)


if __name__ == "__main__":
    main()
