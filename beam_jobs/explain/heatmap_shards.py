"""The files of the explain job: the heat maps, rows, measures and overlays of every part.

A part is a shard of a data set, or some raw photographs. Its heat maps are a TFRecord file with the
part's photographs in the same order, without those that were rejected.
"""

from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from dr_tfx.dataset import records

VALUES = "heatmap/values"  # bytes: little-endian float32 in C order
HEIGHT, WIDTH = "heatmap/height", "heatmap/width"  # int64
SCORE = "score"  # float: the number that the heat map explains, over all views
# Names of folders.
OVERLAYS, THUMBNAILS, PHOTOGRAPHS = "overlays", "thumbnails", "photographs"


def path(output_dir: Path, part: str) -> Path:
    """Return the path of a part's heat maps."""
    return output_dir / f"heatmaps-{part}"


def index_path(output_dir: Path, part: str) -> Path:
    """Return the path of a part's rows of the index. If it exists, the part is finished."""
    return output_dir / f"heatmaps-{part}.csv"


def live_path(output_dir: Path, part: str) -> Path:
    """Return the path of the file that counts a part's photographs until the part is finished."""
    return output_dir / f"heatmaps-{part}.live"


def is_done(output_dir: Path, part: str) -> bool:
    """Tell whether a part is finished."""
    return all(where(output_dir, part).is_file() for where in (path, index_path))


def overlay(part: str, name: str) -> str:
    """Return the path of an overlay within the folder. Each part has a subfolder of its own."""
    return f"{OVERLAYS}/{part}/{name}.png"


def photograph(part: str, name: str) -> str:
    """Return the path, within the folder, of a photograph as large as its overlay."""
    return f"{PHOTOGRAPHS}/{part}/{name}.jpg"


def thumbnail(part: str, name: str) -> str:
    """Return the path, within the folder, of the small overlay of a photograph with a large one."""
    return f"{THUMBNAILS}/{part}/{name}.png"


def record(name: str, heatmap: np.ndarray, score: float) -> bytes:
    """Return a serialized tf.train.Example of one float32 heat map (height, width)."""
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
    """Yield id, heat map float32 (height, width) and score of every record of a file."""
    with file.open("rb") as stream:
        for serialized in records.read(stream):
            example: dict[str, Any] = records.parse(serialized)
            heatmap = np.frombuffer(example[VALUES], "<f4")
            shape = example[HEIGHT], example[WIDTH]
            yield example[records.IMAGE_ID].decode(), heatmap.reshape(shape), example[SCORE]


def heatmaps(output_dir: Path, part: str, *, wanted: Collection[str]) -> dict[str, np.ndarray]:
    """Return id -> float32 heat map of the wanted photographs of a part."""
    found = read(path(output_dir, part))
    return {name: heatmap for name, heatmap, _ in found if name in wanted}
