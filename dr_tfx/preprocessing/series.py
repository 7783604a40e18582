"""The place of a slice in its series, and the slices before and after it.

Slices of one SeriesInstanceUID and one orientation are a series. They are ordered by the first of
these that all of them have: where ImagePositionPatient lies along the normal of the slices (PS3.3
C.7.6.2.1.1), SliceLocation, InstanceNumber.

Frames of a file that has several are slices too. They are in a series with those of their own file,
or of the files in which one was told (a concatenation), and of their own stack and point in time;
what stands for InstanceNumber is their place in the file.

Every command that prepares slices calls `neighbours`, with the slices that it was given.
"""

import hashlib
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np

from dr_tfx.preprocessing import dicom

_TAGS = (
    *("SeriesInstanceUID", "SOPInstanceUID", "ImageOrientationPatient", "ImagePositionPatient"),
    *("SliceLocation", "InstanceNumber", "ConcatenationUID", "ConcatenationFrameOffsetNumber"),
    *("StackID", "TemporalPositionIndex"),
)
_ORDERED_BY = ("position", "location", "number")
_GAP = 3.0  # Times the usual distance in a series, beyond which a slice is no neighbour.
_DECIMALS = 3  # Of a position in millimetres: nearer slices lie at the same place.


class SlicePlace(NamedTuple):
    """The place of a slice, as its tags tell it; NaN for what they do not."""

    series: int = 0  # A hash of the series and the orientation; 0: it is in none.
    instance: int = 0  # A hash of the slice's own name, which orders slices at one place.
    position: float = math.nan  # Millimetres along the normal.
    location: float = math.nan  # SliceLocation.
    number: float = math.nan  # InstanceNumber.


PLACES = np.dtype(
    [("series", "u8"), ("instance", "u8"), *((name, "f8") for name in _ORDERED_BY)]
)  # A SlicePlace in an array.


def place(data: bytes) -> SlicePlace:
    """Return the place of a slice, from the bytes of its file; that of no series for a picture."""
    if not dicom.is_dicom(data):
        return SlicePlace()
    try:
        found = dicom.values(data, _TAGS)
    except dicom.MissingReader:  # Whoever decodes the file says so.
        return SlicePlace()
    if not found["SeriesInstanceUID"]:
        return SlicePlace()
    orientation = _numbers(found["ImageOrientationPatient"], 6)
    position = _numbers(found["ImagePositionPatient"], 3)
    turned = np.round(orientation, 2) + 0.0  # No -0.
    in_series, instance = f"{found['SeriesInstanceUID']} {turned.tolist()}", found["SOPInstanceUID"]
    number, frame = found["InstanceNumber"], found["ConcatenationFrameOffsetNumber"]
    if frame is not None:
        of_file = found["ConcatenationUID"] or instance
        in_series += f" {of_file} {found['StackID']} {found['TemporalPositionIndex']}"
        number, instance = frame, f"{instance} {frame}"
    return SlicePlace(
        _hash(in_series),
        _hash(str(instance)),
        float(np.cross(orientation[:3], orientation[3:]) @ position),
        *(_numbers(value, 1)[0] for value in (found["SliceLocation"], number)),
    )


def neighbours(places: Sequence[SlicePlace] | np.ndarray) -> np.ndarray:
    """Return the slices before and after each of some slices.

    A slice is no neighbour if it lies at the same place, or is farther away than `_GAP` times the
    usual distance of the series, the median.

    Args:
      places: those of the slices; of an array, of the type PLACES.

    Returns:
      int (slices, 2), places in `places`; the slice's own where there is no neighbour. It does not
      depend on the order of the slices, unless two have one name.
    """
    places = np.asarray(places, PLACES)
    found = np.repeat(np.arange(len(places))[:, None], 2, axis=1)
    order = np.argsort(places["series"], kind="stable")
    ends = np.flatnonzero(np.diff(places["series"][order])) + 1
    for members in np.split(order, ends):
        if len(members) > 1 and places["series"][members[0]]:
            found[members] = members[_in_series(places[members])]
    return found


def described(found: np.ndarray) -> str:
    """Return a sentence on how many slices have how many of what `neighbours` returned."""
    count = (found != np.arange(len(found))[:, None]).sum(axis=1)
    both, one, none = (int((count == wanted).sum()) for wanted in (2, 1, 0))
    return (
        f"neighbouring slices: {both:,} of {len(found):,} have one on both sides, {one:,} on one "
        f"side, {none:,} have none; a slice stands in for a neighbour that it lacks"
    )


def _in_series(places: np.ndarray) -> np.ndarray:
    """Return what `neighbours` returns, of the slices of one series."""
    own = np.arange(len(places))
    found = np.stack([own, own], axis=1)
    along = next((v for name in _ORDERED_BY if np.isfinite(v := places[name]).all()), None)
    if along is None:
        return found
    levels, level = np.unique(np.round(along, _DECIMALS), return_inverse=True)
    order = np.lexsort((places["instance"], level))
    first = order[np.searchsorted(level[order], np.arange(len(levels)))]  # One slice of each level.
    steps = np.diff(levels)
    is_near = steps <= _GAP * np.median(steps) if len(steps) else np.zeros(0, bool)
    has_before, has_after = np.append(False, is_near)[level], np.append(is_near, False)[level]
    found[has_before, 0] = first[level[has_before] - 1]
    found[has_after, 1] = first[level[has_after] + 1]
    return found


def _numbers(value: Any, count: int) -> np.ndarray:
    """Return the values of a tag, float64 (count,); NaN where it has another number of them."""
    try:
        numbers = np.atleast_1d(np.asarray(value, np.float64))
    except (TypeError, ValueError):
        return np.full(count, np.nan)
    return numbers if numbers.shape == (count,) else np.full(count, np.nan)


def _hash(text: str) -> int:
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest())
