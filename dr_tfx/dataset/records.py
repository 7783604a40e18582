"""An example on disk: feature keys, tf.train.Example bytes, TFRecord framing.

The module loads no TensorFlow, so that the workers of the build job start without it. What is read
may come from a stranger: a record is compared with what it has to be before anything is made of it.
"""

import dataclasses
import hashlib
import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, BinaryIO, Literal

import cv2
import numpy as np
from google.protobuf import message

from dr_tfx.dataset import example_message, naming
from dr_tfx.dataset.patches import Patches
from dr_tfx.preprocessing import png
from dr_tfx.storage import checksums, seen_text

IMAGE_ENCODED = "image/encoded"  # bytes: raw RGB uint8 in C order, or a PNG file
IMAGE_FORMAT = "image/format"  # bytes: "raw" | "png"
IMAGE_ID = "image/id"  # bytes: UTF-8
IMAGE_PATIENT = "image/patient"  # bytes: UTF-8
LABEL_PREFIX = "label/"  # int64: the finest label
PHOTOGRAPH_BYTES = "photograph/bytes"  # int64: the size of its file
PHOTOGRAPH_WIDTH = "photograph/width"  # int64: in pixels as they are stored
PHOTOGRAPH_HEIGHT = "photograph/height"  # int64
MASK_PREFIX = "mask/"  # bytes: one uint8 channel of the image's size, encoded as the image is

DIGEST_BYTES = 16

MOST_BYTES = 1 << 30  # Of a record; the largest image has 50 MB.

IMAGE = "image"  # The images in a batch of examples; features keep the names of their keys.


class DamagedRecord(ValueError):
    """A record is not what it has to be. The message goes on where the record has been named."""


@dataclasses.dataclass(frozen=True)
class Feature:
    """One feature of a record beside the image: a number, or a mask of the image's geometry.

    Masks are uint8, numbers are not. A number that has so many `values` is one of them, from 0 on.
    """

    dtype: Literal["int64", "float32", "uint8"]
    is_mask: bool = False
    values: int | None = None


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
      patches: the parts of the pictures that are read; None for the whole.

    Raises:
      ValueError: a feature's name, dtype and `is_mask` contradict each other.
    """

    size: int
    encoding: str
    features: Mapping[str, Feature] = dataclasses.field(default_factory=dict)
    patches: Patches | None = None

    def __post_init__(self) -> None:
        for name, feature in self.features.items():
            if len({feature.is_mask, feature.dtype == "uint8", has_geometry(name)}) > 1:
                raise ValueError(
                    f"The feature {name!r} is {feature}; expected a mask, of dtype uint8 and with "
                    f"a name that begins with {MASK_PREFIX!r}, or a number, with neither."
                )

    @property
    def side(self) -> int:
        """Height and width of what is read, in pixels."""
        return self.patches.side if self.patches else self.size

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

    @property
    def pixel_bytes(self) -> int:
        """The bytes of the image and the masks of an example, or of a patch of it."""
        return self.side**2 * sum(self.channels.values())

    def shapes(self, examples: int) -> dict[str, tuple[tuple[int, ...], str]]:
        """Return the shape and dtype of each array of a batch, by its name."""
        sides = (examples, self.side, self.side)
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
    """Return the inverse of `encode_image`, uint8 (size, size, channels).

    Raises:
      DamagedRecord: the data are no such image.
    """
    expected = f"{size} x {size} pixels of {channels} channels"
    buffer = np.frombuffer(data, np.uint8)
    if encoding == "raw":
        if len(data) != size * size * channels:
            raise DamagedRecord(
                f"of {len(data):,} bytes; expected {size * size * channels:,}, {expected}"
            )
        return buffer.reshape(size, size, channels)
    if not data.startswith(png.header(size, size)) or not png.is_whole(data):
        raise DamagedRecord(f"that is no whole PNG file of {expected}")
    pixels = cv2.imdecode(buffer, cv2.IMREAD_GRAYSCALE if channels == 1 else cv2.IMREAD_COLOR)
    if pixels is None:
        raise DamagedRecord(f"that is a damaged PNG file of {expected}")
    return pixels[..., np.newaxis] if channels == 1 else cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB)


def digest(pixels: np.ndarray) -> bytes:
    """Return a digest of DIGEST_BYTES of the pixels of an image, uint8 (size, size, channels)."""
    data = np.ascontiguousarray(pixels).data
    return hashlib.blake2b(data, digest_size=DIGEST_BYTES).digest()


def example(features: Mapping[str, bytes | str | int | float]) -> bytes:
    """Return a serialized tf.train.Example, its keys in sorted order, one value a feature."""
    made = example_message.Example()
    for key in sorted(features):
        value = features[key]
        feature = made.features.feature[key]
        if isinstance(value, int):
            feature.int64_list.value.append(value)
        elif isinstance(value, float):
            feature.float_list.value.append(value)
        else:
            feature.bytes_list.value.append(value.encode() if isinstance(value, str) else value)
    return made.SerializeToString(deterministic=True)


def parse(serialized: bytes) -> dict[str, bytes | int | float]:
    """Return the inverse of `example`: the value of every feature.

    Raises:
      DamagedRecord: it is no message of tf.train.Example, or a feature has not one value.
    """
    parsed = example_message.Example()
    try:
        parsed.ParseFromString(serialized)
    except message.DecodeError as error:
        raise DamagedRecord("is no tf.train.Example") from error
    result = {}
    for key, feature in parsed.features.feature.items():
        kind = feature.WhichOneof("kind")
        values: Sequence[Any] = getattr(feature, kind).value if kind else ()
        if len(values) != 1:
            raise DamagedRecord(
                f"has {len(values)} values of {seen_text.printable(key)}; expected 1"
            )
        result[key] = values[0]
    return result


def check(example: Mapping[str, Any], schema: Schema, texts: Sequence[str] = ()) -> None:
    """Refuse a parsed record that lacks a feature, or has one of another type or value.

    Args:
      example: what `parse` returned.
      schema: what is read of it.
      texts: keys of features that are read besides, IMAGE_ID or IMAGE_PATIENT.

    Raises:
      DamagedRecord: names the feature.
    """
    needed = {**dict.fromkeys((*schema.channels, *texts), "bytes"), **schema.numbers}
    if missing := sorted(needed.keys() - example.keys()):
        have = ", ".join(map(seen_text.printable, sorted(example)))
        raise DamagedRecord(f"has {have}, but not {', '.join(missing)}")
    for name, dtype in needed.items():
        value = example[name]
        if not isinstance(value, _TYPES[dtype]):
            found = next(kind for kind, python in _TYPES.items() if isinstance(value, python))
            raise DamagedRecord(f"has {name} as {found}; expected {dtype}")
    for name, feature in schema.features.items():
        if feature.values is not None and not 0 <= example[name] < feature.values:
            raise DamagedRecord(
                f"has the {name} {example[name]}; expected 0 to {feature.values - 1}"
            )
    for name in texts:
        text_of(example, name)


_TYPES = {"bytes": bytes, "int64": int, "float32": float}


def text_of(example: Mapping[str, Any], name: str) -> str:
    """Return an id or a patient, which are written into pages and file names.

    Raises:
      DamagedRecord: it is no UTF-8, leads out of a folder, or hides what it is.
    """
    try:
        return naming.checked(example[name], is_path=name == IMAGE_ID)
    except ValueError as error:
        raise DamagedRecord(f"has the {name} {error}") from error


def pictures(example: Mapping[str, Any], schema: Schema) -> dict[str, np.ndarray]:
    """Return the image and the masks of a record that was checked, by their names in a batch.

    Raises:
      DamagedRecord: one of them has another size, or is no image.
    """
    found = {}
    for name, channels in schema.channels.items():
        try:
            pixels = decode_image(example[name], schema.encoding, schema.size, channels)
        except DamagedRecord as error:
            raise DamagedRecord(f"has the {name} {error}") from error
        found[IMAGE if name == IMAGE_ENCODED else name] = pixels
    return found


class RecordWriter:
    """A writer of TFRecord frames, which counts records and hashes the bytes."""

    def __init__(self, stream: BinaryIO):
        self._stream = stream
        self._digest = hashlib.sha256()
        self.records = 0
        self.bytes = 0
        self.frames: list[tuple[int, int]] = []  # Of each record: its bytes, and their checksum.

    def write(self, record: bytes) -> None:
        """Append one record: length, masked CRC32C of it, the data, masked CRC32C of the data."""
        length = struct.pack("<Q", len(record))
        checksum = checksums.masked_crc(record)
        frame = b"".join((length, checksums.masked_crc(length), record, checksum))
        self._stream.write(frame)
        self._digest.update(frame)
        self.records += 1
        self.bytes += len(frame)
        self.frames.append((len(record), int.from_bytes(checksum, "little")))

    @property
    def sha256(self) -> str:
        """The hex digest of all bytes written so far."""
        return self._digest.hexdigest()


def read(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the records of a TFRecord stream.

    Raises:
      ValueError: a frame is cut short, its checksum is wrong, or it is longer than any record.
    """
    while header := stream.read(12):
        length = struct.unpack("<Q", header[:8])[0] if len(header) == 12 else -1
        if length < 0 or checksums.masked_crc(header[:8]) != header[8:]:
            raise ValueError("A TFRecord header is damaged: the file is truncated or no TFRecord.")
        if length > MOST_BYTES:
            raise ValueError(f"A TFRecord says that it has {length:,} bytes, which none has.")
        record, crc = stream.read(length), stream.read(4)
        if len(record) < length or checksums.masked_crc(record) != crc:
            raise ValueError("A TFRecord is damaged: the file is truncated or was changed.")
        yield record


def read_images(stream: BinaryIO, size: int) -> Iterator[tuple[str, np.ndarray]]:
    """Yield id and uint8 RGB image (size, size, 3) of every example of a shard, in order.

    Raises:
      ValueError: a record is damaged, or is not what it has to be.
    """
    for name, found in read_pictures(stream, size):
        yield name, found[IMAGE]


def read_pictures(
    stream: BinaryIO, size: int, masks: Sequence[str] = ()
) -> Iterator[tuple[str, dict[str, np.ndarray]]]:
    """Yield id, image and masks of every example of a shard, in order.

    Args:
      stream: of the shard.
      size: height and width of image and masks.
      masks: names of the masks' features.

    Yields:
      The id, and IMAGE, uint8 RGB (size, size, 3), and the masks, uint8 (size, size, 1), by name.

    Raises:
      ValueError: a record is damaged, or is not what it has to be.
    """
    texts = (IMAGE_ID, IMAGE_FORMAT)
    features = dict.fromkeys(masks, Feature("uint8", is_mask=True))
    for number, serialized in enumerate(read(stream)):
        try:
            example = parse(serialized)
            check(example, Schema(size, "", features), texts)
            schema = Schema(size, text_of(example, IMAGE_FORMAT), features)
            found = pictures(example, schema)
        except DamagedRecord as error:
            raise ValueError(f"record {number} {error}") from error
        yield text_of(example, IMAGE_ID), found
