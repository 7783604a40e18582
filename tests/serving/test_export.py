"""Exports give what the bundle gives, are refused where they do not, and need no TensorFlow."""

import dataclasses
import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path

import keras
import numpy as np
import onnxruntime
import pandas as pd
import pytest
import tensorflow as tf

import dr_tfx
from dr_tfx.dataset import records
from dr_tfx.evaluation import evaluate
from dr_tfx.explanation import gradcam
from dr_tfx.inference import exported, runtimes, scoring
from dr_tfx.models import bundle_file, bundles
from dr_tfx.serving import export as exporting
from dr_tfx.serving import export_check, formats
from dr_tfx.serving.formats import TracedNetwork, onnx_format
from tests.helpers import bundled, commands, datasets, ready
from tests.tasks.grades.test_grades import experiment as graded
from tests.tasks.grades.test_grades import noise as graded_noise

ROOT = Path(__file__).parents[2]
VIEWS = ("identity", "left_right", "up_down", "rotate_90", "rotate_180", "brighter")


def noise(number):
    pixels = np.random.default_rng(number).integers(0, 256, (32, 32, 3))
    return {records.IMAGE_ENCODED: pixels.astype(np.uint8)}


def make(folder, *, backbone, views=VIEWS, fitted=True, **model):
    """Write an untrained bundle `run` with its `data`, of noise, below a folder."""
    experiment = datasets.experiment()
    evaluation = dataclasses.replace(experiment.evaluation, batch_size=4, views=views)
    settings = dataclasses.replace(experiment.model, **model)
    experiment = dataclasses.replace(experiment, evaluation=evaluation, model=settings)
    data = datasets.write(folder / "data", experiment.dataset, features=noise)
    run = bundled.make_bundle(folder / "run", experiment, data, backbone=backbone)
    if fitted:
        bundles.save_fitted(run, datasets.fitted(0.45))
    return folder


@pytest.fixture(scope="module")
def line(tmp_path_factory):
    """A folder with `run`, `data`, `photographs` and the export `onnx`.

    The head has a hidden layer and BatchNorm, whose gradients tf2onnx does not know by itself.
    """
    folder = make(
        tmp_path_factory.mktemp("line"),
        backbone="small_norm",
        hidden=(8,),
        dropout=(0.1, 0.2),
        head_batch_norm=True,
    )
    bundled.write_photographs(folder / "photographs")
    (folder / "run" / "evaluation" / "validation").mkdir(parents=True)
    (folder / "run" / "evaluation" / "validation" / "model_card.md").write_text("the card")
    words = [f"--workdir={folder / 'run'}", f"--data_dir={folder / 'data'}"]
    line = commands.line("drtfx-export", *words, f"--output_dir={folder / 'onnx'}")
    done = ready.run(line)
    assert done.returncode == 0, done.stderr
    (folder / "printed").write_text(done.stdout)
    return folder


def test_outputs_and_heat_maps_are_those_of_the_bundle(line):
    bundle, model = bundles.load(line / "run"), exported.load(line / "onnx")
    rgb = np.random.default_rng(5).integers(0, 256, (7, 32, 32, 3)).astype(np.uint8)
    expected = scoring.view_scorer(bundle)(tf.constant(rgb)).numpy()
    found = model.outputs(rgb)
    assert found.shape == expected.shape == (7, len(VIEWS), 1) and np.ptp(expected) > 1e-3
    np.testing.assert_allclose(found, expected, atol=1e-5)
    maps, _ = gradcam.HeatMaps(bundle.model, explained=bundle.kind.model.explained)(rgb)
    of_export = np.stack([heatmap for _, heatmap in model.explain(rgb)])
    assert maps.max() == 1 and maps.std() > 0.1
    np.testing.assert_allclose(of_export, maps, atol=1e-4)
    assert (line / "onnx" / "model_card.md").read_text() == "the card"
    compared = json.loads((line / "onnx" / "export.json").read_text())["compared"]
    assert compared["images"] == 11 and compared["outputs"] <= 1e-4 and compared["times"] > 0


def test_layers_of_convnext_and_their_gradients_can_be_said_in_onnx():
    """Its last LayerNormalization is differentiated for heat maps."""
    rng = np.random.default_rng(0)
    norm = keras.layers.LayerNormalization(epsilon=1e-6)
    spec = tf.TensorSpec((1, 2, 2, 8), tf.float32, name="x")
    norm.build((1, 2, 2, 8))
    norm.set_weights([rng.normal(size=8), rng.normal(size=8)])

    def both(x):
        found = keras.activations.gelu(norm(x))
        return {"found": found, "slope": tf.gradients(norm(x)[..., 0], x)[0]}

    files = onnx_format.write(TracedNetwork(both, spec))
    session = onnxruntime.InferenceSession(files[".onnx"])
    x = rng.normal(size=(1, 2, 2, 8)).astype(np.float32)
    found = session.run(["found", "slope"], {"x": x})
    for of_onnx, expected in zip(found, tf.function(both)(tf.constant(x)).values(), strict=True):
        assert np.ptp(expected) > 0.1
        np.testing.assert_allclose(of_onnx, expected, atol=1e-5)


@pytest.mark.parametrize("form", ["onnx", "litert"])
def test_the_gradient_of_a_pooling_can_be_said(form):
    """It is TensorFlow's own; the squares do not cover the last row and column."""
    rng = np.random.default_rng(0)
    weights = tf.constant(rng.normal(size=(1, 3, 2, 4)).astype(np.float32))

    def both(x):
        found = tf.nn.max_pool2d(x, 2, 2, "VALID")
        return {"found": found, "slope": tf.gradients(found * weights, x)[0]}

    spec = tf.TensorSpec((1, 7, 5, 4), tf.float32, name="x")
    x = rng.normal(size=(1, 7, 5, 4)).astype(np.float32)
    files = formats.of(form).write(TracedNetwork(both, spec))
    given, made = ("x", "float32", [1, 7, 5, 4]), ["found", "slope"]
    found = runtimes.load(form, Path("network"), files, given=given, made=made).run(x, made)
    for of_form, expected in zip(found, tf.function(both)(tf.constant(x)).values(), strict=True):
        assert np.ptp(expected) > 1
        np.testing.assert_allclose(of_form, expected, atol=1e-6)


def test_an_ensemble_is_exported_like_a_run(line, tmp_path):
    """Its members read parts of the features, whose gradient tf2onnx does not know by itself."""
    first = bundles.load(line / "run")
    settings = dataclasses.replace(first.experiment.model, hidden=(), dropout=(0.1,))
    other = dataclasses.replace(first.experiment, model=settings)
    run = bundled.make_bundle(tmp_path / "b", other, first.manifest, backbone="small_norm", seed=1)
    bundles.save_fitted(run, datasets.fitted(0.45))
    dr_tfx.ensemble([line / "run", run], output_dir=tmp_path / "both")
    bundles.save_fitted(tmp_path / "both", datasets.fitted(0.5))
    exports(tmp_path / "both", line / "data", tmp_path / "onnx")


def test_grades_and_their_ensembles_are_exported(tmp_path):
    """The expected grade is a sum of products of probabilities, which heat maps explain."""
    experiment = graded(decide="cut_points")
    data = datasets.write(tmp_path / "data", experiment.dataset, features=graded_noise)
    runs = [tmp_path / "0", tmp_path / "1"]
    for seed, run in enumerate(runs):
        bundled.make_bundle(run, experiment, data, seed=seed, backbone="small")
        fit(run, tmp_path / "data")
    exports(runs[0], tmp_path / "data", tmp_path / "litert", form="litert")
    dr_tfx.ensemble(runs, output_dir=tmp_path / "both")
    fit(tmp_path / "both", tmp_path / "data")
    exports(tmp_path / "both", tmp_path / "data", tmp_path / "onnx_of_both")


def fit(run, data_dir):
    bundle = bundles.load(run)
    table = evaluate.predict(bundle, data_dir, "validation")
    bundles.save_fitted(run, bundle.kind.judgement.fit(table, split="validation"))


def exports(run, data_dir, folder, form="onnx"):
    """Export a bundle, which compares all, and compare a few outputs and maps once more."""
    exporting.export(workdir=run, data_dir=data_dir, output_dir=folder, form=form)
    bundle, model = bundles.load(run), exported.load(folder)
    size = bundle.experiment.dataset.recipe.size
    rgb = np.random.default_rng(5).integers(0, 256, (3, size, size, 3)).astype(np.uint8)
    expected = scoring.view_scorer(bundle)(tf.constant(rgb)).numpy()
    np.testing.assert_allclose(model.outputs(rgb), expected, atol=1e-5)
    maps, _ = gradcam.HeatMaps(bundle.model, explained=bundle.kind.model.explained)(rgb)
    assert maps.std() > 0.1
    of_export = np.stack([heatmap for _, heatmap in model.explain(rgb)])
    np.testing.assert_allclose(of_export, maps, atol=1e-4)


def needs(form, package, *others):
    """A format as a case of a test, which is skipped where its package is missing."""
    missing = importlib.util.find_spec(package) is None
    skipped = pytest.mark.skipif(missing, reason=f"{package} is not installed")
    return pytest.param(form, *others, marks=skipped)


@pytest.mark.parametrize(
    "form, quantize, near",
    [
        ("saved_model", "", 1e-5),
        ("litert", "int8", 0.05),
        needs("openvino", "openvino", "", 1e-5),
        needs("openvino", "openvino", "int8", 0.05),
    ],
)
def test_every_format_gives_what_the_bundle_gives(
    line, tmp_path, monkeypatch, form, quantize, near
):
    if quantize:  # An untrained network ranks 11 pictures by next to nothing.
        monkeypatch.setattr(export_check, "_MOST_AUC", 1.0)
        monkeypatch.setattr(export_check, "_MOST_CHANGED", 1.0)
    bundle = bundles.load(line / "run")
    words = {"workdir": line / "run", "data_dir": line / "data", "output_dir": tmp_path}
    exporting.export(**words, form=form, quantize=quantize)
    rgb = np.random.default_rng(5).integers(0, 256, (3, 32, 32, 3)).astype(np.uint8)
    expected = scoring.view_scorer(bundle)(tf.constant(rgb)).numpy()
    model = exported.load(tmp_path)
    np.testing.assert_allclose(model.outputs(rgb), expected, atol=near)
    assert len({heatmap.shape for _, heatmap in model.explain(rgb)}) == 1
    content = json.loads((tmp_path / "export.json").read_text())
    assert (content["runtime"], content["quantized"]) == (form, quantize)
    assert sorted(content["files"]) == sorted(
        name for name in bundled.contents(tmp_path) if name not in ("export.json", "model_card.md")
    )


@pytest.mark.parametrize(
    "form, quantize, near",
    [
        ("onnx", "float16", 1e-3),
        ("onnx", "int8", 0.02),
        ("litert", "", 1e-5),
        ("litert", "float16", 1e-3),
        needs("openvino", "openvino", "float16", 1e-3),
    ],
)
def test_a_smaller_network_computes_nearly_the_same(form, quantize, near):
    """The expected numbers are computed in float64; what is smaller has to be so."""
    rng = np.random.default_rng(0)
    kernel, last = rng.normal(size=(3, 3, 3, 64)) / 9, rng.normal(size=(64, 1)) / 8

    def network(pixels):
        x = tf.cast(pixels, tf.float32) / 255
        x = tf.nn.relu(tf.nn.conv2d(x, tf.constant(kernel, tf.float32), 1, "VALID"))
        return {"y": tf.sigmoid(tf.reduce_mean(x, (1, 2)) @ tf.constant(last, tf.float32))}

    traced = TracedNetwork(network, tf.TensorSpec((None, 8, 8, 3), tf.uint8, name="x"))
    brightest = np.linspace(30, 256, 40)[:, np.newaxis, np.newaxis, np.newaxis]
    pictures = (rng.uniform(0, brightest, (40, 8, 8, 3))).astype(np.uint8)
    files = formats.of(form, quantize).write(traced, quantize, pictures)
    given, made = ("x", "uint8", [None, 8, 8, 3]), ["y"]
    running = runtimes.load(form, Path("network"), files, given=given, made=made)
    (found,) = running.run(pictures[::8], ["y"])
    cut = np.lib.stride_tricks.sliding_window_view(pictures[::8] / 255, (3, 3, 3), (1, 2, 3))
    features = np.einsum("nrcdijk,ijko->nrcdo", cut, kernel).clip(0).mean((1, 2, 3))
    expected = 1 / (1 + np.exp(-(features @ last)))
    assert np.ptp(expected) > 0.02
    np.testing.assert_allclose(found, expected, atol=near)
    if quantize:
        plain = formats.of(form).write(traced)
        assert sum(map(len, files.values())) < sum(map(len, plain.values())) or form != "onnx"


def test_an_int8_export_that_decides_otherwise_is_refused(line, tmp_path, monkeypatch):
    """It is calibrated on black pictures, so that every brighter one is out of its ranges."""
    run = shutil.copytree(line / "run", tmp_path / "run")
    table = evaluate.predict(bundles.load(run), line / "data", "validation")
    bundles.save_fitted(run, datasets.fitted(float(table["score"].median())))
    black = np.zeros((4, 32, 32, 3), np.uint8)
    monkeypatch.setattr(exporting, "_training_pictures", lambda *_: black)
    with pytest.raises(ValueError, match=r"the export in int8 .* % of the decisions change on 11"):
        exporting.export(
            workdir=run, data_dir=line / "data", output_dir=tmp_path / "out", quantize="int8"
        )
    assert not (tmp_path / "out" / "model.onnx").exists()


def test_a_format_that_cannot_be_had_is_refused(line, tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="saved_model cannot be quantised to 'int8': it stays"):
        formats.of("saved_model", "int8")
    monkeypatch.setitem(sys.modules, "dr_tfx.serving.formats.openvino_format", None)
    with pytest.raises(ValueError, match=r"openvino cannot be written: .*\[export,openvino\]"):
        formats.of("openvino")
    monkeypatch.setitem(sys.modules, "dr_tfx.inference.runtimes.onnx_runtime", None)
    with pytest.raises(ValueError, match=r"model.onnx is run by ONNX Runtime, .* 'dr_tfx\[onnx\]'"):
        exported.load(line / "onnx")


@pytest.mark.parametrize(
    "form", ["onnx", needs("litert", "ai_edge_litert"), needs("openvino", "openvino")]
)
def test_the_command_reads_photographs_without_tensorflow(line, tmp_path, form):
    """It is not only left unused: here it cannot be imported."""
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'tf2onnx'): sys.modules[name] = None\n"
        "from dr_tfx.cli.predict import run; run()"
    )
    if form != "onnx":
        exporting.export(
            workdir=line / "run", data_dir=line / "data", output_dir=line / form, form=form
        )
    given = [str(line / "photographs"), f"--model={line / form}", f"--output_dir={tmp_path}"]
    done = subprocess.run(
        [sys.executable, "-c", code, *given], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().splitlines()[-1] == str(tmp_path)
    table = pd.read_csv(tmp_path / "predictions.csv").set_index("photo")
    assert table["rejected"].notna().sum() == 1 and len(table) == 4
    model = dr_tfx.load_bundle(line / "run")
    for name in ("eye.jpeg", "b/eye.png", "black.png"):
        path = line / "photographs" / name
        row, answer = table.loc[str(path)], model.predict(path)
        assert row["decision"] == answer["decision"] and row["threshold"] == answer["threshold"]
        assert row["score"] == pytest.approx(answer["score"], abs=1e-5)
        assert row["probability"] == pytest.approx(answer["probability"], abs=1e-5)
        assert (tmp_path / row["figure"]).stat().st_size > 10_000


def test_the_face_of_an_export_is_that_of_a_bundle(line):
    model, other = dr_tfx.load_export(line / "onnx"), dr_tfx.load_bundle(line / "run")
    eye = line / "photographs" / "eye.jpeg"
    one, two = model.explain(eye), other.explain(eye)
    assert one.answer == pytest.approx(two.answer, abs=1e-5)
    np.testing.assert_allclose(one.heatmap, two.heatmap, atol=1e-4)
    assert model.predict(eye) == pytest.approx(other.predict(eye), abs=1e-5)
    with pytest.raises(ValueError, match="an exported model has gradcam alone"):
        model.explain(eye, "occlusion")


def test_the_command_prints_what_it_compared(line):
    first, second, last = (line / "printed").read_text().rstrip().splitlines()
    assert first.startswith("11 pictures of validation: outputs differ by at most ")
    assert "times the run's weights" in second and last == str(line / "onnx")


def test_an_export_that_differs_is_refused_and_the_earlier_one_stays(line, tmp_path, monkeypatch):
    out = Path(shutil.copytree(line / "onnx", tmp_path / "out"))
    earlier = {path.name: path.read_bytes() for path in out.glob("*.*")}
    outputs = exported.ExportedModel.outputs_and_maps

    def moved(*arguments):
        found, maps = outputs(*arguments)
        return found + 2e-4, maps

    monkeypatch.setattr(exported.ExportedModel, "outputs_and_maps", moved)
    with pytest.raises(ValueError, match=r"the export differs .* by 0\.0002 in an output"):
        exporting.export(workdir=line / "run", data_dir=line / "data", output_dir=out)
    assert {name: (out / name).read_bytes() for name in earlier} == earlier
    assert {"export.json", "model.onnx"} <= set(earlier)


@pytest.mark.parametrize(
    "settings, words",
    [
        ({"fitted": False}, "has not been evaluated on 'validation' yet"),
        ({"views": ("identity", "rotate_10")}, "averages over the views rotate_10"),
    ],
)
def test_what_cannot_be_exported_is_refused(tmp_path, settings, words):
    folder = make(tmp_path, backbone="tiny", **settings)
    with pytest.raises(ValueError, match=words):
        exporting.export(
            workdir=folder / "run", data_dir=folder / "data", output_dir=folder / "onnx"
        )


def test_damaged_and_exchanged_files_are_refused_by_name(line, tmp_path):
    network = (line / "onnx" / "model.onnx").read_bytes()
    shutil.copy(line / "onnx" / "heatmap.onnx", tmp_path)
    text = (line / "onnx" / "export.json").read_text()

    def refusal(content, network):
        (tmp_path / "export.json").write_text(content)
        (tmp_path / "model.onnx").write_bytes(network)
        with pytest.raises(ValueError) as refused:
            exported.load(tmp_path)
        return str(refused.value)

    with pytest.raises(FileNotFoundError, match="holds no exported model"):
        exported.load(tmp_path)
    flipped = bytes([*network[:-1], network[-1] ^ 1])
    assert f"{tmp_path / 'model.onnx'} is not the file" in refusal(text, flipped)
    assert f"{tmp_path / 'export.json'} is damaged" in refusal(text[:-20], network)
    assert "another version of dr_tfx" in refusal(
        text.replace('"format": 1', '"format": 2'), network
    )
    assert "export.json" in refusal(text.replace('"fitted"', '"fated"'), network)
    digest, other = bundle_file.digest(network), (line / "onnx" / "heatmap.onnx").read_bytes()
    exchanged = text.replace(digest, bundle_file.digest(other))
    assert "is another network than export.json says" in refusal(exchanged, other)
    nothing = b"\x08\x08 no network"
    exchanged = text.replace(digest, bundle_file.digest(nothing))
    assert "model.onnx cannot be used by ONNX Runtime" in refusal(exchanged, nothing)
