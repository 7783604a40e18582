"""The way of photographs through the server: prepared by all cores, and read in batches.

The pictures are made by `recipes.apply_recipe`, and read by the model's own reader, as
drtfx-predict makes and reads them.
"""

import asyncio
import contextlib
import dataclasses
import functools
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent import futures
from typing import NamedTuple

import numpy as np

from dr_tfx.config import specs
from dr_tfx.machine import resources
from dr_tfx.preprocessing import decoding, recipes, series
from dr_tfx.serving import answers, batching, limits, uploads
from dr_tfx.serving.days import Days
from dr_tfx.serving.served_model import ServedModel
from dr_tfx.sources import frames

_LOG = logging.getLogger(__name__)


class _Photograph(NamedTuple):
    """A photograph of a request."""

    name: str
    file: int  # The place in the request of the file in which it is.
    data: Callable[[], bytes]  # Its bytes.


class Service:
    """Reads photographs with one model, which can be exchanged.

    Attributes:
      limits: what a request may ask for.
      admission: what is in work.
      batcher: what the model reads together.
      days: counts what the model reads, beside validation; None where drift cannot be told.
    """

    def __init__(
        self,
        load: Callable[[], ServedModel],
        bounds: limits.Limits,
        *,
        observe: Callable[[int], None] = lambda pictures: None,
    ):
        """Load the model.

        Args:
          load: loads it, now and at every `reload`.
          bounds: what a request may ask for.
          observe: is told the number of pictures of every batch.

        Raises:
          FileNotFoundError, ValueError: the model cannot be used.
        """
        self._load, self.limits = load, bounds
        self._model = load()
        self.days = _days_of(self._model)
        self.admission = limits.Admission(bounds)
        self.batcher = batching.Batcher(observe)
        self._pool = futures.ThreadPoolExecutor(resources.cores(), "photograph")
        self._loading = threading.Lock()

    @property
    def model(self) -> ServedModel:
        """The model that the next request is read by."""
        return self._model

    def reload(self) -> None:
        """Load the model anew; requests in work end with the old one, which stays if that fails."""
        with self._loading:
            try:
                model = self._load()
            except (OSError, ValueError) as error:
                _LOG.error("the model stays as it was, because: %s", error)
            else:
                if model.version != self._model.version:  # What another sees is counted anew.
                    self.days = _days_of(model)
                else:
                    model = dataclasses.replace(model, reference=self._model.reference)
                self._model = model
                _LOG.warning("serving version %s of the model", self._model.version)

    async def read(
        self, given: Sequence[uploads.Upload], *, heatmaps: bool
    ) -> tuple[ServedModel, list[answers.PhotographAnswer], int]:
        """Return the model, its answer for each photograph, and the status of the request.

        The status is 200 if one was read; or else 413, 415 or 422, as the first one deserves.

        Args:
          given: the files. Of a model that takes frames, each frame of a DICOM file is a
            photograph.
          heatmaps: whether heat maps are asked for.

        Raises:
          Refused: there are too many frames, or too many photographs are in work; or the model has
            no heat maps.
        """
        model = self._model
        if heatmaps and model.explain is None:
            raise limits.Refused(422, "this model draws no heat maps; ask without heatmap=true")
        taken = await self._photographs(given, model)
        with self.admission.taken(len(taken), seconds_each=self.batcher.seconds_each):
            beside = await self._beside(taken, model)
            work = (
                self._read(model, one, neighbours, heatmaps=heatmaps)
                for one, neighbours in zip(taken, beside, strict=True)
            )
            found = await asyncio.gather(*work)
        statuses = [status for _, status in found]
        for one, (answer, _) in zip(taken, found, strict=True):
            answer.file, answer.patient = one.file, model.patient_of(given[one.file].name)
        return model, [answer for answer, _ in found], 200 if 200 in statuses else statuses[0]

    async def _photographs(
        self, given: Sequence[uploads.Upload], model: ServedModel
    ) -> list[_Photograph]:
        """Return the photographs in files.

        Raises:
          Refused: there are more than a request may have.
        """

        def within(file: int) -> list[_Photograph]:
            name, data = given[file]
            read = frames.in_bytes(name, data, model.recipe)
            return [_Photograph(name, file, data) for name, data in read]

        loop = asyncio.get_running_loop()
        of_files = [loop.run_in_executor(self._pool, within, i) for i in range(len(given))]
        found = [photograph for some in await asyncio.gather(*of_files) for photograph in some]
        if len(found) > self.limits.photographs:
            why = f"the request has {len(found)} photographs, as each frame of a DICOM file is one"
            raise limits.Refused(413, f"{why}; at most {self.limits.photographs} are taken")
        return found

    async def _beside(
        self, given: Sequence[_Photograph], model: ServedModel
    ) -> list[list[Callable[[], bytes] | None]]:
        """Return what reads the slices beside each of a request, if the model sees neighbours."""
        if not recipes.takes_neighbours(model.recipe):
            return [[] for _ in given]
        loop = asyncio.get_running_loop()
        places = [loop.run_in_executor(self._pool, _place, one) for one in given]
        found = series.neighbours(await asyncio.gather(*places)).tolist()
        return [
            [None if at == i else given[at].data for at in beside] for i, beside in enumerate(found)
        ]

    async def _read(
        self,
        model: ServedModel,
        one: _Photograph,
        neighbours: Sequence[Callable[[], bytes] | None],
        *,
        heatmaps: bool,
    ) -> tuple[answers.PhotographAnswer, int]:
        loop, days = asyncio.get_running_loop(), self.days
        try:
            picture = await loop.run_in_executor(
                self._pool, self._prepared, one.data, neighbours, model
            )
        except decoding.RejectedImage as error:
            if days:
                days.refused(error.reason)
            return answers.rejected(one.name, error), _status(error)
        evaluation = model.experiment.evaluation
        work = model.explain if heatmaps and model.explain else model.read
        submitted = self.batcher.submit(work, picture.rgb, most=evaluation.batch_size)
        result = await asyncio.wrap_future(submitted)
        if days and days.watch.reference is model.reference:
            await loop.run_in_executor(self._pool, days.read, picture, result[0])
        if not heatmaps:
            return answers.read(one.name, picture, result), 200
        told = functools.partial(answers.read, kinds=model.experiment.dataset.masks)
        return await loop.run_in_executor(self._pool, told, one.name, picture, result), 200

    def _prepared(
        self,
        read: Callable[[], bytes],
        neighbours: Sequence[Callable[[], bytes] | None],
        model: ServedModel,
    ) -> recipes.Picture:
        data = read()
        self._check(data)
        beside = [None if one is None else self._neighbour(one, model.recipe) for one in neighbours]
        try:
            return recipes.apply_recipe(data, model.recipe, beside)
        except decoding.RejectedImage as error:
            raise (error if isinstance(error, decoding.UnknownFormat) else error.alone()) from None

    def _neighbour(self, read: Callable[[], bytes], recipe: specs.Recipe) -> np.ndarray | None:
        """Return a neighbouring slice as the recipe takes it; None if it is not taken."""
        try:
            data = read()
            self._check(data)
        except decoding.RejectedImage:
            return None
        return recipes.neighbour(contextlib.nullcontext(data), recipe)

    def _check(self, data: bytes) -> None:
        """Refuse a photograph of more pixels than are taken.

        Raises:
          RejectedImage: `too_large`; or the file is no image.
        """
        width, height = decoding.image_size(data)
        most = self.limits.megapixels
        if width * height > most * 1_000_000:
            what = f"{width}x{height}: more than {most} million pixels"
            raise decoding.RejectedImage("too_large", what)

    def close(self) -> None:
        """Finish what was begun."""
        self._pool.shutdown()
        self.batcher.close()


def _place(one: _Photograph) -> series.SlicePlace:
    """Return the place of a slice in its series; that of none if it cannot be read."""
    with contextlib.suppress(decoding.RejectedImage):
        return series.place(one.data())
    return series.SlicePlace()


def _days_of(model: ServedModel) -> Days | None:
    return Days(model.reference) if model.reference else None


def _status(error: decoding.RejectedImage) -> int:
    """Return the status of a request of which nothing could be read for this reason."""
    if error.reason == "too_large":
        return 413
    return 415 if isinstance(error, decoding.UnknownFormat) else 422
