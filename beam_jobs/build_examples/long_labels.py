"""Labels in the long form, a row for each image and label: `ID_000012eaf_epidural,0`.

The challenge of RSNA on intracranial haemorrhage (2019) publishes them so.
"""

from collections.abc import Iterable, Iterator, Sequence

import pandas as pd

from beam_jobs.build_examples.label_arrays import LabelRows
from dr_tfx.dataset import splits

YES, NO = {"1", "true", "yes"}, {"0", "false", "no", ""}  # Values of a label that holds or not.


def set_of(values: Sequence[str], columns: Sequence[str], names: Sequence[str]) -> str:
    """Return the name of the set of labels that hold, or what is wrong with the values.

    Args:
      values: of the columns, as text.
      columns: their names.
      names: of all sets: `label_sets.names`.
    """
    lower = [value.lower() for value in values]
    if all(value in YES or value in NO for value in lower):
        return names[sum((value in YES) << bit for bit, value in enumerate(lower))]
    return ", ".join(f"{name}={value}" for name, value in zip(columns, values, strict=True))


def rows(
    pieces: Iterable[pd.DataFrame], columns: Sequence[str], names: Sequence[str]
) -> Iterator[LabelRows]:
    """Yield the images of a table of two columns, in the order of their first rows.

    The first column is the image, `_` and one of the labels; the second is 0 or 1. A row that is
    there twice counts once. An image whose rows contradict each other, or that lacks one of them,
    gets a text that is no label and says so.
    """
    place = {name: bit for bit, name in enumerate(columns)}
    found: dict[str, list[str]] = {}
    for piece in pieces:
        keys, values = (piece.iloc[:, i].str.strip().tolist() for i in (0, 1))
        for key, value in zip(keys, values, strict=True):
            image, _, name = key.rpartition("_")
            bit = place.get(name)
            if bit is None:
                found.setdefault(key, ["?"] * len(columns))
                continue
            of_image = found.setdefault(image, ["?"] * len(columns))
            known = of_image[bit]
            of_image[bit] = value if known in ("?", value) else f"{known} and {value}"
    images = list(found)
    for start in range(0, len(images), splits.CHUNK):
        piece_of = images[start : start + splits.CHUNK]
        yield LabelRows(piece_of, [set_of(found[image], columns, names) for image in piece_of])
