"""The message tf.train.Example without TensorFlow.

It is declared in a private descriptor pool, because a second `tensorflow.Example` in protobuf's
default pool would collide with TensorFlow's own; the bytes are the same.
"""

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory


def _declared() -> type:
    """Return the class, declared as in tensorflow/core/example/*.proto."""
    field = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="dr_tfx/example.proto", package="tensorflow", syntax="proto3"
    )

    def message(name: str, *fields: dict) -> descriptor_pb2.DescriptorProto:
        declared = file.message_type.add(name=name)
        for number, kwargs in enumerate(fields, start=1):
            declared.field.add(
                **{"number": number, "label": field.LABEL_OPTIONAL, "type": field.TYPE_MESSAGE}
                | kwargs
            )
        return declared

    repeated = {"name": "value", "label": field.LABEL_REPEATED}
    message("BytesList", repeated | {"type": field.TYPE_BYTES})
    message("FloatList", repeated | {"type": field.TYPE_FLOAT})
    message("Int64List", repeated | {"type": field.TYPE_INT64})
    feature = message(
        "Feature",
        {"name": "bytes_list", "type_name": ".tensorflow.BytesList", "oneof_index": 0},
        {"name": "float_list", "type_name": ".tensorflow.FloatList", "oneof_index": 0},
        {"name": "int64_list", "type_name": ".tensorflow.Int64List", "oneof_index": 0},
    )
    feature.oneof_decl.add(name="kind")
    entry_name = ".tensorflow.Features.FeatureEntry"
    features = message(
        "Features", {"name": "feature", "label": field.LABEL_REPEATED, "type_name": entry_name}
    )
    entry = features.nested_type.add(name="FeatureEntry")
    entry.options.map_entry = True
    optional = field.LABEL_OPTIONAL
    entry.field.add(name="key", number=1, label=optional, type=field.TYPE_STRING)
    entry.field.add(
        name="value",
        number=2,
        label=optional,
        type=field.TYPE_MESSAGE,
        type_name=".tensorflow.Feature",
    )
    message("Example", {"name": "features", "type_name": ".tensorflow.Features"})

    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tensorflow.Example"))


Example = _declared()
"""The class of the message."""
