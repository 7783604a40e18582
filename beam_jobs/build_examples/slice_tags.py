"""What the tags of DICOM files tell a plan: the patient, and the slices before and after each.

Files are read whole for their tags, which costs the time of reading all of them once; nothing is
read where neither is asked for.
"""

import concurrent.futures
import hashlib
import logging
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import pandas as pd

from beam_jobs.build_examples import patients
from dr_tfx.config import specs
from dr_tfx.dataset import splits
from dr_tfx.preprocessing import decoding, dicom, recipes, series
from dr_tfx.sources import folders

_THREADS = 8  # Files that are read at the same time.

_LOG = logging.getLogger(__name__)


class TaggedRows(NamedTuple):
    """The rows of a plan with what tags tell of them."""

    rows: pd.DataFrame  # All, with the patients that tags tell.
    found: pd.DataFrame  # Those with a photograph; with neighbours, its `before` and `after` too.
    inputs: dict[str, str]  # A digest of the neighbours, if there are any.


def add(
    rows: pd.DataFrame,
    found: pd.DataFrame,
    photographs: pd.DataFrame,
    *,
    source: folders.Source,
    spec: specs.DatasetSpec,
    is_by_tags: bool,
) -> TaggedRows:
    """Return the rows with their patients, if tags tell these, and their neighbours.

    Neighbours are looked for among all photographs, whether they have a row or not, as they are
    when a trained model is given the same files.

    Args:
      rows: all rows.
      found: those with a photograph, and its `name`.
      photographs: all photographs of the source, with `name` and `size`.
      source: the photographs.
      spec: the settings of the data set.
      is_by_tags: whether `spec.patient_column` is a tag.

    Raises:
      UnusableInput: as `patients.with_tags`.
    """
    has_neighbours = recipes.takes_neighbours(spec.recipe) and not source.is_prepared
    if is_by_tags:
        patients.check_key(spec)
    if not (is_by_tags or has_neighbours):
        return TaggedRows(rows, found, {})

    def tags_of(data: bytes) -> tuple[str, series.SlicePlace]:
        told = dicom.tag(data, spec.patient_column) if is_by_tags and dicom.is_dicom(data) else ""
        return told, series.place(data) if has_neighbours else series.SlicePlace()

    names = (photographs if has_neighbours else found)["name"]
    told, places = _read(names, source, tags_of)
    at = pd.Index(names).get_indexer(found["name"])
    if is_by_tags:
        rows, found = patients.with_tags(rows, found, told.iloc[at].set_axis(found.index), spec)
    if not has_neighbours:
        return TaggedRows(rows, found, {})
    beside = _beside(names, places).iloc[at]
    found = found.assign(**{side: beside[side].array for side in beside})
    size = dict(zip(names, photographs["size"].tolist(), strict=True))
    return TaggedRows(rows, found, {"neighbours": _digest(beside, size)})


def neighbours(names: pd.Series, source: folders.Source) -> pd.DataFrame:
    """Return the names of the slices `before` and `after` each photograph, "" where there is none.

    Args:
      names: the photographs.
      source: reads them.
    """
    _, places = _read(names, source, lambda data: ("", series.place(data)))
    return _beside(names, places)


def warn(rows: pd.DataFrame) -> None:
    """Log how many rows of a plan show a neighbour that is in another split."""
    if not {"before", "after"} <= {*rows}:
        return
    split = pd.Series(rows["split"].cat.codes.to_numpy(), rows["name"])
    own, is_parted = split.to_numpy(), np.zeros(len(rows), bool)
    for side in ("before", "after"):
        of_neighbour = split.reindex(rows[side]).to_numpy()  # NaN where it has no row.
        is_parted |= ~np.isnan(of_neighbour) & (of_neighbour != own)
    if is_parted.any():
        _LOG.warning(
            "%d slices show a neighbour that is in another split, so that figures will flatter. "
            "Say how patients are told, such as by "
            "--config.dataset.patient_column=SeriesInstanceUID",
            is_parted.sum(),
        )


def _read(
    names: pd.Series,
    source: folders.Source,
    tags_of: Callable[[bytes], tuple[str, series.SlicePlace]],
) -> tuple[pd.Series, np.ndarray]:
    """Return a text and a place for each photograph, as a Series of TEXT and an array of PLACES."""

    def read(name: str) -> tuple[str, series.SlicePlace]:
        try:
            with source.reading(name) as data:
                return tags_of(data)
        except decoding.RejectedImage:
            return "", series.SlicePlace()  # The build rejects the photograph, and says why.

    texts: list[list[str]] = []
    places = [np.empty(0, series.PLACES)]
    with concurrent.futures.ThreadPoolExecutor(_THREADS) as pool:
        for chunk in splits.chunks(names):
            found = list(pool.map(read, chunk))
            texts.append([text for text, _ in found])
            places.append(np.array([where for _, where in found], series.PLACES))
    return splits.text(texts), np.concatenate(places)


def _beside(names: pd.Series, places: np.ndarray) -> pd.DataFrame:
    found = series.neighbours(places)
    _LOG.info("%s", series.described(found))
    own = np.arange(len(found))
    return pd.DataFrame(
        {
            side: splits.text([np.where(at == own, "", names.iloc[at]).tolist()])
            for side, at in zip(("before", "after"), found.T, strict=True)
        }
    )


def _digest(beside: pd.DataFrame, size: dict[str, int]) -> str:
    """Return a hash of the names and sizes of all neighbours."""
    digest = hashlib.sha256()
    for side in beside:
        for chunk in splits.chunks(beside[side]):
            for name in chunk:
                digest.update(f"{name}\0{size.get(name, 0)}\n".encode())
    return digest.hexdigest()
