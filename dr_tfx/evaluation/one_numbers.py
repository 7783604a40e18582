"""Baselines of one number: how well a photograph's size or brightness alone ranks the images.

Of 703 published crops of the optic disc, the length of a side in pixels has an AUC of .87 for
glaucoma. A model that is hardly better may have learned how the photographs were made.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from sklearn.metrics import roc_auc_score

from dr_tfx.dataset import records
from dr_tfx.inference import plain_numbers
from dr_tfx.statistics import metrics
from dr_tfx.tasks.judging import Ranking

SUSPECT = 0.75
"""The AUC of one number from which on it is an alarm."""
_NEAR = 0.05  # So close to the model's AUC, one number is an alarm, too.
_AREA = "area"
_NAMES = {
    records.PHOTOGRAPH_BYTES: "file size",
    records.PHOTOGRAPH_WIDTH: "width",
    records.PHOTOGRAPH_HEIGHT: "height",
    _AREA: "area",
    plain_numbers.BRIGHTNESS: "mean brightness",
    plain_numbers.CONTRAST: "contrast",
    plain_numbers.SHARPNESS: "sharpness",
}


def of(
    predictions: pd.DataFrame, rankings: Sequence[Ranking], *, model: float | None = None
) -> dict[str, Any] | None:
    """Return `one_numbers` of metrics.json, which `evaluate` lists.

    An AUC of one number counts in either direction. With several rankings it is their mean, each
    in its own direction, as that of the model is.

    Args:
      predictions: with columns of `plain_numbers`.
      rankings: what the kind of task tells apart.
      model: the AUC of the model, where it is not that of all scores together.

    Returns:
      None where nothing is told apart, as all images are of one class, or no number is known.
    """
    rankings = _told_apart(rankings)
    known = {name: values for name in _NAMES if (values := _values(predictions, name)) is not None}
    if not rankings or not known:
        return None
    sides = [known.get(name) for name in (records.PHOTOGRAPH_WIDTH, records.PHOTOGRAPH_HEIGHT)]
    if sides[0] is not None and sides[1] is not None:
        known[_AREA] = sides[0] * sides[1]
    numbers = []
    for column, name in _NAMES.items():
        if column not in known:
            continue
        values = known[column]
        areas = [_auc(each.positive, values) for each in rankings]
        numbers.append(
            {
                "auc": float(np.mean([max(area, 1 - area) for area in areas])),
                "higher": areas[0] > 0.5 if len(areas) == 1 else None,
                "name": name,
                "same": bool((values == values[0]).all()),
            }
        )
    margins = [_margin(each.positive) for each in rankings]
    return {
        "by_chance": min(0.5 + float(np.mean(margins)), 1.0),
        "model": _mean(rankings) if model is None else model,
        "numbers": numbers,
        "positive": rankings[0].name if len(rankings) == 1 else None,
    }


def alarms(found: dict[str, Any] | None) -> list[str]:
    """Return an alarm if one number ranks the images well, or nearly as well as the model."""
    if found is None:
        return []
    limit = min(SUSPECT, found["model"] - _NEAR)
    over = [number for number in found["numbers"] if number["auc"] >= limit and not number["same"]]
    if not over:
        return []
    over.sort(key=lambda number: -number["auc"])
    listed = ", ".join(f"{number['name']} {number['auc']:.3f}" for number in over)
    text = (
        "One number of a photograph, for which no model is needed, ranks the images with an AUC "
        f"of {over[0]['auc']:.3f}, the model with {found['model']:.3f} ({listed})."
    )
    if over[0]["auc"] <= found["by_chance"]:
        return [f"{text} On so few images, chance alone reaches {found['by_chance']:.3f}."]
    return [f"{text} A model may learn how photographs were made and not what they show."]


def of_folds(
    predictions: pd.DataFrame, rankings: Sequence[Ranking], fold: npt.NDArray[np.int64]
) -> dict[str, Any] | None:
    """Return the same of a cross-validation, in which every fold has a model of its own.

    The scores of different models are not on one scale: the AUC of the model is the mean over the
    folds, of those that have one.

    Args:
      predictions: of all folds, with columns of `plain_numbers`.
      rankings: what the kind of task tells apart in them.
      fold: of each image, int64 (images,).
    """
    areas = []
    for number in np.unique(fold):
        there = fold == number
        parts = [Ranking(each.name, each.positive[there], each.score[there]) for each in rankings]
        if known := _told_apart(parts):
            areas.append(_mean(known))
    return of(predictions, rankings, model=float(np.mean(areas)) if areas else None)


def _told_apart(rankings: Sequence[Ranking]) -> list[Ranking]:
    """Return those of which there are images of either sort."""
    return [each for each in rankings if 0 < each.positive.sum() < len(each.positive)]


def _mean(rankings: Sequence[Ranking]) -> float:
    return float(np.mean([_auc(each.positive, each.score) for each in rankings]))


def _values(predictions: pd.DataFrame, name: str) -> npt.NDArray[np.float64] | None:
    """Return a column as numbers; None if it is not there, or holds something else."""
    if name not in predictions or not pd.api.types.is_numeric_dtype(predictions[name]):
        return None
    values = predictions[name].to_numpy(np.float64)
    return values if np.isfinite(values).all() else None


def _auc(positive: npt.NDArray[np.bool_], values: npt.NDArray[np.float64]) -> float:
    return float(roc_auc_score(positive, values))


def _margin(positive: npt.NDArray[np.bool_]) -> float:
    there = int(positive.sum())
    return metrics.auc_margin(there, len(positive) - there)
