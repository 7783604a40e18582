"""Triton beside ONNX Runtime in this process: the photographs a second of the same export.

    drtfx-export --workdir=RUN --data_dir=DATA --output_dir=EXPORT --format=triton
    python -m benchmarks.serving.triton --model=EXPORT --photographs=FOLDER    # some minutes

It needs the program `tritonserver`, with its backends in the folder beside that of the program, and
runs it with this Python. docs/guides/export.md says where to get one. EXPORT is copied.

--clients threads send --count requests of one photograph each, the bytes of its file, to the model
`photographs` on the loopback address by HTTP, each client as soon as its last answer is there.
`in process` is what drtfx-predict --model=EXPORT does: `PhotographReader` over the same photographs
(the first 512 of them), in full batches, by this process. Both take turns, a quarter of the
photographs each, so that other work on the machine slows both. A server without the backend of ONNX
Runtime runs the network in the Python of `photographs`. Every answer is compared with that in
process.

The table is followed by what is promised and whether it was kept: no request is lost, no answer
differs by more than 0.00001, and Triton reads at least .5 of the photographs a second.
"""

import argparse
import http.client
import itertools
import json
import os
import queue
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from benchmarks import processes
from benchmarks.serving import load
from dr_tfx.inference import exported
from dr_tfx.machine import resources

TOLERANCE = 1e-5
LEAST = 0.5
STARTING = 120  # Seconds.
_PATH = "/v2/models/photographs"


@contextmanager
def served(repository: Path, log: Path) -> Iterator[int]:
    """Start Triton with a model repository; yield its port."""
    found = shutil.which("tritonserver")
    if not found:
        sys.exit("there is no tritonserver on PATH; docs/guides/export.md says where to get one")
    program = Path(found).resolve()
    backends = program.parents[1] / "backends"
    config = repository / "photographs" / "config.pbtxt"
    if not (backends / "onnxruntime").is_dir():
        config.write_text(config.read_text().replace('string_value: "model"', 'string_value: ""'))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [program, f"--model-repository={repository}", f"--backend-directory={backends}"]
    line += ["--model-control-mode=explicit", "--load-model=photographs", "--allow-grpc=false"]
    line += ["--allow-metrics=false", "--http-address=127.0.0.1", f"--http-port={port}"]
    paths = {
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
        "PYTHONPATH": os.pathsep.join([str(processes.ROOT), os.environ.get("PYTHONPATH", "")]),
    }
    with log.open("wb") as said:
        server = subprocess.Popen(line, env={**os.environ, **paths}, stdout=said, stderr=said)
    try:
        _wait(server, port, log)
        yield port
    finally:
        server.terminate()
        server.wait(STARTING)


def _wait(server: subprocess.Popen, port: int, log: Path) -> None:
    for _ in range(10 * STARTING):
        if server.poll() is not None:
            break
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        try:
            connection.request("GET", f"{_PATH}/ready")
            if connection.getresponse().status == 200:
                return
        except OSError:
            pass
        finally:
            connection.close()
        time.sleep(0.1)
    sys.exit(f"tritonserver is not ready:\n{log.read_text(errors='replace')[-2000:]}")


class Clients:
    """What the clients have seen.

    Attributes:
      answers: the answer to each request, by its number.
      seconds: of each request.
      taken: the seconds of all turns.
    """

    def __init__(self, port: int, clients: int):
        self._port, self._clients = port, clients
        self.answers: dict[int, dict] = {}
        self.seconds: list[float] = []
        self.taken = 0.0

    def send(self, numbers: Sequence[int], bodies: Sequence[bytes]) -> None:
        """Send the photographs of these numbers."""
        waiting = queue.SimpleQueue[int]()
        for number in numbers:
            waiting.put(number)

        def client() -> None:
            connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=120)
            while True:
                try:
                    number = waiting.get_nowait()
                except queue.Empty:
                    return
                start = time.perf_counter()
                self.answers[number] = _ask(connection, bodies[number])
                self.seconds.append(time.perf_counter() - start)

        threads = [threading.Thread(target=client) for _ in range(self._clients)]
        start = time.perf_counter()
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.taken += time.perf_counter() - start


def _ask(connection: http.client.HTTPConnection, data: bytes) -> dict:
    """Send a photograph in the binary form of the protocol v2; {} if it is not answered."""
    given = {"name": "photograph", "shape": [1, 1], "datatype": "BYTES"}
    head = json.dumps(
        {"inputs": [{**given, "parameters": {"binary_data_size": len(data) + 4}}]}
    ).encode()
    headers = {"Inference-Header-Content-Length": str(len(head))}
    body = head + len(data).to_bytes(4, "little") + data
    connection.request("POST", f"{_PATH}/infer", body, headers)
    answer = connection.getresponse()
    told = json.loads(answer.read())
    return json.loads(told["outputs"][0]["data"][0]) if answer.status == 200 else {}


def main(arguments: argparse.Namespace) -> None:
    """Print the table and what was kept."""
    with tempfile.TemporaryDirectory(dir=arguments.work_dir) as name:
        folder = Path(name)
        model = shutil.copytree(arguments.model, folder / "repository")
        files = sorted(path for path in Path(arguments.photographs).rglob("*") if path.is_file())
        paths = list(itertools.islice(itertools.cycle(files[: load.OF_BUNDLE]), arguments.count))
        bodies = [path.read_bytes() for path in paths]
        here = load.InProcess(exported.load(model), paths[0])
        with served(model, folder / "log") as port:
            Clients(port, arguments.clients).send(range(min(64, len(paths))), bodies)
            found = Clients(port, arguments.clients)
            for turn in range(load.TURNS):
                here.take(paths[: load.OF_BUNDLE][turn :: load.TURNS])
                found.send(range(len(paths))[turn :: load.TURNS], bodies)
    _tell(arguments, found, here, paths)


def _tell(
    arguments: argparse.Namespace, found: Clients, here: load.InProcess, paths: Sequence[Path]
) -> None:
    count = arguments.count
    lost = sum(not found.answers.get(number) for number in range(count))
    apart = [
        abs(value - found.answers[number][key])
        for number, path in enumerate(paths)
        if (reading := here.readings[path]) and found.answers.get(number)
        for key, value in reading.answer.items()
        if isinstance(value, float)
    ]
    of_triton, in_process = count / found.taken, here.read / here.seconds
    p50, p95 = (float(np.percentile(found.seconds, q)) for q in (50, 95))
    print(f"{count} photographs, {arguments.clients} clients, {resources.cores()} cores")
    print(f"in process  {in_process:8.1f} photographs/s")
    print(f"triton      {of_triton:8.1f} photographs/s, p50 {p50:.2f} s, p95 {p95:.2f} s")
    load.say(not lost, f"{lost} of {count} requests are lost, none")
    furthest = max(apart, default=np.nan)
    load.say(furthest <= TOLERANCE, f"answers differ by {furthest:.1e}, at most {TOLERANCE:.0e}")
    ratio = of_triton / in_process
    load.say(ratio >= LEAST, f"{ratio:.2f} of the photographs a second in process, at least .5")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--clients", type=int, default=64)
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--model", required=True, help="what --format=triton has written")
    parser.add_argument("--photographs", required=True, help="a folder of them, used in turn")
    parser.add_argument("--work_dir", help="a folder for what is written meanwhile")
    main(parser.parse_args())
