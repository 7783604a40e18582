"""Predictions of many photographs, as a Beam job.

    parts -> Reshuffle -> PredictPart: some photographs in, their rows out

A part is the unit of work, as in the other jobs: only names pass between workers, and a rerun skips
what is finished. Workers write `predictions-<part>.rows` into the folder of the results, and when
all are there, they move into `predictions.csv`, in the order of the photographs.
"""

import dataclasses
import functools
import hashlib
import itertools
import posixpath
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import apache_beam as beam
from apache_beam.options.pipeline_options import PipelineOptions

from beam_jobs.build_examples import progress
from beam_jobs.runners import beam_flags, pipelines
from dr_tfx.config import specs
from dr_tfx.explanation import lesions
from dr_tfx.inference import drift, drift_rows, exported, photographs, prediction_files
from dr_tfx.machine import resources
from dr_tfx.models import drift_file, export_file
from dr_tfx.preprocessing import recipes
from dr_tfx.sources import folders, frames, given
from dr_tfx.storage import files

_PART = 64  # Photographs of a part, or as many as a folder has whose slices are neighbours.
_LOADING = threading.Lock()
_Place = tuple[int, str, str]  # Number of the source, the name in it, and the one that is shown.


@dataclasses.dataclass(frozen=True)
class Model:
    """The model, which every worker loads.

    Attributes:
      folder: of a run or an export, which all workers see.
      is_export: which of them it is.
      digest: changes with the model.
      marks: whether it marks lesions and says nothing else.
      answer_names: columns of the table.
    """

    folder: Path
    is_export: bool
    digest: str
    marks: bool
    answer_names: tuple[str, ...]


@dataclasses.dataclass(frozen=True)
class _Part:
    """Some photographs, and others that may be neighbouring slices of theirs."""

    name: str
    photographs: tuple[_Place, ...]
    others: tuple[_Place, ...] = ()


def predict(
    model: Model,
    recipe: specs.Recipe,
    found: Sequence[given.GivenPhotograph],
    answers: prediction_files.PredictionFiles,
    options: PipelineOptions,
    *,
    kept: drift_rows.KeptRows | None = None,
) -> None:
    """Write the rows of the photographs that have none.

    Args:
      model: what reads them.
      recipe: what makes its pictures.
      found: the photographs.
      answers: their table, in a folder that all workers see.
      options: Beam's.
      kept: receives the numbers by which photographs are compared with validation, if they are.

    Raises:
      OSError: a folder cannot be read or written.
      ValueError: a worker cannot load the model.
    """
    folder = answers.table.parent
    sources = list({id(one.source): one.source for one in found}.values())
    groups = _groups(found, sources, answers, whole_folders=recipes.takes_neighbours(recipe))
    parts = [_Part(_name(model, *group), *map(tuple, group)) for group in groups]
    paths = {part.name: _path(folder, part) for part in parts}
    known = {*paths.values(), *map(_beside, paths.values())}
    for old in {*folder.glob("predictions-*.rows"), *folder.glob("predictions-*.drift")} - known:
        old.unlink()  # Of other photographs, or moved into the table before a kill.

    def done() -> int:
        return sum(len(part.photographs) for part in parts if paths[part.name].is_file())

    if left := [part for part in parts if not paths[part.name].is_file()]:
        pipeline = beam.Pipeline(
            runner=beam_flags.create(options, with_model=True), options=options
        )
        work = _PredictPart(model, sources, folder)
        _ = pipeline | beam.Create(left) | beam.Reshuffle() | beam.ParDo(work)
        total = sum(len(part.photographs) for part in parts)
        with progress.bar(lambda: (done(), {}), total=total, seconds=0.5, title="predict"):
            pipelines.run(pipeline)
    for part in parts:
        numbers = _beside(paths[part.name])
        if kept and numbers.is_file():
            kept.extend(numbers.read_text(encoding="utf-8"))
        answers.extend([shown for *_, shown in part.photographs], paths[part.name].read_bytes())
        paths[part.name].unlink()
        numbers.unlink(missing_ok=True)


def _groups(
    found: Sequence[given.GivenPhotograph],
    sources: Sequence[folders.Source],
    answers: prediction_files.PredictionFiles,
    *,
    whole_folders: bool,
) -> Iterator[tuple[list[_Place], list[_Place]]]:
    """Yield photographs without a row, and those beside them that may be neighbouring slices."""
    number = {id(source): i for i, source in enumerate(sources)}
    places = [(number[id(one.source)], one.name, one.shown) for one in found]
    if not whole_folders:
        fresh = [place for place in places if not answers.has(place[2])]
        yield from ((fresh[i : i + _PART], []) for i in range(0, len(fresh), _PART))
        return
    for _, group in itertools.groupby(places, lambda one: (one[0], _folder(one[1]))):
        of_folder = list(group)
        fresh = [place for place in of_folder if not answers.has(place[2])]
        if fresh:
            yield fresh, [place for place in of_folder if answers.has(place[2])]


def _folder(name: str) -> str:
    """Return the folder of a photograph; of a frame, that of its file."""
    return posixpath.dirname(frames.file_of(name))


def _name(model: Model, fresh: Sequence[_Place], others: Sequence[_Place]) -> str:
    """Return the name of a part, which no part of others or by another model has."""
    text = repr((model.digest, model.answer_names, fresh, others))
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:16]


def _path(folder: Path, part: _Part) -> Path:
    """Return the path of a part's rows. If it exists, the part is finished."""
    return folder / f"predictions-{part.name}.rows"


def _beside(path: Path) -> Path:
    """Return the path of the numbers of a part's photographs, which is there before its rows."""
    return path.with_suffix(".drift")


class _PredictPart(beam.DoFn):
    """Writes the rows of a part."""

    def __init__(self, model: Model, sources: Sequence[folders.Source], folder: Path):
        self._model, self._sources, self._folder = model, sources, folder

    def setup(self) -> None:
        resources.end_quickly()

    def process(self, part: _Part) -> Iterator[str]:
        path = _path(self._folder, part)
        if not path.is_file():  # Dask repeats the finished work of a worker that was lost.
            names = self._model.answer_names
            found = _readings(self._model, self._given(part.photographs), self._given(part.others))
            watch, rows, lines = _watch(self._model), [], []
            for one, more in found:
                rows.append(prediction_files.row_of(one, names, measured=more))
                lines.append(drift_rows.line_of(one, watch) if watch else "")
            if watch:
                files.write_text(_beside(path), "".join(lines))
            files.write(path, prediction_files.text_of(rows))
        yield part.name

    def _given(self, places: Sequence[_Place]) -> list[given.GivenPhotograph]:
        return [
            given.GivenPhotograph(shown, self._sources[source], name)
            for source, name, shown in places
        ]


def _readings(
    model: Model, raw: Sequence[given.GivenPhotograph], others: Sequence[given.GivenPhotograph]
) -> Iterator[tuple[photographs.ReadPhotograph, dict[str, Any]]]:
    """Yield what the model says of photographs, and what it measures in them."""
    with _LOADING:
        reader = _reader(model)
    if isinstance(reader, lesions.LesionMarker):
        for marked in reader(raw, others):
            yield marked, reader.measured(marked)
    else:
        for read in reader(raw, others):
            yield read, {}


@functools.lru_cache(maxsize=1)
def _watch(model: Model) -> drift.Watch | None:
    """Return what makes numbers of photographs, if the model tells drift."""
    if model.is_export:
        reference = export_file.read(model.folder).reference
    else:
        reference = drift_file.of_run(model.folder)
    return drift.Watch(reference) if reference else None


@functools.lru_cache(maxsize=1)
def _reader(model: Model) -> photographs.PhotographReader | lesions.LesionMarker:
    """Return what reads photographs, loaded once for all threads of a process."""
    reader: Any
    if model.is_export:
        reader = exported.load(model.folder)
    else:
        from dr_tfx.inference import scoring  # Here, as an export needs no TensorFlow.
        from dr_tfx.models import bundles

        reader = scoring.BundleReader(bundles.load(model.folder))
    return lesions.LesionMarker(reader) if model.marks else photographs.PhotographReader(reader)
