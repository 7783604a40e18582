"""Speed and memory of the training input from an object store, near and far.

    python -m benchmarks.input_pipeline.remote    # 5, 20 and 50 ms; 100 and 1,000 MB/s
    python -m benchmarks.input_pipeline.remote --latencies=20 --rate=100
    python -m benchmarks.input_pipeline.remote --latencies=1 --bandwidths=100 --reads=100

Synthetic examples lie in an object store on this machine that takes its time (`slow_store`). Every
contender reads endless shuffled batches of 64 from it, both classes equally often, in a process of
its own and in turn (`far_contenders`):

    ours                single examples by range, into a cache
    mosaicml-streaming  its own shards as a whole, into a folder, by Amazon's protocol
    tf.data             by hand: whole shards by Google's client, four at a time of each class, then
                        a buffer to shuffle in
    grain               single examples by range, by Google's client in Grain's threads
    webdataset          tar files through curl, as its documentation has it; a buffer to shuffle in

`cold` is a first epoch into an empty cache, as fast as it comes, and `warm` the reading after it.
Columns: seconds to the first batch; the share of the time that a training of --rate samples a
second waits for its input from there on; samples a second after the first batch, at full speed; the
seconds of an epoch from the start on, by arithmetic for those that keep nothing; requests and kB a
sample; milliseconds of the processor a sample, without the store's own, but with the start where it
is `cold`; and the most memory above that of the imports. Ratios are to tf.data by hand on the same
store. --rate=60 is dr_binary on two cores.

With --reads, as of a disk that seeks so often a second, it is another table: the seconds of a whole
first epoch, as fast as it comes, against those of reading all shards in order. The benchmark needs
`pip install 'dr_tfx[dataflow,bench]'`; contenders whose packages are missing are said to be.
"""

import argparse
import contextlib
import itertools
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import processes
from benchmarks.input_pipeline import far_contenders, slow_store
from benchmarks.input_pipeline.far_contenders import BATCH, COLD, IN_ORDER, WARM

CONTENDERS = [name for name in far_contenders.READ if name != IN_ORDER]
COLUMNS = [
    "first batch, s",
    "input wait",
    "samples/s",
    "epoch, s",
    "requests a sample",
    "kB a sample",
    "CPU ms a sample",
    "peak MiB",
]


class _Watch:
    """What a contender uses from now on."""

    def __init__(self) -> None:
        self._begun, self._cpu, self._asked = time.perf_counter(), self._used(), _counts()

    @property
    def seconds(self) -> float:
        """The time since then."""
        return time.perf_counter() - self._begun

    def figures(self, samples: int) -> dict[str, float]:
        """Return the figures of so many samples."""
        requests, size = (b - a for a, b in zip(self._asked, _counts(), strict=True))
        return {
            "requests a sample": requests / samples,
            "kB a sample": size / 1e3 / samples,
            "CPU ms a sample": 1e3 * (self._used() - self._cpu) / samples,
        }

    def _used(self) -> float:
        return processes.cpu_seconds(os.getpid())


def whole(name: str, job: dict[str, Any]) -> dict[str, float]:
    """Return the figures of an epoch from the start."""
    batches = far_contenders.READ[name](job)
    next(batches)
    base, watch = processes.of_tree(os.getpid()).total, _Watch()
    next(batches)
    first, taken = watch.seconds, BATCH
    for batch in itertools.islice(batches, job["epoch"] // BATCH - 1):
        taken += len(batch)
    seconds = watch.seconds
    rate = (taken - BATCH) / (seconds - first)
    found = {"first batch, s": first, "samples/s": rate, "epoch, s": seconds, "base": base}
    return found | watch.figures(taken)


def measure(name: str, job: dict[str, Any]) -> dict[str, float]:
    """Return the figures of a contender; of one whose cache is empty those of its start."""
    batches = far_contenders.READ[name](job)
    next(batches)
    base, start = processes.of_tree(os.getpid()).total, time.perf_counter()
    next(batches)
    found = {"first batch, s": time.perf_counter() - start, "base": base}
    waited, begun = 0.0, time.perf_counter()
    for _ in range(max(3, int(job["seconds"] * job["rate"] / BATCH))):
        before = time.perf_counter()
        next(batches)
        waited += time.perf_counter() - before
        time.sleep(BATCH / job["rate"])  # The step of the training.
    found["input wait"] = waited / (time.perf_counter() - begun)
    if name.endswith(COLD):  # What comes ahead of a slow training is not the speed of an epoch.
        return found
    watch, taken = _Watch(), 0
    while watch.seconds < job["seconds"]:
        taken += len(next(batches))
    rate = taken / watch.seconds
    epoch = found["first batch, s"] + (job["epoch"] - BATCH) / rate
    return found | {"samples/s": rate, "epoch, s": epoch} | watch.figures(taken)


def _counts() -> list[int]:
    """Return the requests that the store has answered, and the bytes."""
    with urllib.request.urlopen(f"{os.environ['STORAGE_EMULATOR_HOST']}/counts") as answer:
        return json.load(answer)


@contextlib.contextmanager
def far(folder: Path, latency: str, bandwidth: str, reads: float) -> Iterator[None]:
    """Run a store, and let the processes that are started use it."""
    line = [sys.executable, slow_store.__file__, str(folder)]
    line += [f"--latency_ms={latency}", f"--bandwidth_mb={bandwidth}", f"--reads={reads}"]
    with subprocess.Popen(line, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout
        os.environ |= {
            "STORAGE_EMULATOR_HOST": server.stdout.readline().strip(),
            "FSSPEC_GS_TOKEN": "anon",
            "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
        }
        try:
            yield
        finally:
            server.terminate()


def main() -> None:
    """Print a table for every latency and bandwidth."""
    if processes.serve(measure, whole):
        return
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=4000, help="Number of examples.")
    parser.add_argument("--size", type=int, default=224, help="Pixels a side.")
    parser.add_argument("--latencies", default="5,20,50", help="Milliseconds of an answer.")
    parser.add_argument("--bandwidths", default="100,1000", help="MB a second of all answers.")
    parser.add_argument("--reads", type=float, default=0, help="Seeks a second; 0: no limit.")
    parser.add_argument("--seconds", type=float, default=10, help="Length of a measurement.")
    parser.add_argument("--rate", type=float, default=60, help="Samples a second of a training.")
    parser.add_argument("--cache_gb", type=float, default=100, help="Of ours.")
    parser.add_argument("--contenders", default=";".join(CONTENDERS), help="With ; between.")
    parser.add_argument("--work_dir", help="Folder in which files are made and removed again.")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=arguments.work_dir) as made:
        folder = Path(made) / "objects"
        folder.mkdir()
        names = arguments.contenders.split(";")
        gigabytes, epoch = far_contenders.write(folder, arguments.count, arguments.size)
        print(f"{arguments.count} examples of {arguments.size} px, {gigabytes:.2f} GB")
        given = itertools.product(arguments.latencies.split(","), arguments.bandwidths.split(","))
        for number, (latency, bandwidth) in enumerate(given):
            job = {"folder": str(folder), "cache": f"{made}/cache-{number}", "epoch": epoch}
            job |= {
                name: getattr(arguments, name) for name in ("size", "seconds", "rate", "cache_gb")
            }
            with far(folder, latency, bandwidth, arguments.reads):
                if arguments.reads:
                    table = pd.DataFrame(_of_whole_epochs(job)).T
                else:
                    table = pd.DataFrame(_rows(job, names)).T
            print(f"\n{latency} ms, {bandwidth} MB/s\n{table.to_string(na_rep='')}", flush=True)


def _of_whole_epochs(job: dict[str, Any]) -> dict[str, dict[str, str]]:
    rows, first = {}, 0.0
    for name in (IN_ORDER, f"ours{COLD}"):
        found = _run("whole", name, job)
        first = first or found["epoch, s"]
        rows[name] = {key: f"{value:.4g}" for key, value in found.items()}
        rows[name]["x in order"] = f"{found['epoch, s'] / first:.2f}"
    return rows


def _rows(job: dict[str, Any], names: list[str]) -> dict[str, dict[str, str]]:
    found, rows = {}, {}
    for name in names:
        if missing := far_contenders.missing(name):
            rows[name] = {"samples/s": f"not installed: {', '.join(missing)}"}
            continue
        kept = job | {"cache": f"{job['cache']}/{name.removesuffix(COLD).removesuffix(WARM)}"}
        if name.endswith(COLD):
            found[name] = _run("measure", name, kept | {"cache": f"{job['cache']}/begun"})
            shutil.rmtree(f"{job['cache']}/begun")
            begun, epoch = found[name], _run("whole", name, kept)
            most = max(begun["peak MiB"], epoch["peak MiB"])
            found[name] = begun | epoch | {"peak MiB": most}
        else:
            found[name] = _run("measure", name, kept)
    peer = found.get("tf.data", {}).get("samples/s", np.nan)
    for name, figures in found.items():
        rows[name] = {column: f"{figures[column]:.3g}" for column in COLUMNS}
        rows[name]["x tf.data"] = f"{figures['samples/s'] / peer:.2f}"
    return {name: rows[name] for name in names}


def _run(function: str, name: str, job: dict[str, Any]) -> dict[str, float]:
    """Return what a function finds in a process of its own, and its memory."""
    found, peak = processes.run(__file__, function, name, job)
    return found | {"peak MiB": peak.total - found.pop("base")}


if __name__ == "__main__":
    main()
