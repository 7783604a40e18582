"""The build job on a real Dask cluster of two worker processes on this machine."""

import concurrent.futures
import dataclasses
import os
import signal
import time
from pathlib import Path

import apache_beam as beam
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.runners import beam_flags
from tests.helpers.builds import SPEC, build, contents
from tests.helpers.drawn import draw, encode

distributed = pytest.importorskip("distributed", reason="needs pip install 'dr_tfx[dask]'")
psutil = pytest.importorskip("psutil", reason="needs pip install 'dr_tfx[dask]'")

SECONDS = 60


@pytest.fixture(scope="module")
def cluster():
    with distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, host="127.0.0.1", dashboard_address=None
    ) as made:
        yield made


@pytest.fixture
def options(cluster) -> PipelineOptions:
    return beam_flags.options(
        ["--runner=DaskRunner", f"--dask_client_address={cluster.scheduler_address}"]
    )


@pytest.fixture(scope="module")
def large(tmp_path_factory) -> Path:
    """Photographs that take a while."""
    folder = tmp_path_factory.mktemp("large")
    names = [f"{patient}_{eye}" for patient in range(10, 30) for eye in ("left", "right")]
    for seed, name in enumerate(names):
        (folder / f"{name}.jpeg").write_bytes(encode(draw(seed, width=2400, height=1800)))
    lines = [f"{name},{seed % 3}" for seed, name in enumerate(names)]
    (folder / "labels.csv").write_text("\n".join(["image,level", *lines]))
    return folder


def wait_until(happened) -> None:
    deadline = time.monotonic() + SECONDS
    while not happened():
        assert time.monotonic() < deadline
        time.sleep(0.001)


def stop_while_writing(cluster, folder: Path) -> psutil.Process:
    """A worker process, stopped while it has a shard of the folder open."""

    def is_writing(process: psutil.Process) -> bool:
        process.suspend()
        if any(Path(file.path).parent == folder for file in process.open_files()):
            return True
        process.resume()
        return False

    processes = [psutil.Process(nanny.pid) for nanny in cluster.workers.values()]
    found: list[psutil.Process] = []
    wait_until(lambda: found.extend(filter(is_writing, processes[:1])) or found)
    return found[0]


def test_two_workers_share_the_work_and_write_the_same_bytes(raw, cluster, options, tmp_path):
    with distributed.Client(cluster) as client, distributed.get_task_stream(client) as stream:
        build(raw, tmp_path / "dask", options=options)
    assert len({task["worker"] for task in stream.data}) == 2
    build(raw, tmp_path / "here")
    assert contents(tmp_path / "dask") == contents(tmp_path / "here")


def test_a_worker_that_is_killed_costs_neither_a_byte_nor_a_finished_shard(
    large, cluster, options, tmp_path
):
    spec, killed = dataclasses.replace(SPEC, shard_examples=1), tmp_path / "killed"
    with concurrent.futures.ThreadPoolExecutor() as pool:
        job = pool.submit(build, large, killed, spec=spec, options=options)
        wait_until(lambda: len(list(killed.glob("train-*"))) > 5 or job.done())
        worker = stop_while_writing(cluster, killed)
        assert list(killed.glob(".*.tmp"))
        sidecars = (killed / "_progress").glob("*.shard.json")
        finished = {killed / path.name.removesuffix(".shard.json") for path in sidecars}
        before = {path: path.stat().st_ino for path in finished}
        os.kill(worker.pid, signal.SIGKILL)
        assert job.result(timeout=SECONDS).written == 40
    assert 4 < len(before) < 40
    assert {path: path.stat().st_ino for path in before} == before
    build(large, tmp_path / "straight", spec=spec)
    assert contents(killed) == contents(tmp_path / "straight")


def fail(number: int) -> None:
    raise OSError(f"the disk is full: {number}")


def test_an_error_of_a_worker_reaches_the_caller_and_ends_the_job(cluster, options):
    with (
        pytest.raises(OSError, match="the disk is full"),
        beam.Pipeline(runner=beam_flags.create(options), options=options) as pipeline,
    ):
        _ = pipeline | beam.Create(range(200)) | beam.Map(fail)
    wait_until(lambda: not cluster.scheduler.tasks)


def test_a_scheduler_that_is_not_there_is_named():
    options = beam_flags.options(
        [
            "--runner=DaskRunner",
            "--dask_client_address=tcp://127.0.0.1:1",
            "--dask_connection_timeout=1",
        ]
    )
    with (
        pytest.raises(OSError, match="connect to tcp://127.0.0.1:1 after 1 s"),
        beam.Pipeline(runner=beam_flags.create(options), options=options) as pipeline,
    ):
        _ = pipeline | beam.Create([1])


def test_a_scheduler_that_is_not_there_is_named_by_its_flag(raw, tmp_path):
    nobody = ["--dask_client_address=tcp://127.0.0.1:9", "--dask_connection_timeout=1"]
    with pytest.raises(OSError, match=r"--dask_client_address=tcp://127.0.0.1:9: no scheduler"):
        build(raw, tmp_path / "out", options=beam_flags.options(["--runner=DaskRunner", *nobody]))
