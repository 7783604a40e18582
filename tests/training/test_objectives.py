"""Losses, optimizers and metrics by name, ours and those of tensorflow-addons."""

import dataclasses
import json
import sys
from importlib.util import find_spec

import keras
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from sklearn.metrics import cohen_kappa_score

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.models import bundles, network, precision
from dr_tfx.tasks.binary import model as binary_model
from dr_tfx.training import objectives, train
from tests.helpers import (
    backbones,  # noqa: F401 - `small`, `small_norm`.
    configs,
    datasets,
    ready,
)

HAS_ADDONS = find_spec("tensorflow_addons") is not None
with_addons = pytest.mark.skipif(
    not HAS_ADDONS,
    reason="needs pip install 'dr_tfx[addons]' on Python 3.11: make test-addons",
)
without_addons = pytest.mark.skipif(HAS_ADDONS, reason="tensorflow-addons is installed")

ADDONS_TRAINING = {
    "loss": "tfa.SigmoidFocalCrossEntropy",
    "optimizer": "tfa.RectifiedAdam",
    "metrics": ["tfa.CohenKappa", "kappa"],
    "arguments": {
        "SigmoidFocalCrossEntropy": {"alpha": 0.5, "gamma": 1.5},
        "RectifiedAdam": {"total_steps": 30, "warmup_proportion": 0.1},
        "CohenKappa": {"num_classes": 2, "weightage": "quadratic"},
    },
}


def random_answers(seed: int, count: int = 200) -> tuple[np.ndarray, np.ndarray]:
    """Targets 0 or 1 and probabilities that correlate with them, float32 (n, 1)."""
    rng = np.random.default_rng(seed)
    targets = rng.integers(0, 2, (count, 1))
    probabilities = np.clip(0.3 * targets + rng.uniform(0.01, 0.69, (count, 1)), 0, 1)
    return targets.astype(np.float32), probabilities.astype(np.float32)


def test_focal_loss_is_r1s_formula():
    rng = np.random.default_rng(0)
    p, y = rng.uniform(0.01, 0.99, 100), rng.integers(0, 2, 100)
    p_t = np.where(y == 1, p, 1 - p)
    expected = np.mean(-0.5 * (1 - p_t) ** 1.5 * np.log(p_t))
    loss = objectives.loss(datasets.experiment())
    found = loss(y[:, None].astype(np.float32), p[:, None].astype(np.float32))
    assert float(found) == pytest.approx(expected, rel=1e-5)


def test_weight_decay_is_for_kernels_alone():
    """Where no gradient is, the decay is all that moves a variable."""
    experiment = datasets.experiment(optimizer="adamw", learning_rate=0.5, weight_decay=0.25)
    settings = dataclasses.replace(
        experiment.model, backbone="small_norm", batch_norm="trainable", trainable_layers=-1
    )
    model = network.build(dataclasses.replace(experiment, model=settings))
    objectives.compile_model(model, experiment)
    variables = model.trainable_variables
    for variable in variables:
        variable.assign(np.full(variable.shape, 2, np.float32))
    model.optimizer.apply_gradients([(tf.zeros(v.shape), v) for v in variables])
    found = {len(v.shape): float(np.unique(v.numpy()).item()) for v in variables}
    assert found == {4: 2 - 0.5 * 0.25 * 2, 2: 2 - 0.5 * 0.25 * 2, 1: 2.0}
    scale = keras.layers.DepthwiseConv2D(1, use_bias=False)  # As ConvNeXt scales its channels.
    both = keras.Sequential([keras.Input((2, 2, 3)), scale, keras.layers.DepthwiseConv2D(2)])
    assert [tuple(v.shape) for v in objectives.undecayed(both)] == [(1, 1, 3, 1), (3,)]


def test_cross_entropy_is_its_formula():
    y, p = random_answers(0)
    expected = -np.mean(np.log(np.where(y == 1, p, 1 - p)))
    loss = objectives.loss(datasets.experiment(loss="cross_entropy"))
    assert float(loss(y, p)) == pytest.approx(expected, rel=1e-5)


def test_every_name_that_a_config_may_give_is_there():
    assert tuple(objectives.OPTIMIZERS) == specs.OPTIMIZERS
    needed = {
        "contrastive": {
            "training": {
                "loss": "nt_xent",
                "balance": "none",
                "select_by": "loss",
                "early_stopping_monitor": "loss",
            },
            "evaluation": {"views": ("identity", "left_right")},
        },
        "grades": {"task": {"refer_from": 1}},
        "multilabel": {
            "dataset": {
                "label_column": "any,subdural",
                "label_names": ("none", "any", "subdural", "any+subdural"),
            }
        },
        "masks": {
            "dataset": {"masks": ("MA",)},
            "training": {
                "loss": "dice_focal",
                "select_by": "val_aupr",
                "early_stopping_monitor": "val_aupr",
            },
        },
    }
    for name in tasks.KINDS:
        settings = needed.get(name, {})
        settings = settings | {"task": {"kind": name, **settings.get("task", {})}}
        task = tasks.of(tasks.from_config(settings))
        assert tuple(task.model.losses) == task.LOSSES
        assert tuple(task.model.metrics) == (*task.model.watched, *task.METRICS)


def test_optimizers_take_their_settings():
    made = {
        name: objectives.optimizer(
            datasets.experiment(optimizer=name, learning_rate=0.25, weight_decay=0.125)
        )
        for name in specs.OPTIMIZERS
    }
    assert {n: type(o).__name__ for n, o in made.items()} == {
        "adam": "Adam",
        "adamw": "AdamW",
        "sgd": "SGD",
    }
    assert all(float(np.asarray(o.learning_rate)) == 0.25 for o in made.values())
    assert made["adamw"].weight_decay == 0.125 and made["sgd"].momentum == 0.9


def test_the_metrics_asked_for_come_after_those_of_every_run():
    names = [m.name for m in objectives.metrics(datasets.experiment(metrics=["kappa"]))]
    assert names == ["auc", "accuracy", "predicted_positive", "kappa"]


def test_the_share_called_positive_is_one_of_images_however_much_each_counts():
    metric = binary_model.PredictedPositive()
    metric.update_state(np.ones((3, 1)), np.array([[0.2], [0.5], [0.9]]), np.array([1.0, 1.0, 8.0]))
    metric.update_state(np.zeros((1, 1)), np.array([[0.6]]))
    assert float(metric.result()) == 0.5


def test_scores_that_are_a_half_but_for_rounding_look_collapsed_while_training():
    """Noise above .5 is of class 1 alone, which neither the share nor the AUC may believe."""
    noise = np.float32(0.5) + np.arange(1, 9).astype(np.float32) * np.spacing(np.float32(0.5))
    outputs = np.concatenate([1 - noise, noise])[:, None]
    targets = np.repeat([[0.0], [1.0]], 8, axis=0)
    side, found = tasks.of(datasets.experiment()).model, {}
    for name in ("auc", "predicted_positive"):
        metric = side.metrics[name]()
        metric.update_state(targets, outputs)
        found[name] = float(metric.result())
    assert found == {"auc": 0.5, "predicted_positive": 0}


def test_two_metrics_of_one_name_are_refused():
    with pytest.raises(typed.ConfigError, match="two metrics called 'kappa'"):
        objectives.metrics(datasets.experiment(metrics=["kappa", "kappa"]))


@pytest.mark.parametrize("classes", [2, 5])
@pytest.mark.parametrize("weighted", [False, True])
def test_kappa_is_scikit_learns_however_it_is_fed(classes, weighted):
    rng = np.random.default_rng(classes)
    targets = rng.integers(0, classes, 300)
    decided = np.where(rng.uniform(size=300) < 0.6, targets, rng.integers(0, classes, 300))
    weights = rng.integers(1, 9, 300) / 8 if weighted else None
    scores = np.eye(classes, dtype=np.float32)[decided]
    metric = binary_model.Kappa(classes)
    for part in np.array_split(np.arange(300), 7):
        metric.update_state(
            targets[part][:, None],
            scores[part, 1:] if classes == 2 else scores[part],
            None if weights is None else weights[part],
        )
    expected = cohen_kappa_score(targets, decided, weights="quadratic", sample_weight=weights)
    assert float(metric.result()) == pytest.approx(expected, abs=1e-6)
    metric.reset_state()
    assert float(metric.result()) == 0


def test_kappa_of_one_class_alone_is_0():
    metric = binary_model.Kappa()
    metric.update_state(np.ones((3, 1)), np.full((3, 1), 0.9))
    assert float(metric.result()) == 0


@pytest.mark.parametrize("policy", ["float32", "mixed_bfloat16", "mixed_float16"])
def test_kappa_counts_exactly_in_a_compiled_model_under_any_precision(policy):
    y, p = random_answers(1, 3000)  # float16 cannot count that far, and bfloat16 ends at 256.
    precision.set_policy(policy)
    try:
        pixels = keras.Input((1,))
        model = keras.Model(pixels, keras.layers.Activation("linear", dtype="float32")(pixels))
        objectives.compile_model(model, datasets.experiment(metrics=["kappa"]))
        found = model.evaluate(p, y, batch_size=64, verbose=0, return_dict=True)["kappa"]
    finally:
        precision.set_policy("float32")
    expected = cohen_kappa_score(y[:, 0], p[:, 0] > 0.5, weights="quadratic")
    assert found == pytest.approx(expected, abs=1e-6)


def test_a_compiled_model_with_kappa_reloads_once_its_kind_is_loaded(tmp_path):
    """The model of a bundle is not compiled and needs nothing at all."""
    pixels = keras.Input((1,))
    model = keras.Model(pixels, keras.layers.Dense(1, activation="sigmoid")(pixels))
    objectives.compile_model(model, datasets.experiment(metrics=["kappa"]))
    y, p = random_answers(2)
    model.fit(p, y, verbose=0)
    model.save(tmp_path / "model.keras")
    np.savez(tmp_path / "answers.npz", y=y, p=p)
    code = (
        "import sys, numpy as np, keras; from dr_tfx.tasks.binary import model;"
        "model = keras.models.load_model(sys.argv[1] + '/model.keras');"
        "data = np.load(sys.argv[1] + '/answers.npz');"
        "print(model.evaluate(data['p'], data['y'], verbose=0, return_dict=True)['kappa'])"
    )
    done = ready.run([sys.executable, "-c", code, str(tmp_path)])
    assert done.returncode == 0, done.stderr
    expected = model.evaluate(p, y, verbose=0, return_dict=True)["kappa"]
    assert float(done.stdout) == pytest.approx(expected, abs=1e-6)


def test_a_training_with_kappa_leaves_a_model_that_needs_none_of_it(tmp_path):
    experiment = datasets.experiment(
        metrics=["kappa"], optimizer="adamw", loss="cross_entropy", epochs=1
    )
    model = dataclasses.replace(experiment.model, backbone="small")
    experiment = dataclasses.replace(experiment, model=model)
    datasets.write(tmp_path / "data", experiment.dataset)
    work = train.train(experiment, data_dir=tmp_path / "data", workdir=tmp_path / "run")
    history = pd.read_csv(work / "history.csv")
    assert history[["kappa", "val_kappa"]].abs().le(1).all(axis=None)
    images = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    np.save(tmp_path / "images.npy", images)
    code = (
        "import sys; sys.modules['dr_tfx'] = None;"  # Importing it fails.
        "import keras, numpy as np; model = keras.models.load_model(sys.argv[1] + '/model.keras');"
        "print(*np.asarray(model(np.load(sys.argv[2])))[:, 0])"
    )
    done = ready.run([sys.executable, "-c", code, str(work), str(tmp_path / "images.npy")])
    assert done.returncode == 0, done.stderr
    here = bundles.load(work).model(images).numpy()[:, 0]
    assert np.allclose([float(word) for word in done.stdout.split()], here, atol=1e-5)


def test_kappa_survives_its_config():
    again = keras.metrics.deserialize(keras.metrics.serialize(binary_model.Kappa(5, name="grades")))
    assert isinstance(again, binary_model.Kappa) and (again.classes, again.name) == (5, "grades")


# These tests run where tensorflow-addons cannot be imported.


@without_addons
@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loss", "tfa.SigmoidFocalCrossEntropy"),
        ("optimizer", "tfa.RectifiedAdam"),
        ("metrics", ["kappa", "tfa.CohenKappa"]),
    ],
)
def test_without_addons_the_error_says_which_key_needs_what(key, value):
    with pytest.raises(typed.ConfigError) as caught:
        objectives.check(datasets.experiment(**{key: value}, balance="none"))
    text = str(caught.value)
    assert f"config.training.{key} is 'tfa." in text
    for needed in ("dr_tfx[addons]", "TensorFlow 2.15.1", "Python 3.11", "kappa"):
        assert needed in text or (needed == "kappa" and key != "metrics"), needed


@without_addons
def test_without_addons_a_training_is_refused_before_it_claims_its_folder(tmp_path):
    experiment = datasets.experiment(**ADDONS_TRAINING)
    datasets.write(tmp_path / "data", experiment.dataset)
    with pytest.raises(typed.ConfigError, match="config.training.loss is 'tfa.Sigmoid"):
        train.train(experiment, data_dir=tmp_path / "data", workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_names_of_ours_need_no_addons():
    code = (
        "import sys; from tests.helpers import datasets; from dr_tfx.training import objectives;"
        "experiment = datasets.experiment(metrics=['kappa'], optimizer='adamw');"
        "objectives.check(experiment);"
        "objectives.loss(experiment), objectives.optimizer(experiment);"
        "objectives.metrics(experiment);"
        "sys.exit('tensorflow_addons' in sys.modules)"
    )
    assert ready.run([sys.executable, "-c", code]).returncode == 0


# These tests run where it can.


@with_addons
@pytest.mark.parametrize(
    ("training", "message"),
    [
        ({"loss": "tfa.FocalLoss"}, "config.training.loss is 'tfa.FocalLoss'; .* no such class"),
        ({"optimizer": "tfa.RectifiedAdm"}, r"Did you mean tfa\.RectifiedAdam"),
        ({"loss": "tfa.CohenKappa"}, "belongs in config.training.metrics"),
        ({"metrics": ["tfa.LAMB"]}, "belongs in config.training.optimizer"),
        ({"optimizer": "tfa.CyclicalLearningRate"}, "no such class among its optimizers"),
        ({"loss": "tfa.sigmoid_focal_crossentropy"}, "no such class"),
        ({"optimizer": "tfa.AdamW"}, "config.training.optimizer is 'tfa.AdamW'.*'weight_decay'"),
        ({"metrics": ["tfa.CohenKappa"]}, "config.training.arguments.CohenKappa"),
        (
            {"loss": "tfa.PinballLoss", "arguments": {"PinballLoss": {"gamma": 2}}},
            "config.training.loss is 'tfa.PinballLoss'.*unexpected keyword argument 'gamma'",
        ),
        (
            {"optimizer": "tfa.LAMB", "arguments": {"LAMB": {"learning_rate": 0.1}}},
            "set config.training.learning_rate instead",
        ),
    ],
)
def test_what_addons_does_not_have_or_take_is_refused_by_key(training, message):
    with pytest.raises(typed.ConfigError, match=message):
        objectives.check(datasets.experiment(**training))


@with_addons
@pytest.mark.parametrize(
    ("training", "message"),
    [
        (
            {"metrics": ["tfa.CohenKappa"], "arguments": {"CohenKappa": {"num_classes": 5}}},
            "cannot judge this task.*gives .*num_classes=2",
        ),
        (
            {
                "metrics": ["tfa.CohenKappa"],
                "arguments": {"CohenKappa": {"num_classes": 2, "weightage": "cubic"}},
            },
            "config.training.metrics is 'tfa.CohenKappa'.*Unknown kappa weighting",
        ),
        (
            {
                "metrics": ["tfa.MatthewsCorrelationCoefficient"],
                "arguments": {"MatthewsCorrelationCoefficient": {"num_classes": 2}},
            },
            "cannot judge this task",
        ),
        ({"loss": "tfa.GIoULoss"}, "cannot judge this task"),
        ({"loss": "tfa.ContrastiveLoss"}, "cannot judge this task"),
        ({"loss": "tfa.NpairsLoss"}, "cannot judge this task"),
        ({"optimizer": "tfa.COCOB"}, "expected one with a learning rate"),
    ],
)
def test_what_cannot_judge_a_probability_is_refused(training, message):
    experiment = datasets.experiment(**training)
    objectives.check(experiment)
    with pytest.raises(typed.ConfigError, match=message):
        objectives.compile_model(keras.Sequential([keras.layers.Dense(1)]), experiment)


@with_addons
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("AdaBelief", {}),
        ("AdamW", {"weight_decay": 1e-4}),
        ("LAMB", {}),
        ("LazyAdam", {}),
        ("NovoGrad", {}),
        ("RectifiedAdam", {}),
        ("SGDW", {"weight_decay": 1e-4}),
        ("Yogi", {}),
    ],
)
def test_optimizers_of_addons_take_the_learning_rate_and_step(name, arguments):
    made = objectives.optimizer(
        datasets.experiment(
            optimizer=f"tfa.{name}", arguments={name: arguments}, learning_rate=0.125
        )
    )
    assert float(made.learning_rate) == 0.125
    weight = tf.Variable([1.0, 2.0])
    made.apply_gradients([(tf.constant([0.5, 0.25]), weight)])
    assert not np.array_equal(weight.numpy(), [1.0, 2.0])


@with_addons
@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize(("alpha", "gamma"), [(0.5, 1.5), (0.25, 2.0), (0.75, 0.5)])
def test_our_focal_loss_is_that_of_addons(alpha, gamma, weighted):
    y, p = random_answers(3)
    p[:4] = [[0], [1], [1e-6], [1 - 1e-6]]
    weights = np.random.default_rng(0).uniform(0, 2, (200, 1)) if weighted else None
    losses = [
        objectives.loss(
            datasets.experiment(focal_alpha=alpha, focal_gamma=gamma, balance="none", loss="focal")
        ),
        objectives.loss(
            datasets.experiment(
                loss="tfa.SigmoidFocalCrossEntropy",
                arguments={"SigmoidFocalCrossEntropy": {"alpha": alpha, "gamma": gamma}},
                balance="none",
            )
        ),
    ]

    @tf.function  # Training has one too. Outside of it TensorFlow rounds 1 - p + epsilon otherwise.
    def value_and_gradient(loss, probabilities):
        with tf.GradientTape() as tape:
            tape.watch(probabilities)
            value = loss(y, probabilities, sample_weight=weights)
        return value, tape.gradient(value, probabilities)

    (ours, our_gradient), (theirs, their_gradient) = (
        value_and_gradient(loss, tf.constant(p)) for loss in losses
    )
    assert ours.shape == theirs.shape == ()
    assert float(ours) == pytest.approx(float(theirs), abs=1e-6)
    # The gradient of the mean over the batch is 1 / 200 of each row's.
    assert np.allclose(our_gradient, their_gradient, rtol=1e-4, atol=1e-6)


@with_addons
def test_a_loss_of_addons_is_averaged_in_a_compiled_model():
    """By its own default reduction, the step would grow with the batch."""
    y, p = random_answers(4, 64)

    def after_a_step(loss: str) -> np.ndarray:
        pixels = keras.Input((1,))
        dense = keras.layers.Dense(1, activation="sigmoid", kernel_initializer="ones")
        model = keras.Model(pixels, dense(pixels))
        arguments = {"SigmoidFocalCrossEntropy": {"alpha": 0.5, "gamma": 1.5}}
        experiment = datasets.experiment(
            loss=loss,
            optimizer="sgd",
            learning_rate=1.0,
            arguments=arguments if loss.startswith("tfa.") else {},
        )
        objectives.compile_model(model, experiment)
        model.fit(p, y, sample_weight=np.linspace(0, 2, 64), batch_size=64, verbose=0)
        return np.concatenate([w.ravel() for w in model.get_weights()])

    ours, theirs = after_a_step("focal"), after_a_step("tfa.SigmoidFocalCrossEntropy")
    assert np.allclose(ours, theirs, atol=1e-6)


@with_addons
def test_our_kappa_is_that_of_addons():
    import tensorflow_addons as tfa

    y, p = random_answers(5)
    weights = np.random.default_rng(1).integers(1, 5, 200).astype(np.float32)
    arguments = {"CohenKappa": {"num_classes": 2, "weightage": "quadratic"}}
    *_, theirs, ours = objectives.metrics(
        datasets.experiment(metrics=["tfa.CohenKappa", "kappa"], arguments=arguments)
    )
    for metric in (ours, theirs):
        assert float(metric.result()) == 0  # The check of its sense leaves nothing behind.
        metric.update_state(y[:150], p[:150])
        metric.update_state(y[150:199], p[150:199], weights[150:199])
        metric.update_state(y[199:], p[199:])
    assert float(ours.result()) == pytest.approx(float(theirs.result()), abs=1e-6)

    rng = np.random.default_rng(6)
    grades, decided = rng.integers(0, 5, (2, 300))
    ours = binary_model.Kappa(5)
    theirs = tfa.metrics.CohenKappa(5, weightage="quadratic", sparse_labels=True)
    for metric in (ours, theirs):
        metric.update_state(grades, np.eye(5, dtype=np.float32)[decided])
    assert float(ours.result()) == pytest.approx(float(theirs.result()), abs=1e-6)


@with_addons
def test_our_adamw_is_that_of_addons():
    """Keras' weight decay is multiplied by the learning rate, tensorflow-addons' is not.

    So `weight_decay` w of adamw is `{'AdamW': {'weight_decay': w * learning_rate}}` of tfa.AdamW,
    which keeps that decay where a plateau lowers the learning rate.
    """
    rate, decay, rng = 0.01, 0.25, np.random.default_rng(7)
    ours = objectives.optimizer(
        datasets.experiment(optimizer="adamw", learning_rate=rate, weight_decay=decay)
    )
    theirs = objectives.optimizer(
        datasets.experiment(
            optimizer="tfa.AdamW",
            learning_rate=rate,
            arguments={"AdamW": {"weight_decay": decay * rate}},
        )
    )
    start = rng.normal(size=(4, 3)).astype(np.float32)
    mine, other = tf.Variable(start), tf.Variable(start)
    for _ in range(20):
        gradient = tf.constant(rng.normal(size=(4, 3)).astype(np.float32))
        ours.apply_gradients([(gradient, mine)])
        theirs.apply_gradients([(gradient, other)])
    assert not np.allclose(mine, start, atol=0.01)
    assert np.allclose(mine, other, rtol=0, atol=1e-6)


@with_addons
def test_a_training_with_addons_leaves_a_bundle_that_needs_none(tmp_path):
    experiment = datasets.experiment(**ADDONS_TRAINING)
    model = dataclasses.replace(experiment.model, backbone="small_norm")
    experiment = dataclasses.replace(experiment, model=model)
    datasets.write(tmp_path / "data", experiment.dataset)
    work = train.train(experiment, data_dir=tmp_path / "data", workdir=tmp_path / "run")
    history = pd.read_csv(work / "history.csv")
    assert history["epoch"].tolist() == [1, 2, 3] and history["loss"].notna().all()
    for split in ("", "val_"):
        assert np.allclose(history[f"{split}cohen_kappa"], history[f"{split}kappa"], atol=1e-6)
    stored = json.loads((work / "bundle.json").read_text())["experiment"]
    assert stored["training"]["loss"] == "tfa.SigmoidFocalCrossEntropy"

    code = (
        "import sys; sys.modules['tensorflow_addons'] = None;"  # Importing it fails.
        "import numpy as np; from pathlib import Path;"
        "from dr_tfx.models import bundles; from dr_tfx.inference import scoring;"
        "from tests.helpers import backbones;"
        "work = Path(sys.argv[1]); bundle = bundles.load(work);"
        "print(*scoring.predict_split(bundle, work.parent / 'data', 'validation')['score'])"
    )
    done = ready.run([sys.executable, "-c", code, str(work)])
    assert done.returncode == 0, done.stderr
    scores = [float(word) for word in done.stdout.split()]
    assert len(scores) == 11 and all(0 <= score <= 1 for score in scores)


@with_addons
def test_a_training_refused_by_a_class_leaves_its_folder_free(tmp_path):
    arguments = {**ADDONS_TRAINING["arguments"], "CohenKappa": {"num_classes": 1}}
    experiment = datasets.experiment(**{**ADDONS_TRAINING, "arguments": arguments})
    datasets.write(tmp_path / "data", experiment.dataset)
    with pytest.raises(typed.ConfigError, match="config.training.arguments.CohenKappa"):
        train.train(experiment, data_dir=tmp_path / "data", workdir=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_config_file_can_name_classes_of_addons():
    """The names survive ConfigDict, JSON and back, as in flags, bundles and config.json."""
    config = configs.load("smoke")
    config.training.loss = ADDONS_TRAINING["loss"]
    config.training.arguments = {"SigmoidFocalCrossEntropy": {"alpha": 0.5}}
    experiment = tasks.from_config(config)
    again = tasks.from_config(json.loads(json.dumps(typed.to_dict(experiment))))
    assert dataclasses.asdict(again) == dataclasses.asdict(experiment)
    assert again.training.arguments == {"SigmoidFocalCrossEntropy": {"alpha": 0.5}}
