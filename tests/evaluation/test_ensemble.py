"""Ensembles: their scores are the means of the members', and every stage takes them for a run."""

import dataclasses
import functools
import json
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from scipy.special import expit, logit

import dr_tfx
from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.dataset import manifest
from dr_tfx.evaluation import ensemble, evaluate
from dr_tfx.explanation import gradcam
from dr_tfx.models import bundle_file, bundles, ensembles, network, precision
from dr_tfx.tasks.binary import fitting
from tests.evaluation.test_out_of_fold import DATA
from tests.helpers import datasets, evaluated, served
from tests.helpers.bundled import make_bundle, write_photographs
from tests.helpers.evaluated import EXPERIMENT

SLOPES = (2.0, 0.5)
BACKBONES = ("tiny", "SixConvolutions")  # Of 16 and 8 places a side.


def experiment(size: int = 32):
    views = ("identity", "left_right")
    found = datasets.experiment(size=size)
    evaluation = dataclasses.replace(found.evaluation, views=views, bootstrap_resamples=100)
    return dataclasses.replace(found, evaluation=evaluation)


def trained(folder, settings, data, *, slope=2 / 3, **given):
    """A run that has been evaluated on validation; drawn weights stand for trained ones."""
    run = make_bundle(folder, settings, data, **given)
    fitted = dataclasses.replace(datasets.fitted(0.4), slope=slope)
    bundles.save_fitted(run, fitted)
    return run


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    datasets.write(folder, experiment().dataset)
    return folder


@pytest.fixture(scope="module")
def runs(data_dir, tmp_path_factory):
    """Two runs of other backbones, heads and calibrations."""
    folder, data = tmp_path_factory.mktemp("runs"), manifest.load(data_dir)
    models = (
        {"output_stride": 8},
        {"output_stride": 4, "hidden": (5,), "dropout": (0.1, 0.1), "head_batch_norm": True},
    )
    made = []
    for i, (model, name, slope) in enumerate(zip(models, BACKBONES, SLOPES, strict=True)):
        settings = dataclasses.replace(experiment().model, **model)
        settings = dataclasses.replace(experiment(), model=settings)
        given = {"seed": i, "backbone": name, "slope": slope}
        made.append(trained(folder / f"run_{i}", settings, data, **given))
    return made


@pytest.fixture(scope="module")
def joined(runs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("joined") / "ensemble"
    assert dr_tfx.ensemble(runs, output_dir=folder).bundle.folder == folder
    return folder


@pytest.fixture(scope="module")
def pictures():
    return np.random.default_rng(0).integers(0, 256, (5, 32, 32, 3), dtype=np.uint8)


def test_the_score_is_the_mean_of_the_calibrated_probabilities(runs, joined, pictures):
    """So it is in the file for programs without dr_tfx, which need no custom objects for it."""
    pixels = pictures.astype(np.float32)
    theirs = [bundles.load(run).model(pixels, training=False) for run in runs]
    logits = [
        logit(score) * slope + datasets.SCALING[1]
        for score, slope in zip(theirs, SLOPES, strict=True)
    ]
    plain = keras.models.load_model(joined / "model.keras", compile=False)
    for model in (bundles.load(joined).model, plain):
        found = model(pixels, training=False)
        np.testing.assert_allclose(found, expit(logits).mean(axis=0), atol=1e-6)
    kinds = {type(layer).__module__.split(".")[0] for layer in plain.layers}
    assert kinds <= {"keras", "keras_core", "tf_keras"}
    assert np.ptp(theirs, axis=0).min() > 0.01  # The members do not agree.


def test_the_heat_map_is_of_the_mean_of_the_members_logits(runs, joined, pictures):
    """Grad-CAM by hand, of each member by itself and with its places as large as the finest."""
    bundle = bundles.load(joined)
    maps, _ = gradcam.HeatMaps(bundle.model, explained=bundle.kind.model.explained)(pictures[:2])
    total = 0.0
    for run, slope in zip(runs, SLOPES, strict=True):
        model = bundles.load(run).model
        last = model.get_layer("pool").input
        parts = keras.Model(model.inputs, last), keras.Model(last, model.layers[-1].input)
        features = parts[0](pictures[:2].astype(np.float32), training=False)
        kernel, bias = model.layers[-1].get_weights()
        with tf.GradientTape() as tape:
            tape.watch(features)
            hidden = tf.cast(parts[1](features, training=False), tf.float32)
            score = (hidden @ kernel + bias) * slope
        weights = tf.reduce_mean(tape.gradient(score, features), axis=(1, 2), keepdims=True)
        once = tf.reduce_sum(weights * features, axis=-1).numpy()
        finer = maps.shape[1] // once.shape[1]
        # The gradient by a place that stands for several is shared among them.
        total = total + np.kron(once, np.ones((1, finer, finer))) / finer**2
    expected = np.maximum(total, 0)
    expected /= np.maximum(expected.max(axis=(1, 2), keepdims=True), 1e-30)
    assert maps.shape == (2, 16, 16)
    np.testing.assert_allclose(maps, expected, atol=1e-5)


def test_the_same_call_again_does_nothing_and_another_one_is_refused(runs, joined):
    before = {path: path.stat().st_mtime_ns for path in joined.iterdir()}
    ensemble.ensemble(runs, output_dir=joined)
    assert {path: path.stat().st_mtime_ns for path in joined.iterdir()} == before
    with pytest.raises(ValueError, match="holds another ensemble, of .*run_0, .*run_1"):
        ensemble.ensemble(runs[::-1], output_dir=joined)
    with pytest.raises(FileExistsError, match="which this command did not make"):
        ensemble.ensemble(runs[:2], output_dir=runs[0])
    with pytest.raises(ValueError, match="is an ensemble itself; give its runs instead: .*run_0"):
        ensemble.ensemble([joined, runs[0]], output_dir=joined)


def test_thresholds_are_fitted_on_validation_and_used_on_photographs(joined, data_dir, tmp_path):
    with pytest.raises(ValueError, match="has not been evaluated on 'validation' yet"):
        evaluate.evaluate(workdir=joined, data_dir=data_dir, split="train")
    bundle = bundles.load(joined)
    table = evaluate.predict(bundle, data_dir, "validation")
    assert len(table) == 11 and bundle.members[1].best_epoch == 1
    fitted = bundle.kind.judgement.fit(table, split="validation")
    bundles.save_fitted(joined, fitted)
    photograph = write_photographs(tmp_path / "photographs") / "eye.jpeg"
    answer = dr_tfx.load_bundle(joined).predict(photograph)
    assert answer["threshold"] == fitted.threshold and 0 < answer["score"] < 1


def test_a_server_answers_as_the_ensemble_does(joined, tmp_path):
    pytest.importorskip("fastapi")
    bundles.save_fitted(joined, datasets.fitted(0.4))
    photograph = write_photographs(tmp_path / "photographs") / "eye.jpeg"
    running = served.Server(f"--workdir={joined}", knows_backbones=True)
    try:
        told = running.predict((photograph.name, photograph.read_bytes())).json
    finally:
        running.stop()
    answer = dr_tfx.load_bundle(joined).predict(photograph)
    assert told["photographs"][0]["answer"] == pytest.approx(answer, abs=1e-6)


def test_members_compute_in_the_precision_that_they_were_trained_in(pictures):
    parts, means = [], []
    for number, policy in enumerate(("mixed_bfloat16", "mixed_float16")):
        keras.utils.set_random_seed(number)
        settings = dataclasses.replace(experiment().model, backbone=BACKBONES[0])
        with precision.within(policy):
            model = network.build(dataclasses.replace(experiment(), model=settings))
        parts.append(ensembles.Part.calibrated(policy, model, experiment(), datasets.fitted(0.5)))
        slope, intercept = datasets.SCALING
        logits = logit(model(pictures.astype(np.float32), training=False))
        means.append(logits * slope + intercept)
    found = ensembles.join(parts, side=32, policy="float32")
    output = found(pictures.astype(np.float32), training=False)
    assert output.dtype == tf.float32 and keras.mixed_precision.global_policy().name == "float32"
    assert found.get_layer("member_1_conv").compute_dtype == "float16"
    np.testing.assert_allclose(output, expit(means).mean(axis=0), atol=2e-3)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda members: members * 6, "bundle.json.members is .*; expected 10 at most"),
        (lambda members: members[:1], "'member_1_.*' is only in the file"),
        (lambda members: [members[0], members[0]], "'member_1_.*' is only in the"),
        (lambda members: [*members, {}], "members.2. lacks folder, experiment"),
        (lambda members: members[0]["experiment"]["model"].update(backbone="Lambda"),
         "expected one of MobileNetV2"),
        (lambda members: members[0]["experiment"]["dataset"]["recipe"].update(size=36),
         "cannot be used: its member '.*run_0' is of another recipe or task"),
        (lambda members: members[0]["fitted"].update(slope=-1), "fitted.slope is -1"),
        (lambda members: members[0].update(precision="float8"), "members.0..precision is 'float8'"),
    ],
)  # fmt: skip
def test_a_strangers_ensemble_is_refused(joined, tmp_path, change, said):
    run = shutil.copytree(joined, tmp_path / "run")
    content = json.loads((run / "bundle.json").read_text())
    content["members"] = change(content["members"]) or content["members"]
    (run / "bundle.json").write_text(json.dumps(content))
    with pytest.raises(ValueError, match=said) as caught:
        bundles.load(run)
    assert str(run) in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"dataset.recipe.size": 64}, "dataset.recipe.size is 32 in {first} and 64 in {other}"),
        ({"dataset.recipe.name": "plain"}, "dataset.recipe.name is "),
        ({"task.label_map": (0, 0, 1)}, "task.label_map is [0, 1, 1] in {first} and [0, 0, 1]"),
        ({"evaluation.views": ("identity",)}, "evaluation.views is "),
        ({"task.kind": "grades"}, "task.kind is 'binary' in {first} and 'grades' in {other}"),
    ],
)
def test_runs_that_contradict_each_other_are_refused(runs, changes, said):
    first = ensemble.read(runs)[0]
    plain = typed.to_dict(first.kind.experiment)
    for name, value in changes.items():
        *groups, last = name.split(".")
        functools.reduce(dict.__getitem__, groups, plain)[last] = value
    if changes == {"task.kind": "grades"}:
        plain |= {"task": {"kind": "grades"}, "evaluation": {}}
        plain["training"] |= {"loss": "cumulative"}
    kind = tasks.of(tasks.from_config(plain))
    other = dataclasses.replace(first, folder=first.folder / "other", kind=kind)
    with pytest.raises(ValueError) as caught:
        ensemble.check_agree([first, other])
    assert said.format(first=first.folder, other=other.folder) in str(caught.value)
    assert str(caught.value).count(" is ") == 2  # One setting, and what an ensemble is.


def test_runs_that_are_not_finished_or_the_same_are_refused(runs, data_dir, tmp_path):
    fresh = make_bundle(tmp_path / "fresh", experiment(), manifest.load(data_dir))
    copy = shutil.copytree(runs[0], tmp_path / "copy")
    for given, said in (
        (runs[:1], "got 1 run; expected two or more"),
        ([runs[0], runs[0]], "is given twice"),
        ([runs[0], copy], "hold the same weights: one model would count twice"),
        ([runs[0], fresh], f"{fresh} has no calibration yet.* Run first: drtfx-evaluate"),
        ([runs[0], tmp_path], "holds no finished training"),
    ):
        with pytest.raises((ValueError, FileNotFoundError), match=said):
            ensemble.ensemble(given, output_dir=tmp_path / "joined")
    data = dataclasses.replace(manifest.load(data_dir), fingerprint="other")
    other = dataclasses.replace(ensemble.read(runs)[1], data=data)
    with pytest.raises(ValueError, match="were trained on different data"):
        ensemble.check_agree([ensemble.read(runs)[0], other])


def fold_runs(folder, count=3):
    """Runs of all folds as their evaluations leave them, with scales of their own; no models."""
    table = evaluated.predictions(1.0)
    fold, dataset = table["patient"].astype(int) % count, EXPERIMENT.dataset
    dataset = dataclasses.replace(dataset, split=specs.Split(folds=count))
    made = []
    for k in range(count):
        part = table[fold == k].assign(score=lambda rows, k=k: rows["score"] ** (0.5 + k))
        part["score/identity"] = part["score"]
        run = evaluated.run(folder / f"fold-{k}", part)
        content = bundle_file.read(run)
        kind = tasks.of(bundle_file.experiment(content, run))
        data = dataclasses.replace(DATA, dataset=dataset, fold=k)
        fitted = bundle_file.fitted(content, kind, run)
        fitted = dataclasses.replace(fitted, slope=1 / (0.5 + k), intercept=0.0)
        made.append(ensemble.JoinedRun(run, content, kind, data, fitted))
    return made, table


def test_folds_are_fitted_on_what_each_model_was_tested_on(tmp_path):
    """Each fold's scores are drawn out by its own slope, and are one table then."""
    runs, table = fold_runs(tmp_path)
    fold = table["patient"].astype(int) % 3
    calibrated = expit(logit(table["score"] ** (0.5 + fold)) / (0.5 + fold))
    found = ensemble.fitted_out_of_fold(runs)
    expected = table.assign(score=calibrated)
    expected = fitting.fit(expected, EXPERIMENT.evaluation, split="out of fold")
    assert found.split == "out of fold"
    assert found.threshold == pytest.approx(expected.threshold)
    assert found.scaling == pytest.approx(expected.scaling, abs=1e-6)


def test_the_data_of_all_folds_has_no_part_left_to_test(tmp_path):
    runs, _ = fold_runs(tmp_path)
    whole = ensemble.trained_on(runs)
    assert whole.fold == manifest.EVERY_FOLD
    for split in ("validation", "test"):
        with pytest.raises(ValueError, match=f"none is left for '{split}'.* --image_dir"):
            whole.shards_of(split)
    with pytest.raises(ValueError, match="fold-1 tests fold 1, of 3 folds; expected runs that"):
        ensemble.trained_on(runs[:2])
    same = [dataclasses.replace(run, data=runs[0].data) for run in runs]
    assert ensemble.trained_on(same) == runs[0].data
