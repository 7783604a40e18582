"""The rows of labels as text, and those of an array of labels."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

from dr_tfx.config import specs
from dr_tfx.dataset import splits
from dr_tfx.sources import arrays, refusals


class LabelRows(NamedTuple):
    """Some rows of a file of labels, in their order, as text.

    A row of the file that names two photographs is two of these.
    """

    names: list[str]  # Photographs.
    labels: list[str]
    patients: list[str] | None = None  # "" where the file does not tell; None: it never does.
    splits: list[str] | None = None  # Texts for `splits.named`; None: the file has no split.


def is_array(path: str) -> bool:
    """Tell whether a path names an array and not a table."""
    return path.lower().endswith((".npy", ".npz"))


def rows(path: str, spec: specs.DatasetSpec, source: arrays.Arrays) -> Iterator[LabelRows]:
    """Yield the rows of an array (N,), (N, 1) or one-hot (N, labels)."""
    array, known = arrays.load(path, "--npy_labels"), len(spec.label_names)
    width = array.shape[1] if array.ndim == 2 else 1
    if array.ndim not in (1, 2) or array.dtype.kind not in "biuf" or width not in (1, known):
        raise refusals.UnusableInput(
            "{file} is an array {shape} of {dtype}; expected labels (photographs,), (photographs, "
            "1), or one-hot (photographs, {known}) as {label_names} has it, of integers",
            file=path,
            shape=array.shape,
            dtype=array.dtype,
            known=known,
        )
    if len(array) != source.count():
        raise refusals.UnusableInput(
            "{file} has {count} labels, {images} {photographs} photographs: are they of the same "
            "split?",
            file=path,
            count=len(array),
            images=source.images_npy,
            photographs=source.count(),
        )
    places = set(map(str, range(known)))
    for start in range(0, len(array), splits.CHUNK):
        piece = np.asarray(array[start : start + splits.CHUNK]).reshape(-1, width)
        names = [source.name(start + row) for row in range(len(piece))]
        texts = [_as_text(row) for row in piece.tolist()]
        # A number of an array is the place of a label, also where labels have numbers for names.
        yield LabelRows(names, [spec.label_names[int(t)] if t in places else t for t in texts])


def _as_text(row: list[float]) -> str:
    """Return a label, or the place of the only 1 of a one-hot row, as a CSV has it."""
    if len(row) > 1 and sorted(row) == [0] * (len(row) - 1) + [1]:
        return str(row.index(1))
    if len(row) > 1:
        return str(row)
    (value,) = row
    return str(int(value)) if float(value).is_integer() else str(value)
