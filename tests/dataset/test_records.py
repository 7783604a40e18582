"""Bytes against TensorFlow's own, and damage that must be noticed."""

import hashlib
import io

import numpy as np
import pytest

from dr_tfx.dataset import records
from tests.helpers.drawn import draw

FEATURES = {
    records.IMAGE_ENCODED: bytes(range(256)) * 3,
    records.IMAGE_FORMAT: "raw",
    records.IMAGE_ID: "10_links_ä",
    records.IMAGE_PATIENT: "10",
    records.LABEL_PREFIX + "level": 4,
    "weight": 0.5,
    "negative": -3,
}


def framed(payloads) -> bytes:
    stream = io.BytesIO()
    writer = records.RecordWriter(stream)
    for payload in payloads:
        writer.write(payload)
    data = stream.getvalue()
    assert (writer.records, writer.bytes) == (len(payloads), len(data))
    assert writer.sha256 == hashlib.sha256(data).hexdigest()
    return data


def test_example_bytes_are_tensorflows_own():
    tf = pytest.importorskip("tensorflow")
    features = {}
    for key, value in FEATURES.items():
        if isinstance(value, int):
            features[key] = tf.train.Feature(int64_list=tf.train.Int64List(value=[value]))
        elif isinstance(value, float):
            features[key] = tf.train.Feature(float_list=tf.train.FloatList(value=[value]))
        else:
            value = value.encode() if isinstance(value, str) else value
            features[key] = tf.train.Feature(bytes_list=tf.train.BytesList(value=[value]))
    message = tf.train.Example(features=tf.train.Features(feature=features))
    assert records.example(FEATURES) == message.SerializeToString(deterministic=True)


def test_tensorflow_reads_the_file(tmp_path):
    tf = pytest.importorskip("tensorflow")
    payloads = [b"", b"a", bytes(100_000), records.example(FEATURES)]
    path = tmp_path / "a.tfrecord"
    path.write_bytes(framed(payloads))
    assert [t.numpy() for t in tf.data.TFRecordDataset(str(path))] == payloads


def test_parse_is_the_inverse_of_example():
    parsed = records.parse(records.example(FEATURES))
    expected = {k: v.encode() if isinstance(v, str) else v for k, v in FEATURES.items()}
    assert parsed == expected


def test_key_order_does_not_matter():
    assert records.example(dict(reversed(FEATURES.items()))) == records.example(FEATURES)


def test_read_is_the_inverse_of_write():
    payloads = [b"", b"one", bytes(1000)]
    assert list(records.read(io.BytesIO(framed(payloads)))) == payloads


def test_every_truncation_and_flipped_byte_is_noticed():
    payloads = [b"first", b"the second"]
    data = framed(payloads)
    whole = {0, len(framed(payloads[:1])), len(data)}
    for length in set(range(len(data))) - whole:
        with pytest.raises(ValueError, match="damaged"):
            list(records.read(io.BytesIO(data[:length])))
    for place in range(len(data)):
        changed = bytearray(data)
        changed[place] ^= 0x10
        with pytest.raises(ValueError, match="damaged"):
            list(records.read(io.BytesIO(bytes(changed))))


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_masks_keep_every_value(encoding):
    tf = pytest.importorskip("tensorflow")
    mask = np.random.default_rng(0).integers(0, 256, (24, 24, 1), np.uint8)
    data = records.encode_image(mask, encoding)
    if encoding == "png":
        assert np.array_equal(tf.io.decode_png(data).numpy(), mask)
    else:
        assert data == mask.tobytes()
    assert np.array_equal(records.decode_image(data, encoding, 24, channels=1), mask)


@pytest.mark.parametrize(
    ("name", "feature"),
    [
        ("label/level", records.Feature("uint8", is_mask=True)),
        ("mask/lesion", records.Feature("uint8")),
        ("mask/lesion", records.Feature("int64")),
        ("mask/lesion", records.Feature("float32", is_mask=True)),
        ("weight", records.Feature("uint8")),
    ],
)
def test_a_feature_is_a_mask_by_name_and_dtype_or_neither(name, feature):
    with pytest.raises(ValueError, match=f"feature '{name}' is .*expected a mask, of dtype uint8"):
        records.Schema(32, "raw", {name: feature})


@pytest.mark.parametrize("encoding", ["raw", "png"])
def test_both_encodings_lose_nothing(encoding):
    tf = pytest.importorskip("tensorflow")
    rgb = np.ascontiguousarray(draw(1)[..., ::-1])
    data = records.encode_image(rgb, encoding)
    if encoding == "png":
        back = tf.io.decode_png(data).numpy()
    else:
        back = tf.reshape(tf.io.decode_raw(data, tf.uint8), rgb.shape).numpy()
    np.testing.assert_array_equal(back, rgb)
