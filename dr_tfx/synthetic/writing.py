"""The files of drawn data: whole or not there, and masks of what is there only."""

import os
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np

from dr_tfx.storage import files


def write(path: Path, data: bytes) -> None:
    """Write the whole file, or leave what was there."""
    temporary = path.with_name(f".{path.name}.tmp")
    with files.named(path):
        temporary.write_bytes(data)
    os.replace(temporary, path)


def encode(extension: str, image: np.ndarray, *options: int) -> bytes:
    """Return an image, grey or BGR, as a file."""
    done, data = cv2.imencode(extension, image, options)
    if not done:
        raise RuntimeError(f"OpenCV could not encode an image as {extension}")
    return data.tobytes()


def write_masks(output_dir: Path, name: str, masks: Mapping[str, np.ndarray]) -> None:
    """Write `masks/<kind>/<name>.png`, 0 or 255, for the kinds that have a folder there.

    Args:
      output_dir: the folder of the data set.
      name: of the image, without its extension.
      masks: kind -> bool (height, width); kinds that are absent have no entry.
    """
    for folder in (output_dir / "masks").iterdir():
        path = folder / f"{name}.png"
        if folder.name in masks:
            write(path, encode(".png", masks[folder.name].astype(np.uint8) * 255))
        else:
            path.unlink(missing_ok=True)  # An earlier version may have drawn one.
