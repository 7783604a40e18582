"""The kind `contrastive`: photographs without labels, from a batch to a task that begins there."""

import contextlib
import dataclasses
import itertools
import json
import sys

import numpy as np
import pandas as pd
import pytest
from safetensors.numpy import load_file
from sklearn.metrics.pairwise import cosine_similarity

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.evaluation import compare, evaluate
from dr_tfx.explanation import explainer
from dr_tfx.input_pipeline import loader, strata
from dr_tfx.models import bundles, network
from dr_tfx.statistics import spread
from dr_tfx.tasks.contrastive.model import NTXent
from dr_tfx.tasks.kind import VIEW_OF
from dr_tfx.training import board
from dr_tfx.training.train import train
from tests.helpers import backbones, bundled, datasets, ready

TRAINING = {
    "epochs": 2,
    "batch_size": 8,
    "loss": "nt_xent",
    "balance": "none",
    "select_by": "loss",
    "early_stopping_monitor": "loss",
    "plateau_monitor": "loss",
}


def experiment(*, seed=0, task=None, **training) -> specs.Experiment:
    return tasks.from_config(
        {
            "dataset": typed.to_dict(datasets.experiment().dataset),
            "task": {"kind": "contrastive", "name": "pretrain", "dimensions": 8, **(task or {})},
            "model": {"backbone": backbones.TINY, "output_stride": 16, "weights": "none"},
            "training": {**TRAINING, "seed": seed, **training},
            "evaluation": {"bootstrap_resamples": 100, "views": ["identity", "left_right"]},
        }
    )


def picture(number: int) -> dict[str, np.ndarray]:
    """Photographs that differ in more than their brightness, and whose blue is their number."""
    noise = np.random.default_rng(number).integers(0, 256, (32, 32, 3))
    noise[..., 2] = number
    return {"image/encoded": noise.astype(np.uint8)}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    datasets.write(folder, datasets.experiment().dataset, features=picture)
    return folder


@pytest.fixture(scope="module")
def run(data_dir, tmp_path_factory):
    folder = tmp_path_factory.mktemp("run") / "a"
    train(experiment(), data_dir=data_dir, workdir=folder)
    evaluate.evaluate(workdir=folder, data_dir=data_dir, split="validation")
    return folder


def test_the_loss_names_the_other_view_among_all_others():
    rng = np.random.default_rng(0)
    points = rng.normal(size=(6, 4)).astype(np.float32)
    of, temperature = np.array([0, 1, 2, 1, 0, 3]), 0.3
    ways = points / np.linalg.norm(points, axis=1, keepdims=True)
    expected = []
    for i in range(6):
        alike = {j: ways[i] @ ways[j] / temperature for j in range(6) if j != i}
        weight = np.log(sum(np.exp(value) for value in alike.values()))
        own = [alike[j] for j in alike if of[j] == of[i]]
        expected.append(weight - (np.mean(own) if own else 0))  # Rows 2 and 5 have no other view.
    loss = NTXent(temperature)
    found = loss.call(of[:, None].astype(np.float32), points)
    np.testing.assert_allclose(found, expected, rtol=1e-5)
    # The last batch of a validation may have one photograph, which cannot be taken for another.
    assert float(loss(np.zeros((1, 1), np.float32), points[:1])) == 0


def test_spread_is_that_of_cosines_and_of_principal_axes():
    rng = np.random.default_rng(1)
    points = rng.normal(size=(50, 5)) * [3, 1, 1, 0.1, 0.1] + 1
    cosines = cosine_similarity(points)
    off = cosines[~np.eye(50, dtype=bool)]
    assert spread.likeness(points) == pytest.approx(off.mean())
    ways = points / np.linalg.norm(points, axis=1, keepdims=True)
    variances = np.linalg.eigvalsh(np.cov(ways.T))
    assert spread.dimensions(points) == pytest.approx(variances.sum() ** 2 / (variances**2).sum())
    axes = np.concatenate([np.eye(4), -np.eye(4)])
    assert spread.dimensions(axes) == pytest.approx(4)
    assert spread.likeness(np.ones((5, 3))) == pytest.approx(1)
    assert np.isnan(spread.dimensions(np.ones((5, 3)))) and np.isnan(spread.likeness(axes[:1]))
    one = rng.normal(size=(3000, 8))
    other = one + 0.01 * rng.normal(size=one.shape)
    other[[7, 2999]] = other[[2999, 7]]
    assert np.flatnonzero(~spread.recognised(one, other)).tolist() == [7, 2999]


def test_each_photograph_is_in_a_batch_twice_and_once_an_epoch(data_dir):
    data = datasets.manifest.load(data_dir)
    settings = experiment(mix="exact", augmentation={"rotation": 0.1})

    def seen(first, count):
        stream, steps = loader.train_batches(data_dir, data, settings, first_step=first)
        with contextlib.closing(stream):
            return list(itertools.islice(stream, count)), steps

    batches, steps = seen(0, 9)
    assert steps == 9  # 33 photographs, 4 a batch.
    numbers = []
    for batch in batches:
        assert batch[VIEW_OF].tolist() == [0, 0, 1, 1, 2, 2, 3, 3]
        own = batch["image"][:, 0, 0, 2]  # Its number.
        assert np.array_equal(own[::2], own[1::2])
        assert (batch["draws"][::2] != batch["draws"][1::2]).any(axis=1).all()
        numbers += own[::2].tolist()
    assert set(numbers) == set(range(33))
    later, _ = seen(5, 2)
    for before, after in zip(batches[5:7], later, strict=True):
        assert all(np.array_equal(before[name], after[name]) for name in before)


def test_workers_with_half_a_photograph_are_refused(data_dir):
    data, settings = datasets.manifest.load(data_dir), experiment(batch_size=6)
    with pytest.raises(ValueError, match=r"each of 2 workers has 3 examples .* multiple of 2"):
        strata.part_of(strata.of_training(data, settings), settings, workers=2)


def test_figures_are_those_of_the_points(run):
    where = run / "evaluation" / "validation"
    told = json.loads((where / "metrics.json").read_text())
    table = pd.read_csv(where / "predictions.csv")
    one, other = (table[[f"{view}/{i}" for i in range(8)]].to_numpy() for view in ("one", "other"))
    nearest = cosine_similarity(one, other).argmax(axis=1)
    assert told["recognised"]["value"] == (nearest == np.arange(len(table))).mean()
    assert told["chance"] == 1 / len(table)
    off = cosine_similarity(one)[~np.eye(len(one), dtype=bool)]
    assert told["likeness"] == pytest.approx(off.mean(), abs=1e-6)
    history = pd.read_csv(run / "history.csv")
    best = history["loss"].argmin()
    assert json.loads((run / "bundle.json").read_text())["best_epoch"] == best + 1
    assert history["val_likeness"][best] == pytest.approx(told["likeness"], abs=1e-3)
    page = (where / "report.html").read_text()
    assert "Recognised" in page and "No label was used" in page
    assert "drtfx-explain" not in page  # There is nothing that it could explain.


def test_a_collapse_is_called_so():
    judge = tasks.of(experiment()).judgement
    (sentence,) = judge.wrong_with({"val_likeness": 0.999, "val_dimensions": 1.2}, [3]).values()
    assert "likeness of 0.999" in sentence and "the network has collapsed" in sentence
    assert judge.wrong_with({"val_likeness": 0.2, "val_dimensions": 6.0}, [3]) == {}
    nothing = float("nan")
    assert judge.wrong_with({"val_likeness": nothing, "val_dimensions": nothing}, [3])


def test_two_runs_are_compared_by_what_they_recognise(run, data_dir, tmp_path):
    other = tmp_path / "b"
    train(experiment(seed=1, epochs=1), data_dir=data_dir, workdir=other)
    evaluate.evaluate(workdir=other, data_dir=data_dir, split="validation")
    page = compare.compare(
        [run, other], split="validation", output_dir=tmp_path / "compared", command=["x"]
    )
    result = json.loads((page.parent / "compare.json").read_text())
    values = [each["recognised"]["value"] for each in result["runs"]]
    (difference,) = result["differences"]
    assert difference["recognised"]["value"] == pytest.approx(values[1] - values[0])


def test_a_pretraining_goes_on_whole_and_has_no_heat_maps(run):
    model = dataclasses.replace(experiment().model, weights=str(run))
    built = network.build(dataclasses.replace(experiment(), model=model))
    expected = bundles.load(run).model.get_weights()
    assert all(map(np.array_equal, built.get_weights(), expected))
    with pytest.raises(ValueError, match="trained without labels, and has no number that heat"):
        explainer.Explainer(bundles.load(run))


@pytest.fixture(scope="module")
def pretrained(data_dir, tmp_path_factory):
    """An untrained run of a backbone of which maps can be made, too."""
    folder = tmp_path_factory.mktemp("pretrained") / "run"
    model = dataclasses.replace(experiment().model, output_stride=4)
    made = dataclasses.replace(experiment(), model=model)
    data = datasets.manifest.load(data_dir)
    return bundled.make_bundle(folder, made, data, seed=5, backbone="halving")


@pytest.mark.parametrize("kind", ["binary", "grades", "masks"])
@pytest.mark.parametrize("file", ["", "weights.safetensors"])
def test_a_task_begins_from_its_backbone(kind, file, pretrained):
    settings = {
        "dataset": typed.to_dict(datasets.experiment().dataset),
        "task": {"kind": kind},
        "model": {"backbone": "halving", "output_stride": 4, "weights": str(pretrained / file)},
        "training": {},
    }
    if kind == "masks":
        settings["dataset"]["masks"] = ("MA",)
        by = {"select_by": "val_aupr", "early_stopping_monitor": "val_aupr"}
        settings["training"] = {"loss": "dice_cross_entropy", **by}
    built = network.build(tasks.from_config(settings))
    stored = load_file(pretrained / "weights.safetensors")
    for layer in ("conv_0", "conv_1", "conv_2"):
        kernel = built.get_layer(layer).get_weights()[0]
        np.testing.assert_array_equal(kernel, stored[f"{layer}/0"])
    assert built.output_shape[-1] != 8  # The points of the pre-training.


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batch_size": 7}, "an even number, as each photograph is in a batch twice"),
        ({"balance": "oversample"}, "contrastive learning does not read"),
        ({"augmentation": {"cutmix": 1.0}}, "two photographs as one are a view of neither"),
    ],
)
def test_what_does_not_fit_is_refused(changes, message):
    with pytest.raises(typed.ConfigError, match=message):
        experiment(**changes)


def test_a_stopped_pretraining_goes_on_to_the_history_of_an_uninterrupted_one(
    run, data_dir, tmp_path, monkeypatch
):
    def stopped(tensorboard, step):
        if step == 13:  # Of twice nine.
            raise KeyboardInterrupt

    monkeypatch.setattr(board.Board, "before", stopped)
    with pytest.raises(KeyboardInterrupt):
        train(experiment(checkpoint_steps=4), data_dir=data_dir, workdir=tmp_path)
    monkeypatch.undo()
    assert not (tmp_path / "bundle.json").exists()
    train(experiment(checkpoint_steps=4), data_dir=data_dir, workdir=tmp_path)
    cost = ["seconds", "input_wait", "peak_memory_gb"]
    one, other = (pd.read_csv(f / "history.csv").drop(columns=cost) for f in (run, tmp_path))
    assert one["epoch"].tolist() == [1, 2] and one["loss"].nunique() == 2
    pd.testing.assert_frame_equal(other, one, rtol=1e-5)


def test_the_command_has_a_config_of_its_own_and_trains(data_dir, tmp_path):
    line = [sys.executable, "-m", "dr_tfx.cli.pretrain", f"--workdir={tmp_path / 'run'}"]
    done = ready.run([*line, f"--data_dir={tmp_path}", "--config.training.batch_size=3"])
    assert done.returncode == 1 and "dataset.json" in done.stderr
    line += [f"--data_dir={data_dir}", "--config.model.output_stride=8"]
    done = ready.run([*line, "--config.training.batch_size=3"])
    assert "config.training.batch_size is 3; expected an even number" in done.stderr
    line += ["--config.model.backbone=PlainConvolutions", "--config.model.weights=none"]
    done = ready.run([*line, "--config.training.batch_size=22", "--config.training.epochs=1"])
    assert done.returncode == 0, done.stderr
    content = json.loads((tmp_path / "run" / "bundle.json").read_text())
    assert content["experiment"]["task"]["kind"] == "contrastive" and content["best_epoch"] == 1
