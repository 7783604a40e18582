"""Small DICOM files, made element by element."""

import io
from typing import Any

import numpy as np
import pytest

NAMED = {
    "SOPInstanceUID": "1.2.3",
    "SeriesInstanceUID": "1.2",
    "StudyInstanceUID": "1.1",
    "PatientID": "7",
    "PatientName": "Kim^Min",
}
"""What a file has that others refer to."""
HEAD_CT = {"Modality": "CT", "RescaleSlope": 1, "RescaleIntercept": -1024}


def dataset(pixels: np.ndarray, *, syntax: str = "1.2.840.10008.1.2.1", **elements) -> Any:
    """A pydicom data set of `pixels` (height, width) or (height, width, 3)."""
    pydicom = pytest.importorskip("pydicom")
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = syntax
    made.SOPClassUID, made.SOPInstanceUID = "1.2.840.10008.5.1.4.1.1.7", "1.2.3"
    made.Rows, made.Columns = pixels.shape[:2]
    made.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    made.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        made.PlanarConfiguration = 0
    made.BitsAllocated = made.BitsStored = 8 * pixels.itemsize
    made.HighBit = made.BitsAllocated - 1
    made.PixelRepresentation = int(pixels.dtype.kind == "i")
    made.PixelData = pixels.tobytes()
    for name, value in elements.items():
        setattr(made, name, value)
    return made


def dicom(pixels: np.ndarray, **elements) -> bytes:
    """A DICOM file of `pixels`; `elements` are those of `dataset`."""
    return written(dataset(pixels, **elements))


def written(made: Any) -> bytes:
    """The bytes of a file with this data set."""
    pydicom = pytest.importorskip("pydicom")
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, made, enforce_file_format=True)
    return stream.getvalue()


def jpeg_dicom(pixels: np.ndarray, jpeg: bytes, **elements) -> bytes:
    """A DICOM file of the size of `pixels` (height, width, 3) that holds a JPEG file."""
    encaps = pytest.importorskip("pydicom.encaps")
    return dicom(
        pixels,
        syntax="1.2.840.10008.1.2.4.50",
        **{
            "PhotometricInterpretation": "YBR_FULL_422",
            "PixelData": encaps.encapsulate([jpeg]),
            **elements,
        },
    )


def lookup_table(values: list[int], *, bits: int) -> Any:
    """A sequence of one look-up table from 0 on, for VOILUTSequence and ModalityLUTSequence."""
    pydicom = pytest.importorskip("pydicom")
    item = pydicom.Dataset()
    item.LUTDescriptor, item.LUTData = [len(values), 0, bits], np.array(values, "<u2").tobytes()
    item.ModalityLUTType = "US"
    return pydicom.Sequence([item])
