"""Processes that begin with large packages and the library loaded: forks of one that waits.

To load them takes seconds, which most tests of a command spend on nothing that they test. What is
run is a process like any other: it has its own arguments, environment and folder, takes signals,
and ends as Python ends (`run_to_end`). Where the start itself or a parent counts, `subprocess` is
right.
"""

import atexit
import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_ONE_AT_A_TIME = threading.Lock()

# The last line is run in every fork. The commands themselves are not loaded: each defines flags,
# and two of them the same ones.
_WAITING = """
import gc, sys
from dr_tfx.machine import tensorflow_start
tensorflow_start.load()
import apache_beam, cv2, keras, matplotlib.figure, pandas, scipy.stats, sklearn.metrics
import beam_jobs.explain.job, beam_jobs.external.evaluate_external, beam_jobs.predict.job
import dr_tfx.evaluation.evaluate, dr_tfx.serving.server, dr_tfx.training.train
from tests.helpers import ready
gc.freeze()
ready.run_to_end(ready.next_code(int(sys.argv[1])), globals())
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
    pipe = subprocess.PIPE
    with Popen(line, cwd=cwd, env=env, stdout=pipe, stderr=pipe, text=True) as process:
        said = process.communicate()
    return subprocess.CompletedProcess(line, process.returncode, *said)


class Popen(subprocess.Popen):
    """A `subprocess.Popen` whose process is a fork of the one that waits; without a standard input.

    Args:
      line: as for `run`.
      given: as for `subprocess.Popen`: cwd, env, stdout, stderr, text, start_new_session.
    """

    def __init__(self, line: Sequence[str], **given: Any) -> None:
        super().__init__(line, stdin=subprocess.DEVNULL, **given)

    def _execute_child(self, args, executable, preexec_fn, close_fds, pass_fds, cwd, env, *others):
        """Have the waiting process fork, where `subprocess` forks this one."""
        _, _, _, *pipes = others[:9]
        reads, _, _, out, _, err = pipes
        executable, how, what, *arguments = args
        assert executable == sys.executable and how in ("-c", "-m"), args
        job = {"how": how, "what": what, "arguments": arguments, "cwd": str(cwd or ROOT)}
        job |= {"env": dict(os.environ if env is None else env), "new_session": others[14]}
        self._replies, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        streams = [reads, out if out >= 0 else 1, err if err >= 0 else 2]
        with theirs, _ONE_AT_A_TIME:
            socket.send_fds(_waiting(), [json.dumps(job).encode()], [*streams, theirs.fileno()])
        self.pid = int(self._replies.recv(64))
        self._child_created = True
        self._close_pipe_fds(*pipes)

    def _internal_poll(self, _deadstate=None, **_):
        if self.returncode is None and select.select([self._replies], [], [], 0)[0]:
            self._take_status()
        return self.returncode

    def _wait(self, timeout):
        if self.returncode is None:
            if not select.select([self._replies], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired(self.args, timeout)
            self._take_status()
        return self.returncode

    def _take_status(self) -> None:
        self._handle_exitstatus(int(self._replies.recv(64)))
        self._replies.close()


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
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is for those that run.
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # Nobody asks how the forks between have ended.
    with socket.socket(fileno=number) as jobs:
        while True:
            message, descriptors, *_ = socket.recv_fds(jobs, 2**20, 4)
            if not message:
                os._exit(0)  # The tests have ended.
            if not os.fork():
                break
            for descriptor in descriptors:
                os.close(descriptor)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    _run_below(socket.socket(fileno=descriptors.pop()))
    for usual, descriptor in enumerate(descriptors):
        os.dup2(descriptor, usual)
        os.close(descriptor)
    job = json.loads(message)
    if job["new_session"]:
        os.setsid()
    os.chdir(job["cwd"])
    os.environ.clear()
    os.environ.update(job["env"])
    tempfile.tempdir = None  # It was looked up while TensorFlow was loaded.
    sys.path[1:1] = filter(None, job["env"].get("PYTHONPATH", "").split(os.pathsep))
    sys.argv = [job["how"], *job["arguments"]]
    if job["how"] == "-c":
        return job["what"]
    return f"import runpy; runpy.run_module({job['what']!r}, run_name='__main__', alter_sys=True)"


def run_to_end(code: str, names: dict[str, Any]) -> None:
    """Run the code of a fork, and end it as Python does, but for one thing.

    Its objects are not freed one by one. That would take half a second, as each page of memory that
    is written to has to be copied first. An error is left to Python, which frees them.
    """
    status: Any = 0
    try:
        exec(code, names)
    except SystemExit as stop:
        status = stop.code or 0
        if not isinstance(status, int):
            print(status, file=sys.stderr)
            status = 1
    threading._shutdown()  # It waits for threads.
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status & 255)


def _run_below(replies: socket.socket) -> None:
    """Return in a fork alone; tell its number, and how it has ended, from here."""
    child = os.fork()
    if child:
        os.closerange(0, 3)
        replies.send(str(child).encode())
        replies.send(str(os.waitpid(child, 0)[1]).encode())
        os._exit(0)
    replies.close()
