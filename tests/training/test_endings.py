"""The end of a training that cannot go on: a sentence, an exit code, and nothing that misleads."""

import dataclasses
import json
import os
import signal
import subprocess
import time
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from dr_tfx.models import bundles
from dr_tfx.storage import locks
from dr_tfx.training import identity, train
from tests.helpers import (
    backbones,  # noqa: F401 - `small`, `huge`.
    datasets,
    ready,
)
from tests.helpers.commands import train_line

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "data"
    datasets.write(folder, datasets.experiment().dataset)
    return folder


def quick(backbone="small", **training):
    made = datasets.experiment(**training)
    model = dataclasses.replace(made.model, backbone=backbone, dropout=(0.0,))
    return dataclasses.replace(made, model=model)


def start(experiment, data_dir, workdir, **environment):
    return ready.Popen(
        train_line(experiment, data_dir, workdir),
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def wait_for(there, process):
    until = time.monotonic() + 200
    while not there():
        assert time.monotonic() < until and process.poll() is None, process.communicate()
        time.sleep(0.005)


def last_line(text):
    return text.rstrip().splitlines()[-1]


@pytest.mark.parametrize("select_by", ["val_auc", "val_accuracy", "val_loss"])
def test_a_loss_that_is_not_finite_ends_the_training_without_a_bundle(
    data_dir, tmp_path, select_by
):
    workdir = tmp_path / "run"
    monitors = {"select_by": select_by, "early_stopping_monitor": "val_auc"}
    diverging = quick(optimizer="sgd", learning_rate=3e38, **monitors)
    with pytest.raises(ValueError, match=r"loss is (nan|inf) .*: the training diverged"):
        train.train(diverging, data_dir=data_dir, workdir=workdir)
    assert not (workdir / bundles.BUNDLE_FILE).exists()
    with pytest.raises(ValueError, match="the training diverged"):  # Nor does it by going on.
        train.train(diverging, data_dir=data_dir, workdir=workdir)


def test_a_last_step_that_diverges_is_seen_in_validation(data_dir, tmp_path):
    """The epoch's one step has a finite loss, and leaves weights whose own has no meaning."""
    diverging = quick(optimizer="sgd", epochs=1, batch_size=64, learning_rate=3e38)
    said = "validation loss (is (nan|inf) .*|below 1,000,000: the training) diverged"
    with pytest.raises(ValueError, match=said):
        train.train(diverging, data_dir=data_dir, workdir=tmp_path / "run")
    assert not (tmp_path / "run" / bundles.BUNDLE_FILE).exists()


def test_a_loss_that_is_finite_and_without_a_meaning_gives_no_bundle(data_dir, tmp_path):
    """Outputs of 1e9 are numbers, and every score is 0 or 1."""
    workdir = tmp_path / "run"
    diverging = quick(optimizer="sgd", learning_rate=1e10, epochs=2)
    for _ in range(2):  # Going on does not give one either.
        with pytest.raises(ValueError, match="a validation loss below 1,000,000: the training div"):
            train.train(diverging, data_dir=data_dir, workdir=workdir)
    history = pd.read_csv(workdir / identity.HISTORY_FILE)
    assert np.isfinite(history["val_loss"]).all()
    assert history["alarms"].tolist() == [1, 1]
    assert not (workdir / bundles.BUNDLE_FILE).exists()


def test_what_is_not_defined_on_validation_decides_nothing(tmp_path, monkeypatch, caplog):
    """Three healthy photographs in validation, and no ill one."""
    counts = {"train": (9, 6, 3), "validation": (3, 0, 0)}
    monkeypatch.setattr(datasets, "COUNTS", counts)
    data_dir = tmp_path / "data"
    datasets.write(data_dir, datasets.experiment().dataset)
    message = (
        r"Split 'validation' has 3 of 'negative', and none of 'positive': .* an AUC, is not "
        r"defined there.* val_accuracy or val_loss in place of config.training.select_by=val_auc, "
        r"config.training.early_stopping_monitor=val_auc"
    )
    with pytest.raises(ValueError, match=message):
        train.train(quick(), data_dir=data_dir, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()
    other = quick(epochs=1, select_by="val_loss", early_stopping_monitor="val_loss")
    train.train(other, data_dir=data_dir, workdir=tmp_path / "run")
    assert any("none of 'positive'" in message for message in caplog.messages)


def test_a_device_without_memory_is_a_sentence_and_leaves_the_folder_free(data_dir, tmp_path):
    workdir = tmp_path / "run"
    line = train_line(quick("huge", epochs=1), data_dir, workdir)
    # The memory of oneDNN is asked for again and again, for twenty seconds, before it is refused.
    environment = {**os.environ, "TF_ENABLE_ONEDNN_OPTS": "0"}
    done = subprocess.run(
        line, cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    said = done.stderr
    assert done.returncode == 1 and "Traceback" not in said
    assert last_line(said).startswith(
        "error: The device has too little memory for config.training.batch_size=8 "
    )
    assert "at 32 px in float32. Lower the batch size, or set config.training.precision" in said
    assert not (workdir / identity.CONFIG_FILE).exists()


def test_of_two_trainings_in_one_folder_the_second_is_told_of_the_first(data_dir, tmp_path):
    workdir = tmp_path / "run"
    experiment = quick(epochs=40)
    first = start(experiment, data_dir, workdir)
    wait_for((workdir / identity.CONFIG_FILE).exists, first)
    with pytest.raises(BlockingIOError, match=f"in use: process {first.pid} on "):
        train.train(experiment, data_dir=data_dir, workdir=workdir)
    out, said = first.communicate()
    assert first.returncode == 0 and last_line(out) == str(workdir), said
    assert not (workdir / locks.FILE).exists()
    assert train.train(experiment, data_dir=data_dir, workdir=workdir) == workdir


@pytest.mark.parametrize("task", ["ps", "evaluator"])
def test_a_task_that_would_train_a_run_of_its_own_is_refused(data_dir, tmp_path, task, monkeypatch):
    cluster = {"worker": ["localhost:1"], task: ["localhost:2"]}
    named = {"cluster": cluster, "task": {"type": task, "index": 0}}
    monkeypatch.setenv("TF_CONFIG", json.dumps(named))
    with pytest.raises(ValueError, match=f"the task '{task}'; expected 'chief' or 'worker'"):
        train.train(quick(), data_dir=data_dir, workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_ctrl_c_saves_the_run_and_says_so_in_one_line(data_dir, tmp_path):
    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    experiment = quick(epochs=30, deterministic=True, checkpoint_steps=1000)
    train.train(experiment, data_dir=data_dir, workdir=whole)
    process = start(experiment, data_dir, stopped)
    wait_for((stopped / "history.csv").exists, process)
    process.send_signal(signal.SIGINT)
    _, said = process.communicate()
    assert process.returncode == 130 and "Traceback" not in said
    line = last_line(said)
    assert line.startswith("Interrupted. The run is saved at step ")
    (state,) = (stopped / "checkpoints" / "last").iterdir()
    assert int(state.name[5:13]) == int(line.split("step ")[1].split(".")[0])
    train.train(experiment, data_dir=data_dir, workdir=stopped)
    cost = ["seconds", "input_wait", "peak_memory_gb"]
    one, two = (pd.read_csv(run / "history.csv").drop(columns=cost) for run in (whole, stopped))
    pd.testing.assert_frame_equal(one, two, check_exact=True)


def test_a_run_that_was_killed_behind_its_bundle_is_finished_and_keeps_no_lock(data_dir, tmp_path):
    experiment = quick(epochs=1)
    code = (
        "import os, signal\n"
        "from dr_tfx.models import bundles\n"
        "save = bundles.save\n"
        "def saved(*args, **kwargs):\n"
        "    save(*args, **kwargs); os.kill(os.getpid(), signal.SIGKILL)\n"
        "bundles.save = saved\n"
    )
    line = train_line(experiment, data_dir, tmp_path / "run")
    line[2] = code + line[2]
    assert ready.run(line).returncode == -signal.SIGKILL
    bundle, lock = tmp_path / "run" / bundles.BUNDLE_FILE, tmp_path / "run" / locks.FILE
    written = bundle.stat().st_mtime_ns
    assert lock.exists()
    train.train(experiment, data_dir=data_dir, workdir=tmp_path / "run")
    assert bundle.stat().st_mtime_ns == written and not lock.exists()


def test_more_shards_than_files_may_be_open_train_the_same_weights(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets, "COUNTS", {"train": (60, 30, 20), "validation": (5, 4, 2)})
    data_dir, weights = tmp_path / "data", []
    experiment = quick(epochs=2, deterministic=True)
    data = datasets.write(data_dir, experiment.dataset, shard_examples=1)
    assert len(data.shards_of("train")) == 110
    for limit in (4096, 64):
        workdir = tmp_path / str(limit)
        code = f"import resource as r; r.setrlimit(r.RLIMIT_NOFILE, 2 * ({limit},))\n"
        line = train_line(experiment, data_dir, workdir)
        line[2] = code + line[2]
        done = ready.run(line)
        assert done.returncode == 0, done.stderr
        weights.append(bundles.load(workdir).model.get_weights())
    assert all((one == two).all() for one, two in zip(*weights, strict=True))


def test_what_the_command_line_says_of_a_data_set_has_to_be_true(data_dir, tmp_path):
    wrong = "--config.dataset.recipe.size=48"
    line = [*train_line(datasets.experiment(size=64), data_dir, tmp_path / "run"), wrong]
    done = ready.run(line)
    said = "--config.dataset.recipe.size says 48, and the data set was built with 32. Leave it out"
    assert done.returncode == 1 and said in done.stderr.splitlines()[-1]
