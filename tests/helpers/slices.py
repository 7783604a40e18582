"""Series of a few small slices of head CT, as DICOM files."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from tests.helpers.dicom_files import HEAD_CT, dicom

AXIAL = [1, 0, 0, 0, 1, 0]


def units(seed: int, *, side: int = 48) -> np.ndarray:
    """Hounsfield units, int16: air and a head, all of whose pixels depend on the seed."""
    rng = np.random.default_rng(seed)
    made = np.full((side, side), -1000, np.int16)
    made[6:-6, 8:-8] = rng.integers(60, 90, (side - 12, side - 16))
    made[9:-9, 11:-11] = rng.integers(20, 60, (side - 18, side - 22))
    return made


def dicom_slice(values: np.ndarray, series: str, *, height: float | None, **elements: Any) -> bytes:
    """A file of Hounsfield units at a height of a series; None: its tags do not tell it."""
    if height is not None:
        elements = {"ImagePositionPatient": [-100, -90.5, height]} | elements
        elements = {"ImageOrientationPatient": AXIAL} | elements
    named = {"SeriesInstanceUID": series, "SOPInstanceUID": f"1.9.{abs(hash_of(values))}"}
    return dicom((values + 1024).astype(np.uint16), **HEAD_CT, **named | elements)


def hash_of(values: np.ndarray) -> int:
    """A number that names a slice."""
    return int(values.astype(np.int64).sum())


def series_of(series: str, heights: Sequence[float], *, seed: int = 0) -> dict[float, bytes]:
    """The slices of a series by their heights."""
    return {
        height: dicom_slice(units(seed + i), series, height=height)
        for i, height in enumerate(heights)
    }
