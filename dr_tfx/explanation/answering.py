"""Raw photographs answered one after the other: a row of each, and a figure if there is to be one.

What was answered is answered once: the same call again goes on where an interrupted one stopped.
Loads no TensorFlow; see `inference.photographs`.
"""

import contextlib
import dataclasses
import itertools
import os
import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.inference import photographs, prediction_files
from dr_tfx.machine import interrupts, progress
from dr_tfx.preprocessing import mask_files, optic_disc, recipes
from dr_tfx.sources import given
from dr_tfx.storage import files, seen_text

if TYPE_CHECKING:  # These load matplotlib.
    from dr_tfx.explanation import figures, lesions
    from dr_tfx.explanation import photographs as explained_photographs

_PAUSE = 1.0  # Seconds between two looks at a folder that is watched.
_WIDTH = 11  # Characters of a column of the table.


@dataclasses.dataclass(frozen=True)
class AnsweringModel:
    """A bundle or an export, with what it is read by.

    Attributes:
      folder: its own.
      digest: tells it from what may be in the folder at another time.
      experiment: the settings of the run.
      alarms: those of the run's evaluations.
      read: returns a reader of photographs.
      explain: returns a reader that draws heat maps besides; None of a model that gives maps.
      mark: returns a reader that outlines lesions; None where nothing marks them.
    """

    folder: Path
    digest: str
    experiment: specs.Experiment
    alarms: Sequence[str]
    read: Callable[[], photographs.PhotographReader]
    explain: "Callable[[], explained_photographs.PhotographExplainer] | None"
    mark: "Callable[[], lesions.LesionMarker] | None" = None

    def facts(self) -> dict[str, Any]:
        """Return what the mark of the predictions says of the model."""
        return {
            "model_digest": self.digest,
            "views": list(self.experiment.evaluation.views),
            "alarms": list(self.alarms),
        }


class Answering:
    """Reads photographs, prints and writes a row of each, and draws figures."""

    def __init__(
        self,
        model: AnsweringModel,
        output_dir: Path,
        *,
        is_drawn: bool,
        colormap: str,
        masks: mask_files.MaskFolder | None,
        made: Mapping[str, Any],
    ):
        """Begin the table, or go on with one that was made alike.

        Args:
          model: what answers.
          output_dir: a folder that the caller holds locked.
          is_drawn: whether there are figures.
          colormap: of heat maps, a name in `specs.COLORMAPS`.
          masks: of the optic disc and its cup, if somebody has outlined them.
          made: how the predictions are made, besides what the model says of that.

        Raises:
          FileExistsError: the folder holds somebody else's files under the names of these.
        """
        self._colormap, self._masks, self._width = colormap, masks, 0
        self._has_neighbours = recipes.takes_neighbours(model.experiment.dataset.recipe)
        self._marker = model.mark() if model.mark else None
        self._explain = model.explain() if model.explain and is_drawn else None
        self._read = model.read() if model.explain and not is_drawn else None
        # The model itself marks lesions, and its figures are of them.
        self._marks, self._is_drawn = model.explain is None, is_drawn
        self._printed, names = names_of(model.experiment, self._marker, has_masks=masks is not None)
        self.files = prediction_files.PredictionFiles(output_dir, names, {**made, **model.facts()})

    def __call__(self, found: Sequence[given.GivenPhotograph]) -> None:
        """Answer the photographs that have no row yet; the others may be neighbours of those."""
        fresh = [one for one in found if not self.files.has(one.shown)]
        others = [one for one in found if self.files.has(one.shown)]
        if not fresh:
            return
        widths = [max(_WIDTH, len(name)) for name in self._printed]
        if not self._width:
            names = (len(seen_text.printable(one.shown)) for one in fresh)
            self._width = max(len("photograph"), *names)
            heads = (f"{name:>{room}}" for name, room in zip(self._printed, widths, strict=True))
            print(f"{'photograph':<{self._width}}  {'  '.join(heads)}")
        # The rows show how far the work is too; a bar in a file would only part them.
        with (
            self._told_how_far(len(found)),
            progress.bar(total=len(fresh), unit="photograph", title="predict") as bar,
        ):
            for one, figure, measured in self._readings(fresh, others):
                if self._masks:
                    by_hand = _measured(one.name, self._masks)
                    if by_hand is not None or optic_disc.RATIO not in measured:
                        measured[optic_disc.RATIO] = by_hand
                with interrupts.noted() as stopped:  # A figure and its row are there, or neither.
                    row = self.files.add(one, figure, measured)
                texts = prediction_files.cells([row[name] for name in self._printed])
                cells = (f"{cell:>{room}}" for cell, room in zip(texts, widths, strict=True))
                line = f"{row['photo']:<{self._width}}  {'  '.join(cells)}{_warning(row)}"
                bar.write(line, file=sys.stdout)
                sys.stdout.flush()
                bar.update()
                if stopped():
                    raise KeyboardInterrupt

    def watch(self, look: Callable[[], Sequence[given.GivenPhotograph]]) -> None:
        """Answer photographs as they come, until Ctrl-C or SIGTERM.

        A file is read once it has not changed from one look to the next; slices that show their
        neighbours once none has, as those of a series come one after the other.

        Args:
          look: returns the photographs that are there.
        """
        before: dict[str, tuple[int, int] | None] = {}
        with contextlib.suppress(KeyboardInterrupt):
            while True:
                there = look()
                fresh = [one for one in there if not self.files.has(one.shown)]
                now = {one.shown: _state(one) for one in fresh}
                whole = {name for name, state in now.items() if state and before.get(name) == state}
                if not self._has_neighbours or len(whole) == len(now):
                    self([one for one in there if one.shown in whole or one.shown not in now])
                before = now
                time.sleep(_PAUSE)

    @contextlib.contextmanager
    def _told_how_far(self, photographs: int) -> Iterator[None]:
        """Say of an interrupt how many rows are there, and that the next start goes on."""
        try:
            yield
        except KeyboardInterrupt as stop:
            raise KeyboardInterrupt(
                f"interrupted. {self.files.table} has the rows of {self.files.rows:,} of "
                f"{photographs:,} photographs. The same command goes on."
            ) from stop

    def _readings(
        self, found: Sequence[given.GivenPhotograph], others: Sequence[given.GivenPhotograph]
    ) -> Iterator[tuple[photographs.ReadPhotograph, bytes | None, dict[str, Any]]]:
        """Yield what the model says of each photograph, its figure, and what is marked in it.

        The figure is a PNG; None where there is none.
        """
        marker = self._marker
        if marker and self._marks:
            for marks in marker(found, others):
                figure = marker.figure(marks) if self._is_drawn and not marks.rejected else None
                yield marks, figure, marker.measured(marks)
            return
        beside = _marks(marker, found, others) if marker else itertools.repeat(({}, None))
        if self._read:
            for read, (measured, _) in zip(self._read(found, others), beside, strict=False):
                yield read, None, {**measured}
            return
        assert self._explain
        for one, (measured, outlined) in zip(self._explain(found, others), beside, strict=False):
            figure = None
            if not one.rejected:
                figure = self._explain.figure(one, colormap=self._colormap, outlined=outlined)
            yield one, figure, {**measured}


def names_of(
    experiment: specs.Experiment, marker: "lesions.LesionMarker | None", *, has_masks: bool
) -> tuple[list[str], list[str]]:
    """Return the columns of the answers that are printed, and all columns of the answers.

    Args:
      experiment: the settings of the model.
      marker: what marks lesions, if anything does.
      has_masks: whether somebody has outlined the optic disc and its cup.
    """
    printed = list(tasks.of(experiment).scores.answer_names)
    marked = marker.names if marker else ()
    printed += [optic_disc.RATIO] * (has_masks or optic_disc.RATIO in marked)
    printed += [f"count_{kind}" for kind in marker.kinds] if marker else []
    return printed, list(dict.fromkeys([*printed, *marked]))


def _state(one: given.GivenPhotograph) -> tuple[int, int] | None:
    """Return size and time of a file; None if it is not there any more."""
    path = one.source.path(one.name)
    if files.is_remote(path):
        return 0, 0  # An object is there as a whole, or is not there.
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


def _marks(
    marker: "lesions.LesionMarker",
    found: Sequence[given.GivenPhotograph],
    others: Sequence[given.GivenPhotograph],
) -> Iterator[tuple[dict[str, Any], "figures.Outlined | None"]]:
    """Yield what is marked in each photograph, in numbers and outlined."""
    for marks in marker(found, others):  # What the one recipe takes, the other may reject.
        yield marker.measured(marks), None if marks.rejected else marker.outlined(marks)


def _measured(photograph: str, masks: mask_files.MaskFolder) -> float | None:
    """Return the cup-to-disc ratio by the masks of a photograph; None without both.

    Raises:
      ValueError: a mask cannot be read, or the two differ in size.
    """
    paths = masks.find(unicodedata.normalize("NFC", Path(photograph).stem))
    if set(paths) != set(optic_disc.MASKS):
        return None
    outlined = mask_files.read(paths)
    disc, cup = (outlined[kind] for kind in optic_disc.MASKS)
    return optic_disc.cup_to_disc(disc, cup)


def _warning(row: Mapping[str, Any]) -> str:
    rejected = f"  rejected ({row['rejected']})" if row["rejected"] else ""
    ungradable = f"  ungradable: {row['ungradable']}" if row["ungradable"] else ""
    return seen_text.printable(rejected + ungradable)
