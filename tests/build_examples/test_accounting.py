"""Every row is written or rejected, and the manifest says which."""

import collections
import csv
import dataclasses
import hashlib
import shutil
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest

from beam_jobs.build_examples import job
from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest, records
from tests.helpers import configs
from tests.helpers.builds import SPEC, build, contents
from tests.helpers.drawn import SHARED_DATA, draw, encode, eyepacs_like


def test_manifest_says_what_is_there(raw, built):
    made = manifest.load(built)
    assert (made.rows, made.written, made.rejected, made.unlabelled) == (40, 40, {}, 0)
    assert made.dataset == SPEC and made.shared_patients == 0
    assert made.patients == {"train": 15, "validation": 5} and made.unknown_patients == 0
    unknown = dataclasses.replace(made, unknown_patients=40).describe()
    assert "the patients of 40 of 40 photographs are not known" in unknown
    assert "not known" not in made.describe()
    counts = Counter()
    for shard in made.shards:
        counts[shard.split, SPEC.label_names[shard.label]] += shard.records
    flat = {(s, name): n for s, names in made.counts.items() for name, n in names.items()}
    assert flat == counts and sum(flat.values()) == 40
    assert (built / "rejects.csv").read_text() == "id,path,reason,detail\n"
    beside = {
        *("dataset.json", "photographs.arrow", "index.npy"),
        *("rejects.csv", "contact_sheet.png"),
        *("dataset_info.json", "features.json", "croissant.json", "label-level.labels.txt"),
    }
    assert set(contents(built)) == beside | {s.name for s in made.shards}


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
        ("90_left", "unknown_label"): 1,
        ("90_right", "missing_label"): 1,
        ("90_up", "unknown_label"): 1,
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
    assert "Mend them and pass --overwrite, or" in str(caught.value)
    assert str(tmp_path / "out" / "rejects.csv") in str(caught.value)
    assert len((tmp_path / "out" / "rejects.csv").read_text().splitlines()) == 3
    assert not (tmp_path / "out" / "dataset.json").exists()
    # As the message says: the same command with another limit goes on, without any work.
    forgiving = dataclasses.replace(SPEC, max_reject_rate=0.1)
    assert build(copy, tmp_path / "out", spec=forgiving).written == 38


@pytest.mark.parametrize("config", ["reference", "dr_binary"])
def test_real_photographs_are_all_accounted_for_and_twins_kept_together(config, tmp_path):
    grading = SHARED_DATA / "idrid" / "grading"
    if not grading.is_dir():
        pytest.skip(f"no real photographs at {grading}")
    made = job.build(
        tasks.from_config(configs.load(config)).dataset,
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


def test_photographs_that_use_12_of_16_bits_are_shown_and_counted(copy, tmp_path):
    """They give what their upper 8 bits give, and are not black."""
    image = draw(4)
    image[0, 0], image[60, 80] = 0, 255  # The darkest and the brightest value.
    for name, made in (("12_left", image.astype(np.uint16) * 16 + 15), ("13_left", image)):
        (copy / f"{name}.jpeg").write_bytes(encode(made, ".png"))  # The content decides.
    spec = dataclasses.replace(eyepacs_like(), max_reject_rate=0.0)
    made = build(copy, tmp_path / "out", spec=spec)
    assert (made.written, made.spread, made.ungradable) == (40, 1, {})
    pictures = {}
    for shard in made.shards:
        with (tmp_path / "out" / shard.name).open("rb") as stream:
            pictures |= dict(records.read_images(stream, spec.recipe.size))
    np.testing.assert_allclose(pictures["12_left"].astype(int), pictures["13_left"], atol=2)


def test_damage_that_a_decoder_only_warns_of_is_rejected_in_its_words(copy, tmp_path):
    data = encode(np.random.default_rng(0).integers(0, 256, (120, 160, 3)).astype(np.uint8))
    (copy / "12_left.jpeg").write_bytes(data[: len(data) // 3] + data)
    (copy / "13_left.jpeg").write_bytes(data[: len(data) // 2] + b"\xff\xd9")
    spec = dataclasses.replace(eyepacs_like(quality_gate="off"), max_reject_rate=0.1)
    assert build(copy, tmp_path / "out", spec=spec).rejected == {"unreadable": 2}
    table = csv.DictReader((tmp_path / "out" / "rejects.csv").read_text().splitlines())
    assert {row["id"]: row["detail"] for row in table} == {
        "12_left": "JPEG: Invalid JPEG file structure: two SOI markers",
        "13_left": "JPEG: Corrupt JPEG data: premature end of data segment",
    }


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


def test_a_photograph_that_vanishes_during_the_build_is_a_reject(copy, tmp_path, monkeypatch):
    run = job._run

    def vanish(*args):
        (copy / "12_left.jpeg").unlink()
        run(*args)

    monkeypatch.setattr(job, "_run", vanish)
    made = build(copy, tmp_path / "out", spec=dataclasses.replace(SPEC, max_reject_rate=0.5))
    assert made.rejected == {"unreadable": 1} and made.written == 39
    line = (tmp_path / "out" / "rejects.csv").read_text().splitlines()[1]
    assert line == f"12_left,{copy}/12_left.jpeg,unreadable,No such file or directory"
