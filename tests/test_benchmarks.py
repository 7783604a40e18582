"""Benchmarks run, give their tables and teach themselves; their figures are not tested."""

import functools
import importlib.util
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import roc_auc_score

from benchmarks import processes, synthetic_examples
from benchmarks.input_pipeline import far_contenders, millions, remote
from benchmarks.input_pipeline.contenders import CONTENDERS
from benchmarks.input_pipeline.contenders.contender import Job
from benchmarks.training import accelerator, plain_fit
from dr_tfx.training import train
from tests.helpers import datasets, ready
from tests.training.test_endings import quick

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(
    importlib.util.find_spec("tensorflow_addons") is not None,
    reason="benchmarks are of the default stack: their contenders do not install beside this one",
)


def run(script, *arguments):
    result = ready.run([sys.executable, "-m", f"benchmarks.{script}", *arguments])
    assert result.returncode == 0, result.stderr
    return result.stdout


@pytest.mark.parametrize(
    "script",
    [
        "build_examples.job",
        "evaluation.drift",
        "explanation.gradcam",
        "inference.tta",
        "dataset.copies",
        "input_pipeline.loader",
        "input_pipeline.memory",
        "input_pipeline.millions",
        "input_pipeline.remote",
        "serving.load",
        "serving.triton",
        "statistics.intervals",
        "training.accelerator",
        "training.faint_slices",
        "training.plain_fit",
        "training.probe",
    ],
)
def test_help_says_what_is_measured_and_how(script):
    text = run(script, "--help")
    assert f"python -m benchmarks.{script}" in text
    assert "Every" in text


def test_parts_hold_every_example_once_by_class():
    job = Job("nowhere", count=5000, size=8)
    assert np.bincount(job.classes()).tolist() == [3674, 1326]  # EyePACS has 73.5 % of grade 0.
    sizes = {0: [], 1: []}
    numbers = []
    for c, part, examples in job.parts():
        found = list(examples)
        assert part == len(sizes[c]) and all(image.shape == (8, 8, 3) for _, image in found)
        sizes[c].append(len(found))
        numbers += [number for number, _ in found]
    assert numbers == list(range(5000))
    assert sizes == {0: [512] * 7 + [90], 1: [332, 332, 332, 330]}


@pytest.mark.parametrize("name", ["float32 in memory by NumPy", "uint8 in memory"])
def test_contenders_give_what_they_are_held_to(name, tmp_path):
    job = Job(str(tmp_path), count=300, size=16, augmented=True)
    CONTENDERS[name].write(job)
    batches = CONTENDERS[name].read(job)
    assert next(batches) is None
    ones = []
    for _ in range(20):
        images, classes = next(batches)
        assert images.dtype == np.float32 and images.shape == (64, 16, 16, 3)
        assert images.min() >= 0 and 200 < images.max() <= 255
        ones += classes.tolist()
    assert np.mean(ones) == pytest.approx(0.5, abs=0.06)  # Whole epochs of 440, less their rests.


def test_time_and_memory_of_a_plan_is_a_table_of_both_splits():
    first, header, *rows = run("build_examples.job", "plan", "--rows=2000").splitlines()
    assert first == "2,000 rows" and header.split() == ["s", "peak", "bytes", "a", "row"]
    assert [row.split()[0] for row in rows] == ["patient", "hash"]


def test_speed_of_ours_and_of_arrays_is_a_table_of_both(tmp_path):
    text = run(
        "input_pipeline.loader",
        "speed",
        "--count=200",
        "--size=32",
        "--rounds=1",
        "--seconds=0.2",
        "--contenders=uint8 in memory,ours",
        f"--work_dir={tmp_path}",
    )
    first, header, *rows = text.splitlines()
    assert first.startswith("200 examples of 32 px, 1 rounds")
    assert "samples/s" in header and "augmented" in header and "peak MiB" in header
    cells = [re.split(r"\s{2,}", row) for row in rows]
    assert [row[:2] for row in cells] == [["uint8 in memory", "memory"], ["ours", "bounded"]]
    assert all(float(row[2].replace(",", "")) > 0 for row in cells)
    assert not list(tmp_path.iterdir())


def test_memory_of_ours_and_of_arrays_is_a_table_of_both(tmp_path):
    text = run("input_pipeline.memory", "--cases=32:200", "--batches=3", f"--work_dir={tmp_path}")
    _, header, row = text.splitlines()
    assert header.split() == ["float32", "array", "in", "memory", "ours"]
    assert row.startswith("32 px, 200 examples")
    in_memory, ours = row.split()[-2:]
    assert float(in_memory.replace(",", "")) > 0 and float(ours.replace(",", "")) > 0
    assert not list(tmp_path.iterdir())


def test_heat_maps_are_held_against_the_published_function():
    text = run("explanation.gradcam", "--sizes=64", "--batch_size=2", "--singles=1", "--rounds=1")
    first, _, *rows = text.splitlines()
    assert first == "MobileNetV2, 64 px, batches of 2, 1 rounds"
    ratios = {row[:28].strip(): float(row.split()[-1].rstrip("x")) for row in rows}
    assert ratios["Grad-CAM, in batches"] == 1
    assert {"published, one by one", "backbone forward and back", "explain, 1 view"} < set(ratios)


def test_test_time_augmentation_is_held_against_plain_passes_and_arrays(tmp_path):
    text = run(
        "inference.tta", "speed", "--size=40", "--count=8", "--rounds=1", f"--work_dir={tmp_path}"
    )
    first, header, *rows = text.splitlines()
    assert first.startswith("8 images of 40 px, 1 rounds")
    assert "seconds" in header and "ours to it" in header
    assert [row.split()[0] for row in rows[:3]] == ["ours", "plain", "arrays"]
    assert float(rows[0].split()[-1]) == 1 and not list(tmp_path.iterdir())


def test_copies_of_photographs_are_two_tables_and_all_are_found():
    text = run("dataset.copies", "--photographs=4", "--fingerprints=600", "--given=20")
    changes = [line.split()[-3:] for line in text.splitlines() if " 4 " in line]
    assert len(changes) == 10 and all(missed == "0" for missed, *_ in changes)
    assert "0 of 6 pairs were taken for copies" in text
    assert "6 of 6; 0 others" in text and "20 of 20" in text


def test_a_way_to_compute_gives_losses_and_rates(tmp_path):
    small = {"count": 60, "size": 16, "batch_size": 4, "seconds": 0.01}
    job = {**accelerator.ON_CPU, **small, "folder": str(tmp_path)}
    accelerator.write(job)
    found = accelerator.measure(accelerator.EXACT, job)
    assert len(found["losses"]) == accelerator.COMPARED and np.isfinite(found["losses"]).all()
    assert min(found["piped"], found["resident"], found["first"]) > 0


def test_a_run_of_many_examples_begins_at_a_step(tmp_path):
    millions.write(str(tmp_path), 600)
    found = millions.start(str(tmp_path), 40, 2, 1, str(tmp_path / "order"))
    assert found["seconds"] > 0 and found["base"] > 0


@pytest.fixture
def far_examples(tmp_path, monkeypatch):
    """A store near enough, and the job of those who read examples of 16 px from it."""
    for name in ("STORAGE_EMULATOR_HOST", "FSSPEC_GS_TOKEN", "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT"):
        monkeypatch.setenv(name, "")  # They are what they were, afterwards.
    far_contenders.write(tmp_path / "objects", 60, 16)
    with remote.far(tmp_path / "objects", "0", "1000", 0):
        yield {
            "folder": str(tmp_path / "objects"),
            "cache": str(tmp_path / "cache"),
            "cache_gb": 1,
            "size": 16,
            "epoch": 320,
        }


def test_a_far_store_gives_objects_and_parts_to_the_clients_of_two_makers(far_examples):
    path = next(Path(far_examples["folder"], "tar").iterdir())
    content, host = path.read_bytes(), remote.os.environ["STORAGE_EMULATOR_HOST"]
    before = remote._counts()
    for place in (f"download/storage/v1/b/far/o/tar%2F{path.name}", f"far/tar/{path.name}"):
        asked = urllib.request.Request(f"{host}/{place}", headers={"Range": "bytes=100-299"})
        with urllib.request.urlopen(f"{host}/{place}") as whole:
            assert whole.read() == content
        with urllib.request.urlopen(asked) as part:
            assert part.read() == content[100:300]
            assert part.headers["Content-Range"] == f"bytes 100-299/{len(content)}"
    assert remote._counts() == [before[0] + 4, before[1] + 2 * (len(content) + 200)]
    looked = urllib.request.Request(f"{host}/far/tar/{path.name}", method="HEAD")
    with urllib.request.urlopen(looked) as answer:
        assert int(answer.headers["Content-Length"]) == len(content)
    with pytest.raises(urllib.error.HTTPError, match="404"):
        urllib.request.urlopen(f"{host}/far/tar/none.tar")


def test_what_grain_is_given_are_the_pictures_of_a_class_by_their_numbers(far_examples):
    # Not gcsfs.GCSFileSystem: where that was loaded before, it asks Google about the bucket.
    client = pytest.importorskip("gcsfs.core").GCSFileSystem
    store = client(token="anon", skip_instance_cache=True)
    pictures = list(synthetic_examples.pictures(60, 16))
    classes = np.minimum(synthetic_examples.labels(60), 1)
    for c in (0, 1):
        members = far_contenders.TarMembers(far_examples, c, store)
        expected = [picture for picture, of in zip(pictures, classes, strict=True) if of == c]
        assert len(members) == len(expected)
        for number in (len(members) - 1, 0):
            np.testing.assert_array_equal(members[number], expected[number])


@pytest.mark.parametrize("name", ["mosaicml-streaming, cold", "grain", "webdataset"])
def test_peers_read_an_epoch_of_a_far_store(far_examples, name):
    if missing := far_contenders.missing(name):
        pytest.skip(f"not installed: {', '.join(missing)}")
    found, _ = processes.run(remote.__file__, "whole", name, far_examples)
    assert found["samples/s"] > 0 and found["requests a sample"] > 0 and found["kB a sample"] > 0


def test_tf_data_by_hand_reads_an_epoch_of_a_far_store(far_examples, monkeypatch):
    """In this process, which has loaded TensorFlow."""
    client = pytest.importorskip("gcsfs.core").GCSFileSystem
    its_own = functools.partial(client, skip_instance_cache=True)
    monkeypatch.setattr("gcsfs.GCSFileSystem", its_own)
    found = remote.whole("tf.data", far_examples)
    assert found["samples/s"] > 0 and found["requests a sample"] > 0 and found["kB a sample"] > 0


def test_a_disk_that_seeks_is_read_in_order_and_by_us(tmp_path):
    text = run(
        "input_pipeline.remote",
        "--latencies=0",
        "--bandwidths=1000",
        "--reads=400",
        "--count=200",
        "--size=16",
        f"--work_dir={tmp_path}",
    )
    first, _, given, header, *rows = text.splitlines()
    assert first == "200 examples of 16 px, 0.00 GB" and given == "0 ms, 1000 MB/s"
    assert {"requests", "a", "sample", "x", "order"} < set(header.split())
    cells = [re.split(r"\s{2,}", row) for row in rows]
    assert [row[0] for row in cells] == ["in order", "ours, cold"]
    assert cells[0][-1] == "1.00" and float(cells[1][-1]) > 0


def test_plain_fit_scores_validation_as_the_run_does(tmp_path):
    data, workdir, experiment = tmp_path / "data", tmp_path / "run", quick(epochs=1)
    datasets.write(data, experiment.dataset)
    train.train(experiment, data_dir=data, workdir=workdir)
    table, plain = plain_fit.scores(data, workdir)
    assert table["target"].tolist() == 5 * [0] + 6 * [1]  # By the numbers of the examples.
    assert plain.shape == (11,) and np.all((plain > 0) & (plain < 1))
    assert not np.array_equal(plain, table["score"])
    assert len(plain_fit.table([("run", table, plain)])) == 1


def test_a_loss_that_is_further_off_than_its_bound_is_an_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(accelerator, "_DRIVERS", ())
    losses = {"float32": [0.5, 0.4], "mixed_bfloat16": [0.5, 0.4 * 1.049]}

    def measured(visible, function, *arguments):
        if function == "measure":
            way, _ = arguments
            figures = {"resident": 8.0, "piped": 4.0, "first": 1.0, "bytes": 2**20}
            return {"losses": losses[way["precision"]], **figures}

    monkeypatch.setattr(accelerator, "_run", measured)
    monkeypatch.setattr(sys, "argv", ["accelerator", f"--work_dir={tmp_path}"])
    accelerator.main()  # Each is within its bound.
    assert "0.0490" in capsys.readouterr().out
    with monkeypatch.context() as late:
        late.setattr(accelerator, "LATEST", -1.0)
        accelerator.main()
    told = capsys.readouterr().out
    assert "more than 8 minutes: mixed_bfloat16\n" in told and "0.0490" not in told
    losses["mixed_bfloat16"][1] = 0.4 * 1.051
    with pytest.raises(SystemExit, match=r"its bound: mixed_bfloat16: 0\.0510$"):
        accelerator.main()


def test_plain_fit_and_a_run_are_compared_on_the_same_resamples():
    rng = np.random.default_rng(3)
    target = np.repeat([0, 1], 30)
    score = target + rng.normal(0, 1, 60)
    run = pd.DataFrame({"target": target, "score": score, "cluster": np.arange(60)})
    other = target + rng.normal(0, 1, 60)
    rows = plain_fit.table([("same", run, 2 * score), ("other", run, other)])
    areas = [roc_auc_score(target, each) for each in (score, other)]
    assert rows["difference"]["same"] == "0.000 (0.000 to 0.000)"
    assert rows["model.fit"]["other"].startswith(f"{areas[1]:.3f} (")
    assert rows["difference"]["other"].startswith(f"{areas[1] - areas[0]:.3f} (")
    assert rows["model.fit"]["mean"].startswith(f"{np.mean(areas):.3f} (")
    value, low, high = (float(text) for text in re.findall(r"-?\d\.\d+", rows["model.fit"]["same"]))
    assert low < value < high
