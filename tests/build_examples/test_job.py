"""The build job: what a shard holds, and bytes that do not depend on the runner."""

import csv
import dataclasses
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from PIL import Image

from beam_jobs.build_examples import job
from dr_tfx.config import specs
from dr_tfx.dataset import manifest, records
from dr_tfx.preprocessing import recipes
from tests.helpers import ready
from tests.helpers.builds import SPEC, build, contents

ROOT = Path(__file__).parents[2]
MAIN = [sys.executable, "-m", "beam_jobs.cli.build_examples"]
OVERRIDES = [
    "--config=configs/reference.py",
    "--config.dataset.recipe.size=32",
    "--config.model.output_stride=16",
    "--config.dataset.shard_examples=1",
    "--config.dataset.split.validation=0.25",
]


def command(*arguments: str, **kwargs) -> subprocess.CompletedProcess:
    return ready.run([*MAIN, *arguments], **kwargs)


def test_every_photograph_is_written_once_as_the_recipe_makes_it(raw, built):
    made = manifest.load(built)
    assert made.prepared == "by recipe"
    labels = dict(list(csv.reader((raw / "labels.csv").open()))[1:])
    seen = []
    for shard in made.shards:
        with (built / shard.name).open("rb") as stream:
            examples = [records.parse(record) for record in records.read(stream)]
        assert len(examples) == shard.records
        ids = [e[records.IMAGE_ID].decode() for e in examples]
        assert ids == sorted(ids)
        seen += ids
        for name, example in zip(ids, examples, strict=True):
            file = raw / f"{name}.jpeg"
            pixels = recipes.apply_recipe(file.read_bytes(), SPEC.recipe).rgb
            width, height = Image.open(file).size
            assert example == {
                "image/encoded": pixels.tobytes(),
                "image/format": b"raw",
                "image/id": name.encode(),
                "image/patient": name.split("_")[0].encode(),
                "label/level": int(labels[name]),
                "photograph/bytes": file.stat().st_size,
                "photograph/width": width,
                "photograph/height": height,
            }
            assert example["label/level"] == shard.label
    assert sorted(seen) == sorted(labels)


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_processes_write_the_same_bytes(raw, built, tmp_path, workers):
    flags = ["--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
    build(raw, tmp_path / "out", options=PipelineOptions([*flags, "--runner=DirectRunner"]))
    assert contents(tmp_path / "out") == contents(built)


def test_worker_and_driver_start_without_tensorflow():
    code = (
        "import sys; import beam_jobs.cli.build_examples;"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_counters_of_beam_agree(copy, tmp_path, monkeypatch):
    results = []
    run = FnApiRunner.run_pipeline
    monkeypatch.setattr(
        FnApiRunner,
        "run_pipeline",
        lambda *args: results.append(run(*args)) or results[-1],
    )
    (copy / "12_left.jpeg").write_bytes(b"garbage")
    build(copy, tmp_path / "out", spec=dataclasses.replace(SPEC, max_reject_rate=0.5))
    counters = results[0].metrics().query()["counters"]
    found = {c.key.metric.name: c.committed for c in counters}
    assert found["written"] == 39 and found["rejected/unreadable"] == 1


def test_hopeless_labels_fail_before_any_work(copy, tmp_path, monkeypatch):
    with (copy / "labels.csv").open("a") as stream:
        stream.write("90_left,x\n" * 3)
    monkeypatch.setattr(job, "_run", lambda *_, **__: pytest.fail("worked"))
    with pytest.raises(ValueError, match="3 unknown_label.* Mend them, or raise"):
        build(copy, tmp_path / "out")
    assert (tmp_path / "out" / "rejects.csv").exists()


def test_killed_job_goes_on_to_the_same_bytes(raw, tmp_path):
    arguments = [*OVERRIDES, f"--image_dir={raw}", f"--labels={raw / 'labels.csv'}"]
    killed = tmp_path / "killed"
    job = ready.Popen(
        [*MAIN, *arguments, f"--output_dir={killed}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 60
    while not list(killed.glob("_progress/train-*.shard.json")):  # The first finished shard.
        assert time.monotonic() < deadline and job.poll() is None
        time.sleep(0.001)
    os.kill(job.pid, signal.SIGKILL)
    job.wait()
    assert not (killed / "dataset.json").exists()
    again = command(*arguments, f"--output_dir={killed}")
    assert again.returncode == 0 and "resuming: " in again.stderr, again.stderr
    assert again.stdout.splitlines()[-1] == str(killed)
    build(raw, tmp_path / "straight", spec=manifest.load(killed).dataset)
    assert contents(killed) == contents(tmp_path / "straight")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--labels=nowhere.csv", "--plan"], "error: nowhere.csv does not exist"),
        (["--labels=x.csv", "--plan", "--imagedir=y"], "--imagedir=y"),
        (["--npy_images=x.npy", "--plan"], "error: --npy_labels must be given"),
        (["--npy_images=x.npy"], "error: --npy_labels, --output_dir must be given"),
        (["--npy_labels=y.npy"], "error: --npy_images, --output_dir must be given"),
        (["--labels=x.csv"], "--image_dir, --output_dir must be given"),
        (["--labels=x.csv", "--plan", "--config.dataset.shard_examples=0"], "shard_examples"),
    ],
)
def test_wrong_flags_stop_before_any_work(arguments, message):
    done = command("--config=configs/reference.py", *arguments)
    assert done.returncode != 0 and message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_arrays_become_the_shards_of_their_photographs(raw, tmp_path):
    recipe = specs.Recipe(name="reference", size=32)
    names = sorted(path.stem for path in raw.glob("*.jpeg"))
    levels = dict(list(csv.reader((raw / "labels.csv").open()))[1:])
    pixels = [recipes.apply_recipe((raw / f"{n}.jpeg").read_bytes(), recipe).rgb for n in names]
    np.save(tmp_path / "X.npy", np.stack(pixels).astype(np.float32) / 255)
    np.save(tmp_path / "y.npy", np.array([int(levels[name]) for name in names]))
    arrays = [f"--npy_images={tmp_path / 'X.npy'}", f"--npy_labels={tmp_path / 'y.npy'}"]
    done = command(*OVERRIDES, *arrays, f"--output_dir={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    made, seen = manifest.load(tmp_path / "out"), {}
    assert made.prepared == "elsewhere" and made.ungradable == {}
    for shard in made.shards:
        with (tmp_path / "out" / shard.name).open("rb") as stream:
            for record in records.read(stream):
                example = records.parse(record)
                seen[example["image/id"].decode()] = example["image/encoded"], shard.label
    assert seen == {
        f"X-{row:07d}": (picture.tobytes(), int(levels[name]))
        for row, (name, picture) in enumerate(zip(names, pixels, strict=True))
    }
