"""Examples as a build makes them, without photographs: our shards, and the images in them.

An image is a lit disc with soft texture and some noise on black, so that PNG and JPEG files are
about as large as those of retinas. Labels occur as often as in EyePACS.
"""

import dataclasses
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest, record_index, records
from dr_tfx.storage import files

EYEPACS = (25_810, 2_443, 5_292, 873, 708)  # Photographs of each grade.
SHARD = 512  # Most examples in a shard, as in `DatasetSpec.shard_examples`.


def label_counts(count: int) -> list[int]:
    """Return how many of `count` examples have each label: as in EyePACS, at least one each."""
    counts = [max(1, round(count * n / sum(EYEPACS))) for n in EYEPACS]
    counts[0] += count - sum(counts)
    return counts


def labels(count: int) -> np.ndarray:
    """Return the label of every example, int64 (count,), in ascending order."""
    return np.repeat(np.arange(len(EYEPACS)), label_counts(count))


def pictures(count: int, size: int) -> Iterator[np.ndarray]:
    """Yield uint8 RGB (size, size, 3): a few dozen discs, each rolled by some rows."""
    discs = [_disc(size, seed) for seed in range(32)]
    for i in range(count):
        yield np.roll(discs[i % len(discs)], i // len(discs), axis=0)


def experiment(
    size: int, *, encoding: str = "raw", batch_size: int = 64, augmentation: dict | None = None
) -> specs.Experiment:
    """Return an experiment: grade 0 against the others, both drawn equally often.

    There is no augmentation unless settings of it are given.
    """
    return tasks.from_config(
        {
            "dataset": {
                "label_names": [str(i) for i in range(len(EYEPACS))],
                "recipe": {"size": size, "encoding": encoding},
            },
            "task": {"label_map": [0, 1, 1, 1, 1]},
            "model": {"weights": "none", "output_stride": 32 if size > 32 else 8},
            "training": {
                "epochs": 1_000_000,
                "batch_size": batch_size,
                "precision": "float32",
                "augmentation": augmentation or {"horizontal_flip": False},
            },
        }
    )


def write_shards(
    folder: Path, count: int, size: int, *, encoding: str = "raw", linked: bool = False
) -> manifest.Manifest:
    """Write a data set of `count` training examples and return its manifest.

    With `linked` only one shard of each label is written, of so many records that the others can
    be hard links to it: a reader opens, reads and shuffles as many records as in a real data set,
    and the disk holds only a few thousand.
    """
    folder.mkdir(parents=True)
    # The manifest of JPEG records says raw, because it cannot say JPEG.
    spec = experiment(size, encoding="raw" if encoding == "jpeg" else encoding).dataset
    source, shards, index, number = pictures(count, size), [], [], 0
    for label, total in enumerate(label_counts(count)):
        parts = -(-total // SHARD)
        first: manifest.Shard | None = None
        for part in range(parts):
            name = f"train-{label}.tfrecord-{part:05d}-of-{parts:05d}"
            if linked and first:
                os.link(folder / first.name, folder / name)
                index.append(index[-1])
                shards.append(dataclasses.replace(first, name=name))
                continue
            with (folder / name).open("wb") as stream:
                writer = records.RecordWriter(stream)
                # Linked shards have equal sizes; otherwise the last shard has what is left.
                for _ in range(total // parts if linked else min(SHARD, total - part * SHARD)):
                    writer.write(example(next(source), number, label, encoding))
                    number += 1
            index.append(record_index.of_frames(writer.frames))
            first = manifest.Shard(
                name, "train", label, writer.records, writer.bytes, writer.sha256
            )
            shards.append(first)
    made, rows = (
        sum(shard.records for shard in shards),
        record_index.to_bytes(np.concatenate(index)),
    )
    (folder / manifest.INDEX_FILE).write_bytes(rows)
    data = manifest.Manifest(
        dataset=spec,
        fingerprint="benchmark",
        libraries={},
        rows=made,
        written=made,
        rejected={},
        counts={},
        patients={},
        shared_patients=0,
        twins=(),
        unlabelled=0,
        shards=tuple(shards),
        index=hashlib.sha256(rows).hexdigest(),
    )
    files.write_text(folder / manifest.FILE_NAME, data.to_json())
    return data


def example(picture: np.ndarray, number: int, label: int, encoding: str) -> bytes:
    """Return one record. `jpeg` is no encoding of ours and serves as a comparison."""
    if encoding == "jpeg":
        pixels = cv2.imencode(".jpeg", picture[..., ::-1])[1].tobytes()
    else:
        pixels = records.encode_image(picture, encoding)
    return records.example(
        {
            records.IMAGE_ENCODED: pixels,
            records.IMAGE_FORMAT: encoding,
            records.IMAGE_ID: f"{number}_left",
            records.IMAGE_PATIENT: str(number),
            f"{records.LABEL_PREFIX}level": label,
            records.PHOTOGRAPH_BYTES: len(pixels),
            records.PHOTOGRAPH_WIDTH: picture.shape[1],
            records.PHOTOGRAPH_HEIGHT: picture.shape[0],
        }
    )


def _disc(size: int, seed: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    coarse = rng.uniform(60, 220, (12, 12, 3)).astype(np.float32)
    picture = cv2.resize(coarse, (size, size), interpolation=cv2.INTER_CUBIC)
    picture += rng.normal(0, 3, picture.shape).astype(np.float32)
    mask = np.zeros((size, size), np.uint8)
    cv2.circle(mask, (size // 2, size // 2), int(0.48 * size), 1, -1)
    return np.clip(picture, 0, 255).astype(np.uint8) * mask[..., None]
