"""Training, evaluation and heat maps straight from the objects that a build wrote."""

import shutil

import keras
import numpy as np
import pandas as pd
import pytest

from dr_tfx.dataset import manifest, mirrors, places
from dr_tfx.models import bundles
from dr_tfx.storage import store_reads
from dr_tfx.training import train
from tests.helpers import commands, datasets, object_store, ready
from tests.training.test_endings import last_line, quick


def test_the_commands_of_the_line_read_a_bucket(tmp_path):
    """Through Google's own client, in the commands and in the processes that read."""
    data, run, out = tmp_path / "data", tmp_path / "run", tmp_path / "out"
    datasets.write(data, datasets.experiment().dataset)
    with object_store.running(tmp_path / "store") as store:
        where = [f"--data_dir={store.upload(data, 'data')}", f"--cache_dir={tmp_path / 'cache'}"]
        train_line = commands.train_line(quick(epochs=1), data, run)
        train_line = [word for word in train_line if not word.startswith("--data_dir=")]
        evaluated = commands.line("drtfx-evaluate", f"--workdir={run}", *where)
        explained = commands.line(
            "drtfx-explain", f"--workdir={run}", f"--output_dir={out}", *where
        )
        for line in ([*train_line, *where], evaluated, explained):
            done = ready.run(line, env=store.environment)
            assert done.returncode == 0, done.stderr
        page = (run / "evaluation" / "validation" / "report.html").read_text()
        assert f"--data_dir={store.url('data')}" in page and str(tmp_path / "cache") not in page
        assert len((out / "index.csv").read_text().splitlines()) == 1 + 11
        nothing = [*train_line, f"--data_dir={store.url('none')}", where[1]]
        done = ready.run(nothing, env=store.environment)
        assert done.returncode == 1
        assert f"{store.url('none')}/dataset.json does not exist" in last_line(done.stderr)


def test_a_build_and_a_training_use_amazons_store(raw, tmp_path):
    with object_store.amazons() as (bucket, environment):
        build = commands.line(
            "drtfx-build-examples",
            "--config=smoke",
            f"--image_dir={raw}",
            f"--labels={raw}/labels.csv",
        )
        here, there = f"--output_dir={tmp_path / 'data'}", f"--output_dir={bucket}/data"
        for line in ([*build, here], [*build, there]):
            done = ready.run(line, env=environment)
            assert done.returncode == 0, done.stderr
            assert "redentials" not in done.stderr
        config = ["--config=smoke", "--config.training.epochs=1"]
        config += ["--config.model.backbone=PlainConvolutions", "--config.model.output_stride=8"]
        run = ["--data_dir=" + bucket + "/data", f"--workdir={tmp_path / 'run'}"]
        line = commands.line("drtfx-train", *config, *run, f"--cache_dir={tmp_path / 'cache'}")
        done = ready.run(line, env=environment)
        assert done.returncode == 0, done.stderr
    (mirror,) = (tmp_path / "cache").iterdir()
    made = manifest.load(tmp_path / "data")
    for shard in made.shards_of("validation"):  # It came as a whole.
        assert (mirror / shard.name).read_bytes() == (tmp_path / "data" / shard.name).read_bytes()


class After(keras.callbacks.Callback):
    """Calls a function after the first epoch that it sees."""

    def __init__(self, function):
        super().__init__()
        self._functions = [function]

    def on_epoch_end(self, epoch, logs=None):
        while self._functions:
            self._functions.pop()()


# What the processes that read find where Python looks first: a store that refuses, once told to.
CLIENT = """
import pathlib
from fsspec.implementations import local
from dr_tfx.storage import store_reads
read = local.LocalFileSystem.cat_file
def cat_file(self, path, **part):
    if pathlib.Path(__file__).with_name("expired").exists():
        raise PermissionError(path)
    return read(self, path, **part)
store_reads.UNPERMITTED, local.LocalFileSystem.cat_file = 0.2, cat_file
"""


def test_a_store_that_fails_stops_the_run_at_a_checkpoint_and_no_weight_is_another(
    tmp_path, monkeypatch
):
    """The credentials expire, and another time objects change."""
    data, kept, run = tmp_path / "data", tmp_path / "kept", tmp_path / "run"
    datasets.write(data, datasets.experiment().dataset)
    shutil.copytree(data, kept)
    (tmp_path / "sitecustomize.py").write_text(CLIENT)
    monkeypatch.syspath_prepend(tmp_path)
    made = manifest.load(data)
    # Beside validation there is room for nothing, so that every epoch fetches its examples.
    room = sum(shard.bytes for shard in made.shards_of("validation"))
    given = {"cache_dir": tmp_path / "cache", "cache_gb": room / 1e9}
    # Of 6 batches an epoch, of which 12 and those in use are fetched ahead.
    experiment = quick(epochs=8, deterministic=True)

    def train_on(*callbacks):
        mirrors._opened.cache_clear()
        mirror = places.folder(f"file://{data}", **given)
        train.train(experiment, data_dir=mirror, workdir=run, given=callbacks)

    def spoil():
        for shard in made.shards_of("train"):
            (data / shard.name).write_bytes((kept / shard.name).read_bytes()[::-1])

    said = r"the credentials have expired.*The run is saved at step \d+"
    with pytest.raises(store_reads.StoreError, match=said):
        train_on(After((tmp_path / "expired").touch))
    (tmp_path / "expired").unlink()
    with pytest.raises(store_reads.StoreError, match=r"other bytes.*The run is saved at step \d+"):
        train_on(After(spoil))
    shutil.rmtree(data)
    shutil.copytree(kept, data)
    train_on()
    assert len(pd.read_csv(run / "history.csv")) == 8
    train.train(experiment, data_dir=data, workdir=tmp_path / "undisturbed")
    weights, expected = (
        bundles.load(folder).model.get_weights() for folder in (run, tmp_path / "undisturbed")
    )
    for ours, theirs in zip(weights, expected, strict=True):
        np.testing.assert_array_equal(ours, theirs)
