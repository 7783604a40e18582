"""Training: what it leaves behind, refusals, and going on after a kill."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import datasets
import numpy as np
import pandas as pd
import pytest

from dr_tfx import input_pipeline, manifest, models, objectives, specs, train

CODE = (
    "import sys, json; sys.path.insert(0, sys.argv[4]); from pathlib import Path;"
    "from dr_tfx import specs, train;"
    "train.train(specs.from_config(json.loads(sys.argv[1])),"
    "            data_dir=Path(sys.argv[2]), workdir=Path(sys.argv[3]))"
)


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    datasets.write(folder, datasets.experiment().dataset)
    return folder


def start(experiment, data_dir, workdir):
    arguments = [json.dumps(specs.to_dict(experiment)), str(data_dir), str(workdir)]
    root = str(Path(__file__).parents[1])
    return subprocess.Popen(
        [sys.executable, "-c", CODE, *arguments, root],
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
    )


@pytest.fixture(scope="module")
def undisturbed(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    process = start(datasets.experiment(), data_dir, workdir)
    assert process.communicate() and process.returncode == 0
    return workdir


def test_a_run_leaves_a_bundle_and_its_history(undisturbed):
    history = pd.read_csv(undisturbed / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3]
    assert history[["loss", "val_loss", "val_auc", "learning_rate"]].notna().all(axis=None)
    bundle = json.loads((undisturbed / "bundle.json").read_text())
    assert bundle["best_epoch"] == history["val_auc"].idxmax() + 1
    assert bundle["precision"] == "float32"
    assert list((undisturbed / "tensorboard").rglob("events.*"))
    assert not list(undisturbed.rglob("*tmp*"))


def test_after_kill_9_the_same_command_goes_on_to_the_same_history(undisturbed, data_dir, tmp_path):
    experiment, killed = datasets.experiment(), tmp_path / "run"
    process = start(experiment, data_dir, killed)
    state = killed / "checkpoints" / "last"
    deadline = time.monotonic() + 120
    while not list(state.glob("epoch-0000[12]")) and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    assert not (killed / "bundle.json").exists()

    process = start(experiment, data_dir, killed)
    _, log = process.communicate()
    assert process.returncode == 0, log.decode()
    assert b"epoch 1/3" not in log and b"epoch 3/3" in log
    figures = ["epoch", "loss", "val_loss", "val_auc", "learning_rate"]
    expected = pd.read_csv(undisturbed / "history.csv")[figures]
    found = pd.read_csv(killed / "history.csv")[figures]
    assert found["epoch"].tolist() == [1, 2, 3]
    assert np.allclose(found, expected, rtol=1e-5, atol=1e-7)
    weights = [models.load_bundle(w).model.get_weights() for w in (killed, undisturbed)]
    assert all(np.allclose(a, b, rtol=1e-4, atol=1e-6) for a, b in zip(*weights, strict=True))


def test_a_finished_run_is_left_alone(undisturbed, data_dir):
    before = (undisturbed / "model.keras").stat().st_mtime_ns
    train.train(datasets.experiment(), data_dir=data_dir, workdir=undisturbed)
    assert (undisturbed / "model.keras").stat().st_mtime_ns == before


def test_another_config_in_the_same_workdir_is_refused(undisturbed, data_dir):
    with pytest.raises(ValueError, match="config.training.epochs: there 3, now 4"):
        train.train(datasets.experiment(epochs=4), data_dir=data_dir, workdir=undisturbed)


def test_a_refusal_names_each_setting_alone(undisturbed, data_dir):
    other = datasets.experiment(augmentation={"horizontal_flip": False, "zoom": 0.5})
    with pytest.raises(ValueError, match=r"config\. config\.training\.augmentation\.zoom: there 0"):
        train.train(other, data_dir=data_dir, workdir=undisturbed)


def test_weights_that_cannot_be_read_leave_the_workdir_free(data_dir, tmp_path, monkeypatch):
    wrong = datasets.experiment()
    wrong = dataclasses.replace(wrong, model=dataclasses.replace(wrong.model, weights="/nope.h5"))
    workdir = tmp_path / "run"
    with pytest.raises(ValueError, match="no such file"):
        train.train(wrong, data_dir=data_dir, workdir=workdir)
    monkeypatch.setattr(train, "_fit", lambda *_, **__: pytest.fail("claimed"))
    with pytest.raises(pytest.fail.Exception, match="claimed"):
        train.train(datasets.experiment(), data_dir=data_dir, workdir=workdir)
    assert [path.name for path in workdir.iterdir()] == [train.CONFIG_FILE]
    with pytest.raises(ValueError, match="holds a run of another config"):
        train.train(wrong, data_dir=data_dir, workdir=workdir)


def test_data_of_another_recipe_is_refused_naming_the_field(data_dir, tmp_path):
    with pytest.raises(ValueError, match=r"config.dataset.recipe.size: config 64, data 32"):
        train.train(datasets.experiment(size=64), data_dir=data_dir, workdir=tmp_path)


def test_no_data_set_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=manifest.FILE_NAME):
        train.train(datasets.experiment(), data_dir=tmp_path, workdir=tmp_path / "run")


def test_the_bundle_is_that_of_the_best_epoch(data_dir, tmp_path):
    experiment = datasets.experiment(learning_rate=3e-2, select_by="val_loss")  # Up and down.
    train.train(experiment, data_dir=data_dir, workdir=tmp_path)
    bundle = models.load_bundle(tmp_path)
    history = pd.read_csv(tmp_path / "history.csv").set_index("epoch")["val_loss"]
    data = manifest.load(data_dir)
    batches = input_pipeline.validation_dataset(data_dir, data, experiment)
    bundle.model.compile(loss=objectives.loss(experiment))
    loss = bundle.model.evaluate(batches, verbose=0)
    assert loss == pytest.approx(history.min(), rel=1e-3)
    assert history.idxmin() == json.loads((tmp_path / "bundle.json").read_text())["best_epoch"]


def test_a_training_that_diverges_says_so(data_dir, tmp_path):
    experiment = datasets.experiment(learning_rate=1e30, select_by="val_loss", epochs=1)
    with pytest.raises(ValueError, match="diverged"):
        train.train(experiment, data_dir=data_dir, workdir=tmp_path)
