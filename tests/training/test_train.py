"""A training run: its files, its refusals, and its resumption after it was killed."""

import dataclasses
import json
import re
import shutil
import signal
import sys
from html import unescape

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from tensorboard.backend.event_processing import event_accumulator

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.dataset import manifest
from dr_tfx.evaluation import evaluate
from dr_tfx.input_pipeline import in_order
from dr_tfx.machine import resources
from dr_tfx.models import bundles, precision
from dr_tfx.training import board, checkpoints, identity, loop, objectives, stages, train
from tests.helpers import (
    backbones,  # noqa: F401 - `small`.
    datasets,
    ready,
)

CODE = """
import json, os, random, signal, sys, threading
from pathlib import Path
os.setsid()  # In a group of its own, which is killed as one.
from dr_tfx.machine import tensorflow_start
tensorflow_start.load()
from tests.helpers import backbones
from dr_tfx import tasks
from dr_tfx.input_pipeline import kept_order
from dr_tfx.training import checkpoints, train
kept_order._EVERY = 1  # Places in the order are kept in so short a run, too.
save = checkpoints.Run.save
def saved(run, model):
    save(run, model)
    if len(sys.argv) > 4 and run.step >= int(sys.argv[4]):
        # The kill comes at some moment of the next milliseconds, in the midst of anything.
        threading.Timer(random.random() / 100, os.killpg, (0, signal.SIGKILL)).start()
checkpoints.Run.save = saved
experiment = tasks.from_config(json.loads(sys.argv[1]))
train.train(experiment, data_dir=Path(sys.argv[2]), workdir=Path(sys.argv[3]))
"""

BFLOAT16, FLOAT16 = 0.02, 0.005  # Relative differences of a short run from float32's.


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    datasets.write(folder, datasets.experiment().dataset)
    return folder


@pytest.fixture(scope="module")
def whole(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("whole")
    train.train(small(deterministic=True), data_dir=data_dir, workdir=workdir)
    return workdir


def run(experiment, data_dir, workdir, *kill_at):
    """Train in a process group of its own, which is killed once it has come to a step."""
    arguments = [json.dumps(typed.to_dict(experiment)), str(data_dir), str(workdir)]
    return ready.run([sys.executable, "-c", CODE, *arguments, *map(str, kill_at)])


def small(*, dropout=0.2, backbone="small", **training):
    """`datasets.experiment` with a backbone that is quickly traced."""
    made = datasets.experiment(**training)
    model = dataclasses.replace(made.model, backbone=backbone, dropout=(dropout,))
    return dataclasses.replace(made, model=model)


AUGMENTATION = {  # Each kind of chance that a step has.
    "horizontal_flip": True,
    "rotation": 0.1,
    "white_balance": 0.1,
    "blur": 0.5,
    "jpeg": 0.3,
    "cutmix": 0.4,
}
HEAD = {"trainable_layers": 0, "learning_rate": 0.01, "epochs": 1}


def exact(**training):
    """A run of two stages with every source of chance, bit-identical from one to the next."""
    training = {"checkpoint_steps": 1, "augmentation": AUGMENTATION, **training}
    training |= {"schedule": "cosine", "warmup_epochs": 0.5, "weight_average": 0.5}
    made = small(backbone="small_norm", deterministic=True, stages=[HEAD], **training)
    # BatchNorm has a state of its own, which has to come back after a kill.
    tuned = {"from_scratch": "as_pretrained", "trainable_layers": -1, "batch_norm": "trainable"}
    training = dataclasses.replace(made.training, epochs=2)
    return dataclasses.replace(
        made, model=dataclasses.replace(made.model, **tuned), training=training
    )


@pytest.fixture(scope="module")
def undisturbed(data_dir, tmp_path_factory):
    workdir = tmp_path_factory.mktemp("undisturbed")
    assert run(exact(), data_dir, workdir).returncode == 0
    return workdir


def cosine(share):
    """The cosine, at a share of its way from 1 to 0."""
    return (1 + np.cos(np.pi * share)) / 2


def tags(folder):
    events = event_accumulator.EventAccumulator(str(folder), {"tensors": 0})
    return set(events.Reload().Tags()["tensors"])


def test_a_run_leaves_a_bundle_and_its_history(undisturbed):
    history = pd.read_csv(undisturbed / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3]
    # The rates of the last of six steps: each stage warms up in three, and falls in the others.
    falls = [0.01 * cosine(2.5 / 3), 0.001 * cosine(2.5 / 9), 0.001 * cosine(8.5 / 9)]
    assert history["learning_rate"].tolist() == pytest.approx(falls)
    figures = ["loss", "val_loss", "val_auc", "learning_rate", "seconds"]
    assert history[figures].notna().all(axis=None)
    assert history["input_wait"].between(0, 1).all()
    assert history["peak_memory_gb"].between(0.1, 10).all()
    bundle = json.loads((undisturbed / "bundle.json").read_text())
    assert bundle["best_epoch"] == history["val_auc"].idxmax() + 1
    assert bundle["precision"] == "float32"
    assert tags(undisturbed / "tensorboard" / "train") >= {
        *("epoch_loss", "epoch_auc", "epoch_accuracy", "epoch_learning_rate"),
        *("epoch_input_wait", "epoch_peak_memory_gb", "epoch_alarms"),
    }
    validation = tags(undisturbed / "tensorboard" / "validation")
    figures = {"epoch_loss", "epoch_auc", "epoch_accuracy", "epoch_predicted_positive"}
    assert validation == figures
    assert not list(undisturbed.rglob("*tmp*"))


def killed_at(step, experiment, data_dir, workdir):
    """Start or resume a run and have it killed soon after its state at `step` is there."""
    done = run(experiment, data_dir, workdir, step)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (workdir / "bundle.json").exists()


def test_after_kills_at_random_moments_the_weights_are_those_of_the_uninterrupted_run(
    undisturbed, data_dir, tmp_path
):
    experiment, killed = exact(), tmp_path / "run"
    rng = np.random.default_rng(7)
    for first, last in ((2, 11), (13, 16)):  # There are three epochs of 6 steps.
        killed_at(rng.integers(first, last, endpoint=True), experiment, data_dir, killed)

    done = run(experiment, data_dir, killed)
    assert done.returncode == 0, done.stderr
    assert "epoch 1/3" not in done.stdout and "epoch 3/3" in done.stdout
    expected, found = (pd.read_csv(w / "history.csv") for w in (undisturbed, killed))
    cost = ["seconds", "input_wait", "peak_memory_gb"]
    pd.testing.assert_frame_equal(
        found.drop(columns=cost), expected.drop(columns=cost), check_exact=True
    )
    weights = [bundles.load(w).model.get_weights() for w in (killed, undisturbed)]
    assert all(np.array_equal(a, b) for a, b in zip(*weights, strict=True))
    assert all(list(w.glob("checkpoints/order-0/*.index")) for w in (killed, undisturbed))


def test_after_kills_rate_and_end_are_what_patience_says(data_dir, tmp_path):
    """Nothing improves, so the rate is halved after epochs 3 and 5, and epoch 6 is the last."""
    experiment = small(
        epochs=20,
        learning_rate=1e-7,
        plateau_patience=2,
        early_stopping_monitor="val_auc",
        early_stopping_patience=5,
        checkpoint_steps=1,
    )
    for step in (14, 27):  # They are in epochs 3 and 5, of 6 steps each.
        killed_at(step, experiment, data_dir, tmp_path)
    done = run(experiment, data_dir, tmp_path)
    assert done.returncode == 0 and "epoch 4/20" not in done.stdout, done.stderr
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3, 4, 5, 6]
    assert np.allclose(history["learning_rate"], np.array([1, 1, 1, 0.5, 0.5, 0.25]) * 1e-7)


def test_a_finished_run_is_left_alone(undisturbed, data_dir):
    before = (undisturbed / "model.keras").stat().st_mtime_ns
    train.train(exact(), data_dir=data_dir, workdir=undisturbed)
    assert (undisturbed / "model.keras").stat().st_mtime_ns == before


def with_epochs(experiment, epochs, *stages):
    training = dataclasses.replace(
        experiment.training, epochs=epochs, stages=(*experiment.training.stages, *stages)
    )
    return dataclasses.replace(experiment, training=training)


def same_weights(*runs):
    one, two = (bundles.load(run).model.get_weights() for run in runs)
    return all(np.array_equal(a, b) for a, b in zip(one, two, strict=True))


def test_a_finished_run_goes_on_as_if_it_had_been_to_have_more_epochs(whole, data_dir, tmp_path):
    """The rate of a plateau follows the epochs so far, so nothing depends on their number."""
    experiment = small(deterministic=True)
    train.train(with_epochs(experiment, 1), data_dir=data_dir, workdir=tmp_path)
    train.train(experiment, data_dir=data_dir, workdir=tmp_path)
    assert pd.read_csv(tmp_path / "history.csv")["epoch"].tolist() == [1, 2, 3]
    assert same_weights(tmp_path, whole)
    before = (tmp_path / "bundle.json").stat().st_mtime_ns
    train.train(experiment, data_dir=data_dir, workdir=tmp_path)
    assert (tmp_path / "bundle.json").stat().st_mtime_ns == before
    with pytest.raises(ValueError, match=r"config\.training\.epochs: 3 there, 2 now"):
        train.train(with_epochs(experiment, 2), data_dir=data_dir, workdir=tmp_path)


def test_a_cosine_goes_on_by_a_wave_of_its_own(data_dir, tmp_path):
    """A longer cosine would have been higher from the first step on, which nobody can change."""
    short = small(schedule="cosine", warmup_epochs=0.5, epochs=1)
    train.train(short, data_dir=data_dir, workdir=tmp_path)
    train.train(with_epochs(short, 2), data_dir=data_dir, workdir=tmp_path)
    rates = pd.read_csv(tmp_path / "history.csv")["learning_rate"].tolist()
    assert rates == pytest.approx([0.001 * cosine(2.5 / 3)] * 2)  # Six steps, three of them rise.
    wave = specs.Stage(short.model.trainable_layers, short.training.learning_rate, epochs=1)
    explicit = with_epochs(short, 1, wave)
    assert identity.same_run(typed.to_dict(bundles.load(tmp_path).experiment), explicit)
    assert identity.with_waves(tmp_path, with_epochs(short, 2)) == explicit
    further = identity.with_waves(tmp_path, with_epochs(short, 7))
    assert further == with_epochs(short, 5, wave, wave)


def test_a_run_that_has_lost_its_end_or_was_stopped_early_says_what_to_do(
    data_dir, tmp_path, caplog
):
    experiment = small(learning_rate=1e-7, early_stopping_patience=1, epochs=5)
    train.train(experiment, data_dir=data_dir, workdir=tmp_path)
    before = (tmp_path / "bundle.json").read_bytes()
    train.train(with_epochs(experiment, 6), data_dir=data_dir, workdir=tmp_path)
    assert "was stopped after epoch" in caplog.text
    assert (tmp_path / "bundle.json").read_bytes() == before
    shutil.rmtree(tmp_path / "checkpoints" / "last")
    with pytest.raises(ValueError, match=f"is gone.*config.model.weights={tmp_path}"):
        train.train(with_epochs(experiment, 6), data_dir=data_dir, workdir=tmp_path)


def test_another_config_in_the_same_workdir_is_refused(undisturbed, data_dir):
    with pytest.raises(ValueError, match="config.training.batch_size: 8 there, 4 now"):
        train.train(exact(batch_size=4), data_dir=data_dir, workdir=undisturbed)


@pytest.mark.parametrize("name", ["history.csv", "bundle.json", "checkpoints/mine"])
def test_somebody_elses_files_in_the_workdir_stay(data_dir, tmp_path, name):
    (tmp_path / name).parent.mkdir(exist_ok=True)
    (tmp_path / name).write_text("mine")
    with pytest.raises(FileExistsError, match=f"holds {name.split('/')[0]}, which this command"):
        train.train(exact(), data_dir=data_dir, workdir=tmp_path)
    assert (tmp_path / name).read_text() == "mine"


def test_a_refusal_names_each_setting_alone(undisturbed, data_dir):
    other = exact(augmentation={**AUGMENTATION, "zoom": 0.5})
    with pytest.raises(
        ValueError, match=r"config\. config\.training\.augmentation\.zoom: 0\.0 there"
    ):
        train.train(other, data_dir=data_dir, workdir=undisturbed)


def test_weights_that_cannot_be_read_leave_the_workdir_free(data_dir, tmp_path, monkeypatch):
    wrong = datasets.experiment()
    wrong = dataclasses.replace(wrong, model=dataclasses.replace(wrong.model, weights="/nope.h5"))
    workdir = tmp_path / "run"
    with pytest.raises(ValueError, match="no such file"):
        train.train(wrong, data_dir=data_dir, workdir=workdir)
    assert not workdir.exists()
    monkeypatch.setattr(board.Board, "before", stop_after_two)
    with pytest.raises(KeyboardInterrupt):
        train.train(small(checkpoint_steps=1), data_dir=data_dir, workdir=workdir)
    assert {path.name for path in workdir.iterdir()} == {identity.CONFIG_FILE, "checkpoints"}
    with pytest.raises(ValueError, match="holds a run of another config"):
        train.train(wrong, data_dir=data_dir, workdir=workdir)


def test_the_data_set_says_how_it_was_made_and_the_task_has_to_fit(data_dir, tmp_path, caplog):
    caplog.set_level("INFO")
    made = tasks.on_data(typed.to_dict(datasets.experiment(size=64)), manifest.load(data_dir))
    assert made == datasets.experiment()
    assert "built with config.dataset.recipe.size=32 instead of 64, which counts" in caplog.text
    task = dataclasses.replace(made.task, label_map=(0, 1))
    with pytest.raises(typed.ConfigError, match="label_map"):
        train.train(
            dataclasses.replace(made, task=task), data_dir=data_dir, workdir=tmp_path / "run"
        )
    assert not (tmp_path / "run").exists()


def test_no_data_set_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match=manifest.FILE_NAME):
        train.train(datasets.experiment(), data_dir=tmp_path, workdir=tmp_path / "run")


def test_the_bundle_is_that_of_the_best_epoch(data_dir, tmp_path):
    experiment = small(learning_rate=3e-2, select_by="val_loss")  # It goes up and down.
    train.train(experiment, data_dir=data_dir, workdir=tmp_path)
    bundle = bundles.load(tmp_path)
    history = pd.read_csv(tmp_path / "history.csv").set_index("epoch")["val_loss"]
    data = manifest.load(data_dir)
    loss = objectives.loss(experiment)
    parts = [
        (float(loss(wanted, bundle.model(images, training=False))), len(images))
        for images, wanted in in_order.validation(data_dir, data, experiment)
    ]
    loss = np.average(*np.transpose(parts)[:1], weights=np.transpose(parts)[1])
    assert loss == pytest.approx(history.min(), rel=1e-3)
    assert history.idxmin() == json.loads((tmp_path / "bundle.json").read_text())["best_epoch"]


def test_what_is_validated_is_the_average_of_the_weights(data_dir, tmp_path, monkeypatch):
    """Of three epochs, the first two count alike: in halves, and then a quarter each."""
    learnt, judged, finish = [], [], checkpoints.Run.finish_epoch

    def finished(run, model, judge, *row, **others):
        learnt.append(model.get_weights())
        judged.append(judge.get_weights())
        finish(run, model, judge, *row, **others)

    monkeypatch.setattr(checkpoints.Run, "finish_epoch", finished)
    experiment = small(weight_average=0.5, learning_rate=3e-2)
    train.train(experiment, data_dir=data_dir, workdir=tmp_path)
    for one, two, three, *found in zip(*learnt, *judged, strict=True):
        expected = [one, (one + two) / 2, one / 4 + two / 4 + three / 2]
        for wanted, given in zip(expected, found, strict=True):
            np.testing.assert_allclose(given, wanted, rtol=1e-5, atol=1e-7)
    best = json.loads((tmp_path / "bundle.json").read_text())["best_epoch"]
    weights = bundles.load(tmp_path).model.get_weights()
    assert all(map(np.array_equal, weights, judged[best - 1]))


def test_the_rate_rises_and_falls_in_each_stage():
    settings = {"schedule": "cosine", "warmup_epochs": 2.0, "learning_rate": 0.1, "epochs": 6}
    first, last = stages.of(small(stages=[{**HEAD, "epochs": 4}], **settings))
    assert [first.rate(0), first.rate(1), first.rate(2)] == pytest.approx([0, 0.005, 0.01])
    assert [first.rate(3), first.rate(4)] == pytest.approx([0.005, 0])
    assert [last.rate(5), last.rate(6), last.rate(8)] == pytest.approx([0.05, 0.1, 0.05])
    assert last.rate(10) == pytest.approx(0)


def test_a_training_that_diverges_says_so(data_dir, tmp_path):
    experiment = small(learning_rate=1e38, select_by="val_loss", epochs=1)
    with pytest.raises(ValueError, match="diverged"):
        train.train(experiment, data_dir=data_dir, workdir=tmp_path)


def test_a_training_that_collapses_is_called_so_at_once_and_on_its_report(
    data_dir, tmp_path, caplog
):
    """The steps are so large that all images get the same score, exactly 0 or exactly 1."""
    experiment = small(learning_rate=1e4, epochs=4)
    train.train(experiment, data_dir=data_dir, workdir=tmp_path)
    history = pd.read_csv(tmp_path / "history.csv")
    assert history["val_predicted_positive"].isin([0, 1]).all()
    began = [r.getMessage() for r in caplog.records if r.getMessage().startswith("ALARM: for 3")]
    assert len(began) == 3 == history["alarms"].iloc[2]
    one, chance, majority = began
    assert re.search(
        r"100.0 % of the validation images .* at threshold 0.5, .* AUC of its scores is 0.500", one
    )
    assert "The validation AUC, 0.500, is not above what guessing gives" in chance
    assert "The validation accuracy at threshold 0.5" in majority

    caplog.clear()
    page = evaluate.evaluate(workdir=tmp_path, data_dir=data_dir, split="validation")
    alarms = json.loads((page.parent / "metrics.json").read_text())["alarms"]
    assert alarms[0].startswith("100.0 % of the decisions are ")
    assert "is compatible with guessing" in alarms[1]
    text = unescape(page.read_text())
    box = text[text.index('role="alert"') : text.index('aria-label="Headline"')]
    assert all(alarm in box and f"ALARM: {alarm}" in caplog.messages for alarm in alarms)


def test_at_the_ceiling_of_memory_the_run_is_saved_and_goes_on_with_a_higher_one(
    data_dir, tmp_path, monkeypatch
):
    limited = small(epochs=1, max_memory_gb=7.0)
    monkeypatch.setattr(resources, "tree_gb", lambda: 7.5)
    before = pytest.raises(resources.MemoryCeilingError, match=r"7\.50 GB .* allows 7 GB")
    with before:
        train.train(limited, data_dir=data_dir, workdir=tmp_path)
    assert not list(tmp_path.iterdir())

    looks = iter([1.0, 2.0])
    monkeypatch.setattr(resources, "tree_gb", lambda: next(looks, 7.5))
    monkeypatch.setattr(resources, "SECONDS", 0.0)
    message = r"saved at step 2\. Lower config.training.batch_size .* raise --max_memory_gb"
    with pytest.raises(resources.MemoryCeilingError, match=message):
        train.train(limited, data_dir=data_dir, workdir=tmp_path)
    assert [p.name for p in (tmp_path / "checkpoints" / "last").iterdir()] == ["step-00000002"]

    monkeypatch.setattr(resources, "tree_gb", lambda: 7.5)
    higher = small(epochs=1, max_memory_gb=8.0, checkpoint_steps=3)
    train.train(higher, data_dir=data_dir, workdir=tmp_path)
    assert pd.read_csv(tmp_path / "history.csv")["peak_memory_gb"].tolist() == [7.5]


def test_at_the_ceiling_during_validation_nothing_of_the_epoch_is_lost(
    whole, data_dir, tmp_path, monkeypatch
):
    cut = tmp_path / "cut"
    monkeypatch.setattr(resources, "SECONDS", 0.0)
    monkeypatch.setattr(resources, "tree_gb", lambda: 1.0)
    validate = loop.Loop.validate

    def large(*arguments):
        monkeypatch.setattr(resources, "tree_gb", lambda: 31.0)
        return validate(*arguments)

    monkeypatch.setattr(loop.Loop, "validate", large)
    with pytest.raises(resources.MemoryCeilingError, match=r"uses 31\.00 GB .* saved at step 6\."):
        train.train(small(deterministic=True), data_dir=data_dir, workdir=cut)
    assert not (cut / "history.csv").exists()
    monkeypatch.setattr(loop.Loop, "validate", validate)
    monkeypatch.setattr(resources, "tree_gb", lambda: 1.0)
    train.train(small(deterministic=True), data_dir=data_dir, workdir=cut)
    one, two = (pd.read_csv(run / "history.csv") for run in (whole, cut))
    measured = ["seconds", "input_wait", "peak_memory_gb"]
    assert two["peak_memory_gb"].tolist() == [31.0, 1.0, 1.0]
    pd.testing.assert_frame_equal(
        one.drop(columns=measured), two.drop(columns=measured), check_exact=True
    )


def test_the_precision_of_a_run_is_kept_on_another_device(data_dir, tmp_path, monkeypatch):
    experiment = small(epochs=1, checkpoint_steps=1)
    monkeypatch.setattr(precision, "choose", lambda requested: "mixed_bfloat16")
    monkeypatch.setattr(board.Board, "before", stop_after_two)
    try:
        with pytest.raises(KeyboardInterrupt):
            train.train(experiment, data_dir=data_dir, workdir=tmp_path)
        monkeypatch.undo()
        train.train(experiment, data_dir=data_dir, workdir=tmp_path)
    finally:
        precision.set_policy("float32")
    assert bundles.load(tmp_path).precision == "mixed_bfloat16"


def stop_after_two(tensorboard, step):
    if step == 2:
        raise KeyboardInterrupt


def test_a_profile_of_steps_is_for_tensorboard(data_dir, tmp_path):
    experiment = small(epochs=4)  # An epoch has 6 steps.
    train.train(experiment, data_dir=data_dir, workdir=tmp_path, profile=True)
    assert list((tmp_path / "tensorboard").glob("plugins/profile/*/*.xplane.pb"))


def test_the_same_run_in_16_bits_agrees_with_float32(data_dir, tmp_path):
    losses = {}
    try:
        for policy in ("float32", "mixed_bfloat16", "mixed_float16"):
            # Dropout draws other numbers in another precision.
            experiment = small(precision=policy, dropout=0.0)
            train.train(experiment, data_dir=data_dir, workdir=tmp_path / policy)
            history = pd.read_csv(tmp_path / policy / "history.csv")
            losses[policy] = history["loss"].to_numpy()
    finally:
        precision.set_policy("float32")
    assert losses["float32"][-1] < 0.95 * losses["float32"][0]
    # The mantissas have 8 and 11 bits.
    assert losses["mixed_bfloat16"] == pytest.approx(losses["float32"], rel=BFLOAT16)
    assert losses["mixed_float16"] == pytest.approx(losses["float32"], rel=FLOAT16)


def test_gradients_that_underflow_in_float16_are_kept_by_scaling_the_loss():
    try:
        precision.set_policy("mixed_float16")
        keras.utils.set_random_seed(1)
        first = keras.layers.Dense(3, name="first")
        last = keras.layers.Dense(1, dtype="float32", name="last")
        model = keras.Sequential([keras.Input((4,)), first, last])
        model.compile(keras.optimizers.Adam(1e-3), "mse", jit_compile=False)
    finally:
        precision.set_policy("float32")
    last.set_weights([np.full((3, 1), 1e-9, np.float32), np.zeros(1, np.float32)])
    pixels, target = tf.ones((2, 4)), tf.ones((2, 1))
    with tf.GradientTape() as tape:
        loss = tf.reduce_mean((model(pixels) - target) ** 2)
    assert not np.any(tape.gradient(loss, first.trainable_weights[0]))  # 1e-9 is 0 in float16.
    before = first.get_weights()[0]
    model.optimizer.build(model.trainable_variables)
    model.train_step((pixels, target))
    assert "LossScale" in type(model.optimizer).__name__
    assert np.all(first.get_weights()[0] != before)


def test_flags_override_the_config_and_the_ceiling_ends_the_command_in_one_line(data_dir, tmp_path):
    settings = json.dumps(typed.to_dict(datasets.experiment()))
    config = tmp_path / "tiny.py"
    config.write_text(
        "import json, ml_collections\n"
        f"get_config = lambda: ml_collections.ConfigDict(json.loads({settings!r}))\n"
    )
    flags = [f"--config={config}", f"--data_dir={data_dir}", f"--workdir={tmp_path / 'run'}"]
    command = [sys.executable, "-m", "dr_tfx.cli.train", *flags, "--max_memory_gb=0.01"]
    process = ready.run(command)
    last = process.stderr.splitlines()[-1]
    assert process.returncode == 1
    assert last.startswith("error: The run uses") and "allows 0.01 GB" in last
    assert not (tmp_path / "run").exists()
