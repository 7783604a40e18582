"""Small drawn photographs, and where the real ones are."""

import struct
from pathlib import Path

import cv2
import numpy as np

from dr_tfx.config import specs

SHARED_DATA = Path(__file__).parents[3] / "shared" / "data"
"""Real photographs: not part of the project, absent for most people."""


def draw(
    seed: int,
    *,
    width: int = 160,
    height: int = 120,
    center: tuple[int, int] | None = None,
    radius: int | None = None,
) -> np.ndarray:
    """A lit disc with random spots on black, uint8 BGR (height, width, 3)."""
    rng = np.random.default_rng(seed)
    center = center or (width // 2, height // 2)
    radius = radius or min(width, height) // 2 - 4
    image = np.zeros((height, width, 3), np.uint8)
    cv2.circle(image, center, radius, (40, 90, 200), -1)
    for _ in range(30):
        offset = rng.uniform(-0.6, 0.6, 2) * radius
        spot = (int(center[0] + offset[0]), int(center[1] + offset[1]))
        cv2.circle(image, spot, int(rng.integers(1, 5)), rng.integers(10, 250, 3).tolist(), -1)
    return image


def encode(image: np.ndarray, extension: str = ".jpeg") -> bytes:
    """The bytes of an image file."""
    return cv2.imencode(extension, image)[1].tobytes()


def with_orientation(jpeg: bytes, orientation: int) -> bytes:
    """The same JPEG file with an EXIF orientation."""
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, orientation, 0)
    exif = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry + bytes(4)
    return jpeg[:2] + b"\xff\xe1" + struct.pack(">H", len(exif) + 2) + exif + jpeg[2:]


def eyepacs_like(**recipe) -> specs.DatasetSpec:
    """Settings that fit the `raw` fixture."""
    return specs.DatasetSpec(
        name="drawn",
        label_names=("no DR", "mild", "moderate"),
        patient_pattern=r"^(.+)_(?:left|right)$",
        recipe=specs.Recipe(**{"size": 32, "quality_gate": "reject", **recipe}),
        split=specs.Split(validation=0.25),
        shard_examples=4,
    )
