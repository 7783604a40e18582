"""Several devices: the same run as on one, and refusals."""

import contextlib
import dataclasses
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest

from dr_tfx import distribution, specs

CODE = """
import json, os, sys
from pathlib import Path
import absl.logging
import numpy as np
import tensorflow as tf
absl.logging.set_verbosity("info")
cpu = tf.config.list_physical_devices("CPU")[0]
logical = [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1])
tf.config.set_logical_device_configuration(cpu, logical)
from dr_tfx import input_pipeline, resources, specs, train
if "LOOKS" in os.environ:  # The ceiling of memory is reached after so many looks.
    looks = iter([1.0] * int(os.environ["LOOKS"]))
    resources.SECONDS, resources.tree_gb = 0.0, lambda: next(looks, 31.0)
if len(sys.argv) > 5:  # This process takes steps of what so many workers see, together.
    give, workers = input_pipeline.train_batches, int(sys.argv[5])
    def together(*args, **kwargs):
        kwargs |= {"workers": workers}
        parts = [give(*args, **kwargs | {"worker": worker}) for worker in range(workers)]
        batches = zip(*(stream for stream, _ in parts))
        joined = ({k: np.concatenate([part[k] for part in b]) for k in b[0]} for b in batches)
        return joined, parts[0][1]
    input_pipeline.train_batches = together
experiment = specs.from_config(json.loads(sys.argv[2]))
train.train(experiment, data_dir=Path(sys.argv[3]), workdir=Path(sys.argv[4]))
"""


ROOT = Path(__file__).parents[1]
FIGURES = ["epoch", "loss", "auc", "accuracy", "val_loss", "val_auc"]


def command(devices, experiment, data_dir, workdir):
    settings = json.dumps(specs.to_dict(experiment))
    return [sys.executable, "-c", CODE, str(devices), settings, str(data_dir), str(workdir)]


def run(devices, experiment, data_dir, workdir, *, workers=()):
    line = [*command(devices, experiment, data_dir, workdir), *map(str, workers)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


@contextlib.contextmanager
def two_workers(experiment, data_dir, workdir, *, looks=None):
    """Two processes of one run, killed at the end if they are not through."""
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind(("localhost", 0))
        addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    processes = []
    for index in range(2):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
        if index == 1 and looks:
            environment["LOOKS"] = str(looks)
        processes.append(
            subprocess.Popen(
                command(1, experiment, data_dir, workdir),
                cwd=ROOT,
                env=environment,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        yield processes
    finally:
        for process in processes:
            process.kill()
            process.wait()


def test_two_devices_learn_what_one_learns_from_the_same_batches(tmp_path):
    data_dir = tmp_path / "data"
    experiment = datasets.experiment(epochs=2)
    # Dropout and a BatchNorm that learns see a device's part of a batch, not the batch.
    model = dataclasses.replace(experiment.model, dropout=(0.0,), from_scratch="as_pretrained")
    experiment = dataclasses.replace(experiment, model=model)
    datasets.write(data_dir, experiment.dataset)
    histories = []
    for devices in (1, 2):
        process = run(devices, experiment, data_dir, tmp_path / str(devices))
        assert process.returncode == 0, process.stderr
        assert ("divided among 2 devices" in process.stderr) == (devices == 2)
        histories.append(pd.read_csv(tmp_path / str(devices) / "history.csv"))
    one, two = (history[FIGURES].to_numpy() for history in histories)
    assert np.allclose(one, two, rtol=1e-4, atol=1e-6)


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path):
    experiment = datasets.experiment(batch_size=7)
    datasets.write(tmp_path, experiment.dataset)
    process = run(2, experiment, tmp_path, tmp_path / "run")
    assert "batch_size is 7, which 2 devices cannot share equally" in process.stderr


def test_two_workers_learn_what_one_process_learns_from_the_examples_of_both(tmp_path):
    """Though one meets its ceiling of memory, in a step and in validation, and one is killed."""
    data_dir, folder = tmp_path / "data", tmp_path / "two"
    experiment = datasets.experiment(epochs=2, checkpoint_steps=2)
    model = dataclasses.replace(experiment.model, dropout=(0.0,), from_scratch="as_pretrained")
    experiment = dataclasses.replace(experiment, model=model)
    datasets.write(data_dir, experiment.dataset)
    process = run(1, experiment, data_dir, tmp_path / "one", workers=[2])
    assert process.returncode == 0, process.stderr

    # A look at the start, and one before each step: full before the third of six, which is taken;
    # then at the start, before each of three steps, and in the validation after them.
    for looks, step in ((3, 3), (4, 6)):
        with two_workers(experiment, data_dir, folder, looks=looks) as workers:
            logs = [worker.communicate(timeout=300)[1] for worker in workers]
        for log, who in zip(
            logs, ("Another worker has reached that.", "The run uses 31.00 GB"), strict=True
        ):
            assert who in log and f"The run is saved at step {step}." in log
        states = [state.name for state in (folder / "checkpoints" / "last").iterdir()]
        assert states == [f"step-{step:08d}"] and not (folder / "history.csv").exists()

    with two_workers(experiment, data_dir, folder) as workers:
        until = time.monotonic() + 300
        states = folder / "checkpoints" / "last"
        while all(state.name < "step-00000007" for state in states.iterdir()):
            assert time.monotonic() < until and workers[0].poll() is None, workers[0].stderr.read()
            time.sleep(0.01)
        workers[1].kill()
        assert "Another worker of TF_CONFIG has ended" in workers[0].communicate(timeout=300)[1]
        assert workers[0].returncode == 1
    shutil.copytree(folder, tmp_path / "alone")

    with two_workers(experiment, data_dir, folder) as workers:
        logs = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], logs
    assert "Resuming after step" in logs[0] and "2 workers" not in logs[0]
    one, two = (pd.read_csv(tmp_path / name / "history.csv") for name in ("one", "two"))
    assert np.allclose(one[FIGURES], two[FIGURES], rtol=1e-4, atol=1e-6)
    assert (folder / "bundle.json").is_file()
    # One of them writes, in each life that comes to the end of an epoch.
    assert len(list((folder / "tensorboard" / "train").iterdir())) == 2

    process = run(1, experiment, data_dir, tmp_path / "alone")
    assert process.returncode == 0, process.stderr
    assert "2 workers took the steps so far, from here on 1 do" in process.stderr


def test_a_cluster_that_cannot_be_read_is_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(ValueError, match="TF_CONFIG is no JSON object"):
        distribution.strategy(8)
