"""Decisions for patients from the scores of their images, such as the slices of a head.

A patient's score is the highest of their images, the mean of the highest few, or a fusion that is
fitted on validation: a logistic model of these two and the mean of all images, each as its logit.
"""

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dr_tfx.config import seeds, typed
from dr_tfx.statistics import operating_points
from dr_tfx.tasks.thresholds import ThresholdEvaluation

FUSIONS = ("max", "top_mean")
FITTED = "fitted"
PARTS = 5

_FEATURES = ["max", "top_mean", "mean"]
_FEWEST = 5  # Patients of each class outside a part, without which nothing is fitted.
_EDGE = 1e-4  # Scores are kept so far from 0 and 1, so that no logit outweighs all others.


@dataclasses.dataclass(frozen=True)
class PatientEvaluation(ThresholdEvaluation):
    """The choice of thresholds, and the fusion of a patient's images."""

    # The mean of so many highest scores is one of a patient's.
    top: Annotated[int, typed.Rule(lambda n: n >= 1, "1 or more")] = 3


@dataclasses.dataclass(frozen=True)
class PatientDecision:
    """The thresholds of a patient's scores, and the weights of the fitted one.

    Each of the five parts is fitted on the patients of the other parts, so that no patient has been
    seen by the weights that judge them, on validation or elsewhere.
    """

    thresholds: Mapping[str, float]  # Of each fusion.
    # Of each part, for the three logits and a constant; none where nothing was fitted.
    weights: Annotated[
        tuple[tuple[float, float, float, float], ...],
        typed.Rule(lambda found: len(found) in (0, PARTS), f"none, or those of {PARTS} parts"),
    ] = ()

    @property
    def fusions(self) -> tuple[str, ...]:
        """The names of the fusions that there are."""
        return (*FUSIONS, FITTED) if self.weights else FUSIONS

    def to_dict(self) -> dict[str, Any]:
        """Return it as plain JSON types."""
        weights = [list(each) for each in self.weights]
        return {"thresholds": dict(self.thresholds), "weights": weights}

    def check(self) -> None:
        """Refuse thresholds of other fusions.

        Raises:
          ConfigError: they are not those of `fusions`.
        """
        typed.require(
            set(self.thresholds) == set(self.fusions),
            f"fitted.patients.thresholds is of {sorted(self.thresholds)}; expected "
            f"{sorted(self.fusions)}.",
        )


def fit(
    patient: npt.ArrayLike,
    target: npt.ArrayLike,
    score: npt.ArrayLike,
    settings: PatientEvaluation,
    *,
    default: float,
) -> PatientDecision:
    """Fit the fusion, and choose a threshold for each by `evaluation.threshold_rule`.

    Args:
      patient: of each image.
      target: 0 or 1 of each image.
      score: of each image, in [0, 1].
      settings: the rule, and `top`.
      default: the threshold where all patients are of one class.
    """
    weights = _fit_weights(fuse(patient, target, score, top=settings.top))
    table = fuse(patient, target, score, top=settings.top, weights=weights)
    decision = PatientDecision({}, weights)
    thresholds = dict.fromkeys(decision.fusions, default)
    if table["target"].nunique() > 1:  # Else no threshold is better than another.
        for name in thresholds:
            chosen = operating_points.choose(table["target"], table[name], settings)
            thresholds[name] = chosen[0].threshold
    return dataclasses.replace(decision, thresholds=thresholds)


def fuse(
    patient: npt.ArrayLike,
    target: npt.ArrayLike,
    score: npt.ArrayLike,
    *,
    top: int,
    weights: Sequence[Sequence[float]] = (),
) -> pd.DataFrame:
    """Return one row a patient: patient, images, target (1 if any image's is), each fusion.

    Args:
      patient: of each image.
      target: 0 or 1 of each image.
      score: of each image, in [0, 1].
      top: of how many of the highest scores `top_mean` is the mean; all, where there are fewer.
      weights: of the fitted fusion; without them there is none.
    """
    table = pd.DataFrame({"patient": patient, "target": target, "score": score})
    table = table.sort_values("score", ascending=False, kind="stable")
    grouped = table.groupby("patient", sort=True)
    found = grouped.agg(
        images=("score", "size"),
        target=("target", "max"),
        max=("score", "max"),
        mean=("score", "mean"),
    )
    found["top_mean"] = grouped.head(top).groupby("patient", sort=True)["score"].mean()
    found = found.reset_index()
    if weights:
        mine = np.asarray(weights)[part(found["patient"])]
        margin = (_logits(found) * mine[:, :-1]).sum(axis=1) + mine[:, -1]
        found[FITTED] = 1 / (1 + np.exp(-margin))
    return found


def part(patient: pd.Series) -> npt.NDArray[np.int64]:
    """Return the part of each patient, 0 to 4, which their name alone decides."""
    return patient.map(lambda name: seeds.stable_hash("eyes", str(name)) % PARTS).to_numpy()


def _fit_weights(table: pd.DataFrame) -> tuple[tuple[float, float, float, float], ...]:
    """Return the weights of each part; none where patients have one image, or are too few."""
    if table["images"].max() == 1:
        return ()
    from sklearn.linear_model import LogisticRegression

    parts, logits, target = part(table["patient"]), _logits(table), table["target"].to_numpy()
    weights = []
    for left_out in range(PARTS):
        others = parts != left_out
        if np.bincount(target[others], minlength=2).min() < _FEWEST:
            return ()
        model = LogisticRegression().fit(logits[others], target[others])
        highest, few, every = model.coef_[0].tolist()
        weights.append((highest, few, every, float(model.intercept_[0])))
    return tuple(weights)


def _logits(table: pd.DataFrame) -> npt.NDArray[np.float64]:
    """Return the features of the fitted fusion, (patients, 3)."""
    score = table[_FEATURES].to_numpy(np.float64).clip(_EDGE, 1 - _EDGE)
    return np.log(score / (1 - score))
