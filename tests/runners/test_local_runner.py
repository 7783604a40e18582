"""Jobs of several processes on this machine: who can reach them, and what a death leaves."""

import os
import signal

import apache_beam as beam
import psutil
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.runners import beam_flags

PROCESSES = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]


def listened_at(path):
    """Write where the process that started this worker listens."""
    process = psutil.Process(os.getppid())
    found = [c.laddr.ip for c in process.net_connections() if c.status == psutil.CONN_LISTEN]
    with open(path, "w") as file:
        file.write("\n".join(found))


def end(_):
    os.kill(os.getpid(), signal.SIGKILL)


def fail(_):
    raise ValueError("the file is damaged")


def run(element, function):
    options = PipelineOptions(PROCESSES)
    with beam.Pipeline(runner=beam_flags.create(options), options=options) as pipeline:
        _ = pipeline | beam.Create([element]) | beam.Reshuffle() | beam.Map(function)


def test_processes_listen_on_this_machine_alone(tmp_path):
    run(str(tmp_path / "found"), listened_at)
    found = (tmp_path / "found").read_text().splitlines()
    assert len(found) >= 4
    assert {address.removeprefix("::ffff:") for address in found} <= {"127.0.0.1", "::1"}


def test_a_worker_that_is_killed_ends_the_job():
    with pytest.raises(OSError, match="exit code -9, for want of memory perhaps.* fewer workers"):
        run("", end)


def test_an_error_in_a_worker_is_raised_and_not_printed_besides(capfd):
    with pytest.raises(RuntimeError, match="ValueError: the file is damaged"):
        run("", fail)
    assert "Traceback" not in capfd.readouterr().err
