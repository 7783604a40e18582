"""The way of photographs through the server: prepared by all cores, and read in batches.

The pictures are made by `recipes.apply_recipe`, and read by the model's own reader, as
drtfx-predict makes and reads them.
"""

import asyncio
import contextlib
import functools
import logging
import threading
from collections.abc import Callable, Sequence
from concurrent import futures

import numpy as np

from dr_tfx.config import specs
from dr_tfx.machine import resources
from dr_tfx.preprocessing import decoding, recipes, series
from dr_tfx.serving import answers, batching, limits, uploads
from dr_tfx.serving.served_model import ServedModel

_LOG = logging.getLogger(__name__)


class Service:
    """Reads photographs with one model, which can be exchanged.

    Attributes:
      limits: what a request may ask for.
      admission: what is in work.
      batcher: what the model reads together.
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
                self._model = self._load()
            except (OSError, ValueError) as error:
                _LOG.error("the model stays as it was, because: %s", error)
            else:
                _LOG.warning("serving version %s of the model", self._model.version)

    async def read(
        self, given: Sequence[uploads.Upload], *, heatmaps: bool
    ) -> tuple[ServedModel, list[answers.PhotographAnswer], int]:
        """Return the model, its answer for each photograph, and the status of the request.

        The status is 200 if one was read; or else 413, 415 or 422, as the first one deserves.

        Args:
          given: the photographs.
          heatmaps: whether heat maps are asked for.

        Raises:
          Refused: too many are in work; or the model has no heat maps.
        """
        model = self._model
        if heatmaps and model.explain is None:
            raise limits.Refused(422, "this model draws no heat maps; ask without heatmap=true")
        with self.admission.taken(len(given), seconds_each=self.batcher.seconds_each):
            beside = await self._beside(given, model)
            work = (
                self._read(model, one, neighbours, heatmaps=heatmaps)
                for one, neighbours in zip(given, beside, strict=True)
            )
            found = await asyncio.gather(*work)
        statuses = [status for _, status in found]
        for one, (answer, _) in zip(given, found, strict=True):
            answer.patient = model.patient_of(one.name)
        return model, [answer for answer, _ in found], 200 if 200 in statuses else statuses[0]

    async def _beside(
        self, given: Sequence[uploads.Upload], model: ServedModel
    ) -> list[list[bytes | None]]:
        """Return the files before and after each of a request, for a model that sees neighbours."""
        if not recipes.takes_neighbours(model.recipe):
            return [[] for _ in given]
        loop = asyncio.get_running_loop()
        places = [loop.run_in_executor(self._pool, series.place, one.data) for one in given]
        found = series.neighbours(await asyncio.gather(*places)).tolist()
        return [
            [None if at == i else given[at].data for at in beside] for i, beside in enumerate(found)
        ]

    async def _read(
        self,
        model: ServedModel,
        one: uploads.Upload,
        neighbours: Sequence[bytes | None],
        *,
        heatmaps: bool,
    ) -> tuple[answers.PhotographAnswer, int]:
        loop = asyncio.get_running_loop()
        try:
            picture = await loop.run_in_executor(
                self._pool, self._prepared, one.data, neighbours, model
            )
        except decoding.RejectedImage as error:
            return answers.rejected(one.name, error), _status(error)
        evaluation = model.experiment.evaluation
        work = model.explain if heatmaps and model.explain else model.read
        submitted = self.batcher.submit(work, picture.rgb, most=evaluation.batch_size)
        result = await asyncio.wrap_future(submitted)
        if not heatmaps:
            return answers.read(one.name, picture, result), 200
        told = functools.partial(answers.read, kinds=model.experiment.dataset.masks)
        return await loop.run_in_executor(self._pool, told, one.name, picture, result), 200

    def _prepared(
        self, data: bytes, neighbours: Sequence[bytes | None], model: ServedModel
    ) -> recipes.Picture:
        self._check(data)
        beside = [None if one is None else self._neighbour(one, model.recipe) for one in neighbours]
        try:
            return recipes.apply_recipe(data, model.recipe, beside)
        except decoding.RejectedImage as error:
            raise (error if isinstance(error, decoding.UnknownFormat) else error.alone()) from None

    def _neighbour(self, data: bytes, recipe: specs.Recipe) -> np.ndarray | None:
        """Return a neighbouring slice as the recipe takes it; None if it is not taken."""
        try:
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


def _status(error: decoding.RejectedImage) -> int:
    """Return the status of a request of which nothing could be read for this reason."""
    if error.reason == "too_large":
        return 413
    return 415 if isinstance(error, decoding.UnknownFormat) else 422
