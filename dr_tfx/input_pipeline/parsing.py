"""Serialized examples to tensors, whole batches at a time."""

import math

import tensorflow as tf

from dr_tfx.dataset import records
from dr_tfx.preprocessing import png


def parse(serialized: tf.Tensor, schema: records.Schema) -> dict[str, tf.Tensor]:
    """Return a batch of examples; to parse whole batches costs a fraction of one by one.

    Args:
      serialized: string (batch,), messages of tf.train.Example.
      schema: what to take from them.

    A record that is not what it has to be ends in an InvalidArgumentError of TensorFlow.

    Returns:
      Tensors with the names, shapes and dtypes of `Schema.shapes`.
    """
    text = tf.io.FixedLenFeature([], tf.string)
    numbers = {name: tf.io.FixedLenFeature([], dtype) for name, dtype in schema.numbers.items()}
    parsed = tf.io.parse_example(serialized, {**dict.fromkeys(schema.channels, text), **numbers})
    for name, feature in schema.features.items():
        if feature.values is not None:
            known = (parsed[name] >= 0) & (parsed[name] < feature.values)
            tf.debugging.Assert(tf.reduce_all(known), [name, parsed[name]])
    for name, channels in schema.channels.items():
        parsed[name] = _decode(parsed[name], schema, channels)
    parsed[records.IMAGE] = parsed.pop(records.IMAGE_ENCODED)
    return parsed


def _decode(encoded: tf.Tensor, schema: records.Schema, channels: int) -> tf.Tensor:
    """Return the images or masks of a batch, uint8 (batch, size, size, channels)."""
    shape = (schema.size, schema.size, channels)
    if schema.encoding == "raw":
        flat = tf.ensure_shape(tf.io.decode_raw(encoded, tf.uint8), (None, math.prod(shape)))
        return tf.reshape(flat, (-1, *shape))
    begin = png.header(schema.size, schema.size)
    is_sized = tf.strings.substr(encoded, 0, len(begin)) == begin
    tf.debugging.Assert(tf.reduce_all(is_sized), ["PNG files of another size"])
    return tf.map_fn(
        lambda data: tf.ensure_shape(tf.io.decode_png(data, channels=channels), shape),
        encoded,
        fn_output_signature=tf.uint8,
    )
