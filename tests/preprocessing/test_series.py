"""The slices before and after a slice, by the tags that there are."""

import math

import numpy as np
import pytest

from dr_tfx.preprocessing import series
from tests.helpers.drawn import encode
from tests.helpers.slices import AXIAL, dicom_slice, series_of, units

pytest.importorskip("pydicom")
TILTED = [1, 0, 0, 0, math.cos(0.4), math.sin(0.4)]  # The gantry leans: the normal is not z.


def names_of(files: dict[str, bytes], order=None) -> dict[str, tuple[str, str]]:
    """Name -> names of the slices before and after it, its own where there is none."""
    order = list(files) if order is None else order
    found = series.neighbours([series.place(files[name]) for name in order])
    return {name: tuple(order[at] for at in found[i]) for i, name in enumerate(order)}


def stack(values: str, make) -> dict[str, bytes]:
    """A file for each letter; `make` gives the tags of the one at a place."""
    return {
        letter: dicom_slice(units(i, side=16 + 12), "1.2", height=None, **make(i))
        for i, letter in enumerate(values)
    }


CHAIN = {"a": ("a", "b"), "b": ("a", "c"), "c": ("b", "d"), "d": ("c", "d")}


@pytest.mark.parametrize(
    "make",
    [
        # Positions say it, whatever the numbers say.
        lambda i: {
            "ImageOrientationPatient": AXIAL,
            "ImagePositionPatient": [3, 4, 5.0 * i - 7],
            "InstanceNumber": 9 - i,
            "SliceLocation": -i,
        },
        # Along a leaning normal, (0, -sin, cos), positions that only seem to go down go up.
        lambda i: {"ImageOrientationPatient": TILTED, "ImagePositionPatient": [0, -9.0 * i, -i]},
        lambda i: {"SliceLocation": 2.5 * i, "InstanceNumber": 9 - i},
        lambda i: {"SliceLocation": i, "ImagePositionPatient": [0, 0, -i]},  # No orientation.
        lambda i: {"InstanceNumber": i + 1, "SliceLocation": [i, 1] if i else i},
        lambda i: {"InstanceNumber": i + 1} | ({"SliceLocation": -i} if i else {}),
    ],
    ids=["position", "tilted", "location", "no orientation", "number", "some locations"],
)
def test_order_is_that_of_the_first_tag_that_all_slices_have(make):
    files = stack("abcd", make)
    assert names_of(files) == CHAIN
    for seed in range(3):
        order = np.random.default_rng(seed).permutation(list(files)).tolist()
        assert names_of(files, order) == CHAIN


def test_series_are_apart_and_what_is_in_none_has_no_neighbours():
    files = {"picture": encode(units(1).astype(np.uint8), ".png"), "broken": b"\0" * 128 + b"DICM"}
    files |= {f"first {h}": data for h, data in series_of("1.1", (0, 5, 10)).items()}
    files |= {f"other {h}": data for h, data in series_of("1.3", (5, 7.5)).items()}
    files["alone"] = dicom_slice(units(9), "", height=2.5)
    files["nowhere"] = dicom_slice(units(9), "1.5", height=None)
    files["nowhere too"] = dicom_slice(units(8), "1.5", height=None)
    files["scout"] = dicom_slice(
        units(7), "1.1", height=6, ImageOrientationPatient=[1, 0, 0, 0, 0, -1]
    )
    found = names_of(files)
    assert found["first 5"] == ("first 0", "first 10")
    assert found["other 5"] == ("other 5", "other 7.5")
    for name in ("picture", "broken", "alone", "nowhere", "nowhere too", "scout"):
        assert found[name] == (name, name)
    described = series.described(series.neighbours([series.place(d) for d in files.values()]))
    assert "1 of 11 have one on both sides, 4 on one side, 6 have none" in described


def test_a_gap_and_a_slice_at_the_same_place_are_no_neighbours():
    heights = (0, 5, 10, 25.1, 30, 40)  # The usual distance is 5: three times that is no gap.
    below, above = zip(*names_of(series_of("1", heights)).values(), strict=True)
    assert below == (0, 0, 5, 25.1, 25.1, 30) and above == (5, 10, 10, 30, 40, 40)
    twice = {"low": dicom_slice(units(1), "1", height=0)}
    twice |= {name: dicom_slice(units(i), "1", height=2) for i, name in enumerate("xy")}
    twice["high"] = dicom_slice(units(5), "1", height=4)
    found = names_of(twice)
    assert found["x"] == found["y"] == ("low", "high")
    assert found["low"][1] == found["high"][0] == names_of(twice, [*twice][::-1])["low"][1]
