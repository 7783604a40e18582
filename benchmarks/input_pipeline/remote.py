"""Speed and memory of the training input from an object store, near and far.

    python -m benchmarks.input_pipeline.remote                   # 5, 20 and 50 ms, 100 MB/s
    python -m benchmarks.input_pipeline.remote --latencies=20 --bandwidths=100,1000 --rate=100
    python -m benchmarks.input_pipeline.remote --latencies=1 --reads=100     # a disk that seeks

Synthetic examples lie in an object store on this machine that takes its time (`slow_store`). Every
contender reads endless shuffled batches of 64 from it, both classes equally often, in a process of
its own and in turn:

    ours, cold    single examples by range, into an empty cache; for an epoch at most
    ours, warm    the same once more: the cache has what came before
    tf.data       by hand: whole shards by Google's client, four at a time of each class, then a
                  buffer to shuffle in
    webdataset    tar files through curl, as its documentation has it; a buffer to shuffle in

Columns: seconds to the first batch, samples a second after it, requests and kB a sample, the share
of the time that a training of --rate samples a second waits for its input, and the most memory
above that of the imports. Ratios are to tf.data by hand on the same store. --rate=60 is dr_binary
on two cores. With --reads it is another table: the seconds of a whole first epoch, as fast as it
comes, against those of reading all shards in order. Grain reads ArrayRecord files of a disk only,
and mosaicml-streaming needs a store of another protocol: neither is here. The benchmark needs `pip
install 'dr_tfx[dataflow,bench]'`.
"""

import argparse
import contextlib
import io
import itertools
import json
import os
import subprocess
import sys
import tarfile
import tempfile
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks import processes, synthetic_examples
from benchmarks.input_pipeline import slow_store
from dr_tfx.dataset import manifest, records

BATCH = 64
SHUFFLE = 1024  # Examples of each class in the buffer of those that stream.
ADDRESS = f"gs://{slow_store.BUCKET}/records"
CONTENDERS = ("ours, cold", "ours, warm", "tf.data", "webdataset")


def ours(job: dict[str, Any]) -> Iterator[np.ndarray]:
    """Yield what `train` is given."""
    from dr_tfx.dataset import places
    from dr_tfx.input_pipeline import loader

    yield np.empty(0)
    folder = places.folder(ADDRESS, cache_dir=job["cache"], cache_gb=job["cache_gb"])
    experiment = synthetic_examples.experiment(job["size"], batch_size=BATCH)
    batches, _ = loader.train_batches(folder, manifest.load(folder), experiment)
    with contextlib.closing(batches):
        for batch in batches:
            yield batch["image"]


def by_hand(job: dict[str, Any]) -> Iterator[np.ndarray]:
    """Yield batches of shards that come as a whole."""
    import gcsfs
    import tensorflow as tf

    yield np.empty(0)
    store = gcsfs.GCSFileSystem(token="anon")
    features = {"image/encoded": tf.io.FixedLenFeature([], tf.string)}

    def fetch(name: bytes) -> np.ndarray:
        content = store.cat_file(name.decode())
        return np.array(list(records.read(io.BytesIO(content))), object)

    def of_shard(name: Any) -> Any:
        found = tf.numpy_function(fetch, [name], tf.string)
        return tf.data.Dataset.from_tensor_slices(tf.ensure_shape(found, [None]))

    streams = []
    names = [name for name in store.ls(ADDRESS) if ".tfrecord-" in name]
    for of_class in ("train-0", "train-[1-4]"):
        chosen = [name for name in names if Path(name).match(f"{of_class}.*")]
        stream = tf.data.Dataset.from_tensor_slices(chosen).shuffle(len(chosen)).repeat()
        stream = stream.interleave(of_shard, cycle_length=4, num_parallel_calls=4)
        streams.append(stream.shuffle(SHUFFLE))
    mixed = tf.data.Dataset.sample_from_datasets(streams, [0.5, 0.5]).batch(BATCH)

    def parse(batch: Any) -> Any:
        pixels = tf.io.parse_example(batch, features)["image/encoded"]
        return tf.reshape(tf.io.decode_raw(pixels, tf.uint8), (-1, job["size"], job["size"], 3))

    parsed = mixed.map(parse, tf.data.AUTOTUNE, deterministic=False).prefetch(tf.data.AUTOTUNE)
    yield from parsed.as_numpy_iterator()


def by_webdataset(job: dict[str, Any]) -> Iterator[np.ndarray]:
    """Yield batches of tar files."""
    import webdataset

    yield np.empty(0)
    host, streams = os.environ["STORAGE_EMULATOR_HOST"], []
    for c in (0, 1):
        names = [f"tar/{path.name}" for path in Path(job["folder"], "tar").glob(f"{c}-*")]
        keys = [urllib.parse.quote(name, safe="") for name in sorted(names)]
        urls = [f"pipe:curl -sf {host}/download/storage/v1/b/far/o/{key}" for key in keys]
        stream = webdataset.WebDataset(urls, shardshuffle=len(urls), empty_check=False).repeat()
        streams.append(stream.shuffle(SHUFFLE))
    size = job["size"]
    for both in zip(*streams, strict=True):
        made = [np.frombuffer(one["raw"], np.uint8).reshape(size, size, 3) for one in both]
        job.setdefault("made", []).extend(made)
        if len(job["made"]) >= BATCH:
            yield np.stack(job["made"][:BATCH])
            del job["made"][:BATCH]


def in_order(job: dict[str, Any]) -> Iterator[np.ndarray]:
    """Yield batches of the shards one after the other, each once."""
    yield np.empty(0)
    host, size, made = os.environ["STORAGE_EMULATOR_HOST"], job["size"], []
    for path in sorted(Path(job["folder"], "records").glob("train-*.tfrecord-*")):
        key = urllib.parse.quote(f"records/{path.name}", safe="")
        with urllib.request.urlopen(f"{host}/download/storage/v1/b/far/o/{key}") as answer:
            content = io.BytesIO(answer.read())
        for _, pixels in records.read_images(content, size):
            made.append(pixels)
            if len(made) == BATCH:
                yield np.stack(made)
                made = []


def whole(name: str, job: dict[str, Any]) -> dict[str, float]:
    """Return the seconds of an epoch from the start, and what was asked for."""
    batches = ours(job) if name == "ours" else in_order(job)
    next(batches)
    base, start = processes.of_tree(os.getpid()).total, time.perf_counter()
    asked = _counts()
    taken = sum(1 for _ in itertools.islice(batches, job["epoch"] // BATCH))
    seconds = time.perf_counter() - start
    requests, size = (b - a for a, b in zip(asked, _counts(), strict=True))
    told = {"batches": float(taken), "seconds": seconds, "requests": float(requests)}
    return {**told, "MB": size / 1e6, "base": base}


READ = {"ours, cold": ours, "ours, warm": ours, "tf.data": by_hand, "webdataset": by_webdataset}


def measure(name: str, job: dict[str, Any]) -> dict[str, float]:
    """Return the figures of a contender."""
    batches = READ[name](job)
    next(batches)
    base, start = processes.of_tree(os.getpid()).total, time.perf_counter()
    asked = _counts()
    next(batches)
    first = time.perf_counter() - start
    waited, begun = 0.0, time.perf_counter()
    slow = max(3, int(job["seconds"] * job["rate"] / BATCH))
    for _ in range(slow):
        before = time.perf_counter()
        next(batches)
        waited += time.perf_counter() - before
        time.sleep(BATCH / job["rate"])  # The step of the training.
    share = waited / (time.perf_counter() - begun)
    # What comes again in a second epoch is no longer cold.
    most = job["epoch"] // BATCH - slow - 1 if name.endswith("cold") else 10**9
    start, taken = time.perf_counter(), 0
    while taken < most and time.perf_counter() - start < job["seconds"]:
        taken += next(batches).shape == (BATCH, job["size"], job["size"], 3)
    rate = taken * BATCH / (time.perf_counter() - start)
    requests, size = (b - a for a, b in zip(asked, _counts(), strict=True))
    taken += 1 + slow
    return {
        "first batch, s": first,
        "samples/s": rate,
        "requests a sample": requests / taken / BATCH,
        "kB a sample": size / 1e3 / taken / BATCH,
        "input wait": share,
        "base": base,
    }


def _counts() -> list[int]:
    """Return the requests that the store has answered, and the bytes."""
    with urllib.request.urlopen(f"{os.environ['STORAGE_EMULATOR_HOST']}/counts") as answer:
        return json.load(answer)


def write(folder: Path, count: int, size: int) -> tuple[float, int]:
    """Write the examples as shards and as tar files; return GB and samples of an epoch."""
    data = synthetic_examples.write_shards(folder / "records", count, size)
    (folder / "tar").mkdir()
    for c, labels in enumerate([(0,), (1, 2, 3, 4)]):
        found = itertools.chain.from_iterable(
            records.read_images((folder / "records" / shard.name).open("rb"), size)
            for shard in data.shards
            if shard.label in labels
        )
        for part in itertools.count():
            some = list(itertools.islice(found, synthetic_examples.SHARD))
            if not some:
                break
            with tarfile.open(folder / "tar" / f"{c}-{part:05d}.tar", "w") as tar:
                for name, pixels in some:
                    entry = tarfile.TarInfo(f"{name}.raw")
                    entry.size = pixels.nbytes
                    tar.addfile(entry, io.BytesIO(pixels.tobytes()))
    classes = np.minimum(synthetic_examples.labels(count), 1)
    return sum(shard.bytes for shard in data.shards) / 1e9, 2 * int(np.bincount(classes).max())


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
    parser.add_argument("--bandwidths", default="100", help="MB a second of all answers.")
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
        gigabytes, epoch = write(folder, arguments.count, arguments.size)
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
                    table = pd.DataFrame(_rows(job, arguments.contenders.split(";"))).T
            print(f"\n{latency} ms, {bandwidth} MB/s\n{table.to_string(na_rep='')}", flush=True)


def _of_whole_epochs(job: dict[str, Any]) -> dict[str, dict[str, str]]:
    rows, first = {}, 0.0
    for name in ("in order", "ours"):
        found, peak = processes.run(__file__, "whole", name, job)
        found["peak MiB"] = peak.total - found.pop("base")
        first = first or found["seconds"]
        rows[name] = {key: f"{value:.4g}" for key, value in found.items()}
        rows[name]["x in order"] = f"{found['seconds'] / first:.2f}"
    return rows


def _rows(job: dict[str, Any], names: list[str]) -> dict[str, dict[str, str]]:
    found, rows = {}, {}
    for name in names:
        try:
            found[name], peak = processes.run(__file__, "measure", name, job)
        except SystemExit as error:
            last = str(error).strip().splitlines()[-2]
            rows[name] = {"samples/s": f"not measured: {last[:60]}"}
            continue
        found[name]["peak MiB"] = peak.total - found[name].pop("base")
    peer = found.get("tf.data", {}).get("samples/s", np.nan)
    for name, figures in found.items():
        rows[name] = {key: f"{value:.3g}" for key, value in figures.items()}
        rows[name]["x tf.data"] = f"{figures['samples/s'] / peer:.2f}"
    return {name: rows[name] for name in names}


if __name__ == "__main__":
    main()
