"""Reading examples by number: the bytes of a plain reader, mirrored as asked; damage by name."""

import dataclasses

import numpy as np
import pytest
import tensorflow as tf

from dr_tfx.dataset import records
from dr_tfx.input_pipeline import shard_reader
from tests.helpers import datasets

NONE = np.zeros((1, 2), bool)


def read(reader, numbers, flips=NONE):
    batch = np.empty((len(numbers), 32, 32, 3), np.uint8)
    reader.read(np.array(numbers), flips, batch)
    return batch


def write(folder, encoding="raw"):
    """A data set whose images are noise, each another one."""
    spec = datasets.experiment(encoding=encoding).dataset
    data = datasets.write(folder, spec)
    rng, shards = np.random.default_rng(0), []
    for shard in data.shards_of("train"):
        with (folder / shard.name).open("wb") as stream:
            writer = records.RecordWriter(stream)
            for i in range(shard.records):
                image = rng.integers(0, 256, (32, 32, 3), np.uint8)
                features = {
                    records.IMAGE_ENCODED: records.encode_image(image, encoding),
                    records.IMAGE_FORMAT: encoding,
                    records.IMAGE_ID: "i" * (i + 1),  # Records of different lengths.
                }
                writer.write(records.example(features))
        shards.append(dataclasses.replace(shard, bytes=writer.bytes, sha256=writer.sha256))
    return shards, spec.recipe


def images_by_tensorflow(folder, shards, encoding):
    files = [str(folder / shard.name) for shard in shards]
    result = []
    for serialized in tf.data.TFRecordDataset(files).as_numpy_iterator():
        example = tf.train.Example.FromString(serialized)
        value = example.features.feature["image/encoded"].bytes_list.value[0]
        decoded = tf.io.decode_png(value) if encoding == "png" else tf.io.decode_raw(value, "uint8")
        result.append(decoded.numpy().reshape(32, 32, 3))
    return np.stack(result)


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_any_order_twice_gives_what_tensorflow_reads(tmp_path, encoding):
    shards, recipe = write(tmp_path, encoding)
    expected = images_by_tensorflow(tmp_path, shards, encoding)
    reader = shard_reader.ShardReader(tmp_path, shards, recipe)
    assert len(reader) == len(expected) == 33
    rng = np.random.default_rng(1)
    for _ in range(2):  # The second time checksums are known.
        order = np.concatenate([rng.permutation(33), [5, 5]])
        flips = rng.random((35, 2)) < 0.5
        batch = read(reader, order, flips)
        for image, number, (left_right, up_down) in zip(batch, order, flips, strict=True):
            wanted = expected[number][:: -1 if up_down else 1, :: -1 if left_right else 1]
            assert np.array_equal(image, wanted)


def test_a_changed_byte_is_found_and_the_file_named(tmp_path):
    shards, recipe = write(tmp_path)
    path = tmp_path / shards[1].name
    data = bytearray(path.read_bytes())
    data[-300] ^= 1
    path.write_bytes(data)
    reader = shard_reader.ShardReader(tmp_path, shards, recipe)
    last = sum(shard.records for shard in shards[:2]) - 1
    read(reader, [last - 1])
    with pytest.raises(ValueError, match=f"{path.name} is damaged.*--overwrite"):
        read(reader, [last])


@pytest.mark.parametrize("change", [lambda d: d[:-1], lambda d: d + b"x", lambda d: b"x" + d[1:]])
def test_a_shard_of_another_shape_is_refused_when_opened(tmp_path, change):
    shards, recipe = write(tmp_path)
    path = tmp_path / shards[0].name
    path.write_bytes(change(path.read_bytes()))
    with pytest.raises(ValueError, match=f"{path.name} is damaged"):
        shard_reader.ShardReader(tmp_path, shards, recipe)


def test_a_shard_cut_short_while_it_is_read_is_noticed(tmp_path):
    shards, recipe = write(tmp_path)
    reader = shard_reader.ShardReader(tmp_path, shards, recipe)
    read(reader, [0])
    (tmp_path / shards[0].name).write_bytes(b"")
    with pytest.raises(ValueError, match="is damaged"):
        read(reader, [0])
