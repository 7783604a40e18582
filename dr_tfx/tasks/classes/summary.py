"""Predictions of several classes to figures of merit, and the list of what is returned.

These are the keys of metrics.json that the kind `classes` gives, sorted; the module
`dr_tfx.evaluation.evaluate` lists those of every kind. An interval is {value, low, high}, 95 %;
each is null where it is undefined.

    alarms                 sentences; empty when nothing is wrong
    calibration            temperature, fitted_on (a split), binning, and 'before' and 'after' the
                           temperature: log_loss, and of the highest probability brier (interval),
                           ece, ece_if_calibrated, mean_score, bins (see the kind `binary`)
    classes                name, images, patients, decided (count), precision, recall (interval),
                           f1, auc (interval, against all other classes)
    confusion              counts, rows the truth, columns the decision
    counts                 per_class {name: {images, patients}}, majority_class, majority_rate
    figures                accuracy, auc (macro: the mean over the classes), balanced_accuracy
                           (intervals)
    most_wrong             the worst errors of each class: id, patient, stratum (its name), truth,
                           decision, wrongness
    selection              temperature
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dr_tfx.statistics import calibration, metrics, multiclass
from dr_tfx.statistics.intervals import PatientBootstrap
from dr_tfx.statistics.metrics import Estimate
from dr_tfx.tasks import alarms, labels
from dr_tfx.tasks.classes.scores import PROBABILITY

if TYPE_CHECKING:
    from dr_tfx.tasks.classes.kind import Classes

SCHEMA = 2
"""Version of metrics.json."""

_LISTED_ERRORS = 4  # Of each class.
_SUM = 1e-3  # Probabilities of an image may miss 1 by this much, the rounding of float32.
_COMPARED = ("accuracy", "balanced_accuracy")


class Judge:
    """The predictions of some images, and figures of merit of them on the same resamples.

    Attributes:
      predictions: the table.
      names: of the classes.
      truth: the class of each image, int64 (n,).
      probability: float64 (n, classes).
      decided: the class that is decided for each image, int64 (n,).
      bootstrap: over the patients.
      figures: of decisions and probabilities.
    """

    def __init__(self, predictions: pd.DataFrame, fitted: Any, task: "Classes"):
        self.predictions, self.names = predictions, task.class_names
        self.truth = predictions["target"].to_numpy(np.int64)
        self.probability = task.scores.of_table(predictions)
        self.decided = task.scores.decided(self.probability, fitted)
        resamples = task.experiment.evaluation.bootstrap_resamples
        self.bootstrap = PatientBootstrap(predictions["cluster"], resamples=resamples)
        self.figures = multiclass.ClassFigures(self.truth, len(self.names), self.bootstrap)

    @property
    def confusion(self) -> multiclass.IntArray:
        """Counts, int64 (classes, classes), rows the truth."""
        return multiclass.confusion(self.truth, self.decided, len(self.names))


def summarise(
    predictions: pd.DataFrame, fitted: Any, task: "Classes", *, patients_known: bool
) -> dict[str, Any]:
    """Return everything that can be said about the predictions, as plain JSON types.

    Args:
      predictions: one row an image, as `checked` returns it: id, patient, stratum (the finest
        label), target (its class), a probability for each class, and cluster (what the bootstrap
        draws as one).
      fitted: the temperature, applied as it is.
      task: the kind, bound to its settings.
      patients_known: whether 'patient' is more than the image's own name.
    """
    judge = Judge(predictions, fitted, task)
    counts = labels.counts(predictions, judge.names)
    decisions = judge.figures.decisions(judge.decided)
    figures = {
        "accuracy": decisions["accuracy"],
        "auc": judge.figures.macro_auc(judge.probability),
        "balanced_accuracy": decisions["balanced_accuracy"],
    }
    by_chance = 1 / max(1, len(np.unique(judge.truth)))
    return {
        "alarms": [
            *decision_alarms(judge, figures["accuracy"]),
            *alarms.chance("The balanced accuracy", figures["balanced_accuracy"], by_chance),
            *few(counts, patients_known=patients_known),
        ],
        "calibration": calibrated(judge, fitted),
        "classes": by_class(judge, counts),
        "confusion": judge.confusion.tolist(),
        "counts": counts,
        "figures": multiclass.to_json(figures),
        "most_wrong": most_wrong(judge, fitted, task),
    }


def decision_alarms(judge: Judge, accuracy: Estimate, *, unless: str = "") -> list[str]:
    """Return the alarms that a table of confusion raises.

    Args:
      judge: of the predictions.
      accuracy: with its interval.
      unless: what to say besides where the majority class is not beaten.
    """
    found = alarms.missing(judge.confusion, judge.names)
    found += alarms.one_answer(judge.confusion, judge.names)
    majority = alarms.not_above_majority(judge.confusion, accuracy, judge.names)
    return found + [f"{majority}{unless}."] * bool(majority)


def few(counts: Mapping[str, Any], *, patients_known: bool) -> list[str]:
    """Return an alarm if there are classes of too few patients."""
    patients = {name: row["patients"] for name, row in counts["per_class"].items()}
    small = alarms.few(list(patients), list(patients.values()), patients_known=patients_known)
    who = "patients" if patients_known else "images"
    return [f"Too few {who} to conclude: {'; '.join(small)}."] * bool(small)


def calibrated(judge: Judge, fitted: Any) -> dict[str, Any]:
    """Return how well the highest probability fits the share of correct decisions."""
    sides = {
        "before": judge.probability,
        "after": multiclass.apply_temperature(judge.probability, fitted.temperature),
    }
    right = judge.probability.argmax(axis=1) == judge.truth
    found: dict[str, Any] = {
        name: calibration.assess(right, probability.max(axis=1), judge.bootstrap)
        | {"log_loss": multiclass.log_loss(judge.truth, probability)}
        for name, probability in sides.items()
    }
    return found | {
        "binning": calibration.BINNING,
        "fitted_on": fitted.split,
        "temperature": fitted.temperature,
    }


def by_class(judge: Judge, counts: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return what is decided for the images of each class."""
    table = metrics.class_table(judge.confusion, judge.names)
    recalls, rows = judge.figures.recalls(judge.decided), []
    for k, name in enumerate(judge.names):
        ranking = judge.bootstrap.ranking(judge.truth == k, judge.probability[:, k])
        rows.append(
            {
                "auc": ranking["auc"].to_dict(),
                "decided": int(judge.confusion[:, k].sum()),
                "f1": table[name]["f1-score"],
                "name": name,
                "precision": table[name]["precision"],
                "recall": recalls[k].to_dict(),
                **counts["per_class"][name],
            }
        )
    return rows


def most_wrong(judge: Judge, fitted: Any, task: "Classes") -> list[dict[str, Any]]:
    """Return the worst errors of each class, the worst first.

    Each class has its own places, so that one with many errors does not hide those of another.
    """
    wrongness = task.scores.wrongness(judge.predictions, judge.truth, fitted)
    table = judge.predictions.assign(wrongness=wrongness, decided=judge.decided)
    table = table[judge.decided != judge.truth]
    table = table.sort_values(["wrongness", "id"], ascending=[False, True])
    strata, rows = task.experiment.dataset.label_names, []
    for row in table.groupby("target").head(_LISTED_ERRORS).to_dict("records"):
        rows.append(
            {
                "decision": judge.names[int(row["decided"])],
                "id": row["id"],
                "patient": row["patient"],
                "stratum": strata[int(row["stratum"])],
                "truth": judge.names[int(row["target"])],
                "wrongness": float(row["wrongness"]),
            }
        )
    return rows


def checked(predictions: pd.DataFrame, names: Sequence[str]) -> pd.DataFrame:
    """Return the predictions with float64 probabilities.

    Raises:
      ValueError: a column is missing, or probabilities are impossible; names the image.
    """
    columns = [PROBABILITY + name for name in names]
    missing = [c for c in ("id", "patient", "stratum", "target", *columns) if c not in predictions]
    if missing:
        raise ValueError(f"predictions lack the columns {missing}; got {list(predictions.columns)}")
    found = predictions.astype(dict.fromkeys(columns, np.float64))
    values: npt.NDArray[np.float64] = found[columns].to_numpy()
    bad = ~((values >= 0) & (values <= 1)).all(axis=1) | (abs(values.sum(axis=1) - 1) > _SUM)
    if bad.any():
        first = int(np.argmax(bad))
        raise ValueError(
            f"the probabilities of {int(bad.sum())} images are not within [0, 1] with the sum 1, "
            f"first {values[first].tolist()} of image '{found['id'].iloc[first]!s}': did training "
            "diverge?"
        )
    return found
