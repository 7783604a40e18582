"""The JSON that a client is given, as it is documented in OpenAPI."""

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pydantic

from dr_tfx import NOTICE
from dr_tfx.explanation import overlays
from dr_tfx.preprocessing import decoding, outlines, recipes
from dr_tfx.serving.served_model import Result, ServedModel
from dr_tfx.statistics import lesion_counts

_MOST_SIDE = 1024  # Pixels of a photograph with outlines: those of a heat map have the model's.


class ToldQuality(pydantic.BaseModel):
    """What the quality gate says of a photograph."""

    gradable: bool
    verdict: str = pydantic.Field(description="Such as black, blown_out, no_retina.")


class ToldRejection(pydantic.BaseModel):
    """The reason why a photograph was not read."""

    reason: str = pydantic.Field(description="A short key: unreadable, too_large, ...")
    detail: str


class ToldHeatMap(pydantic.BaseModel):
    """Where the model looks, or what it marks, as PNG files in base64."""

    photograph: str = pydantic.Field(description="The photograph as the model sees it.")
    heatmap: str = pydantic.Field(
        description="Colours for the same square. Of a heat map, the opacity of a pixel is its "
        "value, 0 to 255; of a model of lesions, outlines are opaque."
    )


class ToldLesion(pydantic.BaseModel):
    """What a model of lesions marks of one kind."""

    kind: str
    count: int = pydantic.Field(description="Marks that do not touch each other.")
    area: float = pydantic.Field(description="Their share of the picture, 0 to 1.")
    colour: str = pydantic.Field(description="Of their outlines, as in #e69f00.")


class PhotographAnswer(pydantic.BaseModel):
    """What the model says of one photograph; `answer` or `rejected` is null."""

    name: str
    file: int = pydantic.Field(
        default=0,
        description="In which file of the request it is, from 0 on. Each frame of a DICOM file of "
        "several is a photograph, such as series.dcm/frame_0001, of a model that takes frames.",
    )
    patient: str | None = pydantic.Field(
        default=None, description="Whose it is, where the names of photographs tell patients."
    )
    answer: dict[str, Any] | None = None
    words: str = ""
    suspected: bool | None = pydantic.Field(
        default=None,
        description="Whether somebody should look at it; null for a kind that says no such.",
    )
    probabilities: dict[str, float] = pydantic.Field(
        default={},
        description="Of what the photograph may show, by the names of classes or labels.",
    )
    quality: ToldQuality
    rejected: ToldRejection | None = None
    heatmap: ToldHeatMap | None = None
    lesions: list[ToldLesion] = pydantic.Field(
        default=[], description="Of a model of lesions, where heat maps are asked for."
    )


class RequestAnswer(pydantic.BaseModel):
    """The photographs of a request, in its order, and the frames of a file in theirs."""

    model: dict[str, Any] = pydantic.Field(description="name, version and recipe of the model")
    photographs: list[PhotographAnswer]
    notice: str = NOTICE


class Failure(pydantic.BaseModel):
    """The reason why a request was refused as a whole."""

    detail: str


EXAMPLE = RequestAnswer(
    model={"name": "screening", "version": "3f2a9c81d07b", "recipe": {"name": "fundus"}},
    photographs=[
        PhotographAnswer(
            name="eye.jpeg",
            answer={
                "probability": 0.373,
                "probability_threshold": 0.113,
                "score": 0.791,
                "threshold": 0.45,
                "decision": "abnormal",
            },
            words="abnormal   probability 0.373, threshold 0.113   score 0.791, threshold 0.450",
            suspected=True,
            probabilities={"normal": 0.627, "abnormal": 0.373},
            quality=ToldQuality(gradable=True, verdict=""),
        ),
        PhotographAnswer(
            name="letter.png",
            file=1,
            quality=ToldQuality(gradable=False, verdict="no_retina"),
            rejected=ToldRejection(reason="ungradable:no_retina", detail="brightness 250"),
        ),
    ],
).model_dump()


def read(
    name: str, picture: recipes.Picture, result: Result, *, kinds: Sequence[str] = ()
) -> PhotographAnswer:
    """Return the answer for a photograph that was read, with its heat map if there is one.

    Args:
      name: of the file.
      picture: what the model saw.
      result: what it says, and what is shown with it.
      kinds: of the lesions that it marks.
    """
    reading, heatmap = result
    marked = heatmap if heatmap is not None and heatmap.dtype == bool else None
    return PhotographAnswer(
        name=name,
        answer=reading.answer,
        words=reading.words,
        suspected=reading.is_suspected,
        probabilities=dict(reading.probabilities),
        quality=ToldQuality(gradable=not picture.ungradable, verdict=picture.ungradable),
        heatmap=None if heatmap is None else _drawn(picture.rgb, heatmap),
        lesions=[] if marked is None else _lesions(kinds, marked),
    )


def rejected(name: str, error: decoding.RejectedImage) -> PhotographAnswer:
    """Return the answer for a photograph that was not read."""
    _, _, verdict = error.reason.partition(":")
    return PhotographAnswer(
        name=name,
        quality=ToldQuality(gradable=False, verdict=verdict),
        rejected=ToldRejection(reason=error.reason, detail=error.detail),
    )


def of_request(model: ServedModel, told: Sequence[PhotographAnswer]) -> RequestAnswer:
    """Return the answer for a request."""
    described = model.described()
    about = {name: described[name] for name in ("name", "version", "recipe", "rule")}
    return RequestAnswer(model=about, photographs=list(told))


def _lesions(kinds: Sequence[str], marked: np.ndarray) -> list[ToldLesion]:
    """Return what is marked of each kind, bool (kinds, size, size)."""
    found = []
    for i, (kind, mask) in enumerate(zip(kinds, marked, strict=True)):
        count = sum(count for count, _ in lesion_counts.by_quadrant(mask).values())
        red, green, blue = outlines.COLOURS[i % len(outlines.COLOURS)]
        colour = f"#{red:02x}{green:02x}{blue:02x}"
        found.append(ToldLesion(kind=kind, count=count, area=float(mask.mean()), colour=colour))
    return found


def _drawn(rgb: np.ndarray, heatmap: np.ndarray) -> ToldHeatMap:
    if heatmap.dtype == bool:
        layer = outlines.layer(list(heatmap), side=min(_MOST_SIDE, len(rgb)))
        rgb = cv2.resize(rgb, layer.shape[:2], interpolation=cv2.INTER_AREA)
    else:
        layer = _layer(rgb, heatmap)
    return ToldHeatMap(photograph=_png(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)), heatmap=_png(layer))


def _layer(rgb: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Return the colours of a heat map, as opaque as it is high: uint8 BGRA (size, size, 4)."""
    values = overlays.upsample(heatmap, *rgb.shape[:2])
    colours = cv2.cvtColor(overlays.colorize(values), cv2.COLOR_RGB2BGR)
    return np.dstack([colours, (255 * values).round().astype(np.uint8)])


def _png(pixels: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()
