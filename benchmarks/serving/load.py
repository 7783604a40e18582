"""The server under load: nothing lost, the answers of predict, flat memory, and its throughput.

    python -m benchmarks.serving.load                      # some minutes
    python -m benchmarks.serving.load --clients=8 --count=200
    python -m benchmarks.serving.load --workdir=RUN --photographs=FOLDER

Without --workdir an untrained MobileNetV2 of 224 px with five views is served 48 drawn fundus
photographs of --side px; it says nearly the same of all, so that answers are compared in earnest
with a run of your own. --clients threads send --count requests of
one photograph each to a drtfx-serve of its own on the loopback address, each client as soon as its
last answer is there.

`bundle` is what drtfx-predict --nofigures does: `PhotographReader` over the same photographs (the
first 512 of them), in full batches, by this process. Both take turns, a quarter of the photographs
each, so that other work on the machine slows both. Every answer is compared with the bundle's for
its photograph. Memory is the proportional set size of the server's process, once a quarter of the
answers were given, and the most from then on.

The table is followed by what is promised and whether it was kept: no request is lost, no answer
differs by more than 0.00001, memory grows by at most 10 %, and the server reads at least .9 of the
photographs a second of the bundle.
"""

import argparse
import dataclasses
import http.client
import itertools
import json
import queue
import subprocess
import sys
import tempfile
import threading
import time
import urllib.parse
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks import processes, synthetic_examples
from dr_tfx import tasks
from dr_tfx.inference import photographs
from dr_tfx.machine import resources

VIEWS = ("identity", "left_right", "up_down", "left_right_up_down", "brighter")
PICTURES = 48
TOLERANCE = 1e-5
TURNS = 4
OF_BUNDLE = 512  # The most photographs that the bundle reads.


def make(folder: Path, side: int) -> tuple[Path, list[Path]]:
    """Write an untrained bundle and drawn photographs; return their places."""
    from dr_tfx.dataset import manifest
    from dr_tfx.models import bundles, network
    from dr_tfx.synthetic import fundus, writing

    plain = synthetic_examples.experiment(224)
    evaluation = dataclasses.replace(plain.evaluation, views=VIEWS, batch_size=64)
    experiment = dataclasses.replace(plain, evaluation=evaluation)
    synthetic_examples.write_shards(folder / "data", 8, 224)
    (folder / "run").mkdir()
    bundles.save(
        folder / "run",
        network.build(experiment),
        experiment=experiment,
        data=manifest.load(folder / "data"),
        precision="float32",
        best_epoch=1,
    )
    photographs = []
    for number in range(PICTURES):
        drawn = fundus.photograph(seed=1, patient=number, eye="left", level=number % 5, size=side)
        photographs.append(folder / f"{number}.jpeg")
        photographs[-1].write_bytes(writing.encode(".jpeg", drawn.image[..., ::-1]))
    return folder / "run", photographs


class InProcess:
    """A model in this process.

    Attributes:
      readings: what it tells of each photograph that it was given; None if it was rejected.
      read: how many photographs it was given.
      seconds: that they took.
    """

    def __init__(self, model: photographs.PictureReader, path: Path):
        self._reader = photographs.PhotographReader(model)
        list(self._reader([path]))  # Compiles it.
        self.readings: dict[Path, tasks.Reading | None] = {}
        self.read, self.seconds = 0, 0.0

    def take(self, paths: Sequence[Path]) -> None:
        """Read photographs."""
        start = time.perf_counter()
        for path, one in zip(paths, self._reader(paths), strict=True):
            self.readings[path] = one.reading
        self.seconds += time.perf_counter() - start
        self.read += len(paths)


@contextmanager
def served(*flags: str) -> Iterator[tuple[str, int]]:
    """Start a server; yield its address and its process."""
    line = [sys.executable, "-m", "dr_tfx.cli.serve", "--port=0", *flags]
    process = subprocess.Popen(line, stdout=subprocess.PIPE, text=True, cwd=processes.ROOT)
    assert process.stdout is not None
    address = process.stdout.readline().strip()
    if not address:
        sys.exit("the server did not start")
    try:
        yield address, process.pid
    finally:
        process.terminate()
        if process.wait(120):
            sys.exit(f"the server ended with {process.returncode}")


@dataclasses.dataclass
class Load:
    """What the clients have seen.

    Attributes:
      answers: the answer for each request, by its number.
      seconds: of each request.
      refused: how often one was asked to try again.
      memory: of the server in MiB, by the number of answers that there were.
      taken: the seconds of all turns.
    """

    answers: dict[int, dict] = dataclasses.field(default_factory=dict)
    seconds: list[float] = dataclasses.field(default_factory=list)
    refused: int = 0
    memory: list[tuple[int, float]] = dataclasses.field(default_factory=list)
    taken: float = 0.0


def load(
    found: Load, numbers: Sequence[int], bodies: Sequence[bytes], *, at: str, pid: int, clients: int
) -> None:
    """Send the bodies of these numbers, and add what is seen.

    Args:
      found: receives it.
      numbers: of the requests.
      bodies: of all requests.
      at: the address of the server.
      pid: its process.
      clients: how many send at once.
    """
    waiting = queue.SimpleQueue[int]()
    for number in numbers:
        waiting.put(number)
    netloc = urllib.parse.urlsplit(at).netloc

    def client() -> None:
        connection = http.client.HTTPConnection(netloc, timeout=120)
        while not waiting.empty():
            try:
                number = waiting.get_nowait()
            except queue.Empty:
                return
            start = time.perf_counter()
            while number not in found.answers:
                connection.request("POST", "/v1/predict", bodies[number])
                answer = connection.getresponse()
                content = answer.read()
                if answer.status == 429:
                    found.refused += 1
                    time.sleep(float(answer.headers["retry-after"]))
                else:
                    found.answers[number] = json.loads(content) if answer.status == 200 else {}
            found.seconds.append(time.perf_counter() - start)

    threads = [threading.Thread(target=client) for _ in range(clients)]
    start = time.perf_counter()
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        found.memory.append((len(found.answers), processes.of_tree(pid).total))
        for thread in threads:
            thread.join(1 / clients)
    found.taken += time.perf_counter() - start


def main(arguments: argparse.Namespace) -> None:
    """Print the table and what was kept."""
    from dr_tfx.inference import scoring
    from dr_tfx.models import bundles

    with tempfile.TemporaryDirectory(dir=arguments.work_dir) as folder:
        if arguments.workdir:
            workdir = Path(arguments.workdir)
            files = Path(arguments.photographs).rglob("*")
            paths = sorted(path for path in files if path.is_file())[:OF_BUNDLE]
        else:
            workdir, paths = make(Path(folder), arguments.side)
        paths = list(itertools.islice(itertools.cycle(paths), arguments.count))
        bundle, found = InProcess(scoring.BundleReader(bundles.load(workdir)), paths[0]), Load()
        bodies = [path.read_bytes() for path in paths]
        what = f"--model={arguments.model}" if arguments.model else f"--workdir={workdir}"
        with served(what, f"--queue={max(32, arguments.clients)}") as (at, pid):
            settings = {"at": at, "pid": pid, "clients": arguments.clients}
            load(Load(), range(min(64, len(paths))), bodies, **settings)  # Not counted.
            for turn in range(TURNS):
                bundle.take(paths[:OF_BUNDLE][turn::TURNS])
                load(found, range(len(paths))[turn::TURNS], bodies, **settings)
    expected = [bundle.readings[path] for path in paths]
    of_bundle = bundle.seconds / bundle.read
    _tell(arguments, found, found.taken, expected=expected, of_bundle=of_bundle)


def _tell(
    arguments: argparse.Namespace,
    found: Load,
    seconds: float,
    *,
    expected: Sequence[tasks.Reading | None],
    of_bundle: float,
) -> None:
    count = arguments.count
    told = [_answer(found.answers.get(number, {})) for number in range(count)]
    lost = sum(answer is None for answer in told)
    apart = [
        abs(answer[key] - value)
        for answer, reading in zip(told, expected, strict=True)
        for key, value in (reading.answer if reading and answer else {}).items()
        if answer and isinstance(value, float)
    ]
    furthest = max(apart, default=np.nan)
    later = [memory for answers, memory in found.memory if answers >= count / 4]
    growth = max(later) / later[0] if later else np.nan
    p50, p95 = (float(np.percentile(found.seconds, q)) for q in (50, 95))
    print(f"{count} photographs, {arguments.clients} clients, {resources.cores()} cores")
    print(f"bundle  {1 / of_bundle:8.1f} photographs/s")
    print(f"server  {count / seconds:8.1f} photographs/s, p50 {p50:.2f} s, p95 {p95:.2f} s")
    print(f"        {found.refused} requests were asked to come again")
    print(f"        {later[0]:.0f} MiB at a quarter, {max(later):.0f} MiB at most from there on")
    ratio = of_bundle * count / seconds
    say(not lost, f"{lost} of {count} requests are lost, none")
    spread = np.ptp([reading.number for reading in expected if reading])
    what = f"answers, which span {spread:.1e}, differ by {furthest:.1e}, at most {TOLERANCE:.0e}"
    say(furthest <= TOLERANCE, what)
    say(growth <= 1.1, f"memory grows by {growth - 1:.1%}, at most 10 %")
    say(ratio >= 0.9, f"{ratio:.2f} of the bundle's photographs a second, at least .9")


def _answer(answer: dict) -> dict | None:
    """Return what the server tells of its one photograph."""
    return answer.get("photographs", [{}])[0].get("answer")


def say(kept: bool, what: str) -> None:
    """Print what is promised, and whether it was kept."""
    print(f"{'kept' if kept else 'NOT KEPT'}: {what}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--count", type=int, default=2000)
    parser.add_argument("--side", type=int, default=1000, help="of the drawn photographs")
    parser.add_argument("--workdir", help="a run; needs --photographs")
    parser.add_argument("--model", help="its export, served in its place")
    parser.add_argument("--photographs", help="a folder of photographs, used in turn")
    parser.add_argument("--work_dir", help="a folder for what is written meanwhile")
    main(parser.parse_args())
