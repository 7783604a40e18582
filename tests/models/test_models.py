"""Architecture, freezing, precision, and a bundle that loads without custom code."""

import dataclasses
import hashlib
import importlib
import sys

import keras
import numpy as np
import pytest
import safetensors.numpy
import tensorflow as tf

from dr_tfx import tasks
from dr_tfx.config import typed
from dr_tfx.inference import scoring
from dr_tfx.models import bundles, network, precision, pretrained, weights
from tests.helpers import backbones, bundled, configs, datasets, ready, shallow

FILE_UTILS = f"keras.src.utils.{'data' if keras.__version__ < '3' else 'file'}_utils"


def changed(**model):
    plain = typed.to_dict(datasets.experiment())
    plain["model"].update(model)
    return tasks.from_config(plain)


def reference_experiment():
    config = configs.load("reference")
    config.model.weights = "none"
    return tasks.from_config(config)


def test_the_reference_network_is_r1s():
    model = network.build(reference_experiment())
    assert model.input_shape == (None, 96, 96, 3) and model.output_shape == (None, 1)
    names = [layer.name for layer in model.layers]
    kinds = [type(layer).__name__ for layer in model.layers[names.index("pool") :]]
    assert kinds == [
        "GlobalAveragePooling2D",
        "BatchNormalization",
        "Dropout",
        "Dense",
        "BatchNormalization",
        "Dropout",
        "Dense",
        "Dropout",
        "Dense",
    ]
    dense = [x.units for x in model.layers if isinstance(x, keras.layers.Dense)]
    assert dense == [256, 128, 1]
    rates = [x.rate for x in model.layers if isinstance(x, keras.layers.Dropout)]
    assert rates == [0.5, 0.3, 0.2]


def test_the_reference_fine_tunes_the_last_fifty_layers_with_their_batch_norm():
    model = network.build(reference_experiment())
    backbone = model.layers[: [x.name for x in model.layers].index("pool")]
    plain = keras.applications.MobileNetV2((96, 96, 3), include_top=False, weights=None).layers
    last = {layer.name for layer in plain[-50:]}
    trainable = {x.name for x in backbone if x.trainable and x.name not in ("pixels",)}
    assert trainable - {"input_scaling"} == last
    assert any(isinstance(x, keras.layers.BatchNormalization) and x.trainable for x in backbone)


def test_frozen_batch_norm_does_not_move_in_training(tmp_path):
    donor = keras.applications.MobileNetV2((32, 32, 3), include_top=False, weights=None)
    donor.save_weights(tmp_path / "donor.weights.h5")
    weights = str(tmp_path / "donor.weights.h5")
    for batch_norm, moves in (("frozen", False), ("trainable", True)):
        model = network.build(changed(weights=weights, batch_norm=batch_norm))
        assert np.array_equal(
            model.get_layer("Conv_1").get_weights()[0], donor.get_layer("Conv_1").get_weights()[0]
        )
        before = model.get_layer("Conv_1_bn").get_weights()
        model(tf.random.stateless_uniform((4, 32, 32, 3), (1, 2)) * 255, training=True)
        after = model.get_layer("Conv_1_bn").get_weights()
        assert (not all(map(np.array_equal, before, after))) == moves


def test_without_weights_the_whole_backbone_learns_with_usable_momentum():
    model = network.build(changed(weights="none"))
    assert all(layer.trainable for layer in model.layers)
    norms = [x for x in model.layers if isinstance(x, keras.layers.BatchNormalization)]
    assert len(norms) == 52 and {x.momentum for x in norms} == {0.9}


@pytest.mark.parametrize(("scaling", "low", "high"), [("backbone", -1, 1), ("unit", 0, 1)])
def test_input_scaling(scaling, low, high):
    layer = network.build(changed(input_scaling=scaling)).get_layer("input_scaling")
    assert np.allclose(layer(np.array([[0.0, 255.0]], np.float32)), [[low, high]])


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"backbone": "AlexNet"}, "expected one of MobileNetV2"),
        ({"weights": "no/such.weights.h5"}, "no such file"),
    ],
)
def test_a_wrong_backbone_or_weights_is_refused(model, message):
    with pytest.raises(ValueError, match=message):
        network.build(changed(**model))


def test_a_file_that_holds_no_weights_is_refused(tmp_path):
    path = tmp_path / "wrong.weights.h5"
    path.write_bytes(b"no HDF5")
    with pytest.raises(ValueError, match="does not hold weights of MobileNetV2"):
        network.build(changed(weights=str(path)))


@pytest.mark.parametrize("name", ["RETFound_cfp.pth", "model.pt", "pytorch_model.bin"])
def test_a_file_of_pytorch_is_refused_by_its_name(name, tmp_path):
    (tmp_path / name).write_bytes(b"PK")
    names = {"constructor": make_caffe(), "file": "", "reads_bgr": False}
    with pytest.raises(ValueError, match="PyTorch .*Expected weights of caffe: .safetensors"):
        pretrained.fill(keras.Model(), str(tmp_path / name), name="caffe", **names)


@pytest.mark.parametrize("said", ["[Errno -3] no such host", "[Errno -3] no such host."])
def test_without_network_it_is_said_where_else_weights_come_from(monkeypatch, said):
    ours = network.BACKBONES["MobileNetV2"]

    def fails(*, weights, **others):
        if weights == "imagenet":
            raise Exception(said)  # Keras raises one too.
        return ours.constructor(weights=weights, **others)

    monkeypatch.setitem(network.BACKBONES, "MobileNetV2", ours._replace(constructor=fails))
    with pytest.raises(
        ValueError, match=r"be downloaded or read: .* no such host\. Without a network, copy mobile"
    ):
        network.build(changed(weights="imagenet"))


def make_caffe(width=4):
    def make(*, include_top, weights, input_tensor=None, input_shape=None):
        x = keras.Input(input_shape) if input_tensor is None else input_tensor
        source = x if input_tensor is None else keras.utils.get_source_inputs(x)
        return keras.Model(source, keras.layers.Conv2D(width, 3, name="first")(x))

    return make


def test_shapes_that_differ_are_named_in_one_line(monkeypatch, tmp_path):
    path = tmp_path / "donor.weights.h5"
    make_caffe(8)(include_top=False, weights=None, input_shape=(64, 64, 3)).save_weights(path)
    caffe = network.BACKBONES["ResNet50"]._replace(constructor=make_caffe())
    monkeypatch.setitem(network.BACKBONES, "caffe", caffe)
    with pytest.raises(ValueError) as caught:
        network.build(changed(backbone="caffe", weights=str(path), output_stride=16))
    said = str(caught.value)
    assert said.startswith(
        f"config.model.weights is '{path}', which does not hold weights of caffe"
    )
    assert "first" in said and "(3, 3, 3, 4)" in said and "(3, 3, 3, 8)" in said
    assert "\n" not in said and "value=" not in said


def test_a_training_can_begin_with_the_backbone_of_another_run(tmp_path):
    settings = {"backbone": "SixConvolutions", "output_stride": 4}
    before = network.build(changed(**settings, weights="none"))
    path = tmp_path / "weights.safetensors"
    path.write_bytes(weights.to_bytes(before))
    after = network.build(changed(**settings, weights=str(path)))
    kernels = [model.get_layer("conv_3b").get_weights()[0] for model in (before, after)]
    np.testing.assert_array_equal(*kernels)
    heads = [model.get_layer("score").get_weights()[0] for model in (before, after)]
    assert not np.array_equal(*heads)
    arrays = safetensors.numpy.load_file(path)
    for changes, said in (
        ({"conv_3b/0": arrays["conv_3b/0"][..., :5]}, r"'conv_3b/0' .*128, 5\); expected .*128\)"),
        ({"conv_1a/0": arrays["conv_1a/0"].astype(np.float16)}, "is float16"),
        ({"conv_1a/0": None}, "'conv_1a/0' is only in the network"),
    ):
        kept = {name: a for name, a in (arrays | changes).items() if a is not None}
        path.write_bytes(safetensors.numpy.save(kept))
        with pytest.raises(ValueError, match=f"not hold weights of SixConvolutions .*: .*{said}"):
            network.build(changed(**settings, weights=str(path)))


def test_a_training_can_begin_with_the_whole_network_of_a_run(tmp_path):
    data = datasets.write(tmp_path / "data", datasets.experiment().dataset)
    run = bundled.make_bundle(tmp_path / "run", datasets.experiment(), data)
    model = dataclasses.replace(datasets.experiment().model, weights=str(run), backbone="tiny")
    asked = dataclasses.replace(datasets.experiment(), model=model)
    expected, found = bundles.load(run).model.get_weights(), network.build(asked).get_weights()
    assert all(map(np.array_equal, found, expected))
    wider = dataclasses.replace(model, hidden=(3,), dropout=(0, 0))
    with pytest.raises(ValueError, match="cannot go on as this one.*/run/weights.safetensors"):
        network.build(dataclasses.replace(asked, model=wider))
    (run / "weights.safetensors").write_bytes(b"")
    with pytest.raises(ValueError, match=f"config.model.weights is '{run}': .*is not the file"):
        network.build(asked)


@pytest.mark.parametrize("name", [name for name, one in network.BACKBONES.items() if one.file])
def test_the_file_that_keras_downloads_is_the_one_that_is_named(name, monkeypatch, tmp_path):
    """Keras checks its digest, too, but for MobileNetV2, of which it has none."""
    shallow.make_shallow(monkeypatch)
    asked = {}

    def get_file(name, origin, file_hash=None, **others):
        asked.update(name=name, hash=file_hash)
        raise OSError("no network")

    utils = importlib.import_module(FILE_UTILS)
    monkeypatch.setattr(utils, "get_file", get_file)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    with pytest.raises(ValueError, match="read: no network. Without a network, copy ") as caught:
        chosen = network.BACKBONES[name]
        pretrained.fill(
            keras.Model(),
            "imagenet",
            name=name,
            constructor=chosen.of_keras or chosen.constructor,
            file=chosen.file,
            reads_bgr=chosen.reads_bgr,
        )
    assert f"copy {asked['name']} from another machine into {tmp_path}/models" in str(caught.value)
    assert bool(asked["hash"]) == (name != "MobileNetV2")


@pytest.fixture
def of_keras(monkeypatch, tmp_path):
    """Fills a small network as if Keras had published weights of it, which it downloads."""
    monkeypatch.setenv("KERAS_HOME", str(tmp_path / "home"))
    (tmp_path / "home").mkdir()  # Or Keras takes another folder.
    source = tmp_path / "small.weights.h5"

    def make(*, include_top, weights, input_shape):
        model = keras.Sequential([keras.Input(input_shape), keras.layers.Conv2D(2, 3)])
        if weights == "imagenet":
            told = {"cache_dir": str(tmp_path / "home"), "cache_subdir": "models"}
            model.load_weights(keras.utils.get_file(source.name, source.as_uri(), **told))
        return model

    def fill():
        model = make(include_top=False, weights=None, input_shape=(8, 8, 3))
        names = {"constructor": make, "file": source.name, "reads_bgr": False}
        pretrained.fill(model, "imagenet", name="small", **names)
        return model.get_weights()[0]

    published = make(include_top=False, weights=None, input_shape=(8, 8, 3))
    published.save_weights(source)
    return fill, source, tmp_path / "home" / "models" / source.name


def test_a_file_of_keras_that_is_not_the_first_one_is_refused(of_keras):
    fill, source, cached = of_keras
    first, digest = fill(), hashlib.sha256(source.read_bytes()).hexdigest()
    kept = cached.with_name("small.weights.h5.sha256")
    assert kept.read_text() == f"{digest}  small.weights.h5\n"
    np.testing.assert_array_equal(fill(), first)
    other = keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Conv2D(2, 3)])
    other.save_weights(source)
    said = f"SHA-256 {hashlib.sha256(source.read_bytes()).hexdigest()}; expected {digest}, that"
    cached.unlink()  # The next download is of another file.
    for _ in range(2):
        with pytest.raises(ValueError, match=said):
            fill()
        assert cached.is_file()
    kept.unlink()
    np.testing.assert_array_equal(fill(), other.get_weights()[0])


def test_weights_that_expect_blue_before_red_are_given_what_they_expect(monkeypatch, tmp_path):
    mean = np.array([123.68, 116.779, 103.939], np.float32)  # Of red, green and blue.

    make = make_caffe()
    caffe = network.BACKBONES["ResNet50"]._replace(constructor=make)
    monkeypatch.setitem(network.BACKBONES, "caffe", caffe)
    donor = make(include_top=False, weights=None, input_shape=(64, 64, 3))
    donor.save_weights(tmp_path / "donor.weights.h5")
    model = network.build(
        changed(backbone="caffe", weights=str(tmp_path / "donor.weights.h5"), output_stride=16)
    )
    small = tf.random.stateless_uniform((2, 32, 32, 3), (1, 2)) * 255
    given = keras.Model(model.inputs, model.get_layer("enlarged").output)(small)
    expected = donor(given[..., ::-1])
    seen = keras.Model(model.inputs, model.get_layer("first").output)(small)
    np.testing.assert_allclose(seen, expected, rtol=1e-3, atol=1e-2)
    # What the donor is given has the mean taken off, as Keras' own preprocessing does.
    by_keras = keras.applications.resnet50.preprocess_input(np.array(small))
    np.testing.assert_allclose((np.array(small) - mean)[..., ::-1], by_keras, atol=1e-3)


def test_a_small_picture_keeps_its_places_in_six_convolutions():
    config = {
        "dataset": {"recipe": {"size": 28}},
        "model": {"backbone": "SixConvolutions", "weights": "none", "output_stride": 4},
    }
    model = network.build(tasks.from_config(config))
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    assert len(convolutions) == 6 and convolutions[-1].output.shape[1:3] == (7, 7)
    assert "enlarged" not in [layer.name for layer in model.layers]
    config["dataset"]["recipe"]["size"], config["model"]["output_stride"] = 64, 32
    with pytest.raises(ValueError, match="output_stride is 32, but that of SixConvolutions is 4"):
        network.build(tasks.from_config(config))
    config["model"] |= {"output_stride": 4, "weights": "imagenet"}
    with pytest.raises(ValueError, match="no pre-trained weights of SixConvolutions"):
        network.build(tasks.from_config(config))


def test_the_head_sees_the_means_of_the_last_and_of_finer_features():
    model = network.build(changed(weights="none", finer_features=[2, 4], output_stride=8))
    names = ("out_relu", "block_13_expand_relu", "block_6_expand_relu", "pool")
    seen = keras.Model(model.inputs, [model.get_layer(name).output for name in names])
    *maps, given = seen(tf.random.stateless_uniform((2, 32, 32, 3), (1, 2)) * 255)
    assert [tuple(x.shape[1:3]) for x in maps] == [(4, 4), (8, 8), (16, 16)]
    expected = np.concatenate([np.asarray(x).mean((1, 2)) for x in maps], 1)
    np.testing.assert_allclose(given, expected, rtol=1e-4, atol=1e-6)
    with pytest.raises(ValueError, match="finer_features has 2, but tiny has .* 2 times 8x8 pl"):
        network.build(changed(backbone=backbones.TINY, finer_features=[2]))


def test_plain_convolutions_are_those_of_the_publication():
    model = network.build(tasks.from_config(configs.load("glaucoma_reference")))
    convolutions = [x for x in model.layers if isinstance(x, keras.layers.Conv2D)]
    sides = [(x.output.shape[1], x.output.shape[3]) for x in convolutions]
    # The second padding of 2 adds two pixels to 32; each pooling halves and rounds down.
    assert sides == [(64, 16), (64, 16), (32, 32), (34, 32), (17, 64), (17, 16)]
    assert not any(isinstance(x, keras.layers.BatchNormalization) for x in model.layers)
    kernel = convolutions[4].get_weights()[0]  # 3x3x32 values come into each of its places.
    assert np.std(kernel) == pytest.approx(np.sqrt(2 / (9 * 32)), rel=0.02)
    dense = [x for x in model.layers if isinstance(x, keras.layers.Dense)]
    assert [x.get_weights()[0].shape for x in dense] == [(8 * 8 * 16, 50), (50, 1)]
    scaled = keras.Model(model.inputs, model.get_layer("input_scaling").output)
    assert float(tf.reduce_max(scaled(tf.fill((1, 64, 64, 3), 255.0)))) == pytest.approx(1)


def test_precision_auto_is_float32_on_a_cpu_and_a_choice_is_obeyed():
    expected = "float32" if not tf.config.list_physical_devices("GPU") else None
    assert expected is None or precision.choose("auto") == expected
    assert precision.choose("mixed_bfloat16") == "mixed_bfloat16"


@pytest.mark.parametrize(
    ("device", "capability", "expected"),
    [
        ("GPU", (6, 1), "float32"),
        ("GPU", (7, 0), "mixed_float16"),
        ("GPU", (8, 0), "mixed_bfloat16"),
        ("GPU", (9, 0), "mixed_bfloat16"),
        ("TPU", None, "mixed_bfloat16"),
        ("CPU", None, "float32"),
    ],
)
def test_precision_auto_is_what_the_first_accelerator_is_fast_at(
    device, capability, expected, monkeypatch
):
    def devices(kind=None):
        return [device] if kind == device else []

    monkeypatch.setattr(tf.config, "list_logical_devices", devices)
    monkeypatch.setattr(tf.config, "list_physical_devices", devices)
    details = {"compute_capability": capability}
    monkeypatch.setattr(tf.config.experimental, "get_device_details", lambda _: details)
    assert precision.choose("auto") == expected
    assert precision.choose("float32") == "float32"


def test_mixed_precision_keeps_weights_and_output_in_float32():
    precision.set_policy("mixed_bfloat16")
    try:
        model = network.build(datasets.experiment())
        assert model.get_layer("Conv_1").compute_dtype == "bfloat16"
        assert model.get_layer("score").compute_dtype == "float32"
        output = model(np.zeros((1, 32, 32, 3), np.float32))
        assert output.dtype == tf.float32
    finally:
        precision.set_policy("float32")


def test_targets_follow_the_label_map():
    task = tasks.of(datasets.experiment(class_weights=[1, 3], balance="none"))
    (label,) = task.data.features
    targets, weights = task.model.encode({label: tf.constant([0, 1, 2, 0])})
    assert targets.numpy().tolist() == [[0], [1], [1], [0]]
    assert weights.numpy().tolist() == [1, 3, 3, 1]


@pytest.fixture(scope="module")
def bundle_dir(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bundle")
    experiment = datasets.experiment()
    data = datasets.write(folder / "data", experiment.dataset)
    bundles.save(
        folder,
        network.build(experiment),
        experiment=experiment,
        data=data,
        precision="float32",
        best_epoch=1,
    )
    return folder


@pytest.mark.parametrize(
    ("policy", "settings"),
    [
        ("float32", {}),
        (
            "mixed_bfloat16",
            {
                "backbone": "EfficientNetV2B0",
                "hidden": [8],
                "dropout": [0.1, 0.1],
                "head_batch_norm": True,
            },
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else value.get("backbone", "MobileNetV2"),
)
def test_a_bundle_scores_alike_in_a_fresh_process_without_custom_code(
    policy, settings, tmp_path, monkeypatch
):
    """The process knows Keras and nothing of this package. The EfficientNet has fewer blocks."""
    shallow.make_shallow(monkeypatch)
    experiment = changed(**settings)
    images = np.random.default_rng(1).uniform(0, 255, (3, 32, 32, 3)).astype(np.float32)
    precision.set_policy(policy)
    try:
        bundles.save(
            tmp_path,
            network.build(experiment),
            experiment=experiment,
            data=datasets.write(tmp_path / "data", experiment.dataset),
            precision=policy,
            best_epoch=1,
        )
    finally:
        precision.set_policy("float32")
    np.save(tmp_path / "images.npy", images)
    here = bundles.load(tmp_path).model(images).numpy()[:, 0]
    code = (
        "import sys; sys.modules.update(dict.fromkeys(('dr_tfx', 'tensorflow_addons')));"
        "import keras, numpy as np; folder = sys.argv[1];"
        "x = np.load(folder + '/images.npy');"
        "model = keras.models.load_model(folder + '/model.keras');"
        "print(*np.asarray(model(x))[:, 0])"
    )
    done = ready.run([sys.executable, "-c", code, str(tmp_path)])
    assert done.returncode == 0, done.stderr
    assert np.allclose([float(v) for v in done.stdout.split()], here, atol=1e-5)


def test_what_was_fitted_is_kept_in_the_bundle(bundle_dir):
    assert bundles.load(bundle_dir).fitted is None
    fitted = datasets.fitted(1 / 3)
    bundles.save_fitted(bundle_dir, fitted)
    bundle = bundles.load(bundle_dir)
    assert bundle.fitted == fitted
    assert bundle.fitted.threshold == 1 / 3


def test_a_folder_without_bundle_is_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="holds no finished training"):
        bundles.load(tmp_path)


def test_scores_of_a_split_are_those_of_its_arrays(bundle_dir):
    bundle = bundles.load(bundle_dir)
    frame = scoring.predict_split(bundle, bundle_dir / "data", "validation")
    assert frame["id"].tolist() == [f"n{i}" for i in range(33, 44)]
    assert frame["stratum"].tolist() == [0] * 5 + [1] * 4 + [2] * 2
    assert frame["target"].tolist() == [0] * 5 + [1] * 6
    images = np.stack([np.full((32, 32, 3), i, np.uint8) for i in range(33, 44)])
    scores = scoring.view_scorer(bundle)(tf.constant(images)).numpy()
    assert np.allclose(scores.mean(axis=1), frame["score"], atol=1e-6)


def test_a_damaged_shard_is_refused_with_a_way_out(bundle_dir, tmp_path):
    data = datasets.write(tmp_path, datasets.experiment().dataset)
    shard = tmp_path / data.shards_of("validation")[0].name
    content = bytearray(shard.read_bytes())
    content[len(content) // 2] ^= 1
    shard.write_bytes(content)
    with pytest.raises(ValueError, match="damaged.*--overwrite"):
        scoring.predict_split(bundles.load(bundle_dir), tmp_path, "validation")


def test_another_build_is_refused_though_its_recipe_is_the_same(bundle_dir, tmp_path):
    datasets.write(tmp_path, datasets.experiment().dataset, fingerprint="another")
    with pytest.raises(ValueError, match="not the data set that the model was trained on"):
        scoring.predict_split(bundles.load(bundle_dir), tmp_path, "validation")


def test_a_task_may_have_any_name():
    task = dataclasses.replace(changed().task, name="DR, 안저 (any grade)")
    assert network.build(dataclasses.replace(changed(), task=task)).count_params() > 0
