"""A look at photographs: formats, sizes, damaged files, and files that are the same."""

import collections
import concurrent.futures
import dataclasses
import io
import warnings
from collections.abc import Sequence
from typing import NamedTuple

from PIL import Image

from beam_jobs.build_examples import photograph_table, twin_files
from dr_tfx.machine import progress, resources
from dr_tfx.preprocessing import decoding, dicom
from dr_tfx.sources import folders, frames, trees

_PATIENT = "PatientID"
_AHEAD = 64  # Photographs that are read at a time, for each thread.


@dataclasses.dataclass(frozen=True)
class PhotographFindings:
    """What is known of the photographs of a source."""

    place: str
    names: list[str]  # Sorted; frames, where all files are DICOM files.
    files: list[str]  # Those that hold them.
    size: int  # Bytes of all.
    where: str  # A sentence on the folders in which they lie.
    left_out: dict[str, int]  # Pictures that are not taken, by the reason.
    looked_at: int  # Photographs that were decoded.
    formats: collections.Counter[str]  # Of these.
    sizes: collections.Counter[str]  # "width x height" of these.
    damaged: list[tuple[str, str]]  # Name and reason of those that cannot be read.
    twins: list[list[str]]  # Names of files that are byte-identical.
    have_tag: bool  # Whether a DICOM file among these names its patient.


class _Look(NamedTuple):
    """One photograph that was decoded."""

    format: str
    size: str
    damaged: str
    has_tag: bool = False


def look(source: folders.Source, *, given: str, sample: int) -> PhotographFindings:
    """Look at the photographs of a source.

    Args:
      source: the photographs.
      given: the place as a person has written it.
      sample: how many photographs to decode, spread over all; 0 for all of them.

    Raises:
      ValueError: a name is not UTF-8.
    """
    found = photograph_table.read(source)
    if found["name"].str.lower().str.endswith(".dcm").all():  # The proposal takes frames then.
        source = frames.Frames(source)
        found = photograph_table.read(source)
    names = found["name"].tolist()
    count = min(sample or len(names), len(names))
    chosen = [names[i * len(names) // count] for i in range(count)]
    looks = _decode(source, chosen)
    return PhotographFindings(
        place=given,
        names=names,
        files=list(dict.fromkeys(map(frames.file_of, names))),
        size=int(found["size"].sum()),
        where=trees.describe(map(frames.file_of, names)),
        left_out=dict(source.left_out()),
        looked_at=len(chosen),
        formats=collections.Counter(one.format for one in looks if one.format),
        sizes=collections.Counter(one.size for one in looks if one.size),
        damaged=[
            (name, one.damaged) for name, one in zip(chosen, looks, strict=True) if one.damaged
        ],
        have_tag=any(one.has_tag for one in looks),
        twins=twin_files.find(found.assign(id=found["name"]), source)[0],
    )


def _decode(source: folders.Source, names: Sequence[str]) -> list[_Look]:
    """Decode photographs on all cores, with a bar on a terminal."""
    looks: list[_Look] = []
    with (
        progress.bar(total=len(names), unit="photograph", title="decoding") as bar,
        concurrent.futures.ThreadPoolExecutor(resources.cores()) as pool,
    ):
        for start in range(0, len(names), _AHEAD):
            for one in pool.map(lambda name: _look(source, name), names[start : start + _AHEAD]):
                looks.append(one)
                bar.update()
    return looks


def _look(source: folders.Source, name: str) -> _Look:
    kind, size, has_tag = "", "", False
    try:
        with source.reading(name) as data:
            kind = _format(data)
            width, height = decoding.image_size(data)
            size = f"{width} x {height}"
            has_tag = dicom.is_dicom(data) and bool(dicom.tag(data, _PATIENT))
            decoding.decode(data)
    except decoding.RejectedImage as error:
        return _Look(kind, size, str(error))
    return _Look(kind, size, "", has_tag)


def _format(data: bytes) -> str:
    if dicom.is_dicom(data):
        return "DICOM"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            return Image.open(io.BytesIO(data)).format or ""
        except Exception:  # Damaged headers make Pillow raise nearly anything.
            return ""
