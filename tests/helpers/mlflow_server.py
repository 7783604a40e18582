"""A real MLflow server on loopback, in a process group of its own, from its start to its end."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

_SECONDS = 300  # Until it answers, on a busy machine.


@contextlib.contextmanager
def started(folder: Path) -> Iterator[str]:
    """Yield the address of a server whose store is in a folder, and stop it in the end."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    line = [sys.executable, "-m", "mlflow", "server", "--host=127.0.0.1", f"--port={port}"]
    line += ["--workers=1", f"--backend-store-uri=sqlite:///{folder / 'mlflow.db'}"]
    line += [f"--artifacts-destination={folder / 'artifacts'}"]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}  # Not needed.
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(
            line, cwd=folder, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            address = f"http://127.0.0.1:{port}"
            _wait(address, process, folder / "server.log")
            yield address
        finally:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)  # Its workers, too.
            process.wait()


def _wait(address: str, process: subprocess.Popen, log: Path) -> None:
    end = time.monotonic() + _SECONDS
    while time.monotonic() < end and process.poll() is None:
        try:
            with urllib.request.urlopen(f"{address}/health", timeout=5):
                return
        except (urllib.error.URLError, OSError):
            time.sleep(0.2)
    raise RuntimeError(f"no MLflow server at {address}: {log.read_text()[-2000:]}")
