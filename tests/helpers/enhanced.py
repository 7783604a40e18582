"""Enhanced CT: series of several slices in one DICOM file (PS3.3 A.38)."""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from tests.helpers import dicom_files
from tests.helpers.slices import AXIAL

_ENHANCED_CT = "1.2.840.10008.5.1.4.1.1.2.1"


class Frame(NamedTuple):
    """One slice: what is stored, and what its own functional groups say."""

    stored: np.ndarray  # uint16 (height, width).
    height: float  # Millimetres.
    slope: float = 1.0
    intercept: float = -1024.0
    window: tuple[float, float] = (40.0, 80.0)

    @property
    def units(self) -> np.ndarray:
        """Hounsfield units."""
        return self.stored.astype(np.float64) * self.slope + self.intercept


def enhanced_ct(
    frames: Sequence[Frame], series: str = "1.2", *, is_marked: bool = False, **elements: Any
) -> bytes:
    """The bytes of a file of these frames.

    Args:
      frames: the slices, in the order of the file.
      series: its SeriesInstanceUID.
      is_marked: whether sequences and items have marks of their ends in place of lengths.
      elements: other elements; `syntax` and `PixelData` for compressed frames.
    """
    stored = np.stack([frame.stored for frame in frames])
    shared = _group(PlaneOrientationSequence={"ImageOrientationPatient": AXIAL})
    own = [
        _group(
            FrameContentSequence={"StackID": "1", "InStackPositionNumber": i + 1},
            PlanePositionSequence={"ImagePositionPatient": [-100, -90.5, frame.height]},
            PixelValueTransformationSequence={
                "RescaleIntercept": frame.intercept,
                "RescaleSlope": frame.slope,
                "RescaleType": "HU",
            },
            FrameVOILUTSequence={
                "WindowCenter": frame.window[0],
                "WindowWidth": frame.window[1],
            },
        )
        for i, frame in enumerate(frames)
    ]
    usual = {
        "SOPClassUID": _ENHANCED_CT,
        "SOPInstanceUID": f"{series}.1",
        "SeriesInstanceUID": series,
        "Modality": "CT",
        "InstanceNumber": 1,
        "NumberOfFrames": len(frames),
        "PixelData": stored.tobytes(),
        "SharedFunctionalGroupsSequence": sequence([shared]),
        "PerFrameFunctionalGroupsSequence": sequence(own),
    }
    made = dicom_files.dataset(stored[0], **usual | elements)
    if is_marked:
        _mark(made)
    return dicom_files.written(made)


def sequence(items: Sequence[Any]) -> Any:
    """A DICOM sequence."""
    return pytest.importorskip("pydicom").Sequence(items)


def _group(**macros: dict[str, Any]) -> Any:
    pydicom = pytest.importorskip("pydicom")
    made = pydicom.Dataset()
    for name, elements in macros.items():
        item = pydicom.Dataset()
        for keyword, value in elements.items():
            setattr(item, keyword, value)
        setattr(made, name, sequence([item]))
    return made


def _mark(dataset: Any) -> None:
    for element in dataset:
        if element.VR == "SQ":
            element.is_undefined_length = True
            for item in element.value:
                item.is_undefined_length_sequence_item = True
                _mark(item)
