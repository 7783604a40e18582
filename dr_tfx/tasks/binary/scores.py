"""The probability of class 1: combined over views, decided by a threshold, and put into words."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dr_tfx.tasks import kind
from dr_tfx.tasks.binary import fitting, settings

DEFAULT_THRESHOLD = 0.5  # It decides until an evaluation has chosen a threshold.
SCORE = "score"
VIEW = "score/"  # The prefix of the columns of single views.
_SURE = 2.0**-24  # Logits are taken of scores this near to 0 and 1: float32 is no finer near 1.
_FIGURES = ("gradcam_normal.png", "gradcam_abnormal.png")  # The published recipe's names.


class BinaryScores(kind.ScoreSide):
    """One probability an image."""

    explained = SCORE
    answer_names = ("probability", "probability_threshold", "score", "threshold", "decision")

    def __init__(self, experiment: settings.BinaryExperiment):
        self._task, self._evaluation = experiment.task, experiment.evaluation

    def columns(self, outputs: np.ndarray) -> dict[str, np.ndarray]:
        """Return `score`, combined over the views, and `score/<view>` of each: float64 (images,).

        Args:
          outputs: float64 (images, views, 1), probabilities.
        """
        scores = outputs[:, :, 0]
        views = {f"{VIEW}{view}": scores[:, i] for i, view in enumerate(self._evaluation.views)}
        return {SCORE: combine(scores, self._evaluation.combine), **views}

    def read(self, table: pd.DataFrame, fitted: fitting.Fitted | None) -> list[kind.Reading]:
        """Return score, calibrated probability and decision of each row.

        Each stands beside its threshold, and both thresholds are the same. The probability is None
        until something is fitted, and the threshold of the score is DEFAULT_THRESHOLD.
        """
        return [self._reading(score, fitted) for score in table[SCORE].tolist()]

    def rule(self, fitted: fitting.Fitted | None) -> str:
        """Return the sentence that names the positive class and its threshold."""
        threshold = _threshold(fitted)
        return f"The decision is '{self._task.class_names[1]}' from a score of {threshold:.3f} up."

    def wrongness(
        self, table: pd.DataFrame, groups: np.ndarray, fitted: fitting.Fitted | None
    ) -> npt.NDArray[np.float64]:
        """Return how far each score lies on the wrong side of the threshold."""
        above = table[SCORE].to_numpy() - _threshold(fitted)
        return np.where(groups == 1, -above, above)

    def figure_name(self, group: int) -> str:
        """Return the published recipe's name of the figure of one class."""
        return _FIGURES[group]

    def _reading(self, score: float, fitted: fitting.Fitted | None) -> kind.Reading:
        probability, least, threshold = None, None, _threshold(fitted)
        if fitted is not None:
            probability, least = map(float, fitted.scaling([score, threshold]))
        names, is_suspected = self._task.class_names, score >= threshold
        decision = names[int(is_suspected)]
        words = [decision, f"score {score:.3f}, threshold {threshold:.3f}"]
        if probability is not None:
            words.insert(1, f"probability {probability:.3f}, threshold {least:.3f}")
        values: tuple[Any, ...] = (probability, least, score, threshold, decision)
        answer = dict(zip(self.answer_names, values, strict=True))
        likely = score if probability is None else probability
        told = dict(zip(names, (1 - likely, likely), strict=True))
        return kind.Reading(score, decision, "   ".join(words), answer, told, is_suspected)


def _threshold(fitted: fitting.Fitted | None) -> float:
    return DEFAULT_THRESHOLD if fitted is None else fitted.threshold


def combine(scores: np.ndarray, how: str) -> np.ndarray:
    """Return one probability from those of all views.

    In the mean of logits a view that is sure counts for more than one in doubt. Probabilities
    nearer to 0 or 1 than 2**-24 are taken as that near.

    Args:
      scores: float64 (n, views), 0 to 1.
      how: 'probability', the mean; or 'logit', the probability of the mean logit.

    Returns:
      float64 (n,).
    """
    if how == "probability":
        return scores.mean(axis=1)
    scores = np.clip(scores, _SURE, 1 - _SURE)
    return 1 / (1 + np.exp(-np.log(scores / (1 - scores)).mean(axis=1)))
