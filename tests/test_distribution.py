"""Several devices: the same run as on one, and refusals."""

import contextlib
import dataclasses
import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest

from dr_tfx import distribution, specs

CODE = """
import json, sys
from pathlib import Path
import absl.logging
import tensorflow as tf
absl.logging.set_verbosity("info")
cpu = tf.config.list_physical_devices("CPU")[0]
logical = [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1])
tf.config.set_logical_device_configuration(cpu, logical)
from dr_tfx import specs, train
experiment = specs.from_config(json.loads(sys.argv[2]))
train.train(experiment, data_dir=Path(sys.argv[3]), workdir=Path(sys.argv[4]))
"""


def run(devices, experiment, data_dir, workdir):
    arguments = [str(devices), json.dumps(specs.to_dict(experiment)), str(data_dir), str(workdir)]
    command = [sys.executable, "-c", CODE, *arguments]
    root = Path(__file__).parents[1]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


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
    figures = ["epoch", "loss", "auc", "accuracy", "val_loss", "val_auc"]
    one, two = (history[figures].to_numpy() for history in histories)
    assert np.allclose(one, two, rtol=1e-4, atol=1e-6)


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path):
    experiment = datasets.experiment(batch_size=7)
    datasets.write(tmp_path, experiment.dataset)
    process = run(2, experiment, tmp_path, tmp_path / "run")
    assert "batch_size is 7, which 2 devices cannot share equally" in process.stderr


def test_two_workers_learn_what_one_process_learns(tmp_path):
    data_dir = tmp_path / "data"
    experiment = datasets.experiment(epochs=2, checkpoint_steps=4)
    model = dataclasses.replace(experiment.model, dropout=(0.0,), from_scratch="as_pretrained")
    experiment = dataclasses.replace(experiment, model=model)
    datasets.write(data_dir, experiment.dataset)
    assert run(1, experiment, data_dir, tmp_path / "one").returncode == 0

    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind(("localhost", 0))
        addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    arguments = ["1", json.dumps(specs.to_dict(experiment)), str(data_dir), str(tmp_path / "two")]
    workers = []
    for index in range(2):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        workers.append(
            subprocess.Popen(
                [sys.executable, "-c", CODE, *arguments],
                cwd=Path(__file__).parents[1],
                env={**os.environ, "TF_CONFIG": json.dumps(task)},
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    try:
        logs = [worker.communicate(timeout=300)[1] for worker in workers]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.returncode for worker in workers] == [0, 0], logs
    figures = ["epoch", "loss", "auc", "accuracy", "val_loss", "val_auc"]
    one, two = (pd.read_csv(tmp_path / name / "history.csv") for name in ("one", "two"))
    assert np.allclose(one[figures], two[figures], rtol=1e-4, atol=1e-6)
    assert (tmp_path / "two" / "bundle.json").is_file()
    assert len(list((tmp_path / "two" / "tensorboard" / "train").iterdir())) == 1


def test_a_cluster_that_cannot_be_read_is_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(ValueError, match="TF_CONFIG is no JSON object"):
        distribution.strategy(8)
