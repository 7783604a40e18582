"""Examples by number, and the ways of the manual to read a data set with other tools."""

import concurrent.futures
import dataclasses
import importlib.util
import os
import pickle
import re
import sys
from pathlib import Path

import apache_beam as beam
import numpy as np
import pytest
import tensorflow as tf
from apache_beam.testing import util

import dr_tfx
from dr_tfx.dataset import manifest, mirrors, records, tool_files
from tests.helpers import datasets, ready
from tests.helpers.misbehaving import Shaky

ROOT = Path(__file__).parents[2]
MASK = np.arange(32 * 32, dtype=np.uint8).reshape(32, 32, 1)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    where = tmp_path_factory.mktemp("made")
    made = datasets.write(where / "data", datasets.experiment().dataset)
    for name, text in tool_files.of(made).items():
        (where / "data" / name).write_text(text)
    return where


def test_examples_are_those_of_the_shards_in_any_order(folder):
    found = dr_tfx.load_dataset(folder / "data")
    examples = found.examples("train")
    expected = []
    for shard in found.manifest.shards_of("train"):
        with (folder / "data" / shard.name).open("rb") as stream:
            expected += [records.parse(record) for record in records.read(stream)]
    assert len(examples) == len(expected) == 33
    for number in (32, 0, 7, -1, 7):  # Also again, when its place is known.
        example, record = examples[number], expected[number]
        assert example.keys() == {"image", "label"}
        assert example["image"].tobytes() == record["image/encoded"]
        assert example["image"].shape == (32, 32, 3) and example["label"] == record["label/level"]
    assert [each["label"] for each in examples[20:30:3]] == [
        each["label/level"] for each in expected[20:30:3]
    ]
    with pytest.raises(IndexError):
        examples[33]
    assert sum(1 for _ in examples) == 33
    again = pickle.loads(pickle.dumps(examples))
    assert np.array_equal(again[5]["image"], examples[5]["image"])


def test_examples_of_a_store_are_pickled_and_read_by_other_threads(folder, tmp_path):
    objects = {f"b/data/{path.name}": path.read_bytes() for path in (folder / "data").iterdir()}
    Shaky.begin(objects)
    examples = dr_tfx.load_dataset("shaky://b/data", cache_dir=tmp_path).examples("train")
    again = pickle.loads(pickle.dumps(examples))
    numbers = [32, 0, 7, 25, 7, 16]
    with concurrent.futures.ThreadPoolExecutor(3) as threads:
        found = list(threads.map(again.__getitem__, numbers))
    assert [int(example["image"][0, 0, 0]) for example in found] == numbers
    assert [example["label"] for example in found] == [2, 0, 0, 1, 0, 0]
    mirrors._opened.cache_clear()


def test_masks_come_by_their_names(tmp_path):
    spec = dataclasses.replace(datasets.experiment().dataset, masks=("MA",))
    datasets.write(tmp_path, spec, features=lambda number: {"mask/MA": MASK})
    example = dr_tfx.load_dataset(tmp_path).examples("validation")[0]
    assert example.keys() == {"image", "label", "MA"} and np.array_equal(example["MA"], MASK)


PAGE = (ROOT / "docs" / "guides" / "other_tools.md").read_text()
CODE = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)


@pytest.mark.parametrize(
    ("needs", "printed"),
    [
        ("dr_tfx", r"33 \(32, 32, 3\) 0"),
        ("torch", r"torch.Size\(\[8, 32, 32, 3\]\) tensor\(\[[012, ]+\]\)"),
        ("grain", r"\(8, 32, 32, 3\) \[[012 ]+\]"),
        ("tensorflow_datasets", r"\(8, 32, 32, 3\) FeaturesDict\({\s*'level': ClassLabel"),
        ("mlcroissant", r"{.*train-0\.tfrecord-00000-of-00004"),
        ("tensorflow", r"\(8, 32, 32, 3\) tf.Tensor\(\[0 0 0 0 0 0 0 0\]"),
    ],
)
def test_the_ways_of_the_manual(folder, needs, printed):
    if importlib.util.find_spec(needs) is None:
        pytest.skip(f"{needs} is not installed")
    (code,) = (code for code in CODE if re.findall(r"^import (\w+)", code, re.M)[-1] == needs)
    path = os.pathsep.join([str(ROOT), *sys.path])
    done = ready.run(
        [sys.executable, "-c", code], cwd=folder, env={**os.environ, "PYTHONPATH": path}
    )
    assert done.returncode == 0, done.stderr
    assert re.match(printed, done.stdout), done.stdout


def test_the_patterns_for_tensorflow_extended_give_its_splits(folder):
    """Read as `ImportExampleGen` does by Beam, without its package."""
    patterns = dict(re.findall(r'Split\(name="(\w+)", pattern="(.+)"\)', PAGE))
    made = manifest.load(folder / "data")
    for name, split in (("train", "train"), ("eval", "validation")):
        shards = made.shards_of(split)
        expected = []
        for shard in shards:
            with (folder / "data" / shard.name).open("rb") as stream:
                expected += [records.parse(record)["image/id"] for record in records.read(stream)]
        assert len(expected) == sum(shard.records for shard in shards)
        with beam.Pipeline(runner="FnApiRunner") as pipeline:
            found = (
                pipeline
                | beam.io.ReadFromTFRecord(str(folder / "data" / patterns[name]))
                | beam.Map(tf.train.Example.FromString)
                | beam.Map(lambda example: example.features.feature["image/id"].bytes_list.value[0])
            )
            util.assert_that(found, util.equal_to(expected))
