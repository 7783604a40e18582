"""Head CT of synthetic patients as DICOM series, a folder a patient.

`P0010/P0010_00.dcm`, ... from the base of the skull upwards, `labels.csv` with a row a slice
(`image,patient,any` and a column for each kind of bleed, 0 or 1), and `masks/<kind>/P0010_00.png`.
The patient of the CSV is the tag PatientID. pydicom, the extra `dicom`, writes the files.
"""

import io
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from dr_tfx.synthetic import head_ct, writing

SLICES = 8  # Of a patient.
_LOWEST, _HIGHEST = -0.5, 0.8  # Heights of the first and the last slice, as `head_ct` counts them.
_HALF_HEAD = 75.0  # Millimetres of a height of 1.
_CT_IMAGE = "1.2.840.10008.5.1.4.1.1.2"  # CT Image Storage, PS3.4 B.5.
_EXPLICIT = "1.2.840.10008.1.2.1"  # Explicit VR Little Endian.


class _Slice(NamedTuple):
    """One slice that is to be drawn and written."""

    output_dir: Path
    seed: int
    patient: int
    number: int
    size: int

    @property
    def name(self) -> str:
        return f"{patient_id(self.patient)}_{self.number:02}"

    @property
    def height(self) -> float:
        return round(_LOWEST + (_HIGHEST - _LOWEST) * self.number / (SLICES - 1), 3)

    def shown(self, head: head_ct.Head) -> set[str]:
        """Return the kinds of bleeds that the slice shows."""
        return {*head_ct.bleeds_of(head, height=self.height, size=self.size)}

    def write(self) -> None:
        head = head_ct.draw_patient(seed=self.seed, patient=self.patient)
        made = head_ct.draw_slice(head, height=self.height, size=self.size)
        folder = self.output_dir / patient_id(self.patient)
        folder.mkdir(exist_ok=True)
        writing.write_masks(self.output_dir, self.name, made.masks)
        writing.write(folder / f"{self.name}.dcm", _file(self, made.units))


def patient_id(patient: int) -> str:
    """Return the name of a patient, which is the tag PatientID and the folder."""
    return f"P{patient:04}"


def plan(
    output_dir: Path, seed: int, patients: range, size: int
) -> tuple[list[_Slice], list[str], tuple[str, ...]]:
    """Return what is to be drawn, the lines of labels.csv and the kinds of masks."""
    drawings, lines = [], [",".join(("image", "patient", "any", *head_ct.KINDS))]
    for patient in patients:
        head, name = head_ct.draw_patient(seed=seed, patient=patient), patient_id(patient)
        for number in range(SLICES):
            drawing = _Slice(output_dir, seed, patient, number, size)
            shown = drawing.shown(head)
            labels = [bool(shown), *(kind in shown for kind in head_ct.KINDS)]
            row = (f"{name}/{drawing.name}.dcm", name, *(f"{label:d}" for label in labels))
            drawings.append(drawing)
            lines.append(",".join(row))
    return drawings, lines, head_ct.KINDS


def _file(drawing: _Slice, units: np.ndarray) -> bytes:
    """Return a slice as the bytes of a DICOM file with the modules of PS3.3 A.3.3."""
    import pydicom
    from pydicom.uid import generate_uid

    def uid(*names: Any) -> str:
        return generate_uid(entropy_srcs=["dr_tfx", *map(str, (drawing.seed, *names))])

    patient, number = drawing.patient, drawing.number
    made = pydicom.Dataset()
    made.file_meta = pydicom.dataset.FileMetaDataset()
    made.file_meta.TransferSyntaxUID = _EXPLICIT
    pixel = head_ct.FIELD / drawing.size
    corner, z = (pixel - head_ct.FIELD) / 2, round(_HALF_HEAD * drawing.height, 3)
    elements = {
        "SOPClassUID": _CT_IMAGE,
        "SOPInstanceUID": uid(patient, number),
        "StudyInstanceUID": uid(patient, "study"),
        "SeriesInstanceUID": uid(patient, "series"),
        "FrameOfReferenceUID": uid(patient, "frame"),
        **dict.fromkeys(("StudyDate", "StudyTime", "AccessionNumber", "StudyID"), ""),
        **dict.fromkeys(("Manufacturer", "ReferringPhysicianName", "PatientBirthDate"), ""),
        **dict.fromkeys(("PatientSex", "PositionReferenceIndicator", "PatientPosition"), ""),
        "AcquisitionNumber": 1,
        "SeriesNumber": 1,
        "InstanceNumber": number + 1,
        "PatientID": patient_id(patient),
        "PatientName": "Synthetic",
        "Modality": "CT",
        "ImageType": ["ORIGINAL", "PRIMARY", "AXIAL"],
        "KVP": "120",
        "SliceThickness": round((_HIGHEST - _LOWEST) * _HALF_HEAD / (SLICES - 1), 3),
        "PixelSpacing": [round(pixel, 6)] * 2,
        "ImageOrientationPatient": [1, 0, 0, 0, 1, 0],
        "ImagePositionPatient": [round(corner, 4), round(corner, 4), z],
        "Rows": drawing.size,
        "Columns": drawing.size,
        "SamplesPerPixel": 1,
        "PhotometricInterpretation": "MONOCHROME2",
        "BitsAllocated": 16,
        "BitsStored": 12,
        "HighBit": 11,
        "PixelRepresentation": 0,
        "RescaleSlope": 1,
        "RescaleIntercept": -1024,
        "RescaleType": "HU",
        "WindowCenter": 40,
        "WindowWidth": 80,
        "PixelData": (units + 1024).astype("<u2").tobytes(),
    }
    for name, value in elements.items():
        setattr(made, name, value)
    stream = io.BytesIO()
    pydicom.dcmwrite(stream, made, enforce_file_format=True)
    return stream.getvalue()
