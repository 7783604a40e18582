"""A build goes on where an earlier one stopped, and leaves those of others alone."""

import dataclasses
import os
import shutil
import time
from pathlib import Path

import pytest

from beam_jobs.build_examples import accounting, job
from dr_tfx.dataset import manifest
from dr_tfx.storage import files
from tests.helpers.builds import SPEC, build, contents
from tests.helpers.drawn import draw, encode


def test_finished_data_set_is_left_alone(raw, built, monkeypatch, caplog):
    caplog.set_level("INFO")
    before = {p: p.stat().st_mtime_ns for p in built.iterdir()}
    monkeypatch.setattr(job, "_run", lambda *_, **__: pytest.fail("worked"))
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
        "photographs.arrow",
        "index.npy",
        "rejects.csv",
        "contact_sheet.png",
        *("dataset_info.json", "features.json", "croissant.json", "label-level.labels.txt"),
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


@pytest.mark.parametrize("pattern", ["", "/*.jpeg", "/../r*/*.jpeg", "/../**/*.jpeg"])
def test_nothing_is_built_among_the_photographs(copy, pattern):
    before = contents(copy)
    place = {"image_dir": f"{copy}{pattern}", "labels": f"{copy}/labels.csv"}
    with pytest.raises(ValueError, match=r"--output_dir=.*/raw is the folder of the photographs"):
        job.build(SPEC, **place, output_dir=str(copy))
    assert contents(copy) == before


@pytest.mark.parametrize("out", ["raw/out", "."])
def test_a_contact_sheet_is_no_photograph(copy, tmp_path, out):
    for _ in range(2):  # The second time, it is there.
        made = build(copy, tmp_path / out)
        assert (made.written, made.unlabelled) == (40, 0)
    place = {"image_dir": f"{tmp_path}/**/*", "labels": f"{copy}/labels.csv"}
    made = job.build(SPEC, **place, output_dir=f"{tmp_path}/other")
    assert (made.written, made.unlabelled) == (40, 0)


@pytest.mark.parametrize("out, why", [("file", "file is a file"), ("file/data", "file is a file")])
def test_an_output_folder_that_cannot_be_made_is_refused_by_its_flag(raw, tmp_path, out, why):
    (tmp_path / "file").write_bytes(b"mine")
    with pytest.raises(ValueError, match=f"--output_dir=.*{out} cannot be used: .*{why}. Exp"):
        build(raw, tmp_path / out)
    assert contents(tmp_path) == {"file": b"mine"}


def test_an_output_folder_that_may_not_be_written_is_refused(raw, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, _: Path(path) != tmp_path)
    with pytest.raises(ValueError, match="--output_dir=.* may not be written. Expected a folder"):
        build(raw, tmp_path / "data" / "more")


def test_a_dataset_json_that_is_none_is_named_and_left_alone(raw, tmp_path):
    path = tmp_path / manifest.FILE_NAME
    for text in ('{"fingerprint": "x', '{"fingerprint": "x", "near_twins": [3]}'):
        path.write_text(text)
        with pytest.raises(ValueError, match=rf"^{path} .*damaged.* --overwrite"):
            build(raw, tmp_path)
        assert path.read_text() == text


@pytest.mark.parametrize("name", ["dataset.json", "rejects.csv", "contact_sheet.png"])
def test_a_file_that_no_build_made_is_never_replaced(raw, tmp_path, name):
    (tmp_path / name).write_text('{"of": "somebody else"}')
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=f"holds {name}, which no build made.*--output_dir"):
            build(raw, tmp_path, overwrite=overwrite)
    assert contents(tmp_path) == {name: b'{"of": "somebody else"}'}


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
    finish = accounting.finish
    monkeypatch.setattr(accounting, "finish", lambda *_: None)  # Killed before the end.
    build(raw, out)
    with pytest.raises(ValueError, match=r"dataset.shard_examples was 4 and is 5"):
        build(raw, out, spec=dataclasses.replace(SPEC, shard_examples=5))
    cut, gone, unsaid, *others = sorted(out.glob("*.tfrecord-*"))
    cut.write_bytes(cut.read_bytes()[:-1])
    gone.unlink()
    (out / "_progress" / f"{unsaid.name}.shard.json").unlink()
    (out / f".{cut.name}.{'0' * 32}.tmp").write_bytes(b"left by a killed worker")
    kept = {path: path.stat().st_ino for path in others}
    monkeypatch.setattr(accounting, "finish", finish)
    build(raw, out)
    assert f"{len(others)} of {len(others) + 3} shards were finished before" in caplog.text
    assert {path: path.stat().st_ino for path in others} == kept
    assert contents(out) == contents(built)


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


def test_state_without_its_claim_is_not_trusted(raw, built, tmp_path, monkeypatch):
    out = tmp_path / "out"
    with monkeypatch.context() as killed:
        killed.setattr(accounting, "finish", lambda *_: None)
        build(raw, out)
    (out / "_progress" / "plan.json").unlink()
    for shard in out.glob("*.tfrecord-*"):
        shard.unlink()
    other = dataclasses.replace(SPEC, recipe=dataclasses.replace(SPEC.recipe, clip_limit=3.0))
    build(raw, out, spec=other)
    build(raw, tmp_path / "straight", spec=other)
    assert contents(out) == contents(tmp_path / "straight") != contents(built)


def test_the_claim_is_the_last_of_the_state_to_go(raw, tmp_path, monkeypatch):
    gone: list[str] = []
    delete = files.delete
    monkeypatch.setattr(
        files,
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
        killed.setattr(accounting, "finish", lambda *_: None)
        build(copy, tmp_path / "out")
    shards = len(list((tmp_path / "out").glob("*.tfrecord-*")))
    other_pixels(copy / "12_left.jpeg")
    build(copy, tmp_path / "out")
    assert f"{shards - 1} of {shards} shards were finished before" in caplog.text
    build(copy, tmp_path / "straight")
    assert contents(tmp_path / "out") == contents(tmp_path / "straight")
    caplog.clear()
    build(copy, tmp_path / "out")  # The photograph is still dated in the future, as it was.
    assert "nothing to do" in caplog.text
    other_pixels(copy / "12_left.jpeg", seconds_later=120)
    with pytest.raises(ValueError, match="12_left.jpeg was changed after"):
        build(copy, tmp_path / "out")


def test_a_shard_with_rejects_is_finished_too(copy, tmp_path, monkeypatch, caplog):
    caplog.set_level("INFO")
    (copy / "12_left.jpeg").write_bytes(b"garbage")
    spec = dataclasses.replace(SPEC, max_reject_rate=0.5)
    with monkeypatch.context() as killed:
        killed.setattr(accounting, "finish", lambda *_: None)
        build(copy, tmp_path / "out", spec=spec)
    monkeypatch.setattr(job, "_run", lambda *_, **__: pytest.fail("worked"))
    assert build(copy, tmp_path / "out", spec=spec).rejected == {"unreadable": 1}
    assert "shards were finished before" in caplog.text
