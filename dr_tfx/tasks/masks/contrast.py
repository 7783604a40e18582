"""What contrast costs a lesion model: false marks on pictures with more and more CLAHE.

The thresholds stay those of the pictures as they were prepared. Enhanced contrast makes a small
lesion easier to see, and a vessel's edge and the grain of the retina too, so that models may mark
more of these.
"""

import dataclasses
import functools
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dr_tfx.config import specs
from dr_tfx.preprocessing import photometry, recipes
from dr_tfx.statistics.intervals import PatientBootstrap, percentiles
from dr_tfx.tasks.masks import scores
from dr_tfx.tasks.masks.summary import LesionCounts, interval

if TYPE_CHECKING:
    from dr_tfx.tasks.masks.fitting import MasksFitted
    from dr_tfx.tasks.masks.kind import Masks

# Lesion -> the figures of all images, and of every resample.
_Figures = Mapping[str, tuple[Mapping[str, Any], Mapping[str, npt.NDArray[np.float64]]]]
_TOLD = ("false_marks", "sensitivity", "dice")


def alterations(task: "Masks") -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """Return CLAHE of each of `evaluation.clip_limits`, by the limit as text.

    Each takes and returns a prepared picture, uint8 RGB (size, size, 3).
    """
    recipe = task.experiment.dataset.recipe
    return {
        repr(limit): functools.partial(
            _enhanced, recipe=dataclasses.replace(recipe, clip_limit=limit)
        )
        for limit in task.experiment.evaluation.clip_limits
    }


def _enhanced(rgb: np.ndarray, *, recipe: specs.Recipe) -> np.ndarray:
    bgr = np.ascontiguousarray(rgb[..., ::-1])
    return photometry.clahe(bgr, recipe)[..., ::-1]


def in_recipe(recipe: specs.Recipe) -> bool:
    """Return whether the pictures of a recipe were prepared with CLAHE."""
    return recipes.RECIPES[recipe.name].photometry is photometry.CLAHE


def summarise(
    predictions: pd.DataFrame,
    altered: Iterable[tuple[str, pd.DataFrame]],
    fitted: "MasksFitted",
    task: "Masks",
) -> list[dict[str, Any]]:
    """Return `clip_limits` of metrics.json, as the module `summary` lists it.

    Args:
      predictions: one row an image, of the pictures as they were prepared.
      altered: names of `alterations`, and the predictions of the same images, changed so. Each
        table is read when its turn comes, and not kept.
      fitted: the thresholds, applied as they are.
      task: the kind, bound to its settings.
    """
    evaluation = task.experiment.evaluation
    if not evaluation.clip_limits:
        return []
    bootstrap = PatientBootstrap(predictions["cluster"], resamples=evaluation.bootstrap_resamples)
    steps = {name: scores.step_of(fitted, name) for name in task.lesions}
    prepared = _of_each(predictions, steps, bootstrap)
    rows = [_row(None, prepared, prepared)]
    for limit, table in altered:
        rows.append(_row(float(limit), _of_each(table, steps, bootstrap), prepared))
    return rows


def _of_each(
    predictions: pd.DataFrame, steps: Mapping[str, int], bootstrap: PatientBootstrap
) -> _Figures:
    """Return figures of each lesion: of all images, and of every resample."""
    found = {}
    for name, step in steps.items():
        counts = LesionCounts(predictions, name, step)
        found[name] = counts.figures(), counts.samples(bootstrap)
    return found


def _row(limit: float | None, found: _Figures, prepared: _Figures) -> dict[str, Any]:
    """Return what is told of one limit, also how much more than of the pictures as prepared."""
    lesions = []
    for name, (values, samples) in found.items():
        told = {key: interval(key, float(values[key]), samples) for key in _TOLD}
        before, before_in_samples = (figures["false_marks"] for figures in prepared[name])
        told["more"] = percentiles(
            float(values["false_marks"] - before), samples["false_marks"] - before_in_samples
        )
        lesions.append({"name": name, **{key: figure.to_dict() for key, figure in told.items()}})
    return {"clip_limit": limit, "lesions": lesions}
