"""The files of the explain job: for every part, its heat maps, rows, measures and overlays.

A part is a shard of a data set, or some raw photographs; its heat maps are a TFRecord with its
examples in the same order, those that were rejected left out.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dr_tfx.dataset import records

VALUES = "heatmap/values"  # bytes: little-endian float32 in C order
HEIGHT, WIDTH = "heatmap/height", "heatmap/width"  # int64
SCORE = "score"  # float: mean probability of the positive class over the views
OVERLAYS, THUMBNAILS = "overlays", "thumbnails"  # Folders.


def path(output_dir: Path, part: str) -> Path:
    """Where the heat maps of a part are."""
    return output_dir / f"heatmaps-{part}"


def index_path(output_dir: Path, part: str) -> Path:
    """Where a part's rows of the index are; the part is finished when this file exists."""
    return output_dir / f"heatmaps-{part}.csv"


def live_path(output_dir: Path, part: str) -> Path:
    """Where a part's worker says how many photographs it has done, until it is finished."""
    return output_dir / f"heatmaps-{part}.live"


def is_done(output_dir: Path, part: str) -> bool:
    """Whether a part is finished."""
    return all(where(output_dir, part).is_file() for where in (path, index_path))


def overlay(part: str, name: str) -> str:
    """The overlay of a photograph, within the folder. A subfolder a part keeps folders small."""
    return f"{OVERLAYS}/{part}/{name}.png"


def thumbnail(part: str, name: str) -> str:
    """The small overlay of a photograph whose overlay is large, within the folder."""
    return f"{THUMBNAILS}/{part}/{name}.png"


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


def heatmaps(output_dir: Path, part: str, *, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """Id -> float32 heat map of the wanted photographs of a part."""
    found = read(path(output_dir, part))
    return {name: heatmap for name, heatmap, _ in found if name in wanted}
