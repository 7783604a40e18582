"""Lesions from the build to the report, the comparison and the folds."""

import base64
import dataclasses
import json
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
import pytest
import tensorflow as tf
from apache_beam.options.pipeline_options import PipelineOptions
from scipy import ndimage

import dr_tfx
from beam_jobs.explain import heatmap_shards, job, plan
from beam_jobs.external import evaluate_external
from dr_tfx.config import specs
from dr_tfx.dataset import records
from dr_tfx.evaluation import compare, ensemble, evaluate
from dr_tfx.explanation import lesions
from dr_tfx.inference import exported, photographs, scoring
from dr_tfx.input_pipeline import shard_reader
from dr_tfx.models import bundles, network
from dr_tfx.preprocessing import recipes
from dr_tfx.serving import served_model
from dr_tfx.training.train import train
from tests.helpers import (
    backbones,  # noqa: F401 - `halving`.
    bundled,
    commands,
    dicom_files,
    masked,
    ready,
)
from tests.tasks.masks import test_masks


def experiment(**settings):
    """A network that is sooner traced than a whole U-Net."""
    model = {"backbone": "halving", "output_stride": 4}
    return test_masks.experiment(model=model, **settings)


@pytest.fixture(scope="module")
def runs(tmp_path_factory):
    """A run that was trained and evaluated on validation, and its copy."""
    folder = tmp_path_factory.mktemp("masks")
    spec = dataclasses.replace(masked.MASKED, split=specs.Split(validation=0.34))
    masked.build(masked.draw_masked(folder / "raw"), spec)
    made = experiment()
    training = dataclasses.replace(made.training, epochs=1, batch_size=4, balance="none")
    made = dataclasses.replace(made, dataset=spec, training=training)
    run = train(made, data_dir=folder / "data", workdir=folder / "run")
    evaluate.evaluate(workdir=run, data_dir=folder / "data", split="validation")
    return run, Path(shutil.copytree(run, folder / "copy"))


def test_a_validation_split_without_lesions_is_not_called_a_diverged_training(tmp_path):
    raw = masked.draw_masked(tmp_path / "raw")
    for mask in (raw / "masks").glob("*/*"):
        cv2.imwrite(str(mask), np.zeros((120, 160), np.uint8))
    masked.build(raw, spec := dataclasses.replace(masked.MASKED, split=specs.Split(validation=0.3)))
    made = experiment()
    training = dataclasses.replace(made.training, epochs=1, batch_size=4, balance="none")
    made = dataclasses.replace(made, dataset=spec, training=training)
    with pytest.raises(ValueError, match=r"No epoch gave a finite val_aupr, though .* a lesion\."):
        train(made, data_dir=tmp_path / "data", workdir=tmp_path / "run")


def test_the_report_shows_lesions_and_their_outlines(runs):
    where = runs[0] / "evaluation" / "validation"
    told = json.loads((where / "metrics.json").read_text())
    assert [row["name"] for row in told["lesions"]] == ["MA", "EX"]
    fitted = bundles.load(runs[0]).fitted
    assert told["selection"]["thresholds"] == fitted.thresholds
    assert told["selection"]["notes"][0].startswith("The threshold of each lesion was chosen")
    page = (where / "report.html").read_text()
    of_lesions = re.search(r'<table id="of-lesions">.*?</table>', page, re.S)[0]
    assert re.findall(r'<th scope="row">(\w+)</th>', of_lesions) == ["MA", "EX"]
    assert "Is each single lesion found?" in page and '<table id="one-by-one">' in page
    assert "against false marks an image" in page
    shown = [row["id"] for row in told["most_wrong"]]
    assert shown and all(f"{name} with outlines of the true lesions" in page for name in shown)
    assert "MA orange, EX sky blue" in page
    history = pd.read_csv(runs[0] / "history.csv")
    assert {"val_aupr", "val_loss", "val_marked"} <= set(history)


def test_runs_are_compared_by_lesion(runs, tmp_path):
    page = compare.compare(runs, split="validation", output_dir=tmp_path, command=["drtfx-compare"])
    (difference,) = json.loads((tmp_path / "compare.json").read_text())["differences"]
    assert {"aupr", "dice", "aupr_MA", "dice_EX"} <= set(difference)
    assert all(one["value"] in (0, None) for key, one in difference.items() if "_" in key)
    assert "AUPR, MA" in page.read_text()


def test_runs_are_joined_to_the_mean_of_their_maps(runs, tmp_path):
    """The second draws the photograph too, and has maps on its way, which the mean has not."""
    one = bundles.load(runs[0])
    task = dataclasses.replace(one.experiment.task, reconstruction=0.5, deep_supervision=0.4)
    other = dataclasses.replace(one.experiment, task=task)
    made = network.build(other)
    data, policy = one.manifest, one.precision
    how = {"data": data, "precision": policy, "best_epoch": 1, "fitted": one.fitted}
    (tmp_path / "other").mkdir()
    bundles.save(tmp_path / "other", made, experiment=other, **how)
    joined = ensemble.ensemble([runs[0], tmp_path / "other"], output_dir=tmp_path / "joined")
    data_dir = runs[0].parent / "data"
    evaluate.evaluate(workdir=joined, data_dir=data_dir, split="validation")
    both = bundles.load(joined)
    size = both.experiment.dataset.recipe.size
    pictures = np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype(np.float32)
    maps = [m(pictures, training=False)[..., :2] for m in (one.model, made)]
    np.testing.assert_allclose(
        both.model(pictures, training=False), np.mean(maps, axis=0), atol=1e-5
    )
    how = {"output_dir": tmp_path / "compared", "command": ["drtfx-compare"]}
    page = compare.compare([runs[0], joined], split="validation", **how)
    assert page.is_file() and set(both.fitted.thresholds) == {"MA", "EX"}
    marker = lesions.LesionMarker(scoring.BundleReader(both))
    (marks,) = marker([runs[0].parent / "raw" / "eye0.png"])
    assert marks.marked.shape == (2, size, size)


def test_a_raw_photograph_is_read_as_its_record(runs):
    reader = photographs.PhotographReader(scoring.BundleReader(bundles.load(runs[0])))
    table = pd.read_csv(runs[0] / "evaluation" / "validation" / "predictions.csv")
    raw = [runs[0].parent / "raw" / f"{name}.png" for name in table["id"]]
    read = [one.reading.decision for one in reader(raw)]
    assert read == table["decision"].tolist()


def test_maps_are_what_explains_a_model_that_gives_them(runs, tmp_path):
    """They are the highest of all lesions at each place, and measured against the masks."""
    data, raw = runs[0].parent / "data", runs[0].parent / "raw"
    bundle, options = bundles.load(runs[0]), PipelineOptions([])
    request = plan.ExplainRequest(workdir=runs[0], output_dir=tmp_path / "split", data_dir=data)
    out = job.explain(request, options)
    predicted = pd.read_csv(
        runs[0] / "evaluation" / "validation" / "predictions.csv", index_col="id"
    )
    index = pd.read_csv(out / "index.csv", index_col="id")
    assert sorted(index.index) == sorted(predicted.index)
    maps = {}
    for part in out.glob("heatmaps-*.tfrecord-*[0-9]"):
        maps |= {name: map_ for name, map_, _ in heatmap_shards.read(part)}
    recipe = bundle.manifest.dataset.recipe
    schema = records.Schema(recipe.size, recipe.encoding)
    reader = shard_reader.ShardReader(data, bundle.manifest.shards_of("validation"), schema)
    rgb = reader.batch(np.arange(len(reader)))["image"]
    outputs = scoring.view_scorer(bundle)(rgb).numpy()
    told = [map_.max(axis=-1) for map_ in outputs]
    assert len(maps) == len(told)
    for name, map_ in maps.items():
        assert any(np.allclose(map_, one, atol=1e-5) for one in told), name
        marked = predicted.loc[name, "decision"]
        found = [word for word in marked.split() if word in ("MA", "EX")]
        assert index.loc[name, "decision"] == (" ".join(found) or "no lesion")
        counts = [int(n) for n in marked.split()[1::2]] if found else [0]
        assert index.loc[name, "area"] == pytest.approx(max(counts) / map_.size)
    page = (out / "index.html").read_text()
    assert "how probable the model finds MA, EX at each place" in page

    request = dataclasses.replace(
        request,
        output_dir=tmp_path / "raw",
        data_dir=None,
        image_dir=str(raw),
        masks_dir=raw / "masks",
    )
    out = job.explain(request, options)
    (row,) = (
        r for r in json.loads((out / "localization.json").read_text())["rows"] if r["by"] == "all"
    )
    assert row["method"] == "own map" and 0 <= row["energy"]["value"] <= 1
    assert (out / "gradcam_final.png").is_file() and len(pd.read_csv(out / "index.csv")) == 12
    with pytest.raises(ValueError, match="gives maps itself, which hirescam cannot explain"):
        job.explain(dataclasses.replace(request, methods=("hirescam",)), options)


def test_predictions_count_and_outline_lesions_beside_another_models_heat_map(runs, tmp_path):
    """The counts are scipy's, of the pixels from the threshold of each lesion up."""
    raw = runs[0].parent / "raw"
    eyes = [raw / "eye0.png", raw / "eye3.png"]
    grading = bundled.evaluated_bundle(tmp_path)

    def predict(output, *given):
        line = commands.line("drtfx-predict", *map(str, eyes), *map(str, given))
        return ready.run([*line, f"--output_dir={tmp_path / output}"])

    dicom = []
    if find_spec("highdicom"):
        (tmp_path / "eye.dcm").write_bytes(
            dicom_files.dicom(cv2.imread(str(eyes[0]))[..., ::-1], **dicom_files.NAMED)
        )
        dicom = ["--dicom_results", tmp_path / "eye.dcm"]
    alone = predict("alone", f"--workdir={runs[0]}")
    both = predict("both", f"--workdir={grading}", f"--lesions={runs[0]}", *dicom)
    assert (alone.returncode, both.returncode) == (0, 0), both.stderr
    with pytest.raises(ValueError, match="marks no lesions; expected one of the kind masks"):
        lesions.LesionMarker(scoring.BundleReader(bundles.load(grading)))
    tables = {name: pd.read_csv(tmp_path / name / "predictions.csv") for name in ("alone", "both")}
    bundle = bundles.load(runs[0])
    score = scoring.view_scorer(bundle)
    for i, eye in enumerate(eyes):
        picture = recipes.apply_recipe(eye.read_bytes(), bundle.experiment.dataset.recipe).rgb
        maps = score(tf.constant(picture[None])).numpy()[0]
        for k, kind in enumerate(("MA", "EX")):
            step = np.floor(bundle.fitted.thresholds[kind] * 100 + 1e-9)
            marked = np.floor(maps[..., k] * 100) >= step
            labels, count = ndimage.label(marked, np.ones((3, 3)))
            centres = np.array(ndimage.center_of_mass(marked, labels, range(1, count + 1)))
            upper = (centres.reshape(-1, 2) <= (len(picture) - 1) / 2).all(axis=1).sum()
            for table in tables.values():
                assert table.loc[i, f"count_{kind}"] == count
                assert table.loc[i, f"area_{kind}"] == pytest.approx(marked.mean())
                assert table.loc[i, f"count_{kind}_upper_left"] == upper
    assert {"decision", "probability", "count_MA_lower_right"} <= set(tables["both"])
    if dicom:
        assert both.stderr.count("eye0.png is no DICOM file") == 1
        named = [f"dicom/eye-{kind}.dcm" for kind in ("seg", "sr")]
        assert tables["both"].loc[2, ["seg", "sr"]].tolist() == named
        assert all((tmp_path / "both" / name).is_file() for name in named)
    widths = [cv2.imread(str(tmp_path / name / "figures" / "eye0.png")).shape[1] for name in tables]
    assert widths[1] > 1.8 * widths[0]  # Four pictures, and two.


def test_masks_from_elsewhere_are_judged_with_the_models_thresholds(runs, tmp_path):
    raw = runs[0].parent / "raw"
    photographs = evaluate_external.ExternalPhotographs(
        image_dir=str(raw), labels="masks", masks_dir=str(raw / "masks"), name="clinic"
    )
    page = evaluate_external.run(
        photographs, workdir=runs[1], data_dir=None, output_dir=tmp_path / "clinic"
    )
    told = json.loads((page.parent / "metrics.json").read_text())
    fitted = bundles.load(runs[1]).fitted
    assert {row["name"]: row["threshold"] for row in told["lesions"]} == fitted.thresholds
    assert told["counts"]["images"] == 12
    assert f"--masks_dir={raw / 'masks'}" in page.read_text().replace("\n", "")


@pytest.fixture(scope="module")
def patched(tmp_path_factory):
    """A run that was trained on patches and evaluated on validation, beside its `raw` and `data`.

    It reads tiles of 96 pixels, in four views, and a second decoder draws the photograph.
    """
    folder = tmp_path_factory.mktemp("patched")
    recipe = dataclasses.replace(masked.PLAIN, size=128)
    spec = dataclasses.replace(masked.MASKED, recipe=recipe, split=specs.Split(validation=0.34))
    masked.build(masked.draw_masked(folder / "raw"), spec)
    task = {"patch": 64, "patches": 3, "tile": 96, "reconstruction": 0.5}
    views = ("identity", "left_right", "rotate_90", "brighter")
    made = experiment(task=task, recipe={"size": 128}, views=views)
    training = dataclasses.replace(made.training, epochs=1, batch_size=8, balance="none")
    made = dataclasses.replace(made, dataset=spec, training=training)
    run = train(made, data_dir=folder / "data", workdir=folder / "run")
    sharpen(run)
    evaluate.evaluate(workdir=run, data_dir=folder / "data", split="validation")
    return run


def sharpen(run):
    """Give a run that has hardly learned anything maps that are far from the same everywhere."""
    bundle = bundles.load(run)
    head = bundle.model.get_layer("score")
    kernel, bias = head.get_weights()
    head.set_weights([60 * kernel, 0 * bias])
    how = {"data": bundle.manifest, "precision": bundle.precision, "best_epoch": 1}
    bundles.save(run, bundle.model, experiment=bundle.experiment, fitted=bundle.fitted, **how)


def test_a_model_of_patches_marks_whole_photographs(patched):
    """From patches of half a side to the figures and the areas of photographs as they lie there."""
    table = pd.read_csv(patched / "evaluation" / "validation" / "predictions.csv")
    reader = photographs.PhotographReader(scoring.BundleReader(bundles.load(patched)))
    raw = [patched.parent / "raw" / f"{name}.png" for name in table["id"]]
    assert [one.reading.decision for one in reader(raw)] == table["decision"].tolist()
    assert all(sum(map(float, text.split())) == 128**2 for text in table["all/EX"])


@pytest.mark.parametrize("form", ["triton", "litert"])
def test_an_export_marks_what_the_run_marks(runs, patched, tmp_path, form):
    """One reads tiles, the other whole photographs; the second decoder is in neither file."""
    export = pytest.importorskip("dr_tfx.serving.export")
    run = patched
    if form == "litert":
        sharpen(run := Path(shutil.copytree(runs[0], runs[0].parent / "sharp")))
    found = export.export(workdir=run, data_dir=run.parent / "data", output_dir=tmp_path, form=form)
    assert found.heatmaps is None and found.outputs <= 1e-4 and found.changed <= 0.01
    bundle, model = bundles.load(run, precision="float32"), exported.load(tmp_path)
    size = bundle.experiment.dataset.recipe.size
    rgb = np.random.default_rng(0).integers(0, 256, (2, size, size, 3)).astype(np.uint8)
    expected = scoring.view_scorer(bundle)(tf.constant(rgb)).numpy()
    assert np.ptp(expected) > 0.1 and expected.shape == (2, size, size, 2)
    np.testing.assert_allclose(model.outputs(rgb), expected, atol=1e-4)
    of_run = lesions.LesionMarker(scoring.BundleReader(bundle))
    of_export = lesions.LesionMarker(model)
    raw = [run.parent / "raw" / "eye0.png"]
    (one,), (other,) = of_run(raw), of_export(raw)
    assert one.marked.any() and (one.marked ^ other.marked).sum() <= 0.01 * one.marked.sum()
    assert not list(tmp_path.glob("heatmap*"))
    if form == "triton":
        assert "dims: [ 96, 96, 2 ]" in (tmp_path / "model" / "config.pbtxt").read_text()
        tiles = export._training_pictures(bundle, run.parent / "data")
        assert (
            tiles.shape[1:] == (96, 96, 3) and 256 <= len(tiles) < 300 and tiles.dtype == np.uint8
        )


def test_an_export_that_marks_lesions_is_read_and_served_without_tensorflow(patched, tmp_path):
    pytest.importorskip("dr_tfx.serving.export")
    line = [f"--workdir={patched}", f"--data_dir={patched.parent / 'data'}"]
    done = ready.run(commands.line("drtfx-export", *line, f"--output_dir={tmp_path / 'onnx'}"))
    assert done.returncode == 0, done.stderr
    assert re.search(r"differ by at most \S+; the AUPR changes by [+-]0\.\d+, and", done.stdout)
    code = (
        "import sys\n"
        "for name in ('tensorflow', 'keras', 'tf2onnx'): sys.modules[name] = None\n"
        "from dr_tfx.cli.predict import run; run()"
    )
    raw = patched.parent / "raw"
    eye, model = str(raw / "eye0.png"), tmp_path / "onnx"
    given = [f"--model={model}", f"--lesions={model}", f"--output_dir={tmp_path / 'out'}", eye]
    done = ready.run([sys.executable, "-c", code, *given])
    assert done.returncode == 0, done.stderr
    (row,) = pd.read_csv(tmp_path / "out" / "predictions.csv").to_dict("records")
    marker = lesions.LesionMarker(exported.load(model))
    (marks,) = marker([eye])
    expected = marker.measured(marks)
    assert expected and {name: row[name] for name in expected} == pytest.approx(expected)
    assert cv2.imread(str(tmp_path / "out" / row["figure"])) is not None
    served = served_model.load_export(model)
    picture = recipes.apply_recipe(Path(eye).read_bytes(), served.recipe).rgb
    ((_, shown),) = served.explain(picture[None])
    assert (shown == marks.marked).all()
    with pytest.raises(ValueError, match="marks lesions, and draws no heat maps"):
        dr_tfx.load_export(model).explain(eye)


def test_the_server_outlines_lesions_and_its_page_counts_them(runs, browser):
    pytest.importorskip("fastapi")
    from tests.helpers import served
    from tests.serving.test_page import answered, drop

    eye = (runs[0].parent / "raw" / "eye0.png").read_bytes()
    model = served_model.load_run(runs[0])
    picture = recipes.apply_recipe(eye, model.recipe).rgb
    (_, marked), *_ = model.explain(picture[None])
    running = served.Server(f"--workdir={runs[0]}", knows_backbones=True)
    answer = running.predict(("eye0.png", eye), query="?heatmap=true").json["photographs"][0]
    expected = [
        (kind, ndimage.label(mask, np.ones((3, 3)))[1], mask.mean())
        for kind, mask in zip(("MA", "EX"), marked, strict=True)
    ]
    told = [(one["kind"], one["count"], one["area"]) for one in answer["lesions"]]
    assert told == [(kind, count, pytest.approx(area)) for kind, count, area in expected]
    layer = cv2.imdecode(
        np.frombuffer(base64.b64decode(answer["heatmap"]["heatmap"]), np.uint8), -1
    )
    assert layer.shape == (*picture.shape[:2], 4) and set(np.unique(layer[..., 3])) == {0, 255}
    assert (layer[..., 3] > 0).sum() <= marked.any(axis=0).sum()  # Outlines lie on what is marked.
    browser.get(f"{running.address}/?lang=en")
    drop(browser, ("eye0.png", eye))
    (item,) = answered(browser, 1)
    lines = [one.text for one in item.find_elements("css selector", ".lesions li")]
    assert lines == [f"{kind}: {count} ({100 * area:.2f} %)" for kind, count, area in expected]
    buttons = [one.text for one in item.find_elements("css selector", ".views button")]
    assert buttons == ["Original", "Overlay", "Outlines"]
    running.stop()
