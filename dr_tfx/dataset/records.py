"""An example on disk: feature keys, tf.train.Example bytes, TFRecord framing.

The module loads no TensorFlow, so that the workers of the build job start without it. The messages
are declared in a private descriptor pool, because a second `tensorflow.Example` in protobuf's
default pool would collide with TensorFlow's own; the bytes are the same.
"""

import dataclasses
import hashlib
import struct
from collections.abc import Iterator, Mapping
from typing import Any, BinaryIO, Literal

import cv2
import google_crc32c
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

IMAGE_ENCODED = "image/encoded"  # bytes: raw RGB uint8 in C order, or a PNG file
IMAGE_FORMAT = "image/format"  # bytes: "raw" | "png"
IMAGE_ID = "image/id"  # bytes: UTF-8
IMAGE_PATIENT = "image/patient"  # bytes: UTF-8
LABEL_PREFIX = "label/"  # int64: the finest label
MASK_PREFIX = "mask/"  # bytes: one uint8 channel of the image's size, encoded as the image is

DIGEST_BYTES = 16

IMAGE = "image"  # The images in a batch of examples; features keep the names of their keys.


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature of a record beside the image: a number, or a mask of the image's geometry.

    Masks are uint8, numbers are not.
    """

    dtype: Literal["int64", "float32", "uint8"]
    is_mask: bool = False


def has_geometry(name: str) -> bool:
    """Return whether an array of a batch moves with the image: the images and their masks do."""
    return name == IMAGE or name.startswith(MASK_PREFIX)


@dataclasses.dataclass(frozen=True)
class Schema:
    """The part of every record that is read, and its encoding.

    Attributes:
      size: height and width of image and masks, in pixels.
      encoding: `raw` or `png`.
      features: features beside the image, by the name of their key.

    Raises:
      ValueError: a feature's name, dtype and `is_mask` contradict each other.
    """

    size: int
    encoding: str
    features: Mapping[str, Feature] = dataclasses.field(default_factory=dict)

    def __post_init__(self) -> None:
        for name, feature in self.features.items():
            if len({feature.is_mask, feature.dtype == "uint8", has_geometry(name)}) > 1:
                raise ValueError(
                    f"The feature {name!r} is {feature}; expected a mask, of dtype uint8 and with "
                    f"a name that begins with {MASK_PREFIX!r}, or a number, with neither."
                )

    @property
    def masks(self) -> list[str]:
        """The names of the features that are masks."""
        return [name for name, feature in self.features.items() if feature.is_mask]

    @property
    def numbers(self) -> dict[str, str]:
        """The dtype of each feature that is a number, by its name."""
        return {name: f.dtype for name, f in self.features.items() if not f.is_mask}

    @property
    def channels(self) -> dict[str, int]:
        """The channels of the image and of each mask, by the name of its feature."""
        return {IMAGE_ENCODED: 3, **dict.fromkeys(self.masks, 1)}

    def shapes(self, examples: int) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return the shape and dtype of each array of a batch, by its name."""
        sides = (examples, self.size, self.size)
        masks = dict.fromkeys(self.masks, ((*sides, 1), "uint8"))
        numbers = {name: ((examples,), dtype) for name, dtype in self.numbers.items()}
        return {IMAGE: ((*sides, 3), "uint8"), **masks, **numbers}


def encode_image(pixels: np.ndarray, encoding: str) -> bytes:
    """Return a uint8 RGB image (height, width, 3) or mask (height, width, 1) as bytes of a record.

    Args:
      pixels: the image or mask.
      encoding: `raw` or `png`; both are lossless.
    """
    if encoding == "raw":
        return pixels.tobytes()
    bgr = cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR) if pixels.shape[2] == 3 else pixels
    done, data = cv2.imencode(".png", bgr)
    if not done:
        raise ValueError(f"OpenCV could not write an image of shape {pixels.shape} as PNG.")
    return data.tobytes()


def decode_image(data: bytes, encoding: str, size: int, channels: int = 3) -> np.ndarray:
    """Return the inverse of `encode_image`, uint8 (size, size, channels)."""
    buffer = np.frombuffer(data, np.uint8)
    if encoding == "raw":
        return buffer.reshape(size, size, channels)
    if channels == 1:
        return np.asarray(cv2.imdecode(buffer, cv2.IMREAD_GRAYSCALE)).reshape(size, size, 1)
    return cv2.cvtColor(cv2.imdecode(buffer, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB)


def digest(pixels: np.ndarray) -> bytes:
    """Return a digest of DIGEST_BYTES of the pixels of an image, uint8 (size, size, channels)."""
    data = np.ascontiguousarray(pixels).data
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def example(features: Mapping[str, bytes | str | int | float]) -> bytes:
    """Return a serialized tf.train.Example, its keys in sorted order, one value a feature."""
    message = _EXAMPLE()
    for key in sorted(features):
        value = features[key]
        feature = message.features.feature[key]
        if isinstance(value, int):
            feature.int64_list.value.append(value)
        elif isinstance(value, float):
            feature.float_list.value.append(value)
        else:
            feature.bytes_list.value.append(value.encode() if isinstance(value, str) else value)
    return message.SerializeToString(deterministic=True)


def parse(serialized: bytes) -> dict[str, bytes | int | float]:
    """Return the inverse of `example`: the first value of every feature."""
    message = _EXAMPLE()
    message.ParseFromString(serialized)
    result = {}
    for key, feature in message.features.feature.items():
        values = getattr(feature, feature.WhichOneof("kind")).value
        result[key] = values[0]
    return result


class RecordWriter:
    """A writer of TFRecord frames, which counts records and hashes the bytes."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self._digest = hashlib.sha256()
        self.records = 0
        self.bytes = 0

    def write(self, record: bytes) -> None:
        """Append one record: length, masked CRC32C of it, the data, masked CRC32C of the data."""
        length = struct.pack("<Q", len(record))
        frame = b"".join((length, masked_crc(length), record, masked_crc(record)))
        self._stream.write(frame)
        self._digest.update(frame)
        self.records += 1
        self.bytes += len(frame)

    @property
    def sha256(self) -> str:
        """The hex digest of all bytes written so far."""
        return self._digest.hexdigest()


def read(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the records of a TFRecord stream.

    Raises:
      ValueError: a frame is cut short or its checksum is wrong.
    """
    while header := stream.read(12):
        length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else -1
        if length < 0 or masked_crc(header[:8]) != header[8:]:
            raise ValueError("A TFRecord header is damaged: the file is truncated or no TFRecord.")
        record, crc = stream.read(length), stream.read(4)
        if len(record) < length or masked_crc(record) != crc:
            raise ValueError("A TFRecord is damaged: the file is truncated or was changed.")
        yield record


def read_images(stream: BinaryIO, size: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield id and uint8 RGB image (size, size, 3) of every example of a shard, in order."""
    for serialized in read(stream):
        example: dict[str, Any] = parse(serialized)
        image = decode_image(example[IMAGE_ENCODED], example[IMAGE_FORMAT].decode(), size)
        yield example[IMAGE_ID].decode(), image


def masked_crc(data: bytes) -> bytes:
    """Return the checksum that a TFRecord's frame holds of the data: 4 bytes."""
    crc = google_crc32c.value(data)
    return struct.pack("<I", (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & 0xFFFFFFFF)


def _message_class() -> type:
    """Return the class of tf.train.Example, declared as in tensorflow/core/example/*.proto."""
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


_EXAMPLE = _message_class()
