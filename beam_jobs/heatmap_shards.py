"""The files of heat maps beside a data set's shards: one of heat maps and one of index rows each.

A heat map shard is a TFRecord with the examples of its data shard in the same order.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dr_tfx import records

VALUES = "heatmap/values"  # bytes: little-endian float32 in C order
HEIGHT, WIDTH = "heatmap/height", "heatmap/width"  # int64
SCORE = "score"  # float: mean probability of the positive class over the views


def path(output_dir: Path, shard: str) -> Path:
    """Where the heat maps of a data shard are."""
    return output_dir / f"heatmaps-{shard}"


def index_path(output_dir: Path, shard: str) -> Path:
    """Where a data shard's rows of the index are; the shard is finished when this file exists."""
    return output_dir / f"heatmaps-{shard}.csv"


def record(name: str, heatmap: np.ndarray, score: float) -> bytes:
    """A serialized tf.train.Example of one float32 heat map (height, width)."""
    height, width = heatmap.shape
    return records.example(
        {
            records.IMAGE_ID: name,
            VALUES: heatmap.astype("<f4").tobytes(),
            HEIGHT: height,
            WIDTH: width,
            SCORE: score,
        }
    )


def read(file: Path) -> Iterator[tuple[str, np.ndarray, float]]:
    """Id, heat map float32 (height, width) and score of every record of a heat map shard."""
    with file.open("rb") as stream:
        for serialized in records.read(stream):
            example: dict[str, Any] = records.parse(serialized)
            heatmap = np.frombuffer(example[VALUES], "<f4")
            shape = example[HEIGHT], example[WIDTH]
            yield example[records.IMAGE_ID].decode(), heatmap.reshape(shape), example[SCORE]


def pictures(
    shard: Path, heatmaps: Path, *, wanted: Collection[str], size: int
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Id -> uint8 image (size, size, 3) and float32 heat map of the wanted examples of a shard."""
    with shard.open("rb") as stream:
        both = zip(records.read_images(stream, size), read(heatmaps), strict=True)
        return {name: (image, map_) for (name, image), (_, map_, _) in both if name in wanted}
