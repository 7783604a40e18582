"""Photographs from data sets that TensorFlow Datasets has prepared, by their files alone."""

import collections
import csv
import dataclasses
import json
import os
import pickle
import sys
from pathlib import Path

import pytest
import tensorflow as tf

from beam_jobs.build_examples import job, planning
from dr_tfx.config import specs
from dr_tfx.preprocessing import decoding
from dr_tfx.sources import find_source, tfds
from tests.helpers import ready
from tests.helpers.drawn import eyepacs_like

KINDS = {
    "image": {"pythonClassName": "x.image_feature.Image", "image": {"dtype": "uint8"}},
    "label": {"pythonClassName": "x.ClassLabel", "classLabel": {"numClasses": "3"}},
    "name": {"pythonClassName": "x.text_feature.Text", "text": {}},
    "age": {"pythonClassName": "x.tensor_feature.Tensor", "tensor": {"dtype": "float32"}},
}
SPLITS = {"sample": "10 11", "train": "10 11 12 13 14 15 16 17 18 19 20 21 22", "test": "23 24 25"}


def texts(*values: str | bytes) -> tf.train.Feature:
    made = [v.encode() if isinstance(v, str) else v for v in values]
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=made))


def numbers(*values: int) -> tf.train.Feature:
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


def prepare(folder: Path, of: dict[str, list[dict]], kinds: dict = KINDS, **info) -> Path:
    """Write a data set as TFDS does: two files a split, whose records are dealt in turn."""
    folder.mkdir(parents=True)
    for split, records in of.items():
        for number in range(2):
            path = folder / f"drawn-{split}.tfrecord-{number:05d}-of-00002"
            with tf.io.TFRecordWriter(str(path)) as writer:
                for features in records[number::2]:
                    made = tf.train.Example(features=tf.train.Features(feature=features))
                    writer.write(made.SerializeToString())
    found = [
        {"name": split, "shardLengths": [str(len(records[i::2])) for i in range(2)]}
        for split, records in of.items()
    ]
    content = {"name": "drawn", "version": folder.name, "splits": found, **info}
    (folder / "dataset_info.json").write_text(json.dumps(content))
    tree = {"pythonClassName": "x.FeaturesDict", "featuresDict": {"features": kinds}}
    (folder / "features.json").write_text(json.dumps(tree))
    return folder


def records(raw: Path) -> dict[str, list[dict]]:
    """Return the splits of the raw photographs; those of `sample` have no label."""
    with (raw / "labels.csv").open() as stream:
        labels = {row["image"]: int(row["level"]) for row in csv.DictReader(stream)}
    return {
        split: [
            {
                "name": texts(name),
                "image": texts((raw / f"{name}.jpeg").read_bytes()),
                "label": numbers(-1 if split == "sample" else labels[name]),
                "age": tf.train.Feature(float_list=tf.train.FloatList(value=[41.5])),
            }
            for patient in patients.split()
            for name in (f"{patient}_left", f"{patient}_right")
        ]
        for split, patients in SPLITS.items()
    }


@pytest.fixture(scope="module")
def prepared(raw, tmp_path_factory) -> Path:
    """A data set of the raw photographs, not to be changed."""
    above = tmp_path_factory.mktemp("tensorflow_datasets")
    return prepare(above / "drawn" / "small" / "1.2.0", records(raw), configName="small")


def plan(folder: Path, *, labels: str = "", **changes) -> planning.Plan:
    spec = dataclasses.replace(eyepacs_like(), **changes)
    source = find_source.open_photographs(str(folder), spec.recipe)
    return planning.make_plan(spec, labels=labels or str(folder), source=source, find_twins=False)


def counts(made: planning.Plan) -> dict[str, int]:
    return collections.Counter(made.rows["split"])


def test_a_prepared_data_set_gives_the_shards_of_its_photographs(raw, prepared, tmp_path):
    rows = [line.split(",") for line in (raw / "labels.csv").read_text().split()[1:]]
    split_of = {patient: split for split in ("train", "test") for patient in SPLITS[split].split()}
    lines = [f"{name},{level},{split_of[name[:2]]}" for name, level in rows if name[:2] in split_of]
    (tmp_path / "labels.csv").write_text("\n".join(["image,level,set", *lines]))
    spec = dataclasses.replace(eyepacs_like(), name="")
    official = dataclasses.replace(spec.split, method="column", column="set")
    ways = {
        "folder": (dataclasses.replace(spec, split=official), raw, tmp_path / "labels.csv"),
        "tfds": (spec, prepared, prepared),
    }
    shards = {}
    for way, (settings, place, labels) in ways.items():
        out = tmp_path / way
        made = job.build(settings, image_dir=str(place), labels=str(labels), output_dir=str(out))
        assert made.written == 32
        shards[way] = {path.name: path.read_bytes() for path in out.glob("*.tfrecord-*")}
    assert shards["tfds"] == shards["folder"] and len(shards["tfds"]) > 4
    assert made.unlabelled == 4 and made.dataset.name == "drawn/small/1.2.0"


def test_photographs_are_read_as_they_are_and_named_as_the_data_set_names_them(raw, prepared):
    source = find_source.open_photographs(str(prepared), specs.Recipe())
    names = [
        f"{split}/{patient}_{eye}"
        for split, patients in SPLITS.items()
        for patient in patients.split()
        for eye in ("left", "right")
    ]
    again = pickle.loads(pickle.dumps(source))
    listed = dict(source.names())
    assert sorted(listed) == sorted(names)
    for name in names:
        data = (raw / f"{name.split('/')[1]}.jpeg").read_bytes()
        assert again.read(name) == data and listed[name] == source.size(name) == len(data)
    assert source.path("train/10_left") == f"{prepared}/train/10_left"
    assert source.modified("train/10_left") > 0
    with pytest.raises(decoding.RejectedImage, match="no photograph named so"):
        source.read("train/99_left")


@pytest.mark.parametrize("values", [[texts("a"), texts("a")], [texts("a"), texts()], None])
def test_photographs_without_names_of_their_own_have_the_ids_of_tfds(tmp_path, values):
    made = [
        {"image": texts(f"photograph {i}"), **({"name": values[i]} if values else {})}
        for i in range(2)
    ]
    source = tfds.open_folder(str(prepare(tmp_path / "1.0.0", {"all": made})))
    names = [f"all/drawn-all.tfrecord-0000{i}-of-00002__0" for i in range(2)]
    assert dict(source.names()) == dict.fromkeys(names, 12)
    assert source.read(names[1]) == b"photograph 1"


def test_labels_are_mapped_by_their_names_and_a_feature_tells_the_patient(tmp_path):
    kinds = {
        "photo": KINDS["image"],
        "image": {
            "featuresDict": {"features": {"grade": KINDS["label"], "filename": KINDS["name"]}}
        },
        "person": {"pythonClassName": "x.Scalar"},
    }
    made = [
        {
            "photo": texts(f"{i}"),
            "image/grade": numbers(i % 3),
            "image/filename": texts(f"n{i}.jpeg"),
            "person": numbers(i // 2),
        }
        for i in range(6)
    ]
    folder = prepare(tmp_path / "1.0.0", {"train": made}, kinds)
    (folder / "image-grade.labels.txt").write_text("moderate\nno DR\nmild\n")
    found = plan(folder, patient_column="person", split=specs.Split(method="external")).rows
    found = found.sort_values("id")
    assert found["label"].tolist() == [2, 0, 1, 2, 0, 1]
    assert found["patient"].tolist() == ["0", "0", "1", "1", "2", "2"]
    with pytest.raises(
        ValueError, match="no feature 'name'; it has photo, image/grade, image/filename, p"
    ):
        plan(folder, patient_column="name")
    (folder / "image-grade.labels.txt").write_text("a\nb\nc\n")
    with pytest.raises(
        ValueError, match="1.0.0: none of the 6 rows .* Its labels are 'a', 'c', 'b'"
    ):
        plan(folder)


def test_splits_of_the_data_set_are_taken_unless_the_settings_say_otherwise(prepared, tmp_path):
    settings = eyepacs_like().split
    made = plan(prepared)
    assert counts(made)["test"] == 6 and counts(made)["train"] + counts(made)["validation"] == 26
    patients = made.rows.groupby("patient")["split"].nunique()
    assert (patients == 1).all() and len(made.unlabelled) == 4
    folds = plan(prepared, split=dataclasses.replace(settings, folds=4, test=0.0))
    assert counts(folds) == dict.fromkeys((f"fold-{i}" for i in range(4)), 8)
    assert counts(plan(prepared, split=specs.Split(method="external"))) == {"test": 32}
    given = tmp_path / "labels.csv"
    given.write_text("image,level\n" + "".join(f"{i}_left,{i % 3}\n" for i in range(14, 24)))
    assert set(counts(plan(prepared, labels=str(given)))) == {"train", "validation"}


def test_a_damaged_record_is_a_reject_and_a_file_cut_short_is_refused(raw, tmp_path):
    folder = prepare(tmp_path / "1.0.0", records(raw))
    path = folder / "drawn-train.tfrecord-00001-of-00002"
    whole = path.read_bytes()
    at = whole.index((raw / "10_right.jpeg").read_bytes()) + 300
    path.write_bytes(whole[:at] + bytes([whole[at] ^ 1]) + whole[at + 1 :])
    source = tfds.open_folder(str(folder))
    with pytest.raises(decoding.RejectedImage, match="unreadable: damaged in drawn-train.*checks"):
        source.read("train/10_right")
    assert source.read("train/11_right") == (raw / "11_right.jpeg").read_bytes()
    for damage, told in (
        (whole[:-100], "should have 13 records, .* 12 were read: it ends within a record"),
        (whole[:8] + bytes(4) + whole[12:], "0 were read: it is damaged, or no TFRecord file"),
        (b"", "should have 13 records, .* and 0 were read. Copy"),
        (None, "0 were read: it is missing"),
    ):
        path.unlink() if damage is None else path.write_bytes(damage)
        with pytest.raises(ValueError, match=f"{path.name} {told}|{path.name} .*{told}"):
            list(tfds.open_folder(str(folder)).names())


@pytest.mark.parametrize(
    "kinds, info, told",
    [
        (KINDS, {"fileFormat": "array_record"}, "format array_record; .* drawn --file_format=tfr"),
        ({"name": KINDS["name"]}, {}, r"0 features of the kind Image; .* are name \(Text\)"),
        ({"a": KINDS["image"], "b": KINDS["image"]}, {}, "2 features .* or one called 'image'"),
        (
            {"image": {"pythonClassName": "x.Image", "image": {"dtype": "float32"}}},
            {},
            r"0 features of the kind Image; .* are image \(Image of float32\)",
        ),
        ({"image": {"type": "x"}}, {}, "features.json is not as .* by an older version"),
        (KINDS, {"splits": [{"name": "train"}]}, "dataset_info.json is not as .*'shardLengths'"),
    ],
)
def test_data_sets_that_cannot_be_used_are_refused(tmp_path, kinds, info, told):
    folder = prepare(tmp_path / "1.0.0", {"train": []}, kinds, **info)
    with pytest.raises(ValueError, match=told):
        tfds.open_folder(str(folder))


def test_a_data_set_is_found_by_its_name(tmp_path, monkeypatch):
    monkeypatch.setenv("TFDS_DATA_DIR", str(tmp_path))
    for place in ("one/1.9.0", "one/1.10.0", "two/a/1.0.0", "two/b/1.0.0", "one/2.0.0.incomplete"):
        prepare(tmp_path / place, {"train": []})
    for name, place in {
        "one": "one/1.10.0",
        "one:1.9.0": "one/1.9.0",
        "two/b": "two/b/1.0.0",
        "two/a:1.0.0": "two/a/1.0.0",
        str(tmp_path / "one"): "one/1.10.0",
        str(tmp_path / "two/a/1.0.0"): "two/a/1.0.0",
    }.items():
        assert tfds.find(name) == str(tmp_path / place)
    with pytest.raises(ValueError, match="two may mean a, b: give one of them, as in NAME/CONFIG"):
        tfds.find("two")
    with pytest.raises(ValueError, match="is not on a disk"):
        tfds.find("gs://bucket/one")
    own = prepare(tmp_path / "own", {"train": []})
    (own / "dataset.json").touch()  # A data set of our own has the other two files as well.
    with pytest.raises(FileNotFoundError, match="no prepared data set in .*/own"):
        tfds.find(str(own))


def test_the_command_plans_a_data_set_and_tells_what_to_do_without_one(prepared):
    line = [*(sys.executable, "-m", "beam_jobs.cli.build_examples"), "--config=eyepacs", "--plan"]
    env = {**os.environ, "TFDS_DATA_DIR": str(prepared.parents[2])}
    done = ready.run([*line, "--from_tfds=drawn/small"], env=env)
    assert json.loads(done.stdout)["counts"]["test"]["no DR"] == 2, done.stderr
    done = ready.run([*line, "--from_tfds=other"], env=env)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith(
        f"error: --from_tfds=other: there is no prepared data set in {prepared.parents[2]}/other"
    )
    assert "tfds build other" in done.stderr


def test_a_data_set_that_tfds_writes_is_read(raw, tmp_path):
    package = pytest.importorskip(
        "tensorflow_datasets", reason="tensorflow-datasets is not installed"
    )

    class DrawnEyes(package.core.GeneratorBasedBuilder):
        VERSION = package.core.Version("1.0.0")

        def _info(self):
            features = {
                "name": package.features.Text(),
                "image": package.features.Image(),
                "label": package.features.ClassLabel(names=["no DR", "mild", "moderate"]),
            }
            return self.dataset_info_from_configs(features=package.features.FeaturesDict(features))

        def _split_generators(self, _):
            return {split: self._generate_examples(split) for split in ("train", "test")}

        def _generate_examples(self, split):
            for patient in SPLITS[split].split():
                path = raw / f"{patient}_left.jpeg"
                yield path.stem, {"name": path.stem, "image": path, "label": int(patient) % 3}

    settings = package.download.DownloadConfig(num_shards=2)
    DrawnEyes(data_dir=tmp_path).download_and_prepare(download_config=settings)
    folder = Path(tfds.find(str(tmp_path / "drawn_eyes")))
    source = tfds.open_folder(str(folder))
    names = {f"{s}/{p}_left" for s in ("train", "test") for p in SPLITS[s].split()}
    assert {name for name, _ in source.names()} == names
    for name in names:
        assert source.read(name) == (raw / f"{name.split('/')[1]}.jpeg").read_bytes()
    found = plan(folder)
    assert dict(zip(found.rows["id"], found.rows["label"], strict=True)) == {
        name.split("/")[1]: int(name.split("/")[1][:2]) % 3 for name in names
    }
    assert counts(found)["test"] == 3
