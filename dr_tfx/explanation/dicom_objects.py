"""What models say of a DICOM photograph, as DICOM objects: a Segmentation and a Structured Report.

highdicom, which the extra `dicom` installs, makes them. They belong to the photograph's patient and
study, so that an archive of images (PACS) files them beside it: they hold the patient's identity.

Each is named by what it is made of. The same photograph, models and version give the same UIDs
again, and an archive keeps one object. PS3.3 A.51 and A.35.3 of the DICOM standard describe the
two, TID 1500 of PS3.16 the content of the report.
"""

import io
import logging
import warnings
from collections.abc import Mapping
from typing import Any

import numpy as np

import dr_tfx
from dr_tfx.explanation import dicom_names, dicom_reports
from dr_tfx.explanation.dicom_names import REPORT, SEGMENTATION, Algorithm, Marks

# Tags that every object has, if only empty, and that a file may lack.
_MAY_LACK = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("AccessionNumber", "StudyID", "StudyDate", "StudyTime", "ReferringPhysicianName"),
)
_MUST_HAVE = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID")


class NoObjects(ValueError):
    """Nothing can be written of a DICOM file; the message says why."""


def check_installed() -> None:
    """Load highdicom.

    Raises:
      ValueError: it is not installed.
    """
    try:
        import highdicom  # noqa: F401 - Whether it is there is all that is asked.
    except ImportError as error:
        raise ValueError(
            "DICOM results need highdicom, which is not installed. Type: "
            "pip install 'dr_tfx[dicom]'"
        ) from error
    logging.getLogger("highdicom").setLevel(logging.ERROR)


def of_photograph(
    data: bytes, algorithm: Algorithm, *, answer: Mapping[str, Any], marks: Marks | None
) -> dict[str, bytes]:
    """Return the objects of a photograph: a Segmentation of what is marked, and a report.

    The Segmentation has one segment for each kind, which has a frame also where nothing is marked,
    of the photograph's own rows and columns.

    Args:
      data: the photograph's DICOM file.
      algorithm: the model that gave the answer.
      answer: what is said of the photograph as a whole, by name; None is left out.
      marks: what is marked, if anything was looked for.

    Returns:
      The files, by their names in `dicom_names.NAMES`.

    Raises:
      NoObjects: the file has several frames, or a header to which no object can refer.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # They name the patient.
            return _made(_source(data), algorithm, answer=answer, marks=marks)
    except Exception as error:  # As with decoders: what is odd in a header raises nearly anything.
        raise NoObjects(str(error) or type(error).__name__) from error


def _made(
    source: Any, algorithm: Algorithm, *, answer: Mapping[str, Any], marks: Marks | None
) -> dict[str, bytes]:
    """Return what `of_photograph` returns, of a photograph's header."""
    made, segmentation = {}, None
    if marks:
        segmentation = _segmentation(source, marks)
        made[SEGMENTATION] = _file(segmentation)
    report = dicom_reports.make(
        source, algorithm, answer=answer, marks=marks, segmentation=segmentation
    )
    made[REPORT] = _file(report)
    return made


def _source(data: bytes) -> Any:
    """Return the header of the photograph, in UTF-8, with every tag that its objects need.

    Raises:
      ValueError: it has several frames, or tags that cannot be made up are missing.
    """
    import pydicom

    header = pydicom.dcmread(io.BytesIO(data), stop_before_pixels=True)
    frames = int(header.get("NumberOfFrames") or 1)
    if frames > 1:
        raise ValueError(
            f"it has {frames} frames, of which the model saw one; expected a file of one frame"
        )
    if "ConcatenationFrameOffsetNumber" in header:  # `dicom_split` has cut it out of its file.
        raise ValueError("it is a frame of a file of several; expected a file of one frame")
    if missing := [name for name in _MUST_HAVE if not header.get(name)]:
        raise ValueError(f"it has no {', '.join(missing)}, by which objects refer to it")
    header.decode()  # Class names may be in a script that the file's character set lacks.
    header.SpecificCharacterSet, header.NumberOfFrames = "ISO_IR 192", frames
    for name in _MAY_LACK:
        if header.get(name) is None:
            setattr(header, name, "")
    header.Modality = header.get("Modality") or "OT"  # Other.
    if header.PatientSex not in ("M", "F", "O"):
        header.PatientSex = ""
    _add_groups(header)
    return header


def _add_groups(header: Any) -> None:
    """Add the functional groups of one frame, in which highdicom looks for the size of pixels.

    Photographs of eyes may have frames, but no such groups, and no place in the patient.
    """
    import highdicom as hd
    import pydicom

    if "ImageOrientationPatient" in header or "SharedFunctionalGroupsSequence" in header:
        return
    header.pop("FrameOfReferenceUID", None)
    shared, spacing = pydicom.Dataset(), header.get("PixelSpacing") or (1, 1)
    shared.PixelMeasuresSequence = hd.PixelMeasuresSequence(spacing, slice_thickness=None)
    header.SharedFunctionalGroupsSequence = [shared]


def _segmentation(source: Any, marks: Marks) -> Any:
    """Return a highdicom Segmentation of what is marked."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence(
        name=dicom_names.of_algorithm(marks.algorithm),
        family=codes.DCM.ArtificialIntelligence,
        version=marks.algorithm.digest,
        source=dr_tfx.__name__,
    )
    segments = [
        hd.seg.SegmentDescription(
            segment_number=number,
            segment_label=dicom_names.text(kind),
            segmented_property_category=dicom_names.category(kind),
            segmented_property_type=dicom_names.of_kind(kind),
            algorithm_type="AUTOMATIC",
            algorithm_identification=algorithm,
        )
        for number, kind in enumerate(marks.masks, start=1)
    ]
    size = {"height": int(source.Rows), "width": int(source.Columns)}
    placed = [marks.box.marked(mask, **size) for mask in marks.masks.values()]
    made = hd.seg.Segmentation(
        source_images=[source],
        pixel_array=np.stack(placed, axis=-1)[np.newaxis],
        segmentation_type="BINARY",
        segment_descriptions=segments,
        omit_empty_frames=False,
        content_label="MARKS",
        content_description=dr_tfx.NOTICE,
        **dicom_names.identity(source, SEGMENTATION, [marks.algorithm]),
    )
    shared = made.SharedFunctionalGroupsSequence[0]
    if not source.get("PixelSpacing") and "PixelMeasuresSequence" in shared:
        del shared.PixelMeasuresSequence  # That of `_add_groups`.
    # highdicom draws this one at random.
    organization = dicom_names.uid("dimensions", made.SOPInstanceUID)
    for item in (*made.DimensionOrganizationSequence, *made.DimensionIndexSequence):
        item.DimensionOrganizationUID = organization
    if "FrameOfReferenceUID" not in made:  # Only a place in the patient would tell the same.
        made.PatientOrientation = source.get("PatientOrientation")
    return made


def _file(made: Any) -> bytes:
    stream = io.BytesIO()
    made.save_as(stream, enforce_file_format=True)
    return stream.getvalue()
