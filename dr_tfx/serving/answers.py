"""The JSON that a client is given, as it is documented in OpenAPI."""

import base64
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
import pydantic

from dr_tfx import NOTICE
from dr_tfx.explanation import overlays
from dr_tfx.preprocessing import decoding, recipes
from dr_tfx.serving.served_model import Result, ServedModel


class ToldQuality(pydantic.BaseModel):
    """What the quality gate says of a photograph."""

    gradable: bool
    verdict: str = pydantic.Field(description="Such as black, blown_out, no_retina.")


class ToldRejection(pydantic.BaseModel):
    """The reason why a photograph was not read."""

    reason: str = pydantic.Field(description="A short key: unreadable, too_large, ...")
    detail: str


class ToldHeatMap(pydantic.BaseModel):
    """Where the model looks, as PNG files in base64."""

    photograph: str = pydantic.Field(description="The photograph as the model sees it.")
    heatmap: str = pydantic.Field(
        description="Colours for the same square; the opacity of a pixel is its value, 0 to 255."
    )


class PhotographAnswer(pydantic.BaseModel):
    """What the model says of one photograph; `answer` or `rejected` is null."""

    name: str
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


class RequestAnswer(pydantic.BaseModel):
    """The photographs of a request, in its order."""

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
            quality=ToldQuality(gradable=False, verdict="no_retina"),
            rejected=ToldRejection(reason="ungradable:no_retina", detail="brightness 250"),
        ),
    ],
).model_dump()


def read(name: str, picture: recipes.Picture, result: Result) -> PhotographAnswer:
    """Return the answer for a photograph that was read, with its heat map if there is one."""
    reading, heatmap = result
    return PhotographAnswer(
        name=name,
        answer=reading.answer,
        words=reading.words,
        suspected=reading.is_suspected,
        probabilities=dict(reading.probabilities),
        quality=ToldQuality(gradable=not picture.ungradable, verdict=picture.ungradable),
        heatmap=None if heatmap is None else _drawn(picture.rgb, heatmap),
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


def _drawn(rgb: np.ndarray, heatmap: np.ndarray) -> ToldHeatMap:
    return ToldHeatMap(
        photograph=_png(cv2.cvtColor(rgb, cv2.COLOR_RGB2BGR)), heatmap=_png(_layer(rgb, heatmap))
    )


def _layer(rgb: np.ndarray, heatmap: np.ndarray) -> np.ndarray:
    """Return the colours of a heat map, as opaque as it is high: uint8 BGRA (size, size, 4)."""
    values = overlays.upsample(heatmap, *rgb.shape[:2])
    colours = cv2.cvtColor(overlays.colorize(values), cv2.COLOR_RGB2BGR)
    return np.dstack([colours, (255 * values).round().astype(np.uint8)])


def _png(pixels: np.ndarray) -> str:
    return base64.b64encode(cv2.imencode(".png", pixels)[1].tobytes()).decode()
