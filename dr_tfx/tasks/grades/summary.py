"""Predictions of grades to figures of merit, and the list of what is returned.

These are the keys of metrics.json that the kind `grades` gives, sorted; the module
`dr_tfx.evaluation.evaluate` lists those of every kind. An interval is {value, low, high}, 95 %;
each is null where it is undefined. A cut calls a grade and all above it positive.

    alarms                 sentences; empty when nothing is wrong
    calibration            temperature, fitted_on (a split), binning, and 'before' and 'after' the
                           temperature: log_loss, rps (interval), and of the probability of a
                           referred grade brier (interval), ece, ece_if_calibrated, mean_score,
                           bins (see the kind `binary`); cuts [{name, before, after: ECE}]
    classes                name, images, patients, decided (count), precision, recall (interval),
                           f1, auc (interval, against all other grades)
    confusion              counts, rows the truth, columns the decision
    costs                  of each cell of `confusion`, the squared distance
    counts                 per_class {name: {images, patients}}, majority_class, majority_rate
    cuts                   each cut of the scale: name, grade (the lowest positive), images
                           (positive), referred (whether it is that cut), auc, average_precision
                           (intervals), band (of its ROC curve: `at`, shares of false alarms,
                           `low` and `high`, between which the sensitivities of 95 % of the
                           resamples lie), points: what each threshold of P(grade or above)
                           decides, with name, rule, bound, description, threshold, confusion,
                           rates
    eyes                   null unless some patients have several images: images, patients, rows
                           [{name, kappa, mae, accuracy, balanced_accuracy, and difference with the
                           same of this row minus the first}], all over those patients' images
    figures                kappa (quadratic weights), auc (macro: the mean over the grades),
                           balanced_accuracy, accuracy, mae (in grades), rps (ranked probability
                           score): intervals
    most_wrong             the worst errors of each grade: id, patient, stratum (its name), truth,
                           decision, wrongness
    rules                  each way to decide: name, chosen (whether it decides), kappa, mae,
                           accuracy, balanced_accuracy (intervals)
    selection              temperature, decide, cut_points, referred_threshold (or null)
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, get_args, get_type_hints

import numpy as np
import pandas as pd

from dr_tfx.statistics import calibration, metrics, multiclass
from dr_tfx.statistics.intervals import PatientBootstrap
from dr_tfx.tasks import alarms, labels
from dr_tfx.tasks.classes import summary as classes_summary
from dr_tfx.tasks.grades import fitting, heads, settings
from dr_tfx.tasks.grades.fitting import GradesFitted

if TYPE_CHECKING:
    from dr_tfx.tasks.grades.kind import Grades

SCHEMA = 2
"""Version of metrics.json."""

_AT = np.linspace(0, 1, 101)  # Places along the axis of a curve.

RULES: tuple[str, ...] = get_args(get_type_hints(settings.GradesEvaluation)["decide"])


def summarise(
    predictions: pd.DataFrame, fitted: GradesFitted, task: "Grades", *, patients_known: bool
) -> dict[str, Any]:
    """Return everything that can be said about the predictions, as plain JSON types.

    Args:
      predictions: one row an image, as `checked` returns it: id, patient, stratum (the finest
        label), target (its grade), a probability for each grade, and cluster (what the bootstrap
        draws as one).
      fitted: what validation has fitted, applied as it is.
      task: the kind, bound to its settings.
      patients_known: whether 'patient' is more than the image's own name.
    """
    judge = classes_summary.Judge(predictions, fitted, task)
    counts = labels.counts(predictions, judge.names)
    scores = multiclass.ranked_probability_scores(judge.truth, judge.probability)
    figures = judge.figures.decisions(judge.decided) | {
        "auc": judge.figures.macro_auc(judge.probability),
        "rps": judge.bootstrap.mean(scores),
    }
    unless = ", though the kappa is better than chance: here accuracy says little"
    return {
        "alarms": [
            *classes_summary.decision_alarms(
                judge, figures["accuracy"], unless=unless * bool(figures["kappa"].low > 0)
            ),
            *alarms.chance("The quadratic weighted kappa", figures["kappa"], 0.0),
            *classes_summary.few(counts, patients_known=patients_known),
        ],
        "calibration": _calibration(judge, fitted, task),
        "classes": classes_summary.by_class(judge, counts),
        "confusion": judge.confusion.tolist(),
        "costs": multiclass.costs(len(judge.names)).tolist(),
        "counts": counts,
        "cuts": _cuts(judge, fitted, task),
        "eyes": _eyes(judge, fitted, task) if patients_known else None,
        "figures": multiclass.to_json(figures),
        "most_wrong": classes_summary.most_wrong(judge, fitted, task),
        "rules": _rules(judge, fitted, task),
    }


def _rules(
    judge: classes_summary.Judge, fitted: GradesFitted, task: "Grades"
) -> list[dict[str, Any]]:
    """Return what each way to decide is worth, that of the run and the others."""
    chosen, rows = task.experiment.evaluation.decide, []
    for rule in RULES:
        decided = task.scores.decided(judge.probability, fitted, rule=rule)
        figures = multiclass.to_json(judge.figures.decisions(decided))
        rows.append({"name": rule, "chosen": rule == chosen, **figures})
    return rows


def _cuts(
    judge: classes_summary.Judge, fitted: GradesFitted, task: "Grades"
) -> list[dict[str, Any]]:
    """Return what is known of every cut of the scale in two."""
    above, rows = multiclass.above(judge.probability), []
    for k, name in enumerate(cut_names(judge.names), start=1):
        target, score = (judge.truth >= k).astype(np.int64), above[:, k - 1]
        ranking = judge.bootstrap.ranking(target, score)
        points = []
        for point in fitted.points.get(str(k), ()):
            positive = score >= point.threshold
            points.append(
                {
                    "bound": point.bound,
                    "confusion": metrics.confusion_matrix(target, score, point.threshold).tolist(),
                    "description": point.description,
                    "name": point.name,
                    "rates": multiclass.to_json(judge.bootstrap.rates(target, positive)),
                    "rule": point.rule,
                    "threshold": point.threshold,
                }
            )
        low, high = judge.bootstrap.bands(target, score, _AT)["roc"].tolist()
        rows.append(
            {
                "band": {"at": _AT[: len(low)].tolist(), "low": low, "high": high},
                "grade": k,
                "images": int(target.sum()),
                "name": name,
                "points": points,
                "referred": k == task.experiment.task.refer_from,
                **multiclass.to_json(ranking),
            }
        )
    return rows


def cut_names(names: Sequence[str]) -> list[str]:
    """Return words for what each cut calls positive, such as 'mild or above'."""
    return [*(f"{name} or above" for name in names[1:-1]), names[-1]]


def _calibration(
    judge: classes_summary.Judge, fitted: GradesFitted, task: "Grades"
) -> dict[str, Any]:
    """Return how well probabilities fit, as they are and after the temperature."""
    sides = {
        "before": judge.probability,
        "after": multiclass.apply_temperature(judge.probability, fitted.temperature),
    }
    cuts: list[dict[str, Any]] = [{"name": name} for name in cut_names(judge.names)]
    found: dict[str, Any] = {}
    for side, probability in sides.items():
        above = multiclass.above(probability)
        assessed = [
            calibration.assess(judge.truth > k, above[:, k], judge.bootstrap)
            for k in range(len(cuts))
        ]
        for row, told in zip(cuts, assessed, strict=True):
            row[side] = told["ece"]
        scores = multiclass.ranked_probability_scores(judge.truth, probability)
        found[side] = assessed[task.experiment.task.refer_from - 1] | {
            "log_loss": multiclass.log_loss(judge.truth, probability),
            "rps": judge.bootstrap.mean(scores).to_dict(),
        }
    return found | {
        "binning": calibration.BINNING,
        "cuts": cuts,
        "fitted_on": fitted.split,
        "temperature": fitted.temperature,
    }


def _eyes(
    judge: classes_summary.Judge, fitted: GradesFitted, task: "Grades"
) -> dict[str, Any] | None:
    """Return what the other images of a patient add; None where no patient has several."""
    patient, table = judge.predictions["patient"], judge.predictions
    grade = heads.expected(judge.probability)
    _, several = fitting.eye_features(patient, grade)
    if not several.any():
        return None
    highest = pd.Series(judge.decided).groupby(patient.to_numpy()).transform("max").to_numpy()
    ways = {"each image alone": judge.decided, "highest of the patient": highest}
    if fitted.eyes is not None:
        ways["own and other eye"] = fitting.fused_grades(patient, grade, fitted.eyes)
    mine = table[several]
    resamples = task.experiment.evaluation.bootstrap_resamples
    figures = multiclass.ClassFigures(
        judge.truth[several],
        len(judge.names),
        PatientBootstrap(mine["cluster"], resamples=resamples),
    )
    alone = judge.decided[several]
    return {
        "images": len(mine),
        "patients": int(mine["patient"].nunique()),
        "rows": [
            {
                "name": name,
                **multiclass.to_json(figures.decisions(decided[several])),
                "difference": multiclass.to_json(figures.differences(decided[several], alone)),
            }
            for name, decided in ways.items()
        ],
    }
