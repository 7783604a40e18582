"""Predictions as a Beam job: the rows of the command, in any number of processes, after a kill."""

import dataclasses
import signal
import sys
import time

import cv2
import numpy as np
import pandas as pd
import pytest
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.predict import job
from dr_tfx import tasks
from dr_tfx.explanation import lesions
from dr_tfx.inference import drift_rows, photographs, prediction_files, scoring
from dr_tfx.models import bundles
from dr_tfx.sources import given
from tests.helpers import bundled, datasets, exports, marking, ready
from tests.helpers.slices import series_of

MANY = 200


@pytest.fixture(scope="module")
def workdir(tmp_path_factory):
    """A run that says what validation looked like."""
    run = bundled.evaluated_bundle(tmp_path_factory.mktemp("bundle"), backbone="UNetEncoder")
    exports.know_run(run)
    return run


@pytest.fixture(scope="module")
def raw(tmp_path_factory):
    """MANY photographs, of which one is damaged and one is in a folder of its own."""
    folder = tmp_path_factory.mktemp("raw") / "raw"
    bundled.write_photographs(folder)
    for i in range(MANY - 4):
        picture = np.full((40, 40, 3), 90, np.uint8)
        cv2.circle(picture, (20, 20), 6 + i % 11, (i % 7 * 30, 60, i % 256), -1)
        cv2.imwrite(str(folder / f"{i:03}.png"), picture)
    return folder


def numbers_of(folder):
    lines = (folder / drift_rows.FILE).read_text().splitlines()
    return {name: np.array(told, float) for name, *told in map(str.split, lines)}


def line(workdir, raw, out, *flags):
    command = [sys.executable, "-m", "beam_jobs.cli.predict", f"--workdir={workdir}"]
    return [*command, f"--image_dir={raw}", f"--output_dir={out}", *flags]


def test_a_killed_job_goes_on_to_the_rows_of_the_command(workdir, raw, tmp_path):
    """It is killed in this process's threads, and goes on in a process of its own."""
    alone = ready.run(line(workdir, raw, tmp_path / "alone", "--nofigures"))
    assert alone.returncode == 0, alone.stderr
    out = tmp_path / "out"
    command = line(workdir, raw, out, "--runner=DirectRunner")
    with ready.Popen(command) as running:
        deadline = time.monotonic() + 120
        while not (found := list(out.glob("*.rows"))) and time.monotonic() < deadline:
            time.sleep(0.01)
        running.send_signal(signal.SIGKILL)
    assert found and running.returncode == -signal.SIGKILL, "it was finished before the kill"
    kept = found[0].read_bytes()
    found[0].write_bytes(kept.rstrip() + b"kept\n")  # In the last column of its last row.
    (out / "predictions-0123456789abcdef.rows").write_text("of others")
    processes = ["--direct_running_mode=multi_processing", "--direct_num_workers=1"]
    done = ready.run([*command, *processes])
    assert done.returncode == 0, done.stderr
    assert f"{MANY - 1} photographs read: " in done.stderr and "; 1 rejected\n" in done.stderr
    table = pd.read_csv(out / "predictions.csv", keep_default_na=False)
    changed = table["ungradable"].str.endswith("kept")
    assert changed.sum() == 1
    table["ungradable"] = table["ungradable"].str.removesuffix("kept")
    expected = pd.read_csv(tmp_path / "alone" / "predictions.csv", keep_default_na=False)
    pd.testing.assert_frame_equal(table, expected, atol=1e-6)
    assert sorted(path.name for path in out.iterdir()) == [
        *("drift.html", drift_rows.FILE, "predict.json", "predictions.csv")
    ]
    kept, alone = (numbers_of(folder) for folder in (out, tmp_path / "alone"))
    assert set(kept) == set(alone) and len(kept) == MANY - 1
    for photo, numbers in kept.items():
        np.testing.assert_allclose(numbers, alone[photo], atol=1e-4)
    told = [line for line in done.stderr.splitlines() if line.startswith("drift: ")]
    assert told[0].startswith("drift: The pictures themselves are others") and len(told) == 1
    assert told[0].endswith(f"See {out / 'drift.html'}")


def test_what_goes_with_no_runner_is_refused(workdir, raw, tmp_path):
    for flags, told in (
        (["--figures"], "--figures cannot be given with --runner: many photographs are read with"),
        ([str(raw)], f"{raw}: with --runner, photographs are named by --image_dir"),
        (["--colour=red"], "neither this command nor Apache Beam knows --colour=red"),
    ):
        done = ready.run(line(workdir, raw, tmp_path / "out", "--runner=DirectRunner", *flags))
        assert done.returncode != 0 and told in done.stderr
    assert not (tmp_path / "out").exists()


def test_a_model_that_marks_lesions_measures_them_in_the_rows(tmp_path, monkeypatch):
    """The reader of a bundle is one that marks by colour; all else is what marks=True does."""
    marker = marking.ColourMarker(("HE", "EX"), lambda rgb: (rgb[..., 0] > 200, rgb[..., 1] > 200))
    monkeypatch.setattr(scoring, "BundleReader", lambda bundle: marker)
    made = datasets.experiment()
    data = datasets.write(tmp_path / "data", made.dataset)
    run = bundled.make_bundle(tmp_path / "run", made, data)
    (tmp_path / "raw").mkdir()
    for i in range(3):
        picture = np.full((64, 64, 3), 40, np.uint8)
        picture[5:15, 5 : 15 + i] = (0, 0, 250)  # BGR: red.
        picture[40:50, 40:44] = (0, 250 * (i > 0), 0)
        cv2.imwrite(str(tmp_path / "raw" / f"{i}.png"), picture)
    found = given.photographs([str(tmp_path / "raw")])
    names = ["decision", *lesions.LesionMarker(marker).names]
    model = job.Model(run, is_export=False, digest="2", marks=True, answer_names=tuple(names))
    files = prediction_files.PredictionFiles(tmp_path / "out", names, {"model": "run"})
    job.predict(model, marker.experiment.dataset.recipe, found, files, PipelineOptions([]))
    table = pd.read_csv(files.table)
    assert table["photo"].tolist() == [one.shown for one in found]
    assert table["count_HE"].tolist() == [1, 1, 1] and table["count_EX"].tolist() == [0, 1, 1]
    assert table["count_HE_upper_left"].tolist() == [1, 1, 1]
    assert table["area_HE"].tolist() == pytest.approx([10 * (10 + i) / 64**2 for i in range(3)])
    assert table["area_EX_lower_right"].tolist() == pytest.approx([0, 40 / 64**2, 40 / 64**2])


def test_slices_that_have_no_row_yet_are_read_beside_those_that_have(workdir, tmp_path):
    pytest.importorskip("pydicom")
    bundle = bundles.load(workdir)
    recipe = dataclasses.replace(
        bundle.experiment.dataset.recipe, name="ct_neighbours", quality_gate="off"
    )
    dataset = dataclasses.replace(bundle.experiment.dataset, recipe=recipe)
    experiment = dataclasses.replace(bundle.experiment, dataset=dataset)
    data = dataclasses.replace(bundle.manifest, dataset=dataset)
    run = bundled.make_bundle(tmp_path / "run", experiment, data, backbone="UNetEncoder")
    bundles.save_fitted(run, datasets.fitted(0.45))
    raw, out = tmp_path / "raw", tmp_path / "out"
    for patient in "ab":
        (raw / patient).mkdir(parents=True)
        for height, content in series_of(f"1.{ord(patient)}", range(0, 20, 4)).items():
            (raw / patient / f"{height:02}.dcm").write_bytes(content)
    found = given.photographs([str(raw)])
    reader = photographs.PhotographReader(scoring.BundleReader(bundles.load(run)))
    expected = [one.reading.answer["score"] for one in reader(found)]
    names = tasks.of(experiment).scores.answer_names
    model = job.Model(run, is_export=False, digest="1", marks=False, answer_names=tuple(names))
    for photos in (found[:2], found):  # At the second time, two of ten have a row.
        files = prediction_files.PredictionFiles(out, names, {"model": "run"})
        job.predict(model, recipe, photos, files, PipelineOptions([]))
    table = pd.read_csv(files.table)
    assert table["photo"].tolist() == [one.shown for one in found]
    np.testing.assert_allclose(table["score"][2:], expected[2:], atol=1e-6)
