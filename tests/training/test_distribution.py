"""Training on several devices and workers: the same run as on one, and refusals."""

import contextlib
import dataclasses
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dr_tfx.config import typed
from dr_tfx.models import bundles
from dr_tfx.training import distribution
from tests.helpers import (
    backbones,  # noqa: F401 - `small_norm`.
    datasets,
    ready,
)

CODE = """
import json, os, sys
from pathlib import Path
import absl.logging
import numpy as np
from dr_tfx.machine import tensorflow_start
tensorflow_start.load()
import tensorflow as tf
absl.logging.set_verbosity("info")
cpu = tf.config.list_physical_devices("CPU")[0]
logical = [tf.config.LogicalDeviceConfiguration()] * int(sys.argv[1])
tf.config.set_logical_device_configuration(cpu, logical)
sys.path.insert(0, "")
from tests.helpers import backbones
from dr_tfx import tasks
from dr_tfx.input_pipeline import loader
from dr_tfx.machine import resources
from dr_tfx.training import train
if "LOOKS" in os.environ:  # The memory ceiling is reached after so many looks.
    looks = iter([1.0] * int(os.environ["LOOKS"]))
    resources.SECONDS, resources.tree_gb = 0.0, lambda: next(looks, 31.0)
if len(sys.argv) > 5:  # This process takes the steps of so many workers together.
    give, workers = loader.train_batches, int(sys.argv[5])
    def together(*args, **kwargs):
        kwargs |= {"workers": workers}
        parts = [give(*args, **kwargs | {"worker": worker}) for worker in range(workers)]
        batches = zip(*(stream for stream, _ in parts))
        joined = ({k: np.concatenate([part[k] for part in b]) for k in b[0]} for b in batches)
        return joined, parts[0][1]
    loader.train_batches = together
experiment = tasks.from_config(json.loads(sys.argv[2]))
train.train(experiment, data_dir=Path(sys.argv[3]), workdir=Path(sys.argv[4]))
"""


ROOT = Path(__file__).parents[2]
FIGURES = ["epoch", "loss", "auc", "accuracy", "val_loss", "val_auc"]


def small(*, dropout=0.0, **training):
    """A small network in which everything learns, BatchNorm included."""
    usual = {"size": 40, "epochs": 2, "weight_average": 0.5, "layer_decay": 0.5}
    made = datasets.experiment(**{**usual, **training})
    model = dataclasses.replace(
        made.model,
        output_stride=32,  # Pictures are not enlarged: rounding has fewer places to grow in.
        backbone="small_norm",
        hidden=(8,),
        head_batch_norm=True,
        dropout=(dropout, dropout),
    )
    return dataclasses.replace(made, model=model)


def command(devices, experiment, data_dir, workdir):
    settings = json.dumps(typed.to_dict(experiment))
    return [sys.executable, "-c", CODE, str(devices), settings, str(data_dir), str(workdir)]


def run(devices, experiment, data_dir, workdir, *, workers=()):
    return ready.run([*command(devices, experiment, data_dir, workdir), *map(str, workers)])


@contextlib.contextmanager
def two_workers(experiment, data_dir, workdir, *, theirs=None, other=None, looks=None):
    """Two processes of one run, which are killed at the end if they are still running.

    The second one may have settings and a folder of its own, and meet its ceiling of memory after
    some looks.
    """
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(2)]
        for one in sockets:
            one.bind(("localhost", 0))
        addresses = [f"localhost:{one.getsockname()[1]}" for one in sockets]
    first = experiment, data_dir, workdir
    second = theirs or experiment, data_dir, other or workdir
    processes = []
    for index in range(2):
        task = {"cluster": {"worker": addresses}, "task": {"type": "worker", "index": index}}
        environment = {**os.environ, "TF_CONFIG": json.dumps(task)}
        if index == 1 and looks:
            environment["LOOKS"] = str(looks)
        processes.append(
            ready.Popen(
                command(1, *(second if index else first)),
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
    experiment = small()  # Dropout draws other masks for each device.
    datasets.write(data_dir, experiment.dataset)
    histories = []
    for devices in (1, 2):
        process = run(devices, experiment, data_dir, tmp_path / str(devices))
        assert process.returncode == 0, process.stderr
        assert ("divided among 2 devices" in process.stderr) == (devices == 2)
        histories.append(pd.read_csv(tmp_path / str(devices) / "history.csv"))
    one, two = (history[FIGURES].to_numpy() for history in histories)
    assert np.allclose(one, two, rtol=1e-3, atol=1e-6)


def test_two_devices_go_on_exactly_after_a_kill(tmp_path):
    """The network has a BatchNorm that learns, and dropout."""
    experiment = small(dropout=0.2, epochs=4, checkpoint_steps=1, deterministic=True)
    data_dir, whole, killed = (tmp_path / name for name in ("data", "whole", "killed"))
    datasets.write(data_dir, experiment.dataset)
    assert run(2, experiment, data_dir, whole).returncode == 0
    line = command(2, experiment, data_dir, killed)
    with ready.Popen(line, stderr=subprocess.DEVNULL) as process:
        until = time.monotonic() + 300
        while not any(p.name > "step-00000008" for p in killed.glob("checkpoints/last/step-*")):
            assert time.monotonic() < until and process.poll() is None
            time.sleep(0.01)
        process.kill()
    process = run(2, experiment, data_dir, killed)
    assert process.returncode == 0 and "Resuming after step" in process.stderr, process.stderr
    one, two = (pd.read_csv(folder / "history.csv") for folder in (whole, killed))
    cost = ["seconds", "input_wait", "peak_memory_gb"]
    # Each device sums its own part of the loss, and a checkpoint holds the sum of both: another
    # order of the same sum. What is learned is the same bit for bit.
    assert np.allclose(one["loss"], two["loss"], rtol=1e-6, atol=0)
    cost.append("loss")
    pd.testing.assert_frame_equal(one.drop(columns=cost), two.drop(columns=cost), check_exact=True)
    weights = [bundles.load(folder).model.get_weights() for folder in (whole, killed)]
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))


ON_TWO = """
import contextlib, json
from dr_tfx.machine import tensorflow_start
tensorflow_start.load()
import keras
import tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from dr_tfx.training import distribution, loop, train
strategy = distribution.strategy(2)
train._seed(0, deterministic=True)
with strategy.scope():
    model = keras.Sequential([keras.Input((64,)), keras.layers.Dropout(0.5, name="dropout")])
reseed = loop._dropout_seeder(model, 0)
@tf.function
def masks(step):
    reseed(step, None)
    def on_device():
        reseed(step, tf.distribute.get_replica_context().replica_id_in_sync_group)
        return tf.cast(model(tf.ones((1, 64)), training=True) > 0, tf.int32)
    return strategy.experimental_local_results(strategy.run(on_device))
drawn = [
    ["".join(map(str, mask.numpy()[0])) for mask in masks(tf.constant(step, tf.int64))]
    for step in (3, 4, 3)
]
import numpy as np
from dr_tfx.training import validation
from tests.helpers import datasets
from tests.training import test_validation
batches, _ = test_validation.examples(np.arange(40, dtype=np.float32) % 2)
figures = []
for scope in (contextlib.nullcontext(), strategy.scope()):
    with scope:
        judge = test_validation.judge(0.01)
    judged = validation.Validation(judge, datasets.experiment(), batches)
    figures.append(judged.figures(lambda: False))
print(json.dumps({"masks": drawn, "figures": figures}))
"""


@pytest.fixture(scope="module")
def on_two_devices():
    process = ready.run([sys.executable, "-c", ON_TWO])
    assert process.returncode == 0, process.stderr
    return json.loads(process.stdout)


def test_two_devices_validate_as_one_does(on_two_devices):
    """Batches of 7, and a last one of 5, which two devices cannot share equally."""
    one, two = on_two_devices["figures"]
    assert two == pytest.approx(one, rel=1e-6)


def test_dropout_is_a_function_of_step_and_device(on_two_devices):
    first, other, again = on_two_devices["masks"]
    assert first == again
    assert len({*first, *other}) == 4
    assert all(16 < mask.count("1") < 48 for mask in (*first, *other))


def test_a_batch_that_devices_cannot_share_is_refused(tmp_path):
    experiment = datasets.experiment(batch_size=7)
    datasets.write(tmp_path, experiment.dataset)
    process = run(2, experiment, tmp_path, tmp_path / "run")
    assert "batch_size is 7, which 2 devices cannot share equally" in process.stderr


def test_two_workers_learn_what_one_process_learns_from_the_examples_of_both(tmp_path):
    """One worker meets its memory ceiling in a validation, and one is killed."""
    data_dir, folder = tmp_path / "data", tmp_path / "two"
    experiment = small(epochs=4, checkpoint_steps=2)
    datasets.write(data_dir, experiment.dataset)
    process = run(1, experiment, data_dir, tmp_path / "one", workers=[2])
    assert process.returncode == 0, process.stderr

    # There is a look at the start, one before each of six steps, and one in the validation.
    with two_workers(experiment, data_dir, folder, looks=7) as workers:
        logs = [worker.communicate(timeout=300)[1] for worker in workers]
    for log, who in zip(
        logs, ("Another worker has reached its own", "The run uses 31.00 GB"), strict=True
    ):
        assert who in log and "The run is saved at step 6." in log
    states = [state.name for state in (folder / "checkpoints" / "last").iterdir()]
    assert states == ["step-00000006"] and not (folder / "history.csv").exists()

    with two_workers(experiment, data_dir, folder, other=tmp_path / "other") as workers:
        logs = [worker.communicate(timeout=300)[1] for worker in workers]
    assert "cross_device_ops" not in logs[0]
    assert f"this one finds 6 finished steps in {folder}, and another" in logs[0]
    assert f"this one finds 0 finished steps in {tmp_path / 'other'}, and another" in logs[1]

    with two_workers(experiment, data_dir, folder) as workers:
        until = time.monotonic() + 300
        states = folder / "checkpoints" / "last"
        while all(state.name < "step-00000007" for state in states.iterdir()):
            assert time.monotonic() < until and workers[0].poll() is None, workers[0].stderr.read()
            time.sleep(0.01)
        workers[1].terminate()
        assert workers[1].wait(timeout=60) == -signal.SIGTERM
        assert "Another worker of TF_CONFIG has ended" in workers[0].communicate(timeout=300)[1]
        assert workers[0].returncode == 1
    shutil.copytree(folder, tmp_path / "alone")

    with two_workers(experiment, data_dir, folder) as workers:
        logs = [worker.communicate(timeout=300)[1] for worker in workers]
    assert [worker.returncode for worker in workers] == [0, 0], logs
    assert "Resuming after step" in logs[0] and "steps so far" not in logs[0]
    one, two = (pd.read_csv(tmp_path / name / "history.csv") for name in ("one", "two"))
    # The sums of two workers are rounded otherwise, and every step adds to the difference: two
    # scores that are nearly equal may change places, which is one of the 572 pairs of an AUC.
    assert np.allclose(one[FIGURES], two[FIGURES], rtol=1e-2, atol=2e-3)
    assert (folder / "bundle.json").is_file()
    # One of them writes, in each session that reaches the end of an epoch.
    assert len(list((folder / "tensorboard" / "train").iterdir())) == 2

    process = run(1, experiment, data_dir, tmp_path / "alone")
    assert process.returncode == 0, process.stderr
    assert "steps so far were taken by 2 workers, those to come by 1" in process.stderr


def test_workers_of_different_settings_are_refused(tmp_path):
    datasets.write(tmp_path / "data", small().dataset)
    with two_workers(small(), tmp_path / "data", tmp_path / "run", theirs=small(seed=1)) as workers:
        logs = [worker.communicate(timeout=300)[1] for worker in workers]
    assert all("ValueError: The workers do not have the same config." in log for log in logs)
    assert not (tmp_path / "run").exists()


def test_a_port_that_is_taken_is_named():
    with socket.create_server(("localhost", 0)) as taken:
        address = f"localhost:{taken.getsockname()[1]}"
        cluster = {"worker": [address, "localhost:1"]}
        task = json.dumps({"cluster": cluster, "task": {"type": "worker", "index": 0}})
        line = [
            sys.executable,
            "-c",
            "from dr_tfx.training import distribution; distribution.strategy(2)",
        ]
        environment = {**os.environ, "TF_CONFIG": task}
        process = ready.run(line, env=environment)
    assert "ConnectionError: This worker cannot listen at its address" in process.stderr


def test_xla_for_several_devices_is_refused():
    code = f"{ON_TWO.partition('strategy =')[0]}distribution.strategy(2, xla=True)"
    process = ready.run([sys.executable, "-c", code])
    assert "config.training.xla is True, and 2 devices share each step" in process.stderr


def test_a_tpu_that_is_not_there_is_named(monkeypatch):
    monkeypatch.setenv("TPU_NAME", "local")
    with pytest.raises(ConnectionError, match="TPU_NAME is 'local', but TensorFlow reaches no TPU"):
        distribution.strategy(8)
    cluster = {"cluster": {"worker": ["one:1", "two:1"]}, "task": {"type": "worker", "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(cluster))
    with pytest.raises(ValueError, match="TPU_NAME is 'local', and TF_CONFIG names 2 workers"):
        distribution.strategy(8)


def test_a_cluster_that_cannot_be_read_is_refused(monkeypatch):
    monkeypatch.setenv("TF_CONFIG", "{")
    with pytest.raises(ValueError, match="TF_CONFIG is not a JSON object"):
        distribution.strategy(8)
