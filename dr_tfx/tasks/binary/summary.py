"""Predictions to figures of merit: a pure function of a table, and the list of what it returns.

These are the keys of metrics.json that the kind `binary` gives, sorted; the module
`dr_tfx.evaluation.evaluate` lists those of every kind. An interval is {value, low, high}, 95 %;
each is null where it is undefined, as an AUC is where all images are of one class. A point is what
one threshold decides: {threshold, confusion [[TN, FP], [FN, TP]], majority_rate, classes {name or
mean: {precision, recall, f1-score, support}}, rates {accuracy, balanced_accuracy, f1, kappa,
lr_negative, lr_positive, mcc, npv, ppv, sensitivity, specificity: intervals}}.

    alarms                 sentences; empty when nothing is wrong
    calibration            slope, intercept, fitted_on (a split), binning, notes, and 'before' and
                           'after' the scaling: brier (interval), log_loss, ece,
                           ece_if_calibrated (what a calibrated model would show on these images by
                           chance), mean_score, bins [{low, high, images, mean_score, rate
                           (interval)}]
    counts                 per_class {name: {images, patients}}, majority_class, majority_rate
    most_wrong             the worst errors at the chosen threshold: id, patient, stratum (its
                           name), score, truth, decision
    patients               null unless some patients have several images: patients, majority_class,
                           majority_rate, images_per_patient {count: patients}, top, and 'max',
                           'top_mean' and 'fitted' (null where nothing was fitted) of a patient's
                           scores, each with auc, average_precision (intervals) and at_threshold
                           (a point); class 1 if any image is
    referral               what is left when the most uncertain images are referred: fraction,
                           images, majority_rate, and accuracy, sensitivity, specificity (intervals)
    scores                 'identity' (no test-time augmentation) and 'tta' (all views combined),
                           each with auc, average_precision (intervals), the points 'at_half' and
                           'at_threshold' and 'operating_points', points that also have name, rule,
                           bound and description
    selection              threshold, threshold_rule, threshold_description
    strata                 stratum, name, class, images, correct (count), rate (interval): the
                           sensitivity of each stratum of class 1, the specificity of class 0
    sweep                  threshold, accuracy, balanced_accuracy, sensitivity, specificity
    tta_effect             null with one view, or one class: threshold, and differences {auc,
                           average_precision, accuracy, balanced_accuracy, sensitivity,
                           specificity: intervals} of 'tta' minus 'identity' on the same images
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dr_tfx.statistics import calibration, metrics, operating_points
from dr_tfx.statistics.intervals import PatientBootstrap
from dr_tfx.tasks import labels, patients
from dr_tfx.tasks.binary import alarms, breakdown, fitting, settings
from dr_tfx.tasks.binary.scores import SCORE, VIEW

SCHEMA = 7
"""Version of metrics.json."""

_PLACES = 101  # Along the axis of a curve.
_IDENTITY = f"{VIEW}identity"
_REQUIRED = ("id", "patient", "stratum", "target", SCORE, _IDENTITY)


def summarise(
    predictions: pd.DataFrame,
    fitted: fitting.Fitted,
    experiment: settings.BinaryExperiment,
    *,
    patients_known: bool,
) -> dict[str, Any]:
    """Return everything that can be said about the predictions, as plain JSON types.

    Args:
      predictions: one row an image, as `checked` returns it: id (str), patient (str), stratum (int,
        the finest label), target (int, 0 or 1), score (float64 in [0, 1], of all views), one
        column 'score/<view>' for each view, and cluster (what the bootstrap draws as one).
      fitted: thresholds and calibration, applied as they are.
      experiment: names classes and labels, the grid of the sweep and the number of resamples.
      patients_known: whether 'patient' is more than the image's own name.

    Returns:
      The keys that the module lists, but for `selection`.
    """
    judge = _Judge(predictions, experiment)
    target, score = judge.target, predictions["score"]
    naming: dict[str, Any] = {
        "class_names": judge.names,
        "stratum_names": experiment.dataset.label_names,
        "threshold": fitted.threshold,
    }
    points = {
        "identity": _scores(judge, predictions[_IDENTITY], fitted),
        "tta": _scores(judge, score, fitted) | {"bands": judge.bands(score)},
    }
    counts = labels.counts(predictions, judge.names)
    grid = operating_points.grid_values(experiment.evaluation.threshold_grid)
    sweep = operating_points.threshold_table(target, score, grid)
    calibrated, limit = fitted.scaling(score), fitted.scaling(fitted.threshold)
    positive = (score >= fitted.threshold).to_numpy()
    certainty = calibration.certainty(calibrated, limit)
    return {
        "alarms": [
            *_alarms(points["tta"], counts, patients_known=patients_known),
            *alarms.one_number(score),
        ],
        "calibration": _calibration(judge, score, calibrated, fitted),
        "counts": counts,
        "most_wrong": breakdown.most_wrong(predictions, **naming),
        "patients": _patients(predictions, fitted, judge) if patients_known else None,
        "referral": calibration.referral_curve(target, positive, certainty, judge.bootstrap),
        "scores": points,
        "strata": breakdown.strata(predictions, **naming, bootstrap=judge.bootstrap),
        "sweep": sweep.astype(object).where(sweep.notna(), None).to_dict("records"),
        "tta_effect": _tta_effect(predictions, fitted.threshold, judge),
    }


class _Judge:
    """Figures of merit of scores for the targets of some rows, all on the same resamples."""

    def __init__(self, rows: pd.DataFrame, experiment: settings.BinaryExperiment):
        self.experiment = experiment
        self.target = rows["target"].to_numpy()
        self.names = experiment.task.class_names
        self.resamples = experiment.evaluation.bootstrap_resamples
        self.bootstrap = PatientBootstrap(rows["cluster"], resamples=self.resamples)

    def ranking(self, score: pd.Series) -> dict[str, Any]:
        figures = self.bootstrap.ranking(self.target, score)
        return {name: figure.to_dict() for name, figure in figures.items()}

    def bands(self, score: pd.Series) -> dict[str, Any]:
        at = np.linspace(0, 1, _PLACES)
        bands = self.bootstrap.bands(self.target, score, at)
        return {"at": at.tolist(), **{name: ends.tolist() for name, ends in bands.items()}}

    def point(self, score: pd.Series, threshold: float) -> dict[str, Any]:
        confusion = metrics.confusion_matrix(self.target, score, threshold)
        rates = self.bootstrap.rates(self.target, score >= threshold)
        return {
            "classes": metrics.class_table(confusion, self.names),
            "confusion": confusion.tolist(),
            "majority_rate": float(confusion.sum(axis=1).max() / confusion.sum()),
            "rates": {name: value.to_dict() for name, value in rates.items()},
            "threshold": float(threshold),
        }


def _scores(judge: _Judge, score: pd.Series, fitted: fitting.Fitted) -> dict[str, Any]:
    points = [
        judge.point(score, point.threshold)
        | {
            "bound": point.bound,
            "description": point.description,
            "name": point.name,
            "rule": point.rule,
        }
        for point in fitted.points
    ]
    return judge.ranking(score) | {
        "at_half": judge.point(score, 0.5),
        "at_threshold": judge.point(score, fitted.threshold),
        "operating_points": points,
    }


def _alarms(
    scores: Mapping[str, Any], counts: Mapping[str, Any], *, patients_known: bool
) -> list[str]:
    point = scores["at_threshold"]
    return alarms.alarms(
        point["confusion"],
        metrics.from_json(scores["auc"]),
        class_names=list(counts["per_class"]),
        patients=[row["patients"] for row in counts["per_class"].values()],
        patients_known=patients_known,
        estimates={name: metrics.from_json(value) for name, value in point["rates"].items()},
    )


def _calibration(
    judge: _Judge, score: pd.Series, calibrated: npt.NDArray[np.float64], fitted: fitting.Fitted
) -> dict[str, Any]:
    before, after = (
        calibration.assess(judge.target, values, judge.bootstrap) for values in (score, calibrated)
    )
    return {
        "after": after,
        "before": before,
        "binning": calibration.BINNING,
        "fitted_on": fitted.split,
        "intercept": fitted.intercept,
        "notes": calibration.notes(judge.target, fitted.slope, after),
        "slope": fitted.slope,
    }


def _patients(
    predictions: pd.DataFrame, fitted: fitting.Fitted, judge: _Judge
) -> dict[str, Any] | None:
    """Return figures of fused scores.

    They are None where no patient has several images, or all patients are of one class.
    """
    top, decided = judge.experiment.evaluation.top, fitted.patients
    columns = (predictions[name] for name in ("patient", "target", "score"))
    table = patients.fuse(*columns, top=top, weights=decided.weights)
    if table["images"].max() == 1 or table["target"].nunique() == 1:
        return None
    cluster_of = predictions.drop_duplicates("patient").set_index("patient")["cluster"]
    fused = _Judge(table.assign(cluster=table["patient"].map(cluster_of)), judge.experiment)
    positive = float(table["target"].mean())
    sizes = table["images"].value_counts().sort_index()
    figures: dict[str, Any] = {patients.FITTED: None} | {
        name: fused.ranking(table[name])
        | {"at_threshold": fused.point(table[name], decided.thresholds[name])}
        for name in decided.fusions
    }
    return figures | {
        "images_per_patient": {str(images): int(count) for images, count in sizes.items()},
        "majority_class": judge.names[int(positive > 0.5)],
        "majority_rate": max(positive, 1 - positive),
        "patients": len(table),
        "top": top,
    }


def _tta_effect(
    predictions: pd.DataFrame, threshold: float, judge: _Judge
) -> dict[str, Any] | None:
    """Return what the further views change; None where there is one view, or one class."""
    views = len(_score_columns(predictions)) - 1  # One column is the score itself.
    if views < 2 or predictions["target"].nunique() == 1:
        return None
    from dr_tfx.statistics import differences  # Loads for a second, which few need.

    found = differences.paired_differences(
        judge.target,
        predictions["score"],
        predictions[_IDENTITY],
        predictions["cluster"],
        thresholds=(threshold, threshold),
        resamples=judge.resamples,
    )
    return {
        "differences": {name: value.to_dict() for name, value in found.items()},
        "threshold": threshold,
    }


def checked(predictions: pd.DataFrame) -> pd.DataFrame:
    """Return the predictions with float64 scores.

    As float32, a score at the threshold would fall on either side of it, depending on who compares.

    Raises:
      ValueError: a column is missing, or a score is no probability; names the column and the image.
    """
    missing = [c for c in _REQUIRED if c not in predictions]
    if missing:
        raise ValueError(f"predictions lack the columns {missing}; got {list(predictions.columns)}")
    columns = _score_columns(predictions)
    for column in columns:
        bad = predictions[~predictions[column].between(0, 1)]  # NaN is bad too.
        if len(bad):
            raise ValueError(
                f"{len(bad)} values of '{column}' are not within [0, 1], first "
                f"{bad[column].iloc[0]} of image '{bad['id'].iloc[0]!s}': did training diverge?"
            )
    return predictions.astype(dict.fromkeys(columns, np.float64))


def _score_columns(predictions: pd.DataFrame) -> Sequence[str]:
    """Return the names of the score of all views and of the score of each."""
    names = map(str, predictions.columns)
    return [name for name in names if name == SCORE or name.startswith(VIEW)]
