"""Raw photographs: prepare them as the training's were, and read them.

    reader = PhotographReader(scoring.BundleReader(bundle))
    for photograph in reader([Path("eye.jpeg"), data, pixels]):
        print(photograph.reading or photograph.rejected)

There are no heat maps here: `dr_tfx.explanation.photographs` adds them. Loads no TensorFlow, so
that an exported model (`dr_tfx.inference.exported`) reads photographs without it.
"""

import contextlib
import dataclasses
import itertools
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import cv2
import numpy as np

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.preprocessing import decoding, recipes, series
from dr_tfx.sources import folders, frames, given

RawPhotograph = str | Path | given.GivenPhotograph | bytes | np.ndarray
"""A file, or one in an archive; the bytes of one; or pixels, uint8 RGB (height, width, 3).

A DICOM file of several frames is as many photographs for a recipe that takes frames, but only the
first of them if it is given by its bytes.
"""

_LOG = logging.getLogger(__name__)
_ResultT = TypeVar("_ResultT")


@dataclasses.dataclass(frozen=True)
class ReadPhotograph:
    """The answer of the model for one photograph, or the reason why there is none.

    Attributes:
      name: the path of the file as a person would write it; "" for bytes and pixels.
      picture: the photograph as the model sees it; None if it was rejected.
      reading: what the model says of it; None if it was rejected.
      rejected: the reason; "" if the photograph was read.
    """

    name: str
    picture: recipes.Picture | None = None
    reading: tasks.Reading | None = None
    rejected: str = ""

    @property
    def ungradable(self) -> str:
        """The quality gate's word for a photograph that was read in spite of it, or ""."""
        return self.picture.ungradable if self.picture else ""


class PictureReader(Protocol):
    """A model that reads pictures: a bundle (`scoring.BundleReader`), or one that was exported."""

    @property
    def experiment(self) -> specs.Experiment:
        """The settings of the run."""

    @property
    def manifest(self) -> manifest.Manifest:
        """The manifest of the data set that the model was trained on."""

    def read(self, rgb: np.ndarray) -> list[tasks.Reading]:
        """Return what the model says of pictures, uint8 RGB (n, size, size, 3)."""


class PhotographReader:
    """Prepares, scores and reads raw photographs with one model."""

    def __init__(self, model: PictureReader):
        """Take the model.

        Raises:
          ValueError: the model's own pictures were prepared elsewhere, nobody knows how.
        """
        manifest.check_reads_photographs(model.manifest)
        self._model = model

    def __call__(
        self, photographs: Iterable[RawPhotograph], others: Sequence[RawPhotograph] = ()
    ) -> Iterator[ReadPhotograph]:
        """Yield what the model says of each photograph, in order, one batch in memory at a time.

        A photograph that gives no picture is rejected, and the others are read.

        Args:
          photographs: what is read.
          others: as `in_batches`.
        """
        experiment, work = self._model.experiment, self._model.read
        recipe, size = experiment.dataset.recipe, experiment.evaluation.batch_size
        for photograph, reading in in_batches(photographs, recipe, size, work=work, others=others):
            yield dataclasses.replace(photograph, reading=reading)


def in_batches(
    photographs: Iterable[RawPhotograph],
    recipe: specs.Recipe,
    batch_size: int,
    *,
    work: Callable[[np.ndarray], Sequence[_ResultT]],
    others: Sequence[RawPhotograph] = (),
) -> Iterator[tuple[ReadPhotograph, _ResultT | None]]:
    """Prepare photographs, and do some work on the pictures of each batch.

    Args:
      photographs: any number; they are taken one batch at a time, or all at once where the recipe
        shows neighbouring slices, which are looked for among them.
      recipe: what makes a picture of a photograph.
      batch_size: the most photographs in a batch.
      work: from pictures, uint8 RGB (n, size, size, 3), to n results.
      others: photographs that are not read, but may be neighbouring slices of those that are.

    Yields:
      Each photograph, in order, not yet read, with its result; None if it was rejected.
    """
    taken = _frames(photographs, recipe)
    remaining = _with_neighbours(taken, [*_frames(others, recipe)], recipe)
    while batch := list(itertools.islice(remaining, batch_size)):
        prepared = [prepare(photograph, recipe, beside) for photograph, beside in batch]
        usable = [one.picture.rgb for one in prepared if one.picture]
        results = iter(work(np.stack(usable)) if usable else ())
        for one in prepared:
            yield one, next(results) if one.picture else None


def prepare(
    photograph: RawPhotograph,
    recipe: specs.Recipe,
    neighbours: Sequence[RawPhotograph | None] = (),
) -> ReadPhotograph:
    """Return the photograph as the model sees it, or the reason why there is no picture.

    Args:
      photograph: the photograph.
      recipe: what makes a picture of it.
      neighbours: the slices before and after it, None where there is none, for a recipe that shows
        them.

    Raises:
      ValueError: pixels that are not uint8 RGB.
    """
    photograph = _given(photograph)
    name = photograph.shown if isinstance(photograph, given.GivenPhotograph) else ""
    try:
        beside = [None if one is None else _neighbour(one, recipe) for one in neighbours]
        with _bytes(photograph) as data:
            return ReadPhotograph(name, recipes.apply_recipe(data, recipe, beside))
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except decoding.RejectedImage as error:
        reason = str(error)
    return ReadPhotograph(name, rejected=reason)


def _frames(photographs: Iterable[RawPhotograph], recipe: specs.Recipe) -> Iterator[RawPhotograph]:
    """Yield photographs, and for the path of a file all that the recipe takes in it."""
    for photograph in photographs:
        if not isinstance(photograph, str | Path):
            yield photograph
            continue
        source = frames.split(folders.SingleFiles((str(photograph),)), recipe)
        yield from (given.GivenPhotograph(name, source, name) for name, _ in source.names())


def _with_neighbours(
    photographs: Iterable[RawPhotograph], others: Sequence[RawPhotograph], recipe: specs.Recipe
) -> Iterator[tuple[RawPhotograph, Sequence[RawPhotograph | None]]]:
    """Yield each photograph with its neighbours, if the recipe shows them."""
    if not recipes.takes_neighbours(recipe):
        yield from ((photograph, ()) for photograph in photographs)
        return
    read = list(photographs)
    among = [*read, *others]
    found = series.neighbours([_place(one) for one in among])[: len(read)]
    _LOG.info("%s", series.described(found))
    for i, beside in enumerate(found.tolist()):
        yield among[i], [None if at == i else among[at] for at in beside]


def _place(photograph: RawPhotograph) -> series.SlicePlace:
    """Return the place of a slice in its series; that of none if it cannot be read."""
    with contextlib.suppress(OSError, decoding.RejectedImage), _bytes(photograph) as data:
        return series.place(data)
    return series.SlicePlace()


def _neighbour(photograph: RawPhotograph, recipe: specs.Recipe) -> np.ndarray | None:
    """Return a neighbouring slice as the recipe takes it; None if it cannot be read."""
    with contextlib.suppress(OSError):
        return recipes.neighbour(_bytes(photograph), recipe)
    return None


def _given(photograph: RawPhotograph) -> given.GivenPhotograph | bytes | np.ndarray:
    """Return a photograph, of which a path has its source."""
    if isinstance(photograph, str | Path):
        name = str(photograph)
        return given.GivenPhotograph(name, folders.SingleFiles((name,)), name)
    return photograph


def _bytes(photograph: RawPhotograph) -> contextlib.AbstractContextManager[bytes]:
    """Give the bytes of a photograph; pixels become a PNG file, which loses nothing."""
    photograph = _given(photograph)
    if isinstance(photograph, given.GivenPhotograph):
        return photograph.source.reading(photograph.name)
    if isinstance(photograph, bytes):
        return contextlib.nullcontext(photograph)
    if photograph.dtype != np.uint8 or photograph.ndim != 3 or photograph.shape[2] != 3:
        raise ValueError(
            f"the pixels of a photograph are {photograph.dtype} {photograph.shape}; expected RGB, "
            "uint8 (height, width, 3)"
        )
    png = cv2.imencode(".png", cv2.cvtColor(photograph, cv2.COLOR_RGB2BGR))[1]
    return contextlib.nullcontext(png.tobytes())
