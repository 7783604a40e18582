"""tf.data written by hand over our shards: batched parsing, no order promised."""

from typing import Any

from benchmarks.input_pipeline.contenders import record_files
from benchmarks.input_pipeline.contenders.augmentation import tf_float_batch
from benchmarks.input_pipeline.contenders.contender import SHUFFLE, Batches, Contender, Job


def _decode(job: Job, encoded: Any) -> Any:
    import tensorflow as tf

    if job.encoding == "raw":
        return tf.reshape(tf.io.decode_raw(encoded, tf.uint8), (-1, job.size, job.size, 3))
    return tf.map_fn(
        lambda data: tf.ensure_shape(
            tf.io.decode_image(data, 3, expand_animations=False), (job.size, job.size, 3)
        ),
        encoded,
        fn_output_signature=tf.uint8,
    )


def read(job: Job) -> Batches:
    """Interleave the files of each class, shuffle in a buffer, and mix the classes."""
    import tensorflow as tf

    yield None
    features = {
        "image/encoded": tf.io.FixedLenFeature([], tf.string),
        "label/level": tf.io.FixedLenFeature([], tf.int64),
    }

    def parse(batch: Any) -> Any:
        parsed = tf.io.parse_example(batch, features)
        images = _decode(job, parsed["image/encoded"])
        return tf_float_batch(job, images), tf.minimum(parsed["label/level"], 1)

    streams = []
    for pattern in ("train-0.*", "train-[1-4].*"):
        files = sorted(map(str, job.path("records").glob(pattern)))
        stream = tf.data.Dataset.from_tensor_slices(files).shuffle(len(files)).repeat()
        stream = stream.interleave(
            tf.data.TFRecordDataset, cycle_length=4, num_parallel_calls=tf.data.AUTOTUNE
        )
        streams.append(stream.shuffle(SHUFFLE))
    mixed = tf.data.Dataset.sample_from_datasets(streams, [0.5, 0.5])
    batches = mixed.batch(job.batch_size).map(parse, tf.data.AUTOTUNE)
    options = tf.data.Options()
    options.deterministic = False
    yield from batches.prefetch(tf.data.AUTOTUNE).with_options(options)


CONTENDER = Contender("tf.data by hand", "bounded", record_files.write, read)
