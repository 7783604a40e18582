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
from typing import TYPE_CHECKING, Any, NamedTuple

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.explanation import dicom_names, dicom_objects
from dr_tfx.inference import drift_rows, photographs, prediction_files
from dr_tfx.machine import interrupts, progress
from dr_tfx.preprocessing import dicom, mask_files, optic_disc, recipes
from dr_tfx.sources import frames, given
from dr_tfx.statistics import drift
from dr_tfx.storage import files, seen_text
from dr_tfx.words import languages

if TYPE_CHECKING:  # These load matplotlib.
    from dr_tfx.explanation import lesions
    from dr_tfx.explanation import photographs as explained_photographs

_PAUSE = 1.0  # Seconds between two looks at a folder that is watched.
_WIDTH = 11  # Characters of a column of the table.
_NO_ORIGINAL = (
    "note: {name} is no DICOM file. DICOM results need one as the original, of which they take "
    "patient and study; the same holds for others that are none."
)


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
      reference: what validation looked like; None where that is not known.
      untold: a sentence that says why drift cannot be told then.
    """

    folder: Path
    digest: str
    experiment: specs.Experiment
    alarms: Sequence[str]
    read: Callable[[], photographs.PhotographReader]
    explain: "Callable[[], explained_photographs.PhotographExplainer] | None"
    mark: "Callable[[], lesions.LesionMarker] | None" = None
    reference: drift.Reference | None = None
    untold: str = ""

    def facts(self) -> dict[str, Any]:
        """Return what the mark of the predictions says of the model."""
        return {
            "model_digest": self.digest,
            "views": list(self.experiment.evaluation.views),
            "alarms": list(self.alarms),
        }

    def kept(self, answers: prediction_files.PredictionFiles) -> drift_rows.KeptRows | None:
        """Return what keeps the numbers of the photographs that are answered, if drift is told."""
        path, anew = answers.table.parent / drift_rows.FILE, not answers.rows
        return drift_rows.KeptRows(path, self.reference, anew=anew) if self.reference else None

    def drifted(
        self, answers: prediction_files.PredictionFiles, kept: drift_rows.KeptRows | None
    ) -> str:
        """Write the page that compares all photographs with validation; return what it says."""
        page = answers.table.parent / prediction_files.DRIFT_PAGE
        page.unlink(missing_ok=True)  # One of earlier predictions.
        if not kept or not self.reference:
            return self.untold
        from dr_tfx.inference import drift_page  # It loads matplotlib.

        table = answers.written("photo", "rejected", "ungradable")
        window = drift_page.Window(
            "these photographs", drift.judge(self.reference, kept.counted(table))
        )
        name, language = self.experiment.task.name, languages.current().code
        html = drift_page.html([window], self.reference, model=name, language=language)
        files.write_text(page, html)
        return f"drift: {window.sentence} See {page}"


class _Answer(NamedTuple):
    """What is said of one photograph.

    Attributes:
      read: the photograph, with the answer of the model.
      figure: a PNG; None where there is none.
      measured: what is marked, in numbers.
      marks: what is marked; None where nothing was looked for.
    """

    read: photographs.ReadPhotograph
    figure: bytes | None
    measured: dict[str, Any]
    marks: "lesions.MarkedPhotograph | None" = None


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
        has_objects: bool = False,
    ):
        """Begin the table, or go on with one that was made alike.

        Args:
          model: what answers.
          output_dir: a folder that the caller holds locked.
          is_drawn: whether there are figures.
          colormap: of heat maps, a name in `specs.COLORMAPS`.
          masks: of the optic disc and its cup, if somebody has outlined them.
          made: how the predictions are made, besides what the model says of that.
          has_objects: whether photographs that are DICOM files get DICOM objects.

        Raises:
          FileExistsError: the folder holds somebody else's files under the names of these.
          ValueError: there are to be objects, and highdicom is not installed.
        """
        if has_objects:
            dicom_objects.check_installed()
        self._colormap, self._masks, self._width = colormap, masks, 0
        self._has_neighbours = recipes.takes_neighbours(model.experiment.dataset.recipe)
        self._marker = model.mark() if model.mark else None
        self._explain = model.explain() if model.explain and is_drawn else None
        self._read = model.read() if model.explain and not is_drawn else None
        # The model itself marks lesions, and its figures are of them.
        self._marks, self._is_drawn = model.explain is None, is_drawn
        name = model.experiment.task.name
        self._algorithm = dicom_names.Algorithm(name, model.digest) if has_objects else None
        self._others_told = False  # That they are no DICOM files.
        self._printed, names = names_of(model.experiment, self._marker, has_masks=masks is not None)
        made = {**made, **model.facts()}
        if has_objects:
            digest = self._marker.digest if self._marker else None
            made |= {"dicom_results": True, "lesions_digest": digest}
        objects = dicom_names.NAMES if has_objects else ()
        self.files = prediction_files.PredictionFiles(output_dir, names, made, objects=objects)

        self.kept = model.kept(self.files)

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
            for raw, answer in zip(fresh, self._readings(fresh, others), strict=True):
                objects, note = self._objects(raw, answer)
                if note:
                    bar.write(seen_text.printable(note), file=sys.stderr)
                measured = answer.measured
                if self._masks:
                    by_hand = _measured(raw.shown, self._masks)
                    if by_hand is not None or optic_disc.RATIO not in measured:
                        measured[optic_disc.RATIO] = by_hand
                with interrupts.noted() as stopped:  # A figure and its row are there, or neither.
                    if self.kept:
                        self.kept.add(answer.read)
                    row = self.files.add(answer.read, answer.figure, measured, objects=objects)
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
    ) -> Iterator[_Answer]:
        """Yield what is said of each photograph."""
        marker = self._marker
        if marker and self._marks:
            for marked in marker(found, others):
                figure = marker.figure(marked) if self._is_drawn and not marked.rejected else None
                yield _Answer(marked, figure, marker.measured(marked), marked)
            return
        beside: Iterator[lesions.MarkedPhotograph | None] = itertools.repeat(None)
        if marker:
            beside = marker(found, others)
        if self._read:
            for read, marks in zip(self._read(found, others), beside, strict=False):
                yield _Answer(read, None, self._measured_of(marks), marks)
            return
        assert self._explain
        for one, marks in zip(self._explain(found, others), beside, strict=False):
            figure = None
            if not one.rejected:
                # What the one recipe takes, the other may reject.
                seen = marks if marker and marks and not marks.rejected else None
                outlined = marker.outlined(seen) if marker and seen else None
                figure = self._explain.figure(one, colormap=self._colormap, outlined=outlined)
            yield _Answer(one, figure, self._measured_of(marks), marks)

    def _measured_of(self, marks: "lesions.MarkedPhotograph | None") -> dict[str, Any]:
        return self._marker.measured(marks) if self._marker and marks else {}

    def _objects(self, raw: given.GivenPhotograph, answer: _Answer) -> tuple[dict[str, bytes], str]:
        """Return the DICOM objects of a photograph, and a note on why there are none."""
        read = answer.read
        if self._algorithm is None or read.reading is None:
            return {}, ""
        with raw.source.reading(raw.name) as data:
            if not dicom.is_dicom(data):
                note = "" if self._others_told else _NO_ORIGINAL.format(name=raw.shown)
                self._others_told = True
                return {}, note
            said = {"ungradable": read.ungradable}
            if not self._marks:
                said = {**read.reading.answer, **said}
            if optic_disc.RATIO in answer.measured:
                said[optic_disc.RATIO] = answer.measured[optic_disc.RATIO]
            said = {name: value for name, value in said.items() if value not in (None, "")}
            marks = self._marks_of(answer)
            try:
                return dicom_objects.of_photograph(
                    data, self._algorithm, answer=said, marks=marks
                ), ""
            except dicom_objects.NoObjects as error:
                return {}, f"note: no DICOM results of {raw.shown}: {error}"

    def _marks_of(self, answer: _Answer) -> dicom_names.Marks | None:
        """Return what is marked as DICOM objects take it."""
        marker, one = self._marker, answer.marks
        if marker is None or one is None or one.marked is None or one.picture is None:
            return None
        return dicom_names.Marks(
            dicom_names.Algorithm(marker.task, marker.digest),
            one.picture.box,
            dict(zip(marker.kinds, one.marked, strict=True)),
            {kind: int(answer.measured[f"count_{kind}"]) for kind in marker.kinds},
        )


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
    path = frames.file_of(one.source.path(one.name))
    if files.is_remote(path):
        return 0, 0  # An object is there as a whole, or is not there.
    try:
        facts = os.stat(path)
    except OSError:
        return None
    return facts.st_size, facts.st_mtime_ns


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
