"""Reading examples by number: the bytes of a plain reader, mirrored as asked; damage by name."""

import dataclasses
import io
import os
import pickle

import numpy as np
import pytest
import tensorflow as tf

from dr_tfx.dataset import records
from dr_tfx.input_pipeline import shard_reader
from tests.helpers import datasets

FEATURES = {
    "grade": records.Feature("int64"),
    "mask/lesion": records.Feature("uint8", is_mask=True),
    "weight": records.Feature("float32"),
}


def read(reader, numbers, flips=None):
    """A batch of the reader, by name, into memory that held something else."""
    shapes = reader.schema.shapes(len(numbers))
    batch = {name: np.full(shape, 77, dtype) for name, (shape, dtype) in shapes.items()}
    flips = np.zeros((len(numbers), 2), bool) if flips is None else flips
    reader.read(np.array(numbers), flips, batch)
    return batch


def write(folder, encoding="raw"):
    """A data set whose images and masks are noise, each another one."""
    spec = datasets.experiment(encoding=encoding).dataset
    data = datasets.write(folder, spec)
    rng, shards = np.random.default_rng(0), []
    for shard in data.shards_of("train"):
        with (folder / shard.name).open("wb") as stream:
            writer = records.RecordWriter(stream)
            for i in range(shard.records):
                image, mask = (rng.integers(0, 256, (32, 32, c), np.uint8) for c in (3, 1))
                features = {
                    records.IMAGE_ENCODED: records.encode_image(image, encoding),
                    records.IMAGE_FORMAT: encoding,
                    records.IMAGE_ID: "i" * (i + 1),  # Records of different lengths.
                    "grade": int(rng.integers(-(2**40), 2**40)),
                    "mask/lesion": records.encode_image(mask, encoding),
                    "weight": float(rng.random()),
                }
                writer.write(records.example(features))
        shards.append(dataclasses.replace(shard, bytes=writer.bytes, sha256=writer.sha256))
    return shards, records.Schema(spec.recipe.size, encoding, FEATURES)


def by_tensorflow(folder, shards, encoding):
    """Image, mask, grade and weight of every example, as TensorFlow reads them."""
    files = [str(folder / shard.name) for shard in shards]
    images, masks, grades, weights = [], [], [], []
    for serialized in tf.data.TFRecordDataset(files).as_numpy_iterator():
        features = tf.train.Example.FromString(serialized).features.feature
        for key, found, channels in (("image/encoded", images, 3), ("mask/lesion", masks, 1)):
            value = features[key].bytes_list.value[0]
            png = encoding == "png"
            decoded = tf.io.decode_png(value) if png else tf.io.decode_raw(value, "uint8")
            found.append(decoded.numpy().reshape(32, 32, channels))
        grades.append(features["grade"].int64_list.value[0])
        weights.append(features["weight"].float_list.value[0])
    return np.stack(images), np.stack(masks), np.array(grades), np.array(weights, np.float32)


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_any_order_twice_gives_what_tensorflow_reads(tmp_path, encoding):
    shards, schema = write(tmp_path, encoding)
    images, masks, grades, weights = by_tensorflow(tmp_path, shards, encoding)
    reader = shard_reader.ShardReader(tmp_path, shards, schema)
    assert len(reader) == len(images) == 33
    rng = np.random.default_rng(1)
    for part in (33, 12, 33, 33):  # Later on, some checksums are known, and then all.
        order = np.concatenate([rng.permutation(33)[:part], [5, 5]])
        flips = rng.random((len(order), 2)) < 0.5
        batch = read(reader, order, flips)
        assert set(batch) == {"image", *FEATURES}
        for row, (number, (left_right, up_down)) in enumerate(zip(order, flips, strict=True)):
            mirrored = np.s_[:: -1 if up_down else 1, :: -1 if left_right else 1]
            assert np.array_equal(batch["image"][row], images[number][mirrored])
            assert np.array_equal(batch["mask/lesion"][row], masks[number][mirrored])
        assert np.array_equal(batch["grade"], grades[order]) and batch["grade"].dtype == np.int64
        assert np.array_equal(batch["weight"], weights[order])
        assert batch["weight"].dtype == np.float32


def test_a_record_is_parsed_once_and_then_known_in_a_few_bytes(tmp_path, monkeypatch):
    shards, schema = write(tmp_path)
    reader = shard_reader.ShardReader(tmp_path, shards, schema)
    first = read(reader, range(33))
    parsed = []
    monkeypatch.setattr(records, "parse", parsed.append)
    again = read(reader, range(33))
    assert not parsed and all(np.array_equal(first[name], again[name]) for name in first)
    # Ten bytes an example, and as many as its numbers have, and a mask's place in the file.
    assert reader.index.nbytes == 33 * (10 + 8 + 4 + 4)
    plain = shard_reader.ShardReader(tmp_path, shards, records.Schema(32, "raw"))
    assert plain.index.nbytes == 33 * 10
    assert set(plain.schema.shapes(1)) == {"image"}


def test_a_record_without_a_feature_of_the_task_is_named(tmp_path):
    shards, _ = write(tmp_path)
    schema = records.Schema(32, "raw", {"label/level": records.Feature("int64")})
    reader = shard_reader.ShardReader(tmp_path, shards, schema)
    with pytest.raises(
        ValueError, match=f"{shards[0].name} .* the record at byte 0 has .* but not label/level"
    ):
        read(reader, [0])


def test_a_changed_byte_is_found_and_the_file_named(tmp_path):
    shards, schema = write(tmp_path)
    path = tmp_path / shards[1].name
    data = bytearray(path.read_bytes())
    data[-300] ^= 1
    path.write_bytes(data)
    reader = shard_reader.ShardReader(tmp_path, shards, schema)
    last = sum(shard.records for shard in shards[:2]) - 1
    read(reader, [last - 1])
    with pytest.raises(ValueError, match=f"{path.name} is damaged.*--overwrite"):
        read(reader, [last])


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"x", lambda d: b"x" + d[1:]])
def test_a_shard_of_another_shape_is_refused_when_opened(tmp_path, change):
    shards, schema = write(tmp_path)
    path = tmp_path / shards[0].name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{path.name} is damaged"):
        shard_reader.ShardReader(tmp_path, shards, schema)


def at_images(path):
    """The bytes of a shard in which every image of noise is black."""
    data = bytearray(path.read_bytes())
    for serialized in records.read(io.BytesIO(bytes(data))):
        image = records.parse(serialized)[records.IMAGE_ENCODED]
        at = data.index(image)
        data[at : at + len(image)] = bytes(len(image))
    return bytes(data)


def test_what_is_zeroed_after_its_first_reading_is_never_given_away(tmp_path):
    shards, schema = write(tmp_path)
    reader = shard_reader.ShardReader(tmp_path, shards, schema)
    child = pickle.loads(pickle.dumps(reader))  # As in a process of its own: it shares the index.
    child.index = reader.index
    first = read(reader, range(33))
    path = tmp_path / shards[1].name
    os.utime(path)  # Its time alone makes nothing wrong.
    for each in (reader, child):
        assert all(np.array_equal(first[name], read(each, range(33))[name]) for name in first)
    intact = path.read_bytes()
    with path.open("r+b") as stream:
        stream.write(at_images(path))
    others = [n for n in range(33) if not 7 <= n < 14]
    for each in (reader, child):
        assert np.array_equal(first["image"][others], read(each, others)["image"])
        with pytest.raises(ValueError, match=f"{path.name} is damaged .* the record at byte"):
            read(each, [7])
    path.write_bytes(intact)
    for each in (reader, child):
        assert np.array_equal(first["image"], read(each, range(33))["image"])


def test_a_shard_cut_short_while_it_is_read_is_noticed(tmp_path):
    shards, schema = write(tmp_path)
    reader = shard_reader.ShardReader(tmp_path, shards, schema)
    read(reader, [0])
    (tmp_path / shards[0].name).write_bytes(b"")
    with pytest.raises(ValueError, match="is damaged"):
        read(reader, [0])
