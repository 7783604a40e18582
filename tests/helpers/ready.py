"""Runs in processes of their own that begin with large packages loaded: forks of one that waits.

To load them takes seven seconds, which most tests of a command spend on nothing that they test.
What is run is a process like any other: it has its own arguments, environment and folder, and ends
as Python ends. Where a signal, a terminal, the start itself or a child counts, `subprocess` is
right.
"""

import functools
import json
import os
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[2]
_ONE_AT_A_TIME = threading.Lock()  # Two answers on one line would be taken for each other.

# The last line is run in every fork, which then ends by itself.
_WAITING = """
import sys
from dr_tfx.machine import tensorflow_start
tensorflow_start.load()
import apache_beam, cv2, keras, matplotlib.figure, pandas, scipy.stats, sklearn.metrics
from tests.helpers import ready
exec(ready.next_code(int(sys.argv[1])))
"""


def run(
    line: Sequence[str], *, cwd: Path = ROOT, env: dict[str, str] | None = None
) -> subprocess.CompletedProcess:
    """Do what `subprocess.run` does, with text captured.

    Args:
      line: Python itself, -c or -m, a program or module, and its arguments.
      cwd: its folder.
      env: its environment; that of the tests, if it is not given.
    """
    executable, how, what, *arguments = line
    assert executable == sys.executable and how in ("-c", "-m"), line
    job = {"how": how, "what": what, "arguments": arguments, "cwd": str(cwd)}
    job["env"] = dict(os.environ if env is None else env)
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        with _ONE_AT_A_TIME:
            waiting = _waiting()
            socket.send_fds(waiting, [json.dumps(job).encode()], [out.fileno(), err.fileno()])
            code = os.waitstatus_to_exitcode(int(waiting.recv(64)))
        said = []
        for stream in (out, err):
            stream.seek(0)
            said.append(stream.read().decode())
    return subprocess.CompletedProcess(line, code, *said)


@functools.cache
def _waiting() -> socket.socket:
    """Start the process that waits, and return the line to it; it ends with this one."""
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    subprocess.Popen(
        [sys.executable, "-c", _WAITING, str(there.fileno())],
        cwd=ROOT,
        env={**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"},
        pass_fds=[there.fileno()],
    )
    there.close()
    return here


def next_code(number: int) -> str:
    """Fork for each job that comes by a socket, and return in the fork alone what it is to run."""
    with socket.socket(fileno=number) as jobs:
        while True:
            message, descriptors, *_ = socket.recv_fds(jobs, 2**20, 2)
            if not message:
                os._exit(0)  # The tests have ended.
            child = os.fork()
            if not child:
                break
            for descriptor in descriptors:
                os.close(descriptor)
            jobs.send(str(os.waitpid(child, 0)[1]).encode())
    for descriptor, usual in zip(descriptors, (1, 2), strict=True):
        os.dup2(descriptor, usual)
        os.close(descriptor)
    job = json.loads(message)
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    tempfile.tempdir = None  # It was looked up while TensorFlow was loaded.
    sys.path[1:1] = filter(None, job["env"].get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = [job["how"], *job["arguments"]]
    if job["how"] == "-c":
        return job["what"]
    return f"import runpy; runpy.run_module({job['what']!r}, run_name='__main__', alter_sys=True)"
