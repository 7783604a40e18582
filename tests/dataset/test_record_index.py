"""The index of a data set tells where every record is."""

import hashlib

import numpy as np
import tensorflow as tf

from dr_tfx.dataset import manifest, record_index


def test_a_build_says_where_each_record_is(built):
    data = manifest.load(built)
    content = (built / "index.npy").read_bytes()
    assert hashlib.sha256(content).hexdigest() == data.index
    index = np.load(built / "index.npy", allow_pickle=False)
    assert np.array_equal(index, record_index.parse(content, data, where="index.npy"))
    rows = iter(index)
    for shard in data.shards:
        frames = (built / shard.name).read_bytes()
        position = 0
        for record in tf.data.TFRecordDataset(str(built / shard.name)).as_numpy_iterator():
            row = next(rows)
            assert (row["offset"], row["bytes"]) == (position, len(record))
            end = position + 12 + len(record)
            assert frames[position + 12 : end] == record
            assert frames[end : end + 4] == int(row["crc"]).to_bytes(4, "little")
            position = end + 4
    assert next(rows, None) is None
