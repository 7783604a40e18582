"""How DICOM objects name things: coded concepts, models, and the objects themselves.

Codes are SNOMED CT's and, where those are not known here, the Human Phenotype Ontology's. What has
no code of others has one of ours, its own name, in a private scheme (PS3.16, section 8).
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

import dr_tfx
from dr_tfx.preprocessing import geometry

SEGMENTATION, REPORT = "seg", "sr"
NAMES = (SEGMENTATION, REPORT)
"""The kinds of objects that a photograph may have."""

_SERIES_NUMBERS = {SEGMENTATION: 9001, REPORT: 9002}  # Behind those that a camera counts.
_SCHEME = "99DRTFX"  # Designators of private schemes begin with 99.
_LONGEST = 64  # Characters of a meaning, and of most texts.
_LESIONS = {
    "MA": ("HP:0032416", "HPO", "Retinal microaneurysm"),
    "HE": ("28998008", "SCT", "Retinal hemorrhage"),
    "EX": ("39832008", "SCT", "Retinal exudate"),
    "SE": ("HP:0031606", "HPO", "Retinal cotton wool spot"),
    "any": ("1386000", "SCT", "Intracranial hemorrhage"),
    "epidural": ("82999001", "SCT", "Epidural hemorrhage"),
    "intraparenchymal": ("274100004", "SCT", "Cerebral hemorrhage"),
    "intraventricular": ("23276006", "SCT", "Intraventricular hemorrhage"),
    "subarachnoid": ("21454007", "SCT", "Subarachnoid hemorrhage"),
    "subdural": ("35486000", "SCT", "Subdural hemorrhage"),
}
_STRUCTURES = {
    "OD": ("81016008", "SCT", "Optic nerve head"),
    "OC": ("OC", _SCHEME, "Optic cup"),
}


@dataclasses.dataclass(frozen=True)
class Algorithm:
    """A model, as its objects name it.

    Attributes:
      name: of what it was trained for.
      digest: of its own file, SHA-256; its version.
    """

    name: str
    digest: str


@dataclasses.dataclass(frozen=True)
class Marks:
    """What a model marks in a photograph.

    Attributes:
      algorithm: the model.
      box: where its picture lies on the photograph.
      masks: kind -> bool (size, size), over the picture.
      counts: kind -> how many marks there are.
    """

    algorithm: Algorithm
    box: geometry.Box
    masks: Mapping[str, npt.NDArray[np.bool_]]
    counts: Mapping[str, int]


def schemes() -> list[Any]:
    """Return the schemes that the DICOM standard does not list, as objects declare them."""
    from highdicom.coding_schemes import CodingSchemeIdentificationItem

    return [
        CodingSchemeIdentificationItem(designator="HPO", name="Human Phenotype Ontology"),
        CodingSchemeIdentificationItem(
            designator=_SCHEME, name=f"Names of {dr_tfx.__name__}", version=dr_tfx.__version__
        ),
    ]


def of_kind(kind: str) -> Any:
    """Return the concept of a kind of mask."""
    import highdicom as hd

    known = _LESIONS.get(kind) or _STRUCTURES.get(kind)
    if known is None:
        return own(kind, kind)
    value, scheme, meaning = known
    return hd.sr.CodedConcept(value=value, scheme_designator=scheme, meaning=meaning)


def is_structure(kind: str) -> bool:
    """Tell whether a kind of mask is a part of every eye and no lesion."""
    return kind in _STRUCTURES


def category(kind: str) -> Any:
    """Return what kind of thing a kind of mask is (CID 7150)."""
    from pydicom.sr.codedict import codes

    if is_structure(kind):
        return codes.SCT.AnatomicalStructure
    return codes.SCT.MorphologicallyAbnormalStructure


def own(value: str, meaning: str) -> Any:
    """Return a name of ours as a concept, such as that of a class."""
    import highdicom as hd

    return hd.sr.CodedConcept(value=text(value), scheme_designator=_SCHEME, meaning=text(meaning))


def text(value: str) -> str:
    """Return a text as an element can hold it, in which a backslash would part two values."""
    return value.replace("\\", "/")[:_LONGEST]


def identity(source: Any, role: str, algorithms: Sequence[Algorithm]) -> dict[str, Any]:
    """Return the arguments by which highdicom names an object and its maker.

    Slices of one series have their objects in one series, too.
    """
    made_by = [role, dr_tfx.__version__, *(one.digest for one in algorithms)]
    return {
        "series_instance_uid": uid(*made_by, source.SeriesInstanceUID),
        "series_number": _SERIES_NUMBERS[role],
        "series_description": text(f"{of_algorithm(algorithms[0])}, research only"),
        "sop_instance_uid": uid(*made_by, source.SOPInstanceUID),
        "instance_number": max(1, int(source.get("InstanceNumber") or 1)),
        "manufacturer": dr_tfx.__name__,
        "manufacturer_model_name": of_algorithm(algorithms[0]),
        "software_versions": dr_tfx.__version__,
        "device_serial_number": algorithms[0].digest,
        "content_qualification": "RESEARCH",
        "coding_schemes": schemes(),
    }


def of_algorithm(algorithm: Algorithm) -> str:
    """Return what a model is called."""
    return text(f"{dr_tfx.__name__} {algorithm.name}")


def uid(*parts: str) -> Any:
    """Return a UID that follows from what it is of."""
    from pydicom.uid import generate_uid

    return generate_uid(entropy_srcs=["\n".join(map(str, parts))])
