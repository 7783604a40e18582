"""Callbacks of others are told what history.csv holds, and so are MLflow and Weights & Biases."""

import struct
import time

import keras
import pandas as pd
import pytest

import dr_tfx
from dr_tfx.models import bundles
from dr_tfx.training import callbacks, trackers
from dr_tfx.training import train as training
from tests.helpers import (
    backbones,  # noqa: F401 - `small`.
    datasets,
    mlflow_server,
)
from tests.training.test_train import data_dir, small, with_epochs  # noqa: F401


class Guest(keras.callbacks.Callback):
    """Ends the run after its second epoch, and notes what it is told."""

    def __init__(self):
        super().__init__()
        self.told, self.rows = [], []

    def on_train_begin(self, logs=None):
        self.told.append(("begin", self.params["epochs"], self.params["steps"]))

    def on_epoch_begin(self, epoch, logs=None):
        self.told.append(epoch)

    def on_epoch_end(self, epoch, logs=None):
        self.rows.append(logs)
        self.model.stop_training = epoch == 1

    def on_train_end(self, logs=None):
        self.told.append("end")


def test_callbacks_of_keras_see_the_epochs_and_may_end_the_run(data_dir, tmp_path):  # noqa: F811
    guest = Guest()
    dr_tfx.train(small(epochs=5), data_dir=data_dir, workdir=tmp_path, callbacks=[guest])
    assert bundles.load(tmp_path).config is None  # A file is named by the command alone.
    assert guest.told == [("begin", 5, 6), 0, 1, "end"]
    pd.testing.assert_frame_equal(
        pd.DataFrame(guest.rows), pd.read_csv(tmp_path / "history.csv"), check_dtype=False
    )


def tracked(name, workdir, rows):
    """Tell a tracker of a run of one epoch, and then of the epoch by which it goes on."""
    experiment = datasets.experiment()
    workdir.mkdir()
    for row in rows:
        tracker = trackers.make(name, workdir, with_epochs(experiment, int(row["epoch"])))
        guests = callbacks.Guests([tracker])
        guests.meet(None, epochs=2, steps=6)
        guests.epoch_ends(int(row["epoch"]) - 1, row)
        guests.leave()


ROWS = [{"epoch": 1, "loss": 0.5, "val_auc": 0.75}, {"epoch": 2, "loss": 0.25, "val_auc": 0.875}]


def test_a_real_mlflow_server_gets_what_history_holds_as_one_run(data_dir, tmp_path, monkeypatch):  # noqa: F811
    mlflow = pytest.importorskip("mlflow", reason="needs dr_tfx[mlflow]")
    pytest.importorskip("flask", reason="needs a whole mlflow, with its server: pip install mlflow")
    run = tmp_path / "run"
    with mlflow_server.started(tmp_path) as address:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
        for epochs in (1, 2):  # The second time goes on with the finished run.
            experiment = small(epochs=epochs)
            training.train(experiment, data_dir=data_dir, workdir=run, tracked_by=["mlflow"])
        client = mlflow.MlflowClient()
        (kept,) = client.search_runs([client.get_experiment_by_name("task").experiment_id])
        number = kept.info.run_id
        found = {key: client.get_metric_history(number, key) for key in kept.data.metrics}
    history = pd.read_csv(run / "history.csv").set_index("epoch")
    assert sorted(found) == sorted(history.columns)
    for key, rows in found.items():
        told = {row.step: row.value for row in rows}
        assert told == pytest.approx(history[key].to_dict(), nan_ok=True)
    assert (kept.info.run_name, kept.info.status) == ("run", "FINISHED")
    assert kept.data.params["training.learning_rate"] == "0.001"
    assert kept.data.tags["training.epochs"] == "2"
    with pytest.raises(ValueError, match=r"mlflow cannot begin a run: .* MLFLOW_TRACKING_URI\?"):
        trackers.make("mlflow", tmp_path, small()).on_train_begin()  # The server has ended.


def records(data):
    """Yield the records of a file of LevelDB's log format, which W&B writes: its docs."""
    at, part = 7, b""
    while at + 7 <= len(data):
        if 32768 - at % 32768 < 7:
            at += 32768 - at % 32768
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        part += data[at + 7 : at + 7 + size]
        at += 7 + size
        if kind in (1, 4):  # Whole, or the last part.
            yield part
            part = b""


def written(path, kind):
    """Return the records of a run; W&B may write the last of them after it was told to finish."""
    end = time.monotonic() + 60
    while True:
        found = [kind.FromString(data) for data in records(path.read_bytes())]
        if any(record.HasField("exit") for record in found) or time.monotonic() > end:
            return found
        time.sleep(0.1)


def test_weights_and_biases_keep_the_figures_of_one_run_without_a_network(tmp_path, monkeypatch):
    pytest.importorskip("wandb", reason="needs dr_tfx[wandb]")
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_SILENT", "true")
    tracked("wandb", tmp_path / "run", ROWS)
    numbers, found = set(), []
    for path in sorted(tmp_path.glob("wandb/offline-run-*/*.wandb")):
        for record in written(path, wandb_internal_pb2.Record):
            if record.HasField("run"):
                numbers.add(record.run.run_id)
            if record.HasField("history"):
                items = {i.key or i.nested_key[0]: i.value_json for i in record.history.item}
                found.append((items["_step"], items["loss"], items["val_auc"]))
    assert len(numbers) == 1
    assert found == [("1", "0.5", "0.75"), ("2", "0.25", "0.875")]


def test_a_tracker_that_is_away_is_given_its_figures_later(tmp_path, caplog):
    class Away(trackers.Tracker):
        name = "away"
        taken, closed = [], 0

        def open_run(self, number):
            return "7"

        def where(self):
            return "nowhere"

        def send(self, row, epoch):
            if epoch == 1 and len(self._waiting) == 1:
                raise ConnectionError("no\nroute")
            self.taken.append(epoch)

        def close(self):
            self.closed += 1

    away = Away(tmp_path, datasets.experiment())
    guests = callbacks.Guests([away])
    guests.meet(None, epochs=2, steps=6)
    for row in ROWS:
        guests.epoch_ends(int(row["epoch"]) - 1, row)
    guests.leave()
    assert away.taken == [1, 2] and away.closed == 1
    assert "away took no figures of epoch 1, and is given them after the next one: no route" in (
        caplog.text
    )
    assert (tmp_path / trackers.FILE).read_text() == '{\n  "away": "7"\n}\n'


def test_a_tracker_without_its_package_or_unknown_is_refused(tmp_path, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "mlflow", None)
    with pytest.raises(ValueError, match=r"pip install 'dr_tfx\[mlflow\]'"):
        trackers.make("mlflow", tmp_path, datasets.experiment())
    with pytest.raises(ValueError, match="expected one of mlflow, wandb"):
        trackers.make("other", tmp_path, datasets.experiment())
