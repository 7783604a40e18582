"""The report of a DICOM photograph: the answer, and what is marked, as DICOM's template TID 1500.

See `dicom_objects`, which writes it.
"""

from collections.abc import Mapping
from typing import Any

import dr_tfx
from dr_tfx.explanation import dicom_names
from dr_tfx.explanation.dicom_names import REPORT, Algorithm, Marks


def make(
    source: Any,
    algorithm: Algorithm,
    *,
    answer: Mapping[str, Any],
    marks: Marks | None,
    segmentation: Any,
) -> Any:
    """Return a highdicom report.

    Args:
      source: the photograph's header.
      algorithm: the model that gave the answer.
      answer: what is said of the photograph as a whole.
      marks: what is marked, if anything was looked for.
      segmentation: the marks as a highdicom Segmentation; None without them.
    """
    import highdicom as hd
    from pydicom.sr.codedict import codes

    algorithms = [algorithm, *([marks.algorithm] if marks else [])]
    identity = dicom_names.identity(source, REPORT, algorithms)
    uid = identity["sop_instance_uid"]
    groups = [_of_answer(source, uid, algorithm=algorithm, answer=answer)] if answer else []
    if marks:
        groups += _of_marks(source, uid, marks=marks, segmentation=segmentation)
    observer = hd.sr.ObserverContext(
        observer_type=codes.DCM.Device,
        observer_identifying_attributes=hd.sr.DeviceObserverIdentifyingAttributes(
            uid=dicom_names.uid("device", algorithm.digest),
            name=dicom_names.of_algorithm(algorithm),
            manufacturer_name=dr_tfx.__name__,
            serial_number=algorithm.digest,
        ),
    )
    content = hd.sr.MeasurementReport(
        observation_context=hd.sr.ObservationContext(observer_device_context=observer),
        procedure_reported=codes.SCT.ImagingProcedure,
        imaging_measurements=groups,
    )
    notice = hd.sr.TextContentItem(
        name=codes.DCM.Comment,
        value=f"{dr_tfx.NOTICE} Nobody has verified this result.",
        relationship_type="CONTAINS",
    )
    content[0].ContentSequence.append(notice)
    evidence = [source, *([segmentation] if segmentation else [])]
    return hd.sr.ComprehensiveSR(
        evidence=evidence,
        content=content[0],
        is_complete=True,
        is_final=False,
        is_verified=False,
        **identity,
    )


def _of_answer(source: Any, uid: str, *, algorithm: Algorithm, answer: Mapping[str, Any]) -> Any:
    """Return the group of a report on the photograph as a whole."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    numbers, words = [], []
    for name, value in answer.items():
        concept = dicom_names.own(name, name.replace("_", " "))
        if isinstance(value, int | float) and not isinstance(value, bool):
            numbers.append(hd.sr.Measurement(concept, float(value), unit=codes.UCUM.NoUnits))
        elif value not in (None, ""):
            text = str(value)
            words.append(hd.sr.QualitativeEvaluation(concept, dicom_names.own(text, text)))
    return hd.sr.MeasurementsAndQualitativeEvaluations(
        tracking_identifier=_tracking(uid, "photograph"),
        source_images=[hd.sr.SourceImageForMeasurementGroup.from_source_image(source)],
        algorithm_id=_algorithm(algorithm),
        measurements=numbers,
        qualitative_evaluations=words,
    )


def _of_marks(source: Any, uid: str, *, marks: Marks, segmentation: Any) -> list[Any]:
    """Return a group of a report for each kind that was looked for: how many, and how large."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    spacing = [float(length) for length in source.get("PixelSpacing") or ()]
    pixel, unit = 1.0, hd.sr.CodedConcept("{pixels}", "UCUM", "pixels")
    if len(spacing) == 2:
        pixel, unit = spacing[0] * spacing[1], codes.UCUM.SquareMillimeter
    frames = segmentation.pixel_array.reshape(-1, source.Rows, source.Columns)
    groups = []
    for number, (kind, frame) in enumerate(zip(marks.masks, frames, strict=True), start=1):
        measured = [hd.sr.Measurement(codes.SCT.Area, float(frame.sum() * pixel), unit=unit)]
        if not dicom_names.is_structure(kind):  # A photograph has one of each.
            count = marks.counts[kind]
            measured.append(
                hd.sr.Measurement(codes.SCT.NumberOfLesions, count, unit=codes.UCUM.NoUnits)
            )
        segment = hd.sr.ReferencedSegmentationFrame(
            sop_class_uid=segmentation.SOPClassUID,
            sop_instance_uid=segmentation.SOPInstanceUID,
            frame_number=number,
            segment_number=number,
            source_image=hd.sr.SourceImageForSegmentation.from_source_image(source),
        )
        # A reference has the one or the other (PS3.3 C.18.4), and highdicom writes both.
        del segment[0].ReferencedSOPSequence[0].ReferencedSegmentNumber
        groups.append(
            hd.sr.PlanarROIMeasurementsAndQualitativeEvaluations(
                tracking_identifier=_tracking(uid, kind),
                referenced_segment=segment,
                finding_category=dicom_names.category(kind),
                finding_type=dicom_names.of_kind(kind),
                algorithm_id=_algorithm(marks.algorithm),
                measurements=measured,
            )
        )
    return groups


def _algorithm(algorithm: Algorithm) -> Any:
    import highdicom as hd

    return hd.sr.AlgorithmIdentification(
        name=dicom_names.of_algorithm(algorithm), version=algorithm.digest
    )


def _tracking(uid: str, name: str) -> Any:
    import highdicom as hd

    return hd.sr.TrackingIdentifier(
        uid=dicom_names.uid("tracked", uid, name), identifier=dicom_names.text(name)
    )
