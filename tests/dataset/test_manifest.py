"""The contract on disk: round trip, damage, and a data set that does not fit a model."""

import dataclasses
import json

import pytest

from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.storage import files

SPEC = specs.DatasetSpec(
    name="drawn", label_names=("a", "b", "c"), recipe=specs.Recipe(size=32), shard_examples=4
)
MADE = manifest.Manifest(
    dataset=SPEC,
    fingerprint="f" * 64,
    libraries={"numpy": "1", "opencv": "2"},
    rows=4,
    written=3,
    rejected={"unreadable": 1},
    ungradable={},
    counts={"train": {"a": 2, "b": 0, "c": 0}, "validation": {"a": 0, "b": 0, "c": 1}},
    patients={"train": 2, "validation": 1},
    shared_patients=0,
    twins=({"ids": ["1", "2"], "labels": [0, 1], "splits": ["train", "train"]},),
    unlabelled=2,
    shards=(
        manifest.Shard("train-0.tfrecord-00000-of-00001", "train", 0, 2, 50, "0" * 64),
        manifest.Shard("validation-2.tfrecord-00000-of-00001", "validation", 2, 1, 27, "1" * 64),
    ),
)


@pytest.fixture
def data_dir(tmp_path):
    for shard in MADE.shards:
        (tmp_path / shard.name).write_bytes(bytes(shard.bytes))
    files.write_text(tmp_path / manifest.FILE_NAME, MADE.to_json())
    return tmp_path


def test_round_trip(data_dir):
    assert manifest.load(data_dir) == MADE
    assert [path.name for path in data_dir.glob("*.tmp")] == []


def test_a_manifest_that_does_not_say_how_it_was_prepared_is_read(data_dir):
    plain = MADE.to_dict()
    del plain["prepared"]
    assert manifest.from_dict(plain) == MADE


def test_counts_are_read_in_the_order_of_labels_and_splits(tmp_path):
    names = ("no DR", "mild", "severe")  # The keys of the file are sorted, which no reader wants.
    spec = dataclasses.replace(SPEC, label_names=names)
    counts = {split: dict.fromkeys(names, 1) for split in ("train", "validation", "test")}
    patients = dict.fromkeys(counts, 3)
    shards = tuple(
        manifest.Shard(f"{split}-{label}", split, label, 1, 50, "0" * 64)
        for split in counts
        for label in range(3)
    )
    made = dataclasses.replace(
        MADE, dataset=spec, counts=counts, patients=patients, shards=shards, written=9, rows=10
    )
    read = manifest.from_dict(json.loads(made.to_json()))
    assert list(read.counts) == list(read.patients) == ["train", "validation", "test"]
    assert [tuple(by_label) for by_label in read.counts.values()] == [names] * 3


def test_folder_without_manifest_says_what_to_do(tmp_path):
    with pytest.raises(FileNotFoundError, match="drtfx-build-examples"):
        manifest.load(tmp_path)


def test_missing_and_short_shards_are_named(data_dir):
    shard = data_dir / MADE.shards[1].name
    shard.write_bytes(bytes(6))
    with pytest.raises(ValueError, match=r"validation-2.*has 6 bytes.*says 27"):
        manifest.load(data_dir)
    shard.unlink()
    with pytest.raises(FileNotFoundError, match=r"validation-2.*missing"):
        manifest.load(data_dir)


@pytest.mark.parametrize(
    "change, message",
    [
        (lambda plain: plain.update(schema_version=99), "schema version 99"),
        (lambda plain: plain.pop("shards"), "damaged.*shards"),
        (lambda plain: plain.pop("rows"), "damaged.*rows"),
        (lambda plain: plain.update(surprise=1), "damaged.*surprise"),
        (lambda plain: plain["dataset"].update(surprise=1), "surprise"),
    ],
)
def test_damaged_manifest_is_refused(data_dir, change, message):
    path = data_dir / manifest.FILE_NAME
    plain = json.loads(path.read_text())
    change(plain)
    path.write_text(json.dumps(plain))
    with pytest.raises(ValueError, match=message) as caught:
        manifest.load(data_dir)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    "key, value, message",
    [
        ("rows", -4, "rows is -4; expected 0 or more"),
        ("rows", 10**11, "rows is 100,000,000,000; expected 4, written and rejected ones"),
        ("rejected.odd", 10**30, "rejected.odd has more than 64 bits"),
        ("counts.train.a", 9, "counts.train.a is 9; expected 2, the records of its shards"),
        ("shards.0.records", 10**11, "100,000,000,000 records in 50 bytes; expected fewer"),
        ("shards.0.records", 1, "written is 3; expected 2, the records of all shards"),
        ("shards.0.split", "../x", r"the split \['../x'\]; expected train, validation, test"),
        ("shards.0.name", "../x", "name is '../x'; expected the name of a file in the folder"),
        ("shards.0.name", "\x1b[2J", "expected no control characters"),
        ("shards.0.label", True, "label is True; expected int"),
        ("shards.0.label", -1, r"the label \[-1\]; expected one of 3 labels, from 0"),
        ("twins.0.labels", [0, True], "expected lists: ids, labels and splits"),
        ("twins.0.splits", ["train", "x"], r"the split \['x'\]; expected train, validation, test"),
        ("prepared", "so", "prepared is 'so'; expected by recipe or elsewhere"),
    ],
)
def test_what_cannot_be_is_refused_by_key_with_what_was_expected(data_dir, key, value, message):
    path = data_dir / manifest.FILE_NAME
    plain = part = json.loads(path.read_text())
    *above, last = [int(k) if k.isdecimal() else k for k in key.split(".")]
    for name in above:
        part = part[name]
    part[last] = value
    path.write_text(json.dumps(plain))
    with pytest.raises(ValueError, match=message) as caught:
        manifest.load(data_dir)
    assert str(caught.value).startswith(str(path))


@pytest.mark.parametrize("text", ["", "{", "[]", "3"])
def test_manifest_that_is_no_json_object_is_refused(data_dir, text):
    (data_dir / manifest.FILE_NAME).write_text(text)
    with pytest.raises(ValueError, match=manifest.FILE_NAME):
        manifest.load(data_dir)


BLACK = {"ungradable:black": 2}


@pytest.mark.parametrize(
    "gate, changes, line",
    [
        ("count", {}, "flagged by the quality gate and kept: none"),
        ("count", {"ungradable": BLACK}, "flagged by the quality gate and kept: 2 ungradable:bl"),
        ("reject", {"rejected": BLACK}, "flagged by the quality gate and rejected: 2 ungradable:"),
        ("reject", {}, "flagged by the quality gate and rejected: none"),
        ("off", {}, "quality gate: off"),
        ("off", {"spread": 3}, "spread over all greys, as no file says what is white: 3"),
        ("reject", {"prepared": "elsewhere"}, "prepared elsewhere: neither recipe nor quality"),
    ],
)
def test_the_summary_says_what_became_of_what_the_gate_flagged(gate, changes, line):
    spec = dataclasses.replace(SPEC, recipe=dataclasses.replace(SPEC.recipe, quality_gate=gate))
    said = dataclasses.replace(MADE, dataset=spec, **changes).describe().splitlines()
    assert any(text.startswith(line) for text in said)
    assert sum("quality gate" in text for text in said) == 1


def test_shards_of_a_split():
    assert [shard.label for shard in MADE.shards_of("validation")] == [2]
    with pytest.raises(ValueError, match="no examples in split 'test'; it has train, validation"):
        MADE.shards_of("test")


def changed(**fields) -> manifest.Manifest:
    return dataclasses.replace(MADE, dataset=dataclasses.replace(SPEC, **fields))


@pytest.mark.parametrize(
    "other, named",
    [
        (changed(recipe=dataclasses.replace(SPEC.recipe, size=64)), "dataset.recipe.size.*32.*64"),
        (changed(recipe=dataclasses.replace(SPEC.recipe, clip_limit=3.0)), "recipe.clip_limit"),
        (changed(label_names=("a", "b", "d")), "dataset.label_names"),
        (dataclasses.replace(MADE, prepared="elsewhere"), "prepared by recipe.*elsewhere"),
    ],
)
def test_another_contract_is_refused_by_field(other, named):
    with pytest.raises(ValueError, match=named):
        manifest.check_same_contract(MADE, other, where="/data")


def test_what_does_not_reach_the_pixels_may_differ():
    other = changed(
        name="other",
        recipe=dataclasses.replace(SPEC.recipe, encoding="png"),
        split=specs.Split(seed=7),
    )
    manifest.check_same_contract(MADE, other, where="/data")
