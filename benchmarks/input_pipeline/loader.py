"""Speed and memory of the training input, against what people use, as ratios of one run.

    python -m benchmarks.input_pipeline.loader speed       # all contenders, 20,000 of 96 px
    python -m benchmarks.input_pipeline.loader speed --contenders='ours,grain' --size=224 \
        --count=4000
    python -m benchmarks.input_pipeline.loader encodings   # raw, PNG or JPEG inside the records?

`speed` makes synthetic examples, writes them in each contender's own format, and counts examples a
second of endless batches, first without and then with augmentation. The package `contenders` holds
the contenders and says what each is held to. Every contender runs in a process of its own, in turn,
--rounds times, for --seconds a column after an epoch to get going. The table shows the medians, and
the most memory of the whole process tree above what its imports take. One epoch may be three times
as fast as the next, so measure many.

The table tells three kinds apart. `memory` holds all examples in memory. `mapped` maps a file and
reads it in any order; its pages count as memory, though the system may take them back. `bounded`
takes the same memory however many examples there are. Ratios are to the fastest bounded peer; the
ratio to the fastest contender that maps a file stands below the table.

The files are read many times and stay in the system's cache, so a disk's speed is not measured.
Each operation of TensorFlow runs on one thread, as NumPy's do, because on two cores a second thread
only takes turns with the one that reads. Absolute figures mean little on a shared machine. The
peers need `pip install -e '.[bench]'`; one that is missing has a row that says so.

`encodings` reads records of raw pixels, of PNG and of JPEG files at three sizes, by our loader and
by tf.data written by hand. JPEG is no encoding of ours, because it is lossy, and TensorFlow's
decoder and OpenCV's give different pixels for the same file.
"""

import argparse
import dataclasses
import itertools
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pandas as pd

from benchmarks import processes
from benchmarks.input_pipeline.contenders import CONTENDERS
from benchmarks.input_pipeline.contenders.contender import Batches, Contender, Job
from dr_tfx.machine import resources

COLUMNS = ("samples/s", "augmented")  # Without and with augmentation.


def write(name: str, job: dict[str, Any]) -> None:
    """Write the examples in a contender's own format."""
    CONTENDERS[name].write(Job(**job))


def measure(name: str, job: dict[str, Any], seconds: float, columns: int) -> dict[str, Any]:
    """Measure a contender's examples a second, and the memory of its imports in MiB."""
    rates, base = [], None
    for augmented in (False, True)[:columns]:
        read = CONTENDERS[name].read
        batches = read(Job(**{**job, "augmented": augmented}))
        next(batches)
        base = base or processes.of_tree(os.getpid())
        _count(batches, min(1.0, seconds), at_least=_epoch(job) if seconds >= 1 else 0)
        examples, ones, taken = _count(batches, seconds)
        # Both classes are equally frequent, up to the sampling error.
        if abs(ones / examples - 0.5) > 4 / examples**0.5:
            sys.exit(f"{name}: {ones} of {examples} examples are of class 1, expected half")
        rates.append(examples / taken)
        batches.close()
    return {"rates": rates, "base": dataclasses.astuple(base)}


def _epoch(job: dict[str, Any]) -> int:
    """Return the number of examples after which a contender has seen all."""
    return 2 * int(np.bincount(Job(**job).classes()).max())


def _count(batches: Batches, seconds: float, at_least: int = 0) -> tuple[int, float, float]:
    """Take batches for so long; return examples, those of class 1, and seconds taken."""
    start, examples, ones = time.perf_counter(), 0, []
    for images, classes in batches:
        if not examples and ("float32" not in str(images.dtype) or images.ndim != 4):
            sys.exit(f"a batch is {images.dtype} {images.shape}, expected float32 of 4 dimensions")
        examples += images.shape[0]
        ones.append(classes)
        if time.perf_counter() - start > seconds and examples >= at_least:
            break
    taken = time.perf_counter() - start
    return examples, sum(float(np.sum(np.asarray(c))) for c in ones), taken


def speed(arguments: argparse.Namespace) -> None:
    """Print the examples a second, and the memory, of every contender."""
    chosen = arguments.contenders.split(",") if arguments.contenders else CONTENDERS
    if unknown := set(chosen) - set(CONTENDERS):
        sys.exit(f"--contenders: {sorted(unknown)} are none of {sorted(CONTENDERS)}")
    rows: dict[str, Measured] = {}
    for name in chosen:
        contender = CONTENDERS[name]
        for workers in contender.workers:
            label = f"{name}, {workers} workers" if len(contender.workers) > 1 else name
            rows[label] = Measured(contender, workers, ", ".join(contender.missing()))
    with tempfile.TemporaryDirectory(dir=arguments.work_dir) as folder:
        job = {"folder": folder, "count": arguments.count, "size": arguments.size}
        written = set()
        for row in rows.values():
            if not row.missing and row.contender.write not in written:
                processes.run(__file__, "write", row.contender.name, job)
                written.add(row.contender.write)
        _rounds(rows, job, arguments)
    best, mapped = (
        [
            max((r.rate(i) for r in rows.values() if r.rates and r.is_peer(kind)), default=np.nan)
            for i in range(2)
        ]
        for kind in ("bounded", "mapped")
    )
    table = pd.DataFrame({label: row.figures(best) for label, row in rows.items()}).T
    print(f"{arguments.count} examples of {arguments.size} px, {arguments.rounds} rounds, ", end="")
    print(f"{resources.cores()} cores")
    print(table.to_string(na_rep=""))
    if "ours" in rows and not np.isnan(mapped[0]):
        ratios = (f"{rows['ours'].rate(i) / mapped[i]:.2f} x" for i in range(2))
        print("ours against the fastest that maps a file:", ", augmented ".join(ratios))


def _rounds(
    rows: dict[str, "Measured"], job: dict[str, Any], arguments: argparse.Namespace
) -> None:
    for _, (label, row) in itertools.product(range(arguments.rounds), rows.items()):
        if row.missing:
            continue
        mine = {**job, "workers": row.workers}
        result, peak = processes.run(
            __file__, "measure", row.contender.name, mine, arguments.seconds, 2
        )
        row.add(result, peak)
        print(label, *(f"{rate:.0f}" for rate in result["rates"]), file=sys.stderr)


@dataclasses.dataclass
class Measured:
    """The figures of one contender with so many workers."""

    contender: Contender
    workers: int = 0
    missing: str = ""
    rates: list[list[float]] = dataclasses.field(default_factory=list)
    peak: processes.TreeMemory = dataclasses.field(default_factory=processes.TreeMemory)

    def is_peer(self, kind: str) -> bool:
        """Return whether ratios may be to this contender."""
        return self.contender.kind == kind and not self.contender.name.startswith("ours")

    def add(self, result: dict[str, Any], peak: processes.TreeMemory) -> None:
        """Add one round."""
        self.rates.append(result["rates"])
        total, files = result["base"]
        if peak.total - total > self.peak.total:
            self.peak = processes.TreeMemory(peak.total - total, max(0.0, peak.files - files))

    def rate(self, column: int) -> float:
        """Return the median over the rounds."""
        return statistics.median(rates[column] for rates in self.rates)

    def figures(self, best: list[float]) -> dict[str, str]:
        """Return the cells of the table; `best` are the rates of the fastest peer."""
        kind = self.contender.kind
        if self.missing:
            return {"kind": kind, COLUMNS[0]: f"not installed: {self.missing}"}
        cells = {"kind": kind}
        for i, column in enumerate(COLUMNS):
            cells[column] = f"{self.rate(i):,.0f}"
            cells[f"x peer{', aug.' * i}"] = f"{self.rate(i) / best[i]:.2f}"
        return {
            **cells,
            "peak MiB": f"{self.peak.total:.0f}",
            "of it files": f"{self.peak.files:.0f}",
        }


def encodings(arguments: argparse.Namespace) -> None:
    """Print the examples a second of raw pixels, PNG and JPEG files inside the records."""
    table: dict[str, dict[str, str]] = {}
    for size in map(int, arguments.sizes.split(",")):
        # There are as many bytes of pixels at every size.
        count = max(100, arguments.count * 96**2 // size**2)
        with tempfile.TemporaryDirectory(dir=arguments.work_dir) as folder:
            rows = _encodings_of(folder, size, count, arguments)
        for encoding, (length, rates) in rows.items():
            table[f"{size} px, {encoding}"] = {
                "bytes an example": f"{length:,.0f}",
                **{
                    f"{name}, samples/s": f"{statistics.median(values):,.0f}" if values else "-"
                    for name, values in rates.items()
                },
            }
    print(f"{arguments.rounds} rounds, {resources.cores()} cores; no augmentation")
    print(pd.DataFrame(table).T.to_string())


def _encodings_of(
    folder: str, size: int, count: int, arguments: argparse.Namespace
) -> dict[str, tuple[float, dict[str, list[float]]]]:
    result: dict[str, tuple[float, dict[str, list[float]]]] = {}
    jobs = {}
    for encoding in ("raw", "png", "jpeg"):
        path = Path(folder) / encoding
        job = {"folder": str(path), "count": count, "size": size, "encoding": encoding}
        jobs[encoding] = job
        path.mkdir()
        processes.run(__file__, "write", "tf.data by hand", job)
        shards = path.glob("records/*.tfrecord-*")
        length = sum(shard.stat().st_size for shard in shards) / count
        result[encoding] = (length, {"ours": [], "tf.data by hand": []})
    for _, (encoding, job) in itertools.product(range(arguments.rounds), jobs.items()):
        for name, rates in result[encoding][1].items():
            if (name, encoding) == ("ours", "jpeg"):
                continue
            measured, _ = processes.run(__file__, "measure", name, job, arguments.seconds, 1)
            rates.append(measured["rates"][0])
            print(f"{size} px, {encoding}, {name}: {rates[-1]:.0f}", file=sys.stderr)
    return result


def main() -> None:
    """Run one of the benchmarks."""
    cv2.setNumThreads(1)
    if processes.serve(write, measure):
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(required=True)
    one = commands.add_parser("speed")
    one.add_argument("--size", type=int, default=96, help="Pixels a side.")
    one.add_argument("--contenders", help=f"Some of: {','.join(CONTENDERS)}.")
    one.set_defaults(run=speed)
    two = commands.add_parser("encodings")
    two.add_argument("--sizes", default="96,224,512", help="Pixels a side.")
    two.set_defaults(run=encodings)
    for command in (one, two):
        command.add_argument(
            "--count", type=int, default=20_000, help="Number of examples, at 96 px."
        )
        command.add_argument("--rounds", type=int, default=5, help="Turns of each contender.")
        command.add_argument("--seconds", type=float, default=10.0, help="Length of a measurement.")
        command.add_argument(
            "--work_dir", help="Folder in which the files are made and removed again."
        )
    arguments = parser.parse_args()
    os.environ["TF_NUM_INTRAOP_THREADS"] = "1"  # The processes that are measured inherit it.
    arguments.run(arguments)


if __name__ == "__main__":
    main()
