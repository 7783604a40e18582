"""Functions in processes of their own, and how much memory such a process and its children take.

The proportional set size (PSS) counts a page that n processes share as 1/n in each, so that the sum
over a tree of processes is what the tree takes. Its part in mapped files can be given back by the
system at any time, so it is shown beside the whole.
"""

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import psutil

ROOT = Path(__file__).parents[1]


@dataclasses.dataclass
class Memory:
    """In MiB: proportional set size, and how much of it are pages of mapped files."""

    total: float = 0.0
    files: float = 0.0


def of_tree(pid: int) -> Memory:
    """What a process and all below it take now."""
    result = Memory()
    try:
        process = psutil.Process(pid)
        tree = [process, *process.children(recursive=True)]
    except psutil.NoSuchProcess:
        return result
    for process in tree:
        try:
            lines = Path(f"/proc/{process.pid}/smaps_rollup").read_text().splitlines()
        except OSError:  # It has ended.
            continue
        fields = dict(line.split(":", 1) for line in lines[1:])
        result.total += int(fields["Pss"].split()[0]) / 1024
        result.files += int(fields["Pss_File"].split()[0]) / 1024
    return result


def run(script: str, *arguments: Any) -> tuple[Any, Memory]:
    """Runs `SCRIPT worker ARGUMENTS` in a new process.

    Returns:
      What it printed last, as JSON, and the most memory that it and its children took at once.
    """
    command = [sys.executable, script, "worker", json.dumps(arguments)]
    environment = {
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",  # What is compared is how data reach the host's memory.
        **os.environ,
        "PYTHONPATH": str(ROOT),
    }
    peak, done = Memory(), threading.Event()
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


def _watch(pid: int, peak: Memory, done: threading.Event) -> None:
    """Keeps the highest memory of a process tree.

    To look at it takes the longer the more memory there is, and stops the process meanwhile: so
    it is done the more seldom, once a second at least.
    """
    pause = 0.1
    while not done.wait(pause):
        start = time.perf_counter()
        now = of_tree(pid)
        pause = min(1.0, max(0.1, 20 * (time.perf_counter() - start)))
        if now.total > peak.total:
            peak.total, peak.files = now.total, now.files
