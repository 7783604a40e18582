"""Everything that is fitted on `validation`, and frozen for every other split."""

import dataclasses
from collections.abc import Mapping
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dr_tfx.config import typed
from dr_tfx.statistics import multiclass, operating_points
from dr_tfx.statistics.operating_points import OperatingPoint
from dr_tfx.tasks.classes.fitting import ClassesFitted
from dr_tfx.tasks.grades import heads
from dr_tfx.tasks.patients import PARTS, part

if TYPE_CHECKING:
    from dr_tfx.tasks.grades.kind import Grades

FloatArray = npt.NDArray[np.floating]
IntArray = npt.NDArray[np.int64]

_CANDIDATES = 200  # Cut-points that are tried between two others, at most.
_ROUNDS = 20
_BETTER = 1e-12  # A kappa is not better by rounding.
_FEWEST = 10  # Images of patients with several, without which nothing is fused.

CutPoints = Annotated[
    tuple[float, ...],
    typed.Rule(lambda cuts: list(cuts) == sorted(cuts), "numbers that do not fall"),
]


@dataclasses.dataclass(frozen=True)
class EyeFusion:
    """A linear model of an image's grade, of its own expected grade and of the other eye's.

    The five parts are each fitted on the patients of the other parts, so that no patient has been
    seen by the model that judges them, on validation or elsewhere.
    """

    weights: tuple[tuple[float, float, float], ...]  # Of own grade, the others' mean, and constant.
    cut_points: tuple[CutPoints, ...]


@dataclasses.dataclass(frozen=True)
class GradesFitted(ClassesFitted):
    """Temperature, cut-points and operating points of one model."""

    cut_points: CutPoints  # Expected grades, of the highest kappa.
    # By the lowest grade that a cut calls positive; the first point of each is by `threshold_rule`.
    points: Mapping[str, tuple[OperatingPoint, ...]]
    eyes: EyeFusion | None = None  # None where no patient has several images.


def from_dict(content: Mapping[str, Any], task: "Grades") -> GradesFitted:
    """Return the inverse of `GradesFitted.to_dict`.

    Raises:
      ConfigError: it is not what that gives for this task; names the key.
    """
    found: GradesFitted = typed.record(GradesFitted, content, "fitted")
    cuts = len(task.class_names) - 1
    folds = found.eyes.cut_points if found.eyes else ()
    typed.require(
        all(len(each) == cuts for each in (found.cut_points, *folds)),
        f"fitted has cut-points that are not {cuts}, one between each two grades.",
    )
    names = {str(k) for k in range(1, cuts + 1)}
    typed.require(
        set(found.points) <= names and all(found.points.values()),
        f"fitted.points is of {sorted(found.points)}; expected grades of {sorted(names)}.",
    )
    typed.require(
        not found.eyes or len(found.eyes.weights) == len(folds) == PARTS,
        f"fitted.eyes has other than {PARTS} parts.",
    )
    return found


def fit(predictions: pd.DataFrame, task: "Grades", *, split: str) -> GradesFitted:
    """Fit everything on these predictions.

    Args:
      predictions: one row an image: patient, target, and a probability for each grade.
      task: the kind, bound to its settings.
      split: the split that the predictions are of.
    """
    truth = predictions["target"].to_numpy(np.int64)
    probability = task.scores.of_table(predictions)
    above, points = multiclass.above(probability), {}
    for k in range(1, len(task.class_names)):
        positive = (truth >= k).astype(np.int64)
        if len(np.unique(positive)) > 1:  # Else no threshold is better than another.
            settings = task.experiment.evaluation
            points[str(k)] = operating_points.choose(positive, above[:, k - 1], settings)
    grade, grades = heads.expected(probability), len(task.class_names)
    return GradesFitted(
        split,
        temperature=multiclass.fit_temperature(truth, probability),
        cut_points=fit_cut_points(truth, grade, grades),
        points=points,
        eyes=fit_eyes(predictions["patient"], truth, grade, grades),
    )


def by_cut_points(grade: npt.ArrayLike, cuts: npt.ArrayLike) -> IntArray:
    """Return how many cut-points each expected grade (n,) reaches, (n,)."""
    return np.searchsorted(np.asarray(cuts), np.asarray(grade), side="right")


def fit_cut_points(truth: IntArray, grade: FloatArray, grades: int) -> tuple[float, ...]:
    """Return the cut-points of the highest quadratic weighted kappa, (grades - 1).

    They begin where the expected grade is rounded. Each in turn moves to the best place between its
    neighbours, until none moves; a place that is no better is not taken.
    """
    distinct = np.unique(grade)
    between = (distinct[1:] + distinct[:-1]) / 2
    if len(between) > _CANDIDATES:
        between = np.quantile(between, np.linspace(0, 1, _CANDIDATES))
    sorted_grades = [np.sort(grade[truth == k]) for k in range(grades)]

    def kappas(tried: FloatArray) -> FloatArray:
        """Return the kappa, (m,), of cut-points (m, grades - 1)."""
        below = np.stack([np.searchsorted(of, tried, "left") for of in sorted_grades], axis=1)
        totals = np.array([len(of) for of in sorted_grades])[:, np.newaxis]
        edges = np.concatenate(
            [np.zeros_like(below[..., :1]), below, np.broadcast_to(totals, below[..., :1].shape)],
            axis=2,
        )
        return np.nan_to_num(multiclass.quadratic_kappa(np.diff(edges, axis=2)), nan=-np.inf)

    cuts = np.arange(grades - 1) + 0.5
    best = float(kappas(cuts[np.newaxis])[0])
    for _ in range(_ROUNDS):
        before = best
        for k in range(len(cuts)):
            ends = np.concatenate([[-np.inf], cuts, [np.inf]])
            places = between[(between > ends[k]) & (between < ends[k + 2])]
            tried = np.repeat(cuts[np.newaxis], len(places), axis=0)
            tried[:, k] = places
            values = kappas(tried)
            if len(places) and values.max() > best + _BETTER:
                cuts, best = tried[values.argmax()], float(values.max())
        if best == before:
            break
    return tuple(cuts.tolist())


def fit_eyes(
    patient: pd.Series, truth: IntArray, grade: FloatArray, grades: int
) -> EyeFusion | None:
    """Return a model of both eyes, or None where too few patients have several images."""
    features, several = eye_features(patient, grade)
    mine = part(patient)
    weights, cut_points = [], []
    for fold in range(PARTS):
        others = several & (mine != fold)
        if others.sum() < _FEWEST:
            return None
        found, *_ = np.linalg.lstsq(features[others], truth[others].astype(np.float64), rcond=None)
        weights.append(tuple(found.tolist()))
        fused = features[others] @ found
        cut_points.append(fit_cut_points(truth[others], fused, grades))
    return EyeFusion(tuple(weights), tuple(cut_points))


def fused_grades(patient: pd.Series, grade: FloatArray, fusion: EyeFusion) -> IntArray:
    """Return the decided grade of each image, (n,), with the other images of its patient."""
    features, _ = eye_features(patient, grade)
    parts, decided = part(patient), np.empty(len(grade), np.int64)
    for fold, (weights, cuts) in enumerate(zip(fusion.weights, fusion.cut_points, strict=True)):
        mine = parts == fold
        decided[mine] = by_cut_points(features[mine] @ np.array(weights), cuts)
    return decided


def eye_features(patient: pd.Series, grade: FloatArray) -> tuple[FloatArray, npt.NDArray[np.bool_]]:
    """Return own grade, the mean of the patient's other images and 1, (n, 3), and who has others.

    Where there is no other image, its own grade stands for it.
    """
    grouped = pd.Series(grade).groupby(patient.to_numpy())
    images, total = grouped.transform("size").to_numpy(), grouped.transform("sum").to_numpy()
    several = images > 1
    others = np.where(several, (total - grade) / np.maximum(images - 1, 1), grade)
    return np.stack([grade, others, np.ones_like(grade)], axis=1), several
