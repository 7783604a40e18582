"""TensorFlow Datasets and Croissant know a data set by the files that a build writes beside it."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest
import tensorflow as tf

from dr_tfx.dataset import manifest, tool_files
from tests.helpers import datasets


def flat(tree, path=""):
    """Return the names of a tree of features.json with their kinds."""
    if "featuresDict" not in tree:
        return {path: tree}
    parts = tree["featuresDict"]["features"].items()
    return {
        k: v for name, part in parts for k, v in flat(part, f"{path}/{name}".strip("/")).items()
    }


def test_a_build_names_what_is_in_it(built):
    data = manifest.load(built)
    kinds = flat(json.loads((built / "features.json").read_text()))
    record = next(tf.data.TFRecordDataset(str(built / data.shards[0].name)).as_numpy_iterator())
    assert set(kinds) == set(tf.train.Example.FromString(record).features.feature)
    assert (built / "label-level.labels.txt").read_text().splitlines() == list(
        data.dataset.label_names
    )
    held = {}
    for split in json.loads((built / "dataset_info.json").read_text())["splits"]:
        lengths = split["shardLengths"]
        for number, length in enumerate(lengths):
            of = f"{number:05d}-of-{len(lengths):05d}"
            held[split["filepathTemplate"].replace("{SHARD_X_OF_Y}", of)] = int(length)
    assert held == {shard.name: shard.records for shard in data.shards}


def test_croissant_has_the_digest_of_every_file(built):
    found = json.loads((built / "croissant.json").read_text())["distribution"]
    shards = [shard.name for shard in manifest.load(built).shards]
    assert [one["contentUrl"] for one in found] == ["dataset.json", *shards]
    for one in found:
        content = (built / one["contentUrl"]).read_bytes()
        assert one["contentSize"] == f"{len(content)} B"
        assert one["sha256"] == hashlib.sha256(content).hexdigest()


def test_a_shard_without_a_record_has_a_length_of_none(tmp_path):
    made = datasets.write(tmp_path / "data", datasets.experiment().dataset, shard_examples=2)
    kept = [shard for shard in made.shards if "00001-of" not in shard.name]
    assert len(kept) < len(made.shards)
    data = dataclasses.replace(made, shards=tuple(kept))
    info = json.loads(tool_files.of(data)["dataset_info.json"])
    lengths = {split["name"]: split["shardLengths"] for split in info["splits"]}
    for label in {shard.label for shard in made.shards}:
        mine = [shard for shard in made.shards if (shard.split, shard.label) == ("train", label)]
        expected = [str(shard.records if shard in kept else 0) for shard in mine]
        assert lengths[f"train_{label}"] == expected


def test_tensorflow_datasets_reads_a_build(built):
    tfds = pytest.importorskip("tensorflow_datasets", reason="tensorflow-datasets is not installed")
    data, builder = manifest.load(built), tfds.builder_from_directory(built)
    labels = {shard.label for shard in data.shards if shard.split == "train"}
    split = "+".join(f"train_{label}" for label in sorted(labels))
    found = {x["image"]["id"]: x for x in tfds.as_numpy(builder.as_dataset(split=split))}
    assert builder.info.features["label"]["level"].names == list(data.dataset.label_names)
    assert len(found) == sum(data.counts["train"].values())
    shard = data.shards[0]
    for record in tf.data.TFRecordDataset(str(built / shard.name)).as_numpy_iterator():
        features = tf.train.Example.FromString(record).features.feature
        example = found[features["image/id"].bytes_list.value[0]]
        size = data.dataset.recipe.size
        pixels = np.frombuffer(features["image/encoded"].bytes_list.value[0], np.uint8)
        assert np.array_equal(example["image"]["encoded"], pixels.reshape(size, size, 3))
        assert example["label"]["level"] == shard.label
        width = features["photograph/width"].int64_list.value[0]
        assert example["photograph"]["width"] == width


def test_croissant_is_valid(built):
    croissant = pytest.importorskip("mlcroissant", reason="mlcroissant is not installed")
    found = croissant.Dataset(jsonld=built / "croissant.json")
    assert not found.metadata.issues.errors
    rows = [
        (row["shards/name"].decode(), row["shards/split"].decode(), row["shards/records"])
        for row in found.records("shards")
    ]
    shards = manifest.load(built).shards
    assert rows == [(shard.name, shard.split, shard.records) for shard in shards]
