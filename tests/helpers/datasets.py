"""A tiny data set written record by record, without the build job: examples that name themselves.

Every pixel of an example holds its own number, so that a test can tell which examples it was given.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import numpy as np

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest, record_index, records
from dr_tfx.statistics import operating_points
from dr_tfx.storage import files
from dr_tfx.tasks.binary import fitting
from dr_tfx.tasks.patients import PatientDecision

SCALING = (2 / 3, -0.25)  # Slope and intercept of what `fitted` makes of scores.
COUNTS = {"train": (24, 6, 3), "validation": (5, 4, 2)}  # Examples by label.


def fitted(threshold: float) -> fitting.Fitted:
    """A decision at the threshold, as if an evaluation of validation had chosen it."""
    points = (
        operating_points.OperatingPoint("youden", None, threshold),
        operating_points.OperatingPoint("min_sensitivity", 0.872, threshold / 2),
    )
    decided = PatientDecision({"max": threshold, "top_mean": threshold})
    return fitting.Fitted("validation", points, decided, *SCALING)


def experiment(*, size: int = 32, encoding: str = "raw", **training) -> specs.Experiment:
    """Three labels, the last two of them positive, and no augmentation."""
    augmentation = training.pop("augmentation", {"horizontal_flip": False})
    return tasks.from_config(
        {
            "dataset": {
                "label_names": ["a", "b", "c"],
                "recipe": {"size": size, "encoding": encoding},
            },
            "task": {"label_map": [0, 1, 1]},
            # Of 32 pixels the backbones' own stride would leave one place.
            "model": {"weights": "none", "output_stride": min(16, size // 2)},
            "training": {"epochs": 3, "batch_size": 8, "augmentation": augmentation, **training},
        }
    )


def write(
    folder: Path,
    spec: specs.DatasetSpec,
    *,
    shard_examples: int = 7,
    fingerprint: str = "test",
    features: Callable[[int], dict] = lambda number: {},
) -> manifest.Manifest:
    """Write shards and manifest; the n-th example has pixel value n % 256 and the id `n<n>`.

    `features` of a number are written besides, or instead of what an example has of the same name;
    arrays are encoded.
    """
    folder.mkdir(parents=True, exist_ok=True)
    number, shards, index = 0, [], []
    for split, counts in COUNTS.items():
        for label, count in enumerate(counts):
            parts = -(-count // shard_examples)
            for part in range(parts):
                name = f"{split}-{label}.tfrecord-{part:05d}-of-{parts:05d}"
                with (folder / name).open("wb") as stream:
                    writer = records.RecordWriter(stream)
                    for _ in range(min(shard_examples, count - part * shard_examples)):
                        writer.write(_example(number, label, spec, features(number)))
                        number += 1
                index.append(record_index.of_frames(writer.frames))
                shards.append(
                    manifest.Shard(name, split, label, writer.records, writer.bytes, writer.sha256)
                )
    rows = record_index.to_bytes(np.concatenate(index))
    (folder / manifest.INDEX_FILE).write_bytes(rows)
    result = manifest.Manifest(
        dataset=spec,
        fingerprint=fingerprint,
        libraries={},
        rows=number,
        written=number,
        rejected={},
        counts={},
        patients={},
        shared_patients=0,
        twins=(),
        unlabelled=0,
        shards=tuple(shards),
        index=hashlib.sha256(rows).hexdigest(),
    )
    files.write_text(folder / manifest.FILE_NAME, result.to_json())
    return result


def _example(number: int, label: int, spec: specs.DatasetSpec, features: dict) -> bytes:
    values = {
        records.IMAGE_ENCODED: np.full((spec.recipe.size,) * 2 + (3,), number % 256, np.uint8),
        records.IMAGE_FORMAT: spec.recipe.encoding,
        records.IMAGE_ID: f"n{number}",
        records.IMAGE_PATIENT: f"p{number // 2}",
        records.LABEL_PREFIX + spec.label_column: label,
        records.PHOTOGRAPH_BYTES: 9000,
        records.PHOTOGRAPH_WIDTH: 640,
        records.PHOTOGRAPH_HEIGHT: 480,
        **features,
    }
    for name, value in values.items():
        if isinstance(value, np.ndarray):
            values[name] = records.encode_image(value, spec.recipe.encoding)
    return records.example(values)


def disc(row: float, column: float, *, size: int, radius: float = 5.0) -> np.ndarray:
    """Return a mask of a lesion, uint8 (size, size, 1), 255 within the disc and 0 outside."""
    rows, columns = np.mgrid[:size, :size]
    inside = np.hypot(rows - row, columns - column) <= radius
    return (255 * inside).astype(np.uint8)[..., np.newaxis]


def with_lesion(mask: np.ndarray) -> np.ndarray:
    """Return a photograph, uint8 (size, size, 3), that is brighter where the mask is."""
    return np.where(mask > 0, np.uint8([200, 160, 90]), np.uint8([60, 50, 30])).astype(np.uint8)


def centre(mask: np.ndarray) -> np.ndarray:
    """Return the mean (row, column) of a mask's pixels above 0, float64 (2,)."""
    return np.argwhere(np.squeeze(mask) > 0).mean(axis=0)


def lesion_seen(image: np.ndarray) -> np.ndarray:
    """Return where a photograph of `with_lesion` is bright, uint8 (size, size)."""
    red = image[..., 0].astype(float)
    return (red > (red.min() + red.max()) / 2).astype(np.uint8)
