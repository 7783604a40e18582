"""Bundles that are damaged, hostile, or trained beside another Keras, and those that are whole."""

import json
import shutil
import zlib
from pathlib import Path

import keras
import numpy as np
import pytest
import safetensors.numpy

from dr_tfx import tasks
from dr_tfx.config import typed
from dr_tfx.inference import scoring
from dr_tfx.models import bundle_file, bundles, network, weights
from tests.helpers import datasets
from tests.helpers.bundled import make_bundle


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A bundle with thresholds, not to be changed."""
    folder = tmp_path_factory.mktemp("whole")
    experiment = datasets.experiment()
    data = datasets.write(folder / "data", experiment.dataset)
    workdir = make_bundle(folder / "run", experiment, data)
    bundles.save_fitted(workdir, datasets.fitted(0.4))
    return workdir


@pytest.fixture
def run(whole, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(whole, tmp_path / "run"))


def change(run, **changes):
    """Change values of bundle.json; two underscores stand for the dot of a key."""
    path = run / "bundle.json"
    content = json.loads(path.read_text())
    for name, value in changes.items():
        *groups, last = name.split("__")
        group = content
        for key in groups:
            group = group[key]
        group[last] = value
    path.write_text(json.dumps(content))


def put(run, name, data):
    """Put other bytes in place of a file, with the digest that belongs to them."""
    (run / name).write_bytes(data)
    files = json.loads((run / "bundle.json").read_text())["files"]
    change(run, files={**files, name: bundle_file.digest(data)})


def exchange(run, arrays):
    """Put other arrays in place of the weights."""
    data = safetensors.numpy.save(arrays)
    put(run, "weights.safetensors", data)


def refusal(run):
    """Return the one sentence, or two, with which the bundle is refused."""
    with pytest.raises((ValueError, FileNotFoundError)) as caught:
        bundles.load(run)
    said = str(caught.value)
    assert "\n" not in said and len(said) < 700
    return said


def test_a_bundle_holds_what_was_saved(whole):
    bundle = bundles.load(whole)
    assert bundle.folder == whole and bundle.fitted == datasets.fitted(0.4)
    stored = safetensors.numpy.load_file(whole / "weights.safetensors")
    assert set(stored) == {"conv/0", "conv/1", "score/0", "score/1"}
    for values, name in zip(bundle.model.get_weights(), sorted(stored), strict=True):
        np.testing.assert_array_equal(values, stored[name])
    plain = keras.models.load_model(whole / "model.keras", compile=False)
    pixels = np.random.default_rng(0).uniform(0, 255, (2, 32, 32, 3)).astype(np.float32)
    assert np.array_equal(plain(pixels), bundle.model(pixels))


@pytest.mark.parametrize("name", ["model.keras", "weights.safetensors"])
def test_a_file_that_is_not_what_the_training_wrote_is_named(run, name):
    path = run / name
    data = bytearray(path.read_bytes())
    for damaged in (data[:-9], data[:0], data[:100] + bytes([data[100] ^ 1]) + data[101:]):
        path.write_bytes(damaged)
        assert f"{path} is not the file that was written there" in refusal(run)
    path.unlink()
    assert refusal(run).startswith(f"{path} is missing.")
    path.mkdir()  # As a SavedModel is.
    assert refusal(run).startswith(f"{path} is a folder; expected a file.")


def test_text_cut_short_names_its_file(run):
    path = run / "bundle.json"
    text = path.read_text()
    for length in (0, 1, 60, len(text) // 2, len(text) - 3):
        path.write_text(text[:length])
        assert refusal(run).startswith(f"{path} is damaged or cut short, and no JSON")
    path.write_text("[" * 100_000)
    assert refusal(run) == f"{path} is damaged: its brackets are nested too deeply."
    path.write_bytes(b'{"format": "\xff"}')
    assert str(path) in refusal(run)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"format": 1}, "written by another version of dr_tfx"),
        ({"experiment__model__backbone": "Lambda"}, "expected one of MobileNetV2"),
        ({"experiment__model__hidden": [10**9], "experiment__model__dropout": [0.1, 0.1]},
         "config.model.hidden is (1000000000,), layers of 4,000,000,000 weights"),
        ({"experiment__model__hidden": [1] * 17, "experiment__model__dropout": [0.1] * 18},
         "expected 16 layers at most"),
        ({"experiment__dataset__recipe__size": 10**9}, "config.dataset.recipe.size"),
        ({"experiment__evaluation__batch_size": 10**12}, "batch_size is 1,000,000,000,000"),
        ({"experiment__evaluation__bootstrap_resamples": 10**12}, "expected 100 to 100,000"),
        ({"experiment__model__custom": "x"}, "has no setting 'custom'"),
        ({"precision": "float8"}, "expected float32"),
        ({"best_epoch": "one"}, "bundle.json.best_epoch is 'one'; expected int"),
        ({"files": {}}, "model.keras is not the file"),
        ({"manifest__shards": 7}, "manifest.shards is 7; expected a sequence"),
        ({"fitted__slope": 0}, "fitted.slope"),
        ({"fitted__intercept": "low"}, "fitted.intercept"),
        ({"fitted__operating_points": []}, "expected one operating point or more"),
        ({"best_epoch": float("nan")}, "is not a finite number"),
    ],
)  # fmt: skip
def test_what_no_training_writes_is_refused(run, changes, said):
    change(run, **changes)
    found = refusal(run)
    assert said in found
    assert str(run / "bundle.json") in found or str(run / "model.keras") in found


def test_weights_that_are_not_those_of_the_network_are_refused(run):
    path = run / "weights.safetensors"
    arrays = safetensors.numpy.load_file(path)
    wide = {**arrays, "score/0": np.zeros((4, 7), np.float32)}
    double = {**arrays, "conv/1": arrays["conv/1"].astype(np.float64)}
    nan = {**arrays, "conv/1": np.full_like(arrays["conv/1"], np.nan)}
    for wrong, said in (
        (wide, "'score/0' is float32 (4, 7); expected float32 (4, 1)"),
        (double, "'conv/1' is float64 (4,); expected float32 (4,)"),
        ({**arrays, "../x": arrays["conv/1"]}, "'../x' is only in the file"),
        ({"conv/0": arrays["conv/0"]}, "is only in the network"),
        (nan, "'conv/1' has values that are not finite"),
    ):
        exchange(run, wrong)
        found = refusal(run)
        assert found.startswith(f"{path} cannot be used: ") and said in found


def test_a_header_that_asks_for_much_memory_is_refused(run):
    put(run, "weights.safetensors", (99 << 20).to_bytes(8, "little") + b"{" * 99)
    assert "its header is too long" in refusal(run)


def test_a_model_that_is_not_a_bundles_is_not_even_read(run, tmp_path):
    """A stranger writes both the model and its digest; the graph is not in what is read."""
    written = tmp_path / "written"
    pixels = keras.Input((32, 32, 3))
    name = str(written)
    evil = keras.layers.Lambda(lambda x: (open(name, "w").close(), x)[1], output_shape=(32, 32, 3))
    model = keras.Model(pixels, keras.layers.Dense(1)(keras.layers.Flatten()(evil(pixels))))
    model.save(run / "model.keras")
    written.unlink(missing_ok=True)
    put(run, "model.keras", (run / "model.keras").read_bytes())
    scores = scoring.view_scorer(bundles.load(run))(np.zeros((1, 32, 32, 3), np.uint8)).numpy()
    assert np.isfinite(scores).all() and not written.exists()


def test_scores_that_are_not_finite_name_the_bundle(run):
    arrays = safetensors.numpy.load_file(run / "weights.safetensors")
    huge = {name: np.full_like(values, 3e38) for name, values in arrays.items()}
    huge["conv/1"][:2] = -3e38
    exchange(run, huge)
    bundle = bundles.load(run)
    outputs = np.full((3, 2, 1), 0.5)
    outputs[1, 1] = np.nan
    with pytest.raises(ValueError, match=f"The model of {run} gives 1 of 3 photographs scores"):
        bundle.columns(outputs)


def numbers(model, gain):
    """Return arrays for a network that depend on their names and shapes alone."""
    found = {}
    for name, values in safetensors.numpy.load(weights.to_bytes(model)).items():
        drawn = np.random.default_rng(zlib.crc32(name.encode())).normal(size=values.shape)
        if values.ndim > 1:  # Its spread decides what becomes of the signal.
            depthwise = values.ndim == 4 and values.shape[-1] == 1
            drawn *= np.sqrt(gain / np.prod(values.shape[: 2 if depthwise else -1]))
        else:  # gamma, beta, mean and variance of a BatchNorm, or a bias.
            drawn = (name[-2:] in ("/0", "/3")) + drawn / 8
        found[name] = drawn.astype(np.float32)
    return found


@pytest.mark.parametrize(
    ("backbone", "gain", "expected"),
    [
        ("MobileNetV2", 2.0, (0.072097, 0.190619, 0.280289)),
        ("ResNet50V2", 1.0, (0.312908, 0.345433, 0.303876)),
        ("EfficientNetV2B0", 1.0, (0.396735, 0.396805, 0.396603)),
        ("MobileNetV3Large", 1.8, (0.429225, 0.079451, 0.444069)),
    ],
)
def test_weights_mean_the_same_beside_keras_2_and_3(backbone, gain, expected):
    """The scores were computed beside Keras 3.15; the suite runs on both."""
    settings = typed.to_dict(datasets.experiment(size=64))
    settings["model"] |= {"backbone": backbone, "hidden": [8], "dropout": [0.1, 0.1]}
    settings["model"] |= {"head_batch_norm": True, "output_stride": 32}
    model = network.build(tasks.from_config(settings), load_weights=False)
    weights.fill(model, safetensors.numpy.save(numbers(model, gain)))
    pixels = np.mgrid[:64, :64].sum(axis=0)[np.newaxis, ..., np.newaxis] * np.float32([2, 1, 0.5])
    pixels = np.concatenate([pixels, 255 - pixels, pixels[:, ::-1] % 50]).astype(np.float32)
    found = model(pixels, training=False).numpy()[:, 0]
    assert found == pytest.approx(expected, abs=5e-6)
