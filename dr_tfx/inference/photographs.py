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
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

import cv2
import numpy as np

from dr_tfx import tasks
from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.preprocessing import decoding, recipes
from dr_tfx.sources import folders, given

RawPhotograph = str | Path | given.GivenPhotograph | bytes | np.ndarray
"""A file, or one in an archive; the bytes of one; or pixels, uint8 RGB (height, width, 3)."""

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

    def __call__(self, photographs: Iterable[RawPhotograph]) -> Iterator[ReadPhotograph]:
        """Yield what the model says of each photograph, in order, one batch in memory at a time.

        A photograph that gives no picture is rejected, and the others are read.
        """
        experiment, work = self._model.experiment, self._model.read
        recipe, batch_size = experiment.dataset.recipe, experiment.evaluation.batch_size
        for photograph, reading in in_batches(photographs, recipe, batch_size, work=work):
            yield dataclasses.replace(photograph, reading=reading)


def in_batches(
    photographs: Iterable[RawPhotograph],
    recipe: specs.Recipe,
    batch_size: int,
    *,
    work: Callable[[np.ndarray], Sequence[_ResultT]],
) -> Iterator[tuple[ReadPhotograph, _ResultT | None]]:
    """Prepare photographs, and do some work on the pictures of each batch.

    Args:
      photographs: any number; they are taken one batch at a time.
      recipe: what makes a picture of a photograph.
      batch_size: the most photographs in a batch.
      work: from pictures, uint8 RGB (n, size, size, 3), to n results.

    Yields:
      Each photograph, in order, not yet read, with its result; None if it was rejected.
    """
    remaining = iter(photographs)
    while batch := list(itertools.islice(remaining, batch_size)):
        prepared = [prepare(photograph, recipe) for photograph in batch]
        usable = [one.picture.rgb for one in prepared if one.picture]
        results = iter(work(np.stack(usable)) if usable else ())
        for one in prepared:
            yield one, next(results) if one.picture else None


def prepare(photograph: RawPhotograph, recipe: specs.Recipe) -> ReadPhotograph:
    """Return the photograph as the model sees it, or the reason why there is no picture.

    Raises:
      ValueError: pixels that are not uint8 RGB.
    """
    if isinstance(photograph, str | Path):
        name = str(photograph)
        photograph = given.GivenPhotograph(name, folders.SingleFiles((name,)), name)
    name = photograph.shown if isinstance(photograph, given.GivenPhotograph) else ""
    try:
        with _bytes(photograph) as data:
            return ReadPhotograph(name, recipes.apply_recipe(data, recipe))
    except OSError as error:
        reason = f"cannot be read: {error.strerror}"
    except decoding.RejectedImage as error:
        reason = str(error)
    return ReadPhotograph(name, rejected=reason)


def _bytes(
    photograph: given.GivenPhotograph | bytes | np.ndarray,
) -> contextlib.AbstractContextManager[bytes]:
    """Give the bytes of a photograph; pixels become a PNG file, which loses nothing."""
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
