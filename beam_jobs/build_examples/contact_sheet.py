"""Contact sheets of a data set: photographs before and after preprocessing, side by side."""

import dataclasses
import io
import posixpath
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle

from dr_tfx.config import specs
from dr_tfx.dataset import manifest, records
from dr_tfx.preprocessing import decoding, mask_files, outlines
from dr_tfx.sources import folders
from dr_tfx.storage import files
from dr_tfx.words import fonts, languages

SHOWN = 4  # Photographs a label.
_CELL, _CAPTION, _HEAD, _EDGE, _GAP, _BETWEEN = 1.6, 0.26, 0.5, 0.2, 0.04, 0.2  # Inches.
_INK, _FAINT = "#1f2933", "#66717d"
_DPI = 110
_THUMBNAIL = 176  # Side of a cell in pixels.
_LONGEST_CAPTION = 30  # Characters a picture.


@dataclasses.dataclass(frozen=True)
class SheetEntry:
    """One photograph on a sheet."""

    pictures: tuple[np.ndarray, ...]  # uint8 RGB, any size: before and, if there is one, after.
    caption: str


def of_labels(
    made: manifest.Manifest, rows: pd.DataFrame, source: folders.Source, *, folder: str
) -> bytes:
    """Return a PNG with a few photographs of every label and what the recipe made of them.

    Pictures that were prepared elsewhere are shown once, as they were given. Masks are outlined on
    what the recipe made. The first photographs
    of a label's first shard are shown, and of the next if that has too few. They are a fair sample,
    because a hash decides which shard a photograph is in, and the same in every build.

    Args:
      made: the data set.
      rows: columns `id` and `name` (in the source).
      source: the photographs.
      folder: the folder of the shards.
    """
    shown, as_given = [], made.prepared == manifest.ELSEWHERE
    for label, label_name in enumerate(made.dataset.label_names):
        shards = [shard for shard in made.shards if shard.label == label]
        if not shards:
            continue
        after = dict(islice(_pictures(folder, shards, made.dataset), SHOWN))
        if as_given:
            items = [SheetEntry((picture,), i) for i, picture in after.items()]
        else:
            named = rows[rows["id"].isin(list(after))].set_index("id")["name"]
            items = [SheetEntry((_before(source, named[i]), after[i]), i) for i in after]
        shown.append((f"{label_name}   ({sum(shard.records for shard in shards):,})", items))
    recipe = made.dataset.recipe
    how = "as given" if as_given else f"before and after: {recipe.name}"
    said = [f"{how}, {recipe.size} pixels"]
    if made.dataset.masks:
        said.append(f"outlines: {outlines.legend(made.dataset.masks)}")
    words = map(languages.current().said, said)
    return draw(shown, title=", ".join([made.dataset.name, *words]))


def of_ungradable(flagged: pd.DataFrame, source: folders.Source) -> bytes:
    """Return a PNG with photographs that the quality gate flagged.

    Args:
      flagged: columns `id`, `name`, `reason` and `fate` (kept or rejected).
      source: the photographs.
    """
    shown, said = [], languages.current().said
    for (reason, fate), rows in flagged.sort_values("id").groupby(["reason", "fate"]):
        items = [
            SheetEntry((_before(source, name),), i)
            for i, name in rows[["id", "name"]].head(2 * SHOWN).itertuples(index=False)
        ]
        shown.append((f"{said(str(reason))}, {said(str(fate))}   ({len(rows):,})", items))
    return draw(shown, title=said("Flagged by the quality gate"))


def draw(rows: Iterable[tuple[str, Sequence[SheetEntry]]], *, title: str) -> bytes:
    """Return a PNG with a line of text and its entries in each row. Same input, same bytes."""
    rows = list(rows)
    across = max((len(item.pictures) for _, items in rows for item in items), default=1)
    step = across * (_CELL + _GAP) - _GAP + _BETWEEN
    width = max(2 * _EDGE + max((len(items) for _, items in rows), default=1) * step, 6.0)
    down = _CELL + 2 * _CAPTION
    height = _HEAD + len(rows) * down + _EDGE
    figure = Figure(figsize=(width, height), dpi=_DPI, facecolor="white")
    FigureCanvasAgg(figure)
    # One for all pictures, in inches from the upper left corner: to make and draw as many would be
    # half of the time of a small build.
    axes = figure.add_axes((0, 0, 1, 1), xlim=(0, width), ylim=(height, 0), frame_on=False)
    axes.set(xticks=[], yticks=[])

    def show(left: float, top: float, picture: np.ndarray) -> None:
        """Put a picture into the middle of a cell, within a frame, for it may be white."""
        size = np.array(picture.shape[1::-1])
        across, down = size * _CELL / max(size)
        left, top = left + (_CELL - across) / 2, top + (_CELL - down) / 2
        place = (left, left + across, top + down, top)
        axes.imshow(picture, extent=place, aspect="auto", interpolation="antialiased")
        frame = Rectangle((left, top), across, down, fill=False, edgecolor=_FAINT, linewidth=0.4)
        axes.add_patch(frame).set_zorder(3)  # In front of the picture.

    def write(left: float, top: float, text: str, size: float, colour: str = _INK) -> None:
        at = (left / width, 1 - top / height)
        look: dict[str, Any] = {
            "family": fonts.families(),
            "size": size,
            "color": colour,
            "parse_math": False,
        }
        figure.text(*at, text, ha="left", va="baseline", **look)

    write(_EDGE, 0.28, title, 11)
    for i, (name, items) in enumerate(rows):
        top = _HEAD + i * down
        write(_EDGE, top + 0.16, name, 9.5)
        for j, item in enumerate(items):
            for k, picture in enumerate(item.pictures):
                show(_EDGE + j * step + k * (_CELL + _GAP), top + _CAPTION, picture)
            caption = _short(item.caption, across * _LONGEST_CAPTION)
            write(_EDGE + j * step, top + _CAPTION + _CELL + 0.14, caption, 7, _FAINT)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", metadata={"Software": None})
    return buffer.getvalue()


def _pictures(
    folder: str, shards: Iterable[manifest.Shard], dataset: specs.DatasetSpec
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield id and picture of the examples of shards, which are opened one by one when needed."""
    masks = [records.MASK_PREFIX + kind for kind in dataset.masks]
    for shard in shards:
        with files.open_file(posixpath.join(folder, shard.name)) as stream:
            for name, found in records.read_pictures(stream, dataset.recipe.size, masks):
                known = (np.where(found[m] == mask_files.UNKNOWN, 0, found[m]) for m in masks)
                covered = [mask[..., 0] > 0 for mask in known]
                picture = found[records.IMAGE]
                if masks:
                    picture = outlines.draw(picture, covered, side=2 * _THUMBNAIL)
                yield name, picture


def _before(source: folders.Source, name: str) -> np.ndarray:
    try:
        with source.reading(name) as data:
            return source.thumbnail(data, _THUMBNAIL)
    except decoding.RejectedImage:  # It is gone since its example was written: no reason to fail.
        return np.full((1, 1, 3), 128, np.uint8)


def _short(text: str, longest: int) -> str:
    """Return the end of a long text, where names differ."""
    return text if len(text) <= longest else f"…{text[1 - longest :]}"
