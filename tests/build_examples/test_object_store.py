"""The build job from gs:// to gs://, and what a person is told there."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.helpers import object_store, ready

ROOT = Path(__file__).parents[2]
COMMAND = [
    *(sys.executable, "-m", "beam_jobs.cli.build_examples"),
    "--config=reference",
    "--config.dataset.name=drawn",  # Else it is that of the folder, which differs.
    "--config.dataset.recipe.size=32",
    "--config.model.output_stride=16",
    "--config.dataset.shard_examples=4",
    "--config.dataset.split.validation=0.25",
]


def command(store, *arguments: str) -> subprocess.CompletedProcess:
    return ready.run([*COMMAND, *arguments], env=store.environment)


def inputs(folder: str | Path) -> list[str]:
    return [f"--image_dir={folder}", f"--labels={folder}/labels.csv"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    with object_store.running(tmp_path_factory.mktemp("store")) as made:
        yield made


@pytest.fixture(scope="module")
def photographs(raw, store) -> str:
    return store.upload(raw, "raw")


@pytest.fixture(scope="module")
def local(raw, store, tmp_path_factory) -> dict[str, bytes]:
    """What the same command makes of the same photographs in a folder."""
    folder = tmp_path_factory.mktemp("local")
    done = command(store, *inputs(raw), f"--output_dir={folder}")
    assert done.returncode == 0, done.stderr
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_the_bytes_are_those_of_a_local_build(photographs, local, store):
    flags = ["--direct_running_mode=multi_processing", "--direct_num_workers=2"]
    data = f"--output_dir={store.url('data')}"
    done = command(store, *inputs(photographs), data, *flags)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == store.url("data")
    assert store.contents("data") == local
    again = command(store, *inputs(photographs), data)
    assert again.returncode == 0 and "nothing to do" in again.stderr, again.stderr
    store.delete(f"data/{min(name for name in local if '.tfrecord-' in name)}")
    damaged = command(store, *inputs(photographs), data)
    assert damaged.returncode == 1 and "--overwrite" in damaged.stderr
    assert "Traceback" not in damaged.stderr


def test_killed_job_goes_on_to_the_same_bytes(photographs, local, store, tmp_path):
    arguments = [*inputs(photographs), f"--output_dir={store.url('killed')}"]
    log = tmp_path / "log"
    with log.open("w") as errors:
        job = ready.Popen(
            [*COMMAND, *arguments],
            env=store.environment,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )
    deadline = time.monotonic() + 60
    while not any(name.endswith(".shard.json") for name in store.names("killed")):
        assert time.monotonic() < deadline and job.poll() is None, log.read_text()
        time.sleep(0.01)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert "dataset.json" not in store.names("killed")
    again = command(store, *arguments)
    assert again.returncode == 0 and "resuming: " in again.stderr, again.stderr
    assert store.contents("killed") == local


@pytest.mark.parametrize(
    "arguments, named",
    [
        (["--image_dir=gs://drtfx/none", "--labels=gs://drtfx/raw/labels.csv"], "gs://drtfx/none"),
        (["--image_dir=gs://drtfx/raw", "--labels=gs://drtfx/none.csv"], "gs://drtfx/none.csv"),
        (["--image_dir=gs://no-bucket/raw", "--labels=gs://drtfx/raw/labels.csv"], "no-bucket"),
    ],
)
def test_what_is_not_there_is_named(arguments, named, photographs, store):
    done = command(store, *arguments, f"--output_dir={store.url('nothing')}")
    assert done.returncode == 1 and named in done.stderr
    assert "Traceback" not in done.stderr
    assert not store.names("nothing")
