"""The photographs of a source as a table, and the photograph that belongs to each row of a CSV."""

import collections
from collections.abc import Iterator
from itertools import islice

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from beam_jobs.build_examples import label_table
from beam_jobs.sources import folders, refusals
from dr_tfx.dataset import splits


def read(source: folders.Source) -> pd.DataFrame:
    """Return the photographs of a source sorted by `name`, with their `id` and `size` in bytes.

    Raises:
      ValueError: a name is not UTF-8.
    """
    listing, sizes = source.names(), []

    def pieces() -> Iterator[list[str]]:
        while piece := list(islice(listing, splits.CHUNK)):
            sizes.append(np.array([size for _, size in piece], np.int64))
            yield [name for name, _ in piece]

    try:
        names = splits.text(pieces())
    except UnicodeEncodeError as error:
        raise refusals.UnusableInput(
            "{place} has a file {name!r}, whose name is not UTF-8: rename it",
            place=source.path(""),
            name=error.object,
        ) from error
    order = pc.array_sort_indices(_arrow(names)).to_numpy()
    names = names.iloc[order].reset_index(drop=True)
    size = np.concatenate([np.empty(0, np.int64), *sizes])[order]
    return pd.DataFrame(
        {"name": names, "id": splits.map_text(label_table.identify, names), "size": size}
    )


def locate(
    table: label_table.LabelTable, photographs: pd.DataFrame
) -> tuple[pd.DataFrame, pd.DataFrame, pd.Series]:
    """Find the photograph of each row.

    Returns:
      The rows with exactly one photograph, with `name` and `size`; the other rows as rejects; and
      the names of the photographs that belong to no row of the CSV, be it usable or not.
    """
    codes, ids = pd.factorize(photographs["id"])
    count = np.append(np.bincount(codes), 0)  # Rows without a photograph, code -1, find the last.
    first = np.empty(len(ids), np.int64)
    first[codes[::-1]] = np.arange(len(codes))[::-1]
    code = pc.index_in(_arrow(table.ids), value_set=_arrow(pd.Series(ids)))
    code = code.fill_null(-1).to_numpy()
    is_labelled = np.zeros(len(count), bool)
    is_labelled[code] = True
    unlabelled = photographs["name"][~is_labelled[codes]]
    rows, code = table.rows, code[table.rows.index]
    ambiguous = code[count[code] > 1]
    among = np.flatnonzero(np.isin(codes, ambiguous))
    names: dict[int, list[str]] = collections.defaultdict(list)
    for place, name in zip(among, photographs["name"].iloc[among], strict=True):
        names[codes[place]].append(name)
    details = pd.Series([", ".join(names[i]) for i in ambiguous], rows.index[count[code] > 1])
    rejects = [
        label_table.reject(rows[count[code] == 0], "missing_image", "no photograph of this name"),
        label_table.reject(rows[count[code] > 1], "ambiguous_image", details),
    ]
    place = first[code[count[code] == 1]]
    found = rows[count[code] == 1].assign(
        name=photographs["name"].iloc[place].array, size=photographs["size"].to_numpy()[place]
    )
    return found, pd.concat(rejects, ignore_index=True), unlabelled.reset_index(drop=True)


def _arrow(values: pd.Series) -> pa.Array:
    """Return the strings of a Series of TEXT, in one piece."""
    array = pa.array(values.array)
    return array.combine_chunks() if isinstance(array, pa.ChunkedArray) else array
