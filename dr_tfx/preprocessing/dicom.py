"""DICOM files: the values that they hold, and how they say that these are to be displayed.

pydicom, the extra `dicom`, is imported when the first DICOM file is met. Nothing here refuses a
damaged file by itself: pydicom and its decoders raise nearly anything, and `decoding` turns all of
it into one error. Sections such as PS3.3 C.11.2 are those of the DICOM standard,
https://www.dicomstandard.org/current.
"""

import contextlib
import dataclasses
import io
import logging
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np

from dr_tfx.preprocessing import dicom_frames

_SILENT = logging.CRITICAL + 1
_DEFLATED = b"1.2.840.10008.1.2.1.99"
_MAX_FRAME = 1 << 27  # Bytes of one frame's pixels, whose values may become float64: 1 GiB.
_KINDS = ((1, 8), (1, 16), (3, 8), (3, 16))  # Samples of a pixel, and bits of a sample.
# Where a file of several frames says what the values of all, or of each, mean (PS3.3 C.7.6.16).
_OF_FRAMES = ("SharedFunctionalGroupsSequence", "PerFrameFunctionalGroupsSequence")
_MEANING = ("PixelValueTransformationSequence", "FrameVOILUTSequence")
_PLACE = ("PlanePositionSequence", "PlaneOrientationSequence", "FrameContentSequence")


class MissingReader(ImportError):
    """A DICOM file was met and pydicom is not installed."""


class FrameTooLarge(ValueError):
    """A DICOM file holds more pixels in a frame than may be decoded."""


@dataclasses.dataclass(frozen=True)
class Scan:
    """One grey frame: the values that the file holds, not a picture of them.

    Attributes:
      values: (height, width) after the modality LUT (PS3.3 C.11.1): float64 where the file has a
        slope and an intercept, else the integers that it stores.
      header: the file's data set, which says how many bits a value has and how it is displayed.
    """

    values: np.ndarray
    header: Any

    @property
    def unit(self) -> str:
        """The unit of the values as in Rescale Type: HU for Hounsfield units; "" if not known.

        A CT image that does not name the unit holds Hounsfield units (PS3.3 C.8.2.1).
        """
        if "RescaleSlope" not in self.header or "RescaleIntercept" not in self.header:
            return ""
        implied = "HU" if self.header.get("Modality") == "CT" else ""
        return str(self.header.get("RescaleType") or implied)

    @property
    def is_byte(self) -> bool:
        """Whether the file stores greys from 0 to 255."""
        return self.header.get("BitsStored") == 8 and not self.header.get("PixelRepresentation")

    @property
    def is_spread(self) -> bool:
        """Whether nothing says which value is white: no VOI LUT, no window, more than 8 bits."""
        has_window = "VOILUTSequence" in self.header or "WindowWidth" in self.header
        return not self.is_byte and not has_window

    def as_displayed(self) -> np.ndarray:
        """Return uint8 (height, width), as a viewer shows the frame when it is opened.

        The file's own VOI LUT or its first window (PS3.3 C.11.2) says what is black and what is
        white. A file that has neither is spread over all of its values, as viewers do, unless it
        is stored in 8 bits. MONOCHROME1 is inverted: its lowest value is white.

        Raises:
          Exception: nearly any, where what the file says about its display is damaged.
        """
        from pydicom import pixels

        values, header = self.values, self.header
        if self.is_spread:
            low, high = float(values.min()), float(values.max())
        elif "VOILUTSequence" in header:
            low, high = 0.0, 2.0 ** int(header.VOILUTSequence[0].LUTDescriptor[2]) - 1
        elif "WindowWidth" in header:
            # The window's own function says which values are the darkest and the brightest.
            low, high = pixels.apply_voi_lut(np.array([-1e9, 1e9]), header)
        else:
            low, high = 0.0, 255.0
        grey = scaled(pixels.apply_voi_lut(values, header), low, high)
        return 255 - grey if header.PhotometricInterpretation == "MONOCHROME1" else grey


def scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return values as uint8: `low` and what is below become 0, `high` and above 255."""
    return np.clip((values - low) * (255 / max(high - low, 1e-9)), 0, 255).round().astype(np.uint8)


def is_dicom(data: bytes) -> bool:
    """Return whether the first bytes are those of a DICOM file."""
    return data[128:132] == b"DICM"


def measure(data: bytes) -> tuple[int, int, int]:
    """Return width, height and the pixels of all frames together, from the header alone.

    Raises:
      MissingReader: pydicom is not installed.
      Exception: nearly any, where the file is damaged or of a kind that is not supported.
    """
    header = _read(data, pixels=False)
    return header.Columns, header.Rows, header.Columns * header.Rows * _frames(header)


def tag(data: bytes, name: str) -> str:
    """Return the value of a tag as text, such as that of PatientID; "" if the file has none.

    Raises:
      MissingReader: pydicom is not installed.
    """
    return str(values(data, [name])[name] or "").strip()


def values(data: bytes, names: Sequence[str]) -> dict[str, Any]:
    """Return the values of tags as pydicom has them; None where the file has none, or is damaged.

    Where a file keeps a value for each frame, or for all, that of the first frame is returned.

    Raises:
      MissingReader: pydicom is not installed.
    """
    pydicom = _reader()
    found: dict[str, Any] = dict.fromkeys(names)
    with contextlib.suppress(Exception):  # Damage raises nearly anything; `decode` says so.
        header = pydicom.dcmread(
            io.BytesIO(data), stop_before_pixels=True, specific_tags=[*names, *_OF_FRAMES]
        )
        _add_groups(header, _PLACE)
        for name in names:
            found[name] = header.get(name)
    return found


def decode(data: bytes) -> np.ndarray | Scan:
    """Return the first frame: colours as uint8 BGR (height, width, 3), grey as a `Scan`.

    Of several frames, the others are left out.

    Raises:
      MissingReader: pydicom is not installed.
      Exception: nearly any, where the file is damaged or of a kind that is not supported.
    """
    dataset = _read(data, pixels=True)
    from pydicom import pixels

    plugin = dicom_frames.checked(dataset, frames=_frames(dataset))
    values = pixels.pixel_array(dataset, index=0, decoding_plugin=plugin)  # YBR becomes RGB.
    meaning = dataset.PhotometricInterpretation
    if meaning == "PALETTE COLOR":
        values = pixels.apply_color_lut(values, dataset)
        bits = 8 * values.itemsize
    elif values.ndim == 3:
        bits = dataset.BitsStored
    elif meaning.startswith("MONOCHROME"):
        _add_groups(dataset, _MEANING)
        return Scan(pixels.apply_modality_lut(values, dataset), dataset)
    else:
        raise ValueError(f"{meaning} is not supported")
    rgb = (values >> max(0, bits - 8)).astype(np.uint8)
    return cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)


def _add_groups(dataset: Any, names: Sequence[str]) -> None:
    """Add what functional groups of these names say of the first frame, and of all frames.

    Enhanced CT and MR keep there what the file of one slice says by itself.
    """
    for groups in _OF_FRAMES:
        for group in (dataset.get(groups) or [])[:1]:
            for name in names:
                for found in (group.get(name) or [])[:1]:
                    dataset.update(found)


def _read(data: bytes, *, pixels: bool) -> Any:
    """Return the data set of a file with its header checked, and the bytes of its pixels or not."""
    pydicom = _reader()
    if _DEFLATED in data:  # pydicom inflates such a file in full, however large it becomes.
        raise ValueError("deflated files are not supported")
    dataset = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=not pixels)
    if "SamplesPerPixel" not in dataset:
        kind = getattr(dataset.get("SOPClassUID"), "name", "") or "the file"
        raise ValueError(f"no picture in it: {kind} has no pixels")
    samples, bits = dataset.SamplesPerPixel, dataset.BitsAllocated
    if (samples, bits) not in _KINDS or min(dataset.Rows, dataset.Columns, _frames(dataset)) < 1:
        raise ValueError(
            f"{_frames(dataset)} frames of {dataset.Columns}x{dataset.Rows} pixels, {samples} "
            f"samples of {bits} bits each; expected at least 1x1 pixels, 1 or 3 samples of 8 or 16"
        )
    frame = dataset.Rows * dataset.Columns * samples * bits // 8
    if frame > _MAX_FRAME:
        raise FrameTooLarge(f"a frame of {frame:,} bytes; at most {_MAX_FRAME:,}")
    return dataset


def _reader() -> Any:
    try:
        import pydicom
    except ImportError as error:
        raise MissingReader("a DICOM file needs pydicom: pip install 'dr_tfx[dicom]'") from error
    logging.getLogger("pydicom").setLevel(_SILENT)  # Errors say it, and with the file's name.
    return pydicom


def _frames(dataset: Any) -> int:
    return int(dataset.get("NumberOfFrames") or 1)
