"""Rows of a CSV that name a DICOM file of several frames: each counts for all of its frames.

A series has then the label of its row. A frame that has a row of its own keeps that one.
"""

import dataclasses
import logging

import numpy as np
import pandas as pd

from beam_jobs.build_examples import label_table, photograph_names, photograph_table
from dr_tfx.dataset import splits
from dr_tfx.sources import folders, frames

_LOG = logging.getLogger(__name__)


def expand(
    table: label_table.LabelTable, photographs: pd.DataFrame, source: folders.Source
) -> label_table.LabelTable:
    """Return rows that name files of several frames as rows of these frames.

    The rows of a table count as they are returned, so that what is written and what is rejected are
    numbers of frames.

    Args:
      table: the rows.
      photographs: what `photograph_table.read` returned.
      source: the photographs.
    """
    of_file = _frames_of(photographs["name"])
    files = list(of_file)
    if not files:
        return table
    stems = [photograph_names.identify(name) for name in files]
    of_files = pd.DataFrame({"name": splits.text([files]), "stem": splits.text([stems])})
    file = photograph_table.places(table, of_files, source)
    photograph = photograph_table.places(table, photographs, source)
    is_whole = (file >= 0) & (photograph < 0)
    is_whole[np.setdiff1d(np.arange(len(file)), table.rows.index)] = False
    if not is_whole.any():
        return table
    has_own = set(photographs["name"].iloc[photograph[photograph >= 0]])
    paths: list[str] = []
    was: list[int] = []  # The row that each of these paths had.
    for row, path in enumerate(table.paths):
        named = [path]
        if is_whole[row]:
            named = [name for name in of_file[files[file[row]]] if name not in has_own]
            named = [photograph_names.normalise(name) for name in named]
        paths += named
        was += [row] * len(named)
    _LOG.info(
        "%d rows name DICOM files of several frames and count for %d frames; a row of a frame "
        "counts more",
        is_whole.sum(),
        is_whole[was].sum(),
    )
    spelt, stems_of, ids = label_table.spell(paths)
    place = np.flatnonzero(np.isin(was, table.rows.index))
    rows = table.rows.loc[np.array(was)[place]].set_axis(place)
    rows = rows.assign(id=ids.iloc[place].array)
    return dataclasses.replace(table, paths=spelt, stems=stems_of, rows=rows)


def _frames_of(names: pd.Series) -> dict[str, list[str]]:
    """Return file -> its frames, of the files that have several."""
    found: dict[str, list[str]] = {}
    for name in names[names.str.contains("/frame_", regex=False)]:
        if part := frames.parts(name):
            found.setdefault(part.file, []).append(name)
    return found
