"""Predictions -> figures of merit: a pure function of a table, and the list of what it gives.

Keys of metrics.json (sorted). An interval is {value, low, high}, 95 %; each is null where it is
undefined. A point is what one threshold decides: {threshold, confusion [[TN, FP], [FN, TP]],
majority_rate, classes {name or mean: {precision, recall, f1-score, support}}, rates {accuracy,
balanced_accuracy, f1, kappa, lr_negative, lr_positive, mcc, npv, ppv, sensitivity, specificity:
intervals}}.

    alarms                 sentences; empty when nothing is wrong
    calibration            temperature, fitted_on (a split), binning, notes, and 'before' and
                           'after' the temperature: brier (interval), log_loss, ece,
                           ece_if_calibrated (what a calibrated model would show on these images by
                           chance), mean_score, bins [{low, high, images, mean_score, rate
                           (interval)}]
    counts                 images, patients, patients_known (false: every image counts as its
                           own), joined (groups of patients who share byte-identical photographs,
                           by name: each is one to all intervals), per_class {name: {images,
                           patients}}, majority_class, majority_rate
    elsewhere              null where the model's own data set was scored; else {external_dir,
                           labels, rows, written, rejected {reason: rows}, compared (false: nobody
                           gave the model's own data), and what is in that, too: identical [{id,
                           training_id, split}], photographs {split: how many of them}, patients
                           [{patient, splits}]}
    leakage                {shared_patients (a count), patients (the first names), twins [{ids,
                           labels, splits}]}: what the splits of the scored data set share
    most_wrong             the worst errors at the chosen threshold: id, patient, stratum (its
                           name), score, truth, decision
    notices                sentences on what the data set does not allow to know
    patients               null unless some patients have several images: patients, majority_class,
                           majority_rate, images_per_patient {count: patients}, and 'max' and
                           'mean' of a patient's scores, each with auc, average_precision
                           (intervals) and at_threshold (a point); class 1 if any image is
    referral               what is left when the most uncertain images are referred: fraction,
                           images, majority_rate, and accuracy, sensitivity, specificity (intervals)
    schema                 version of this list
    scores                 'identity' (no test-time augmentation) and 'tta' (mean of all views),
                           each with auc, average_precision (intervals), the points 'at_half' and
                           'at_threshold' and 'operating_points', points that also have name, rule,
                           bound and description
    selection              threshold, threshold_rule, threshold_description, checkpoint_rule (column
                           of history.csv), chosen_on (the split of all choices), optimistic, notes
    split, task            what was evaluated
    strata                 stratum, name, class, images, correct (count), rate (interval): the
                           sensitivity of each stratum of class 1, the specificity of class 0
    sweep                  threshold, accuracy, balanced_accuracy, sensitivity, specificity
    tta_effect             null with one view: threshold, and differences {auc, average_precision,
                           accuracy, balanced_accuracy, sensitivity, specificity: intervals} of
                           'tta' minus 'identity' on the same images
    views                  names of the test-time views; the first is 'identity'
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from dr_tfx.dataset import splits
from dr_tfx.statistics import calibration, differences, metrics, operating_points
from dr_tfx.statistics.intervals import PatientBootstrap
from dr_tfx.tasks.binary import breakdown, fitting
from dr_tfx.tasks.binary.fitting import Fitted

_VIEW = "score/"
_REQUIRED = ("id", "patient", "stratum", "target", "score", "score/identity")

SCHEMA = 3
"""Of the list above."""


def summarise(
    predictions: pd.DataFrame,
    *,
    class_names: Sequence[str],
    stratum_names: Sequence[str],
    fitted: Fitted,
    grid: tuple[float, float, float],
    resamples: int = 2000,
    seed: int = 0,
    patients_known: bool = True,
    twins: Sequence[Sequence[str]] = (),
) -> dict[str, Any]:
    """Everything that can be said about a binary task's predictions, as plain JSON types.

    Args:
      predictions: one row an image: id (str), patient (str), stratum (int, the finest label),
        target (int, 0 or 1), score (float in [0, 1], mean over the views) and one column
        'score/<view>' a view, the first 'score/identity'.
      class_names: names of class 0 and class 1.
      stratum_names: names of strata 0, 1, ...
      fitted: thresholds and temperature, applied as they are.
      grid: (first, last, step) of the threshold table.
      resamples: of the bootstrap over patients.
      seed: of the same.
      patients_known: whether 'patient' is more than the image's own name.
      twins: groups of ids of byte-identical photographs. Patients who share one are resampled as
        one: the same photograph under two names tells nothing new.

    Returns:
      The keys listed above, but for those that only the caller knows: notices, schema, selection,
      split and task.

    Raises:
      ValueError: if columns are missing, scores are not probabilities, ids repeat, or only one
        class is present.
    """
    predictions = checked(predictions)
    predictions = predictions.assign(cluster=splits.clusters(predictions, twins))
    judge = _Judge(predictions, class_names, resamples=resamples, seed=seed)
    target, threshold = judge.target, fitted.threshold
    naming: dict[str, Any] = {
        "class_names": class_names,
        "stratum_names": stratum_names,
        "threshold": threshold,
    }
    scores = {
        "identity": _scores(judge, predictions["score/identity"], fitted),
        "tta": _scores(judge, predictions["score"], fitted),
    }
    counts = breakdown.counts(predictions, class_names) | {
        "joined": breakdown.joined(predictions),
        "patients_known": patients_known,
    }
    sweep = operating_points.threshold_table(
        target, predictions["score"], operating_points.grid_values(grid)
    )
    views = [c.removeprefix(_VIEW) for c in predictions.columns if c.startswith(_VIEW)]
    positive = (predictions["score"] >= threshold).to_numpy()
    after, limit = (
        calibration.apply_temperature(values, fitted.temperature)
        for values in (predictions["score"], threshold)
    )
    return {
        "alarms": _alarms(scores["tta"], counts),
        "calibration": _calibration(judge, predictions["score"], after, fitted),
        "counts": counts,
        "most_wrong": breakdown.most_wrong(predictions, **naming),
        "patients": _patients(predictions, class_names, fitted, judge) if patients_known else None,
        "referral": calibration.referral_curve(
            target, positive, calibration.certainty(after, limit), judge.bootstrap
        ),
        "scores": scores,
        "strata": breakdown.strata(predictions, **naming, bootstrap=judge.bootstrap),
        "sweep": sweep.to_dict("records"),
        "tta_effect": _tta_effect(predictions, threshold, judge) if len(views) > 1 else None,
        "views": views,
    }


class _Judge:
    """Figures of scores for the targets of some rows, all on the same resamples."""

    def __init__(
        self, rows: pd.DataFrame, class_names: Sequence[str], *, resamples: int, seed: int
    ):
        self.target = rows["target"].to_numpy()
        self.resamples, self.seed, self._names = resamples, seed, class_names
        self.bootstrap = PatientBootstrap(rows["cluster"], resamples=resamples, seed=seed)

    def ranking(self, score: pd.Series) -> dict[str, Any]:
        figures = self.bootstrap.ranking(self.target, score)
        return {name: figure.to_dict() for name, figure in figures.items()}

    def point(self, score: pd.Series, threshold: float) -> dict[str, Any]:
        confusion = metrics.confusion_matrix(self.target, score, threshold)
        rates = self.bootstrap.rates(self.target, score >= threshold)
        return {
            "classes": metrics.class_table(confusion, self._names),
            "confusion": confusion.tolist(),
            "majority_rate": float(confusion.sum(axis=1).max() / confusion.sum()),
            "rates": {name: value.to_dict() for name, value in rates.items()},
            "threshold": float(threshold),
        }


def _scores(judge: _Judge, score: pd.Series, fitted: Fitted) -> dict[str, Any]:
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


def _alarms(scores: Mapping[str, Any], counts: Mapping[str, Any]) -> list[str]:
    point = scores["at_threshold"]
    return metrics.alarms(
        point["confusion"],
        metrics.from_json(scores["auc"]),
        class_names=list(counts["per_class"]),
        patients=[row["patients"] for row in counts["per_class"].values()],
        patients_known=counts["patients_known"],
        estimates={name: metrics.from_json(value) for name, value in point["rates"].items()},
    )


def _calibration(
    judge: _Judge, score: pd.Series, after: npt.NDArray[np.float64], fitted: Fitted
) -> dict[str, Any]:
    before, scaled = (
        calibration.assess(judge.target, values, judge.bootstrap, seed=judge.seed)
        for values in (score, after)
    )
    return {
        "after": scaled,
        "before": before,
        "binning": calibration.BINNING,
        "fitted_on": fitted.split,
        "notes": calibration.notes(judge.target, fitted.temperature, scaled),
        "temperature": fitted.temperature,
    }


def _patients(
    predictions: pd.DataFrame, class_names: Sequence[str], fitted: Fitted, judge: _Judge
) -> dict[str, Any] | None:
    """Figures of fused scores, or None: no patient has several images, or all are of one class."""
    table = fitting.fuse(predictions)
    if table["images"].max() == 1 or table["target"].nunique() == 1:
        return None
    cluster_of = predictions.drop_duplicates("patient").set_index("patient")["cluster"]
    table = table.assign(cluster=table["patient"].map(cluster_of))
    fused = _Judge(table, class_names, resamples=judge.resamples, seed=judge.seed)
    positive = float(table["target"].mean())
    sizes = table["images"].value_counts().sort_index()
    figures = {
        name: fused.ranking(table[name])
        | {"at_threshold": fused.point(table[name], fitted.patient_thresholds[name])}
        for name in fitting.FUSIONS
    }
    return figures | {
        "images_per_patient": {str(images): int(count) for images, count in sizes.items()},
        "majority_class": class_names[int(positive > 0.5)],
        "majority_rate": max(positive, 1 - positive),
        "patients": len(table),
    }


def _tta_effect(predictions: pd.DataFrame, threshold: float, judge: _Judge) -> dict[str, Any]:
    found = differences.paired_differences(
        judge.target,
        predictions["score"],
        predictions["score/identity"],
        predictions["cluster"],
        thresholds=(threshold, threshold),
        resamples=judge.resamples,
        seed=judge.seed,
    )
    return {
        "differences": {name: value.to_dict() for name, value in found.items()},
        "threshold": threshold,
    }


def patients_known(contract: Mapping[str, Any]) -> bool:
    """Whether some photographs of a data set (its manifest as plain types) share a patient."""
    patients, shared = sum(contract["patients"].values()), contract["shared_patients"]
    return bool(shared) or patients != contract["written"]


def notices(contract: Mapping[str, Any]) -> list[str]:
    """Plain sentences on what a data set, its manifest as plain types, does not allow to know."""
    found = []
    if not patients_known(contract):
        elsewhere = contract["dataset"]["split"]["method"] == "external"
        setting = "--patient_pattern" if elsewhere else "config.dataset.patient_pattern"
        parted = "" if elsewhere else "the split may part the two eyes of one patient, and "
        found.append(
            "No photograph shares a patient with another. If the file names tell the patient, set "
            f"{setting}; otherwise {parted}two eyes of one patient count as two patients: the "
            "intervals are then too narrow."
        )
    names = contract["dataset"]["label_names"]
    contradicting = [
        ", ".join(f"{i} ({names[n]})" for i, n in zip(twin["ids"], twin["labels"], strict=True))
        for twin in contract["twins"]
        if len(set(twin["labels"])) > 1
    ]
    if contradicting:
        found.append(
            "Byte-identical photographs have different labels, so that one of each group is "
            f"wrong: {'; '.join(contradicting)}."
        )
    return found


def checked(predictions: pd.DataFrame) -> pd.DataFrame:
    """The predictions with float64 scores; ValueError, naming column and image, if unusable.

    In float32 a score at the threshold falls on either side of it, depending on who compares.
    """
    missing = [c for c in _REQUIRED if c not in predictions]
    if missing:
        raise ValueError(f"predictions lack the columns {missing}; got {list(predictions.columns)}")
    if predictions.empty:
        raise ValueError("no predictions: is the split empty?")
    scores = [c for c in map(str, predictions) if c == "score" or c.startswith(_VIEW)]
    for column in scores:
        bad = predictions[~predictions[column].between(0, 1)]  # NaN is bad too.
        if len(bad):
            raise ValueError(
                f"{len(bad)} values of '{column}' are not within [0, 1], first "
                f"{bad[column].iloc[0]} of image '{bad['id'].iloc[0]!s}': did training diverge?"
            )
    repeated = predictions["id"][predictions["id"].duplicated()]
    if len(repeated):
        raise ValueError(f"{len(repeated)} image ids repeat, first '{repeated.iloc[0]!s}'")
    return predictions.astype(dict.fromkeys(scores, np.float64))
