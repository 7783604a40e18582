"""Calls in processes of their own, and the memory that such a process and its children take.

The proportional set size (PSS) counts a page that n processes share as 1/n in each, so that the sum
over a tree of processes is what the tree takes. The system can take pages of mapped files back at
any time, so their share is shown beside the whole.
"""

import contextlib
import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass
class TreeMemory:
    """The proportional set size, in MiB, and the share of it in pages of mapped files."""

    total: float = 0.0
    files: float = 0.0


def of_tree(pid: int) -> TreeMemory:
    """Return the memory that a process and all below it take now."""
    result = TreeMemory()
    try:
        process = psutil.Process(pid)
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return result
    for process in tree:
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # The process has ended.
            continue
        fields = dict(line.split(":", 1) for line in lines[1:])
        result.total += int(fields["Pss"].split()[0]) / 1024
        result.files += int(fields["Pss_File"].split()[0]) / 1024
    return result


def cpu_seconds(pid: int) -> float:
    """Return the processor time of a process and of all below it, with those that have ended."""
    root = psutil.Process(pid)
    found = 0.0
    for process in [root, *root.children(recursive=True)]:
        with contextlib.suppress(psutil.NoSuchProcess):
            found += sum(process.cpu_times()[:4])  # With that of children that it has waited for.
    return found


def run(script: str, *call: Any) -> tuple[Any, TreeMemory]:
    """Run `SCRIPT worker CALL` in a new process; the script hands that to `serve`.

    Args:
      script: path of a benchmark.
      call: the name of one of its functions and the arguments, all of JSON's types.

    Returns:
      What the function returned, and the most memory that the process and its children took at
      once.
    """
    command = [sys.executable, script, "worker", json.dumps(call)]
    environment = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",  # The host's memory and speed are measured, and no device's.
        **os.environ,
        "PYTHONPATH": str(ROOT),
    }
    peak, done = TreeMemory(), threading.Event()
    with tempfile.TemporaryFile("w+") as errors:
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=errors, env=environment, text=True
        )
        watcher = threading.Thread(target=_watch, args=(process.pid, peak, done))
        watcher.start()
        stdout, _ = process.communicate()
        done.set()
        watcher.join()
        if process.returncode:
            errors.seek(0)
            sys.exit(f"{errors.read()[-4000:]}\n{command} failed")
    return json.loads(stdout.splitlines()[-1]), peak


def serve(*functions: Callable[..., Any]) -> bool:
    """Make the call of `run` where this process is such a worker, and print what it returns.

    Returns:
      Whether this process is a worker, and so has no more to do.
    """
    if sys.argv[1:2] != ["worker"]:
        return False
    name, *arguments = json.loads(sys.argv[2])
    print(json.dumps({f.__name__: f for f in functions}[name](*arguments)))
    return True


def _watch(pid: int, peak: TreeMemory, done: threading.Event) -> None:
    """Keep the highest memory of a process tree in `peak` until `done` is set.

    A look takes the longer the more memory there is, and stops the process meanwhile. So looks
    become rarer with it, down to one a second.
    """
    pause = 0.1
    while not done.wait(pause):
        start = time.perf_counter()
        now = of_tree(pid)
        pause = min(1.0, max(0.1, 20 * (time.perf_counter() - start)))
        if now.total > peak.total:
            peak.total, peak.files = now.total, now.files
