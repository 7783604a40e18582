"""The build job: accounting, bad input, resume, and bytes that do not depend on the runner."""

import collections
import csv
import dataclasses
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from apache_beam.options.pipeline_options import PipelineOptions
from apache_beam.runners.portability.fn_api_runner import FnApiRunner
from conftest import SHARED_DATA, draw, encode, eyepacs_like

from beam_jobs import build_examples
from configs import dr_binary, reference
from dr_tfx import images, manifest, records, specs

ROOT = Path(__file__).parents[1]
SPEC = eyepacs_like()
MAIN = [sys.executable, "-m", "beam_jobs.build_examples_main"]
OVERRIDES = [
    "--config=configs/reference.py",
    "--config.dataset.recipe.size=32",
    "--config.dataset.shard_examples=1",
    "--config.dataset.split.validation=0.25",
]


def build(raw: Path, output_dir: Path, *, spec: specs.DatasetSpec = SPEC, **kwargs):
    return build_examples.build(
        spec,
        image_dir=str(raw),
        labels=str(raw / "labels.csv"),
        output_dir=str(output_dir),
        **kwargs,
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def command(*arguments: str, **kwargs) -> subprocess.CompletedProcess:
    return subprocess.run(
        [*MAIN, *arguments], cwd=ROOT, capture_output=True, text=True, check=False, **kwargs
    )


@pytest.fixture(scope="session")
def built(raw, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("built")
    build(raw, folder)
    return folder


def test_every_photograph_is_written_once_as_the_recipe_makes_it(raw, built):
    made = manifest.load(built)
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
            pixels = images.apply_recipe((raw / f"{name}.jpeg").read_bytes(), SPEC.recipe).rgb
            assert example == {
                "image/encoded": pixels.tobytes(),
                "image/format": b"raw",
                "image/id": name.encode(),
                "image/patient": name.split("_")[0].encode(),
                "label/level": int(labels[name]),
            }
            assert example["label/level"] == shard.label
    assert sorted(seen) == sorted(labels)


def test_manifest_says_what_is_there(raw, built):
    made = manifest.load(built)
    assert (made.rows, made.written, made.rejected, made.unlabelled) == (40, 40, {}, 0)
    assert made.dataset == SPEC and made.shared_patients == 0
    assert made.patients == {"train": 15, "validation": 5}
    counts = Counter()
    for shard in made.shards:
        counts[shard.split, SPEC.label_names[shard.label]] += shard.records
    flat = {(s, name): n for s, names in made.counts.items() for name, n in names.items()}
    assert flat == counts and sum(flat.values()) == 40
    assert (built / "rejects.csv").read_text() == "id,path,reason,detail\n"
    beside = {"dataset.json", "rejects.csv", "contact_sheet.png"}
    assert set(contents(built)) == beside | {s.name for s in made.shards}


@pytest.mark.parametrize("workers", [1, 2, 3])
def test_processes_write_the_same_bytes(raw, built, tmp_path, workers):
    flags = ["--direct_running_mode=multi_processing", f"--direct_num_workers={workers}"]
    build(raw, tmp_path / "out", options=PipelineOptions([*flags, "--runner=DirectRunner"]))
    assert contents(tmp_path / "out") == contents(built)


def test_worker_and_driver_start_without_tensorflow():
    code = (
        "import sys; import beam_jobs.build_examples_main;"
        "print({'tensorflow', 'keras'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True)
    assert done.stdout == "set()\n", done.stderr


def test_every_row_is_accounted_for(copy, tmp_path):
    with (copy / "labels.csv").open("a") as stream:
        stream.write(
            "10_left.jpeg,1\n"  # The same label again: the later row is rejected.
            "11_left,0\n"  # 11_left is 2 above: both rows are rejected.
            "90_left,two\n90_right,\n90_up,1.5\n"
            "91_left,3\n91_right,-1\n"
            "92_left,1\n"
        )
    black = np.zeros((120, 160, 3), np.uint8)
    (copy / "12_left.jpeg").write_bytes(encode(draw(0))[:900])
    (copy / "13_left.jpeg").write_bytes(encode(black))
    (copy / "14_left.jpeg").write_bytes(b"")
    (copy / "15_left.PNG").write_bytes(encode(draw(1), ".png"))
    (copy / "stray.tif").write_bytes(encode(draw(1), ".tif"))
    (copy / "notes.txt").write_text("not a photograph")
    expected = {
        ("10_left", "duplicate_id"): 1,
        ("11_left", "duplicate_id"): 2,
        ("90_left", "label_not_an_integer"): 1,
        ("90_right", "label_not_an_integer"): 1,
        ("90_up", "label_not_an_integer"): 1,
        ("91_left", "label_out_of_range"): 1,
        ("91_right", "label_out_of_range"): 1,
        ("92_left", "missing_image"): 1,
        ("12_left", "unreadable"): 1,
        ("13_left", "ungradable:black"): 1,
        ("14_left", "unreadable"): 1,
        ("15_left", "ambiguous_image"): 1,
    }
    made = build(copy, tmp_path / "out", spec=dataclasses.replace(SPEC, max_reject_rate=0.5))
    table = list(csv.DictReader((tmp_path / "out" / "rejects.csv").open()))
    assert Counter((row["id"], row["reason"]) for row in table) == expected
    assert all(row["detail"] for row in table)
    black = {r["path"] for r in table if r["reason"] == "ungradable:black"}
    assert black == {f"{copy}/13_left.jpeg"}
    assert made.rows == 48 == made.written + len(table)
    assert made.rejected == Counter(reason for _, reason in expected) + Counter({"duplicate_id": 1})
    assert made.unlabelled == 1
    assert sum(shard.records for shard in manifest.load(tmp_path / "out").shards) == made.written


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


def test_a_shard_without_any_example_is_no_file(copy, tmp_path):
    spec = dataclasses.replace(SPEC, shard_examples=1, max_reject_rate=0.5)
    (copy / "12_left.jpeg").write_bytes(b"garbage")
    made = build(copy, tmp_path / "out", spec=spec)
    assert len(made.shards) == 39 == len(list((tmp_path / "out").glob("*.tfrecord-*")))


def test_too_many_rejects_fail_after_the_list_is_written(copy, tmp_path):
    for name in ("12_left", "13_right"):
        (copy / f"{name}.jpeg").write_bytes(b"garbage")
    with pytest.raises(ValueError, match=r"2 of 40 .*max_reject_rate=0.02.*2 unreadable") as caught:
        build(copy, tmp_path / "out")
    assert "12_left, 13_right" in str(caught.value)
    assert str(tmp_path / "out" / "rejects.csv") in str(caught.value)
    assert len((tmp_path / "out" / "rejects.csv").read_text().splitlines()) == 3
    assert not (tmp_path / "out" / "dataset.json").exists()
    # As the message says: the same command with another limit goes on, without any work.
    forgiving = dataclasses.replace(SPEC, max_reject_rate=0.1)
    assert build(copy, tmp_path / "out", spec=forgiving).written == 38


def test_hopeless_labels_fail_before_any_work(copy, tmp_path, monkeypatch):
    with (copy / "labels.csv").open("a") as stream:
        stream.write("90_left,x\n" * 3)
    monkeypatch.setattr(build_examples, "_run", lambda *_, **__: pytest.fail("worked"))
    with pytest.raises(ValueError, match="3 label_not_an_integer"):
        build(copy, tmp_path / "out")
    assert (tmp_path / "out" / "rejects.csv").exists()


def test_finished_data_set_is_left_alone(raw, built, monkeypatch, caplog):
    caplog.set_level("INFO")
    before = {p: p.stat().st_mtime_ns for p in built.iterdir()}
    monkeypatch.setattr(build_examples, "_run", lambda *_, **__: pytest.fail("worked"))
    assert build(raw, built) == manifest.load(built)
    assert "nothing to do" in caplog.text
    assert {p: p.stat().st_mtime_ns for p in built.iterdir()} == before


def test_another_build_in_the_same_folder_is_refused(raw, copy, built, tmp_path):
    out = Path(shutil.copytree(built, tmp_path / "out"))
    recipe = dataclasses.replace(SPEC.recipe, size=48)
    other = dataclasses.replace(SPEC, recipe=recipe)
    before = contents(out)
    with pytest.raises(ValueError, match=r"dataset.recipe.size was 32 and is 48.*--overwrite"):
        build(raw, out, spec=other)
    (copy / "12_left.jpeg").write_bytes(encode(draw(99)))
    with pytest.raises(
        ValueError, match=r"otherwise: the photographs \(names or sizes\) are not the same\. Ch"
    ):
        build(copy, out)
    assert contents(out) == before
    (out / "mine.txt").write_text("kept")
    made = build(raw, out, spec=other, overwrite=True)
    assert made.dataset.recipe.size == 48 and (out / "mine.txt").read_text() == "kept"
    assert set(contents(out)) == {
        "dataset.json",
        "rejects.csv",
        "contact_sheet.png",
        "mine.txt",
        *(s.name for s in made.shards),
    }


def test_a_refused_folder_says_which_input_is_another(copy, tmp_path):
    out = tmp_path / "out"
    padded = (copy / "28_left.jpeg").read_bytes() + bytes(100_000)
    (copy / "10_left.jpeg").write_bytes(bytes([*padded[:-1], 1]))
    (copy / "28_left.jpeg").write_bytes(padded)
    build(copy, out)
    # Of the same size, but now byte-identical: their patients may not be parted any more.
    (copy / "10_left.jpeg").write_bytes(padded)
    with pytest.raises(ValueError, match="otherwise: the contents of the photographs"):
        build(copy, out)
    (copy / "12_left.jpeg").write_bytes((copy / "12_left.jpeg").read_bytes() + b" ")
    with pytest.raises(ValueError, match=r"otherwise: the photographs \(names or sizes\) are not"):
        build(copy, out)
    labels = (copy / "labels.csv").read_text()
    (copy / "labels.csv").write_text(labels.replace("12_left,0", "12_left,1"))
    both = "otherwise: the label CSV's rows are not the same; the photographs .* are not the same"
    with pytest.raises(ValueError, match=both):
        build(copy, out)


def test_finished_data_set_with_a_damaged_shard_is_refused(raw, built, tmp_path):
    out = Path(shutil.copytree(built, tmp_path / "out"))
    next(out.glob("*.tfrecord-*")).unlink()
    with pytest.raises(FileNotFoundError, match=r"missing.*--overwrite"):
        build(raw, out)
    build(raw, out, overwrite=True)
    assert contents(out) == contents(built)


def test_resume_builds_only_what_is_missing(raw, built, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    out = tmp_path / "out"
    finish = build_examples._finish
    monkeypatch.setattr(build_examples, "_finish", lambda *_: None)  # Killed before the end.
    build(raw, out)
    with pytest.raises(ValueError, match=r"dataset.shard_examples was 4 and is 5"):
        build(raw, out, spec=dataclasses.replace(SPEC, shard_examples=5))
    cut, gone, unsaid, *others = sorted(out.glob("*.tfrecord-*"))
    cut.write_bytes(cut.read_bytes()[:-1])
    gone.unlink()
    (out / "_progress" / f"{unsaid.name}.shard.json").unlink()
    (out / f".{cut.name}.{'0' * 32}.tmp").write_bytes(b"left by a killed worker")
    kept = {path: path.stat().st_ino for path in others}
    monkeypatch.setattr(build_examples, "_finish", finish)
    build(raw, out)
    assert f"{len(others)} of {len(others) + 3} shards were finished before" in caplog.text
    assert {path: path.stat().st_ino for path in others} == kept
    assert contents(out) == contents(built)


def test_killed_job_goes_on_to_the_same_bytes(raw, tmp_path):
    arguments = [*OVERRIDES, f"--image_dir={raw}", f"--labels={raw / 'labels.csv'}"]
    killed = tmp_path / "killed"
    job = subprocess.Popen(
        [*MAIN, *arguments, f"--output_dir={killed}"],
        cwd=ROOT,
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
        (["--labels=x.csv"], "--image_dir, --output_dir must be given"),
        (["--labels=x.csv", "--plan", "--config.dataset.shard_examples=0"], "shard_examples"),
    ],
)
def test_wrong_flags_stop_before_any_work(arguments, message):
    done = command("--config=configs/reference.py", *arguments)
    assert done.returncode != 0 and message in done.stdout + done.stderr
    assert "Traceback" not in done.stderr


def test_a_mended_photograph_is_tried_again_though_its_size_is_the_same(copy, tmp_path):
    photograph = copy / "12_left.jpeg"
    good = photograph.read_bytes()
    photograph.write_bytes(bytes(len(good)))
    strict = dataclasses.replace(SPEC, max_reject_rate=0.0)
    with pytest.raises(ValueError, match="1 of 40 rows were rejected"):
        build(copy, tmp_path / "data", spec=strict)
    photograph.write_bytes(good)
    made = build(copy, tmp_path / "data", spec=strict)
    assert (made.written, made.rejected) == (40, {})


@pytest.mark.parametrize("config", [reference, dr_binary])
def test_real_photographs_are_all_accounted_for_and_twins_kept_together(config, tmp_path):
    grading = SHARED_DATA / "idrid" / "grading"
    if not grading.is_dir():
        pytest.skip(f"no real photographs at {grading}")
    made = build_examples.build(
        specs.from_config(config.get_config()).dataset,
        image_dir=str(grading / "images"),
        labels=str(grading / "labels.csv"),
        output_dir=str(tmp_path),
    )
    assert made.rows == 413 == made.written + sum(made.rejected.values())
    assert sum(shard.records for shard in made.shards) == made.written
    by_hash = collections.defaultdict(list)
    for path in sorted((grading / "images").iterdir()):
        by_hash[hashlib.sha256(path.read_bytes()).hexdigest()].append(path.stem)
    twins = sorted(group for group in by_hash.values() if len(group) > 1)
    assert [twin["ids"] for twin in made.twins] == twins and len(twins) == 5
    assert all(len(set(twin["splits"])) == 1 for twin in made.twins)


def test_arrays_become_the_shards_of_their_photographs(raw, tmp_path):
    recipe = specs.Recipe(name="reference", size=32)
    names = sorted(path.stem for path in raw.glob("*.jpeg"))
    levels = dict(list(csv.reader((raw / "labels.csv").open()))[1:])
    pixels = [images.apply_recipe((raw / f"{n}.jpeg").read_bytes(), recipe).rgb for n in names]
    np.save(tmp_path / "X.npy", np.stack(pixels).astype(np.float32) / 255)
    np.save(tmp_path / "y.npy", np.array([int(levels[name]) for name in names]))
    arrays = [f"--npy_images={tmp_path / 'X.npy'}", f"--npy_labels={tmp_path / 'y.npy'}"]
    done = command(*OVERRIDES, *arrays, f"--output_dir={tmp_path / 'out'}")
    assert done.returncode == 0, done.stderr
    made, seen = manifest.load(tmp_path / "out"), {}
    for shard in made.shards:
        with (tmp_path / "out" / shard.name).open("rb") as stream:
            for record in records.read(stream):
                example = records.parse(record)
                seen[example["image/id"].decode()] = example["image/encoded"], shard.label
    assert seen == {
        f"X-{row:07d}": (picture.tobytes(), int(levels[name]))
        for row, (name, picture) in enumerate(zip(names, pixels, strict=True))
    }


@pytest.mark.parametrize("gate", ["count", "reject"])
def test_what_the_gate_flags_is_counted_and_shown(copy, tmp_path, gate):
    (copy / "12_left.jpeg").write_bytes(encode(np.zeros((120, 160, 3), np.uint8)))
    (copy / "13_left.jpeg").write_bytes(encode(np.full((120, 160, 3), 255, np.uint8)))
    spec = dataclasses.replace(eyepacs_like(quality_gate=gate), max_reject_rate=0.5)
    made = build(copy, tmp_path / "out", spec=spec)
    flagged = {"ungradable:black": 1, "ungradable:blown_out": 1}
    kept = gate == "count"
    assert (made.ungradable, made.rejected) == ((flagged, {}) if kept else ({}, flagged))
    assert made.written == (40 if kept else 38)
    gallery = cv2.imread(str(tmp_path / "out" / "ungradable.png"))
    assert gallery is not None and (gallery == 0).all(axis=2).any()  # The black photograph.


def test_state_without_its_claim_is_not_trusted(raw, built, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as killed:
        killed.setattr(build_examples, "_finish", lambda *_: None)
        build(raw, out)
    (out / "_progress" / "plan.json").unlink()
    other = dataclasses.replace(SPEC, recipe=dataclasses.replace(SPEC.recipe, clip_limit=3.0))
    build(raw, out, spec=other)
    build(raw, tmp_path / "straight", spec=other)
    assert contents(out) == contents(tmp_path / "straight") != contents(built)


def test_the_claim_is_the_last_of_the_state_to_go(raw, tmp_path, monkeypatch):
    gone: list[str] = []
    delete = build_examples.output.delete
    monkeypatch.setattr(
        build_examples.output,
        "delete",
        lambda *paths: gone.extend(Path(path).name for path in paths) or delete(*paths),
    )
    build(raw, tmp_path / "out")
    gone.clear()
    build(raw, tmp_path / "out", overwrite=True)
    deleted = [name for name in gone if not name.endswith((".tmp", ".live"))]
    assert deleted[0] == "dataset.json" and deleted[-1] == "plan.json"


def test_overwrite_deletes_nothing_for_labels_that_cannot_be_used(copy, tmp_path):
    build(copy, tmp_path / "out")
    before = contents(tmp_path / "out")
    lines = (copy / "labels.csv").read_text().splitlines()
    bad = [line.replace(",", ",x") for line in lines[1:21]]
    (copy / "labels.csv").write_text("\n".join([lines[0], *bad, *lines[21:]]))
    with pytest.raises(ValueError, match="20 of 40 rows were rejected"):
        build(copy, tmp_path / "out", overwrite=True)
    assert contents(tmp_path / "out") == before


def test_other_contents_of_the_same_size_are_refused(raw, tmp_path):
    (tmp_path / "raw").mkdir()
    for i, path in enumerate(sorted(raw.glob("*.jpeg"))):
        (tmp_path / "raw" / f"{path.stem}.bmp").write_bytes(encode(draw(i), ".bmp"))
    shutil.copy(raw / "labels.csv", tmp_path / "raw" / "labels.csv")
    build(tmp_path / "raw", tmp_path / "out")
    (tmp_path / "raw" / "12_left.bmp").write_bytes(encode(draw(99), ".bmp"))
    with pytest.raises(ValueError, match="the contents of the photographs are not the same"):
        build(tmp_path / "raw", tmp_path / "out")


def other_pixels(photograph: Path, *, seconds_later: float = 60) -> None:
    """Another photograph of the very same size, as if written a minute from now."""
    size = photograph.stat().st_size
    made = next(data for i in range(100, 900) if len(data := encode(draw(i))) <= size)
    photograph.write_bytes(made + bytes(size - len(made)))
    later = time.time() + seconds_later
    os.utime(photograph, (later, later))


def test_a_photograph_changed_after_the_build_is_refused_though_its_size_is_the_same(
    copy, tmp_path
):
    build(copy, tmp_path / "out")
    other_pixels(copy / "12_left.jpeg")
    with pytest.raises(ValueError, match=r"raw/12_left.jpeg was changed after .*--overwrite"):
        build(copy, tmp_path / "out")


def test_a_photograph_changed_before_a_resume_is_built_again(copy, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    with monkeypatch.context() as killed:
        killed.setattr(build_examples, "_finish", lambda *_: None)
        build(copy, tmp_path / "out")
    shards = len(list((tmp_path / "out").glob("*.tfrecord-*")))
    other_pixels(copy / "12_left.jpeg")
    build(copy, tmp_path / "out")
    assert f"{shards - 1} of {shards} shards were finished before" in caplog.text
    build(copy, tmp_path / "straight")
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")


def test_photographs_without_a_row_are_listed(copy, tmp_path):
    for name in ("stray.tif", "Ärztin 1.png"):
        (copy / name).write_bytes(encode(draw(1), Path(name).suffix))
    build(copy, tmp_path / "out")
    text = (tmp_path / "out" / "unlabelled.csv").read_text(encoding="utf-8")
    assert text == "name\nstray.tif\nÄrztin 1.png\n"


def test_split_by_hash_finds_byte_identical_files_afterwards(copy, tmp_path, caplog):
    shutil.copy(copy / "10_left.jpeg", copy / "21_right.jpeg")
    spec = dataclasses.replace(SPEC, split=specs.Split(method="hash", validation=0.4))
    made = build(copy, tmp_path / "out", spec=spec)
    (twin,) = made.twins
    split_of = {
        record: shard.split
        for shard in made.shards
        for record in ids(tmp_path / "out" / shard.name)
    }
    assert twin["ids"] == ["10_left", "21_right"]
    assert twin["splits"] == [split_of["10_left"], split_of["21_right"]]
    assert ("are in different splits" in caplog.text) == (len(set(twin["splits"])) == 2)


def ids(shard: Path) -> list[str]:
    with shard.open("rb") as stream:
        return [records.parse(record)["image/id"].decode() for record in records.read(stream)]


def test_a_shard_with_rejects_is_finished_too(copy, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    (copy / "12_left.jpeg").write_bytes(b"garbage")
    spec = dataclasses.replace(SPEC, max_reject_rate=0.5)
    with monkeypatch.context() as killed:
        killed.setattr(build_examples, "_finish", lambda *_: None)
        build(copy, tmp_path / "out", spec=spec)
    monkeypatch.setattr(build_examples, "_run", lambda *_, **__: pytest.fail("worked"))
    assert build(copy, tmp_path / "out", spec=spec).rejected == {"unreadable": 1}
    assert "shards were finished before" in caplog.text


def test_a_photograph_that_vanishes_during_the_build_is_a_reject(copy, tmp_path, monkeypatch):
    run = build_examples._run

    def vanish(*args):
        (copy / "12_left.jpeg").unlink()
        run(*args)

    monkeypatch.setattr(build_examples, "_run", vanish)
    made = build(copy, tmp_path / "out", spec=dataclasses.replace(SPEC, max_reject_rate=0.5))
    assert made.rejected == {"unreadable": 1} and made.written == 39
    line = (tmp_path / "out" / "rejects.csv").read_text().splitlines()[1]
    assert line == f"12_left,{copy}/12_left.jpeg,unreadable,No such file or directory"
