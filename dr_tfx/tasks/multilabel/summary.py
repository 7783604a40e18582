"""Predictions of several labels to figures of merit, and the list of what is returned.

These are the keys of metrics.json that the kind `multilabel` gives, sorted; the module
`dr_tfx.evaluation.evaluate` lists those of every kind. An interval is {value, low, high}, 95 %;
each is null where it is undefined.

    alarms                 sentences; empty when nothing is wrong
    counts                 per_class {name: {images, patients}}, majority_class, majority_rate
    decision               of the group: auc, average_precision (intervals), confusion [[TN, FP],
                           [FN, TP]], rates (intervals; see the kind `binary`)
    figures                auc (the mean over the labels), log_loss (weighted): intervals
    labels                 name, images (with the label), threshold, weight, log_loss, auc,
                           average_precision, sensitivity, specificity (intervals)
    most_wrong             the worst errors of each group: id, patient, stratum (its set of labels),
                           truth, decision, wrongness
    patients               null unless some patients have several images: patients,
                           majority_class, majority_rate, images (most of a patient), top, and
                           'max', 'top_mean' and 'fitted' (null where nothing was fitted) of a
                           patient's images, each with auc, average_precision (intervals),
                           threshold, confusion and rates
    selection              thresholds, threshold_rule
"""

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dr_tfx.statistics import metrics, multilabel
from dr_tfx.statistics.intervals import PatientBootstrap
from dr_tfx.tasks import alarms, labels, patients
from dr_tfx.tasks.multilabel.kind import TRUTH
from dr_tfx.tasks.multilabel.scores import PROBABILITY

if TYPE_CHECKING:
    from dr_tfx.tasks.multilabel.kind import Multilabel

SCHEMA = 2
"""Version of metrics.json."""

_LISTED_ERRORS = 6  # Of each group.


def summarise(
    predictions: pd.DataFrame, fitted: Any, task: "Multilabel", *, patients_known: bool
) -> dict[str, Any]:
    """Return everything that can be said about the predictions, as plain JSON types.

    Args:
      predictions: one row an image, as `checked` returns it: id, patient, stratum (the set of
        labels), target (the group), truth and probability of each label, and cluster (what the
        bootstrap draws as one).
      fitted: the thresholds, applied as they are.
      task: the kind, bound to its settings.
      patients_known: whether 'patient' is more than the image's own name.
    """
    resamples = task.experiment.evaluation.bootstrap_resamples
    bootstrap = PatientBootstrap(predictions["cluster"], resamples=resamples)
    truth, told = truth_of(predictions, task), task.scores.of_table(predictions)
    names, groups = task.experiment.task.class_names, predictions["target"].to_numpy()
    counts = labels.counts(predictions, names)
    positive = task.scores.margin(predictions, fitted) >= 0
    decision = _point(groups, task.scores.deciding(predictions), positive, bootstrap)
    per_label = _labels(truth, told, fitted, task, bootstrap)
    losses = multilabel.log_losses(truth, told, task.weights)
    return {
        "alarms": _alarms(decision, counts, names, patients_known=patients_known),
        "counts": counts,
        "decision": decision,
        "figures": {
            "auc": multilabel.auc_estimate(truth, told, bootstrap).to_dict(),
            "log_loss": bootstrap.mean(losses).to_dict(),
        },
        "labels": per_label,
        "most_wrong": _most_wrong(predictions, positive, fitted, task),
        "patients": _patients(predictions, fitted, task) if patients_known else None,
    }


def truth_of(predictions: pd.DataFrame, task: "Multilabel") -> np.ndarray:
    """Return 0 or 1 of each label, int64 (n, labels), of a table of predictions."""
    return predictions[[TRUTH + name for name in task.columns]].to_numpy(np.int64)


def _point(
    target: np.ndarray, score: np.ndarray, positive: np.ndarray, bootstrap: PatientBootstrap
) -> dict[str, Any]:
    """Return ranking, counts and rates of decisions."""
    confusion = np.bincount(2 * target + positive, minlength=4).reshape(2, 2)
    ranking = bootstrap.ranking(target, score)
    rates = bootstrap.rates(target, positive)
    return {name: figure.to_dict() for name, figure in ranking.items()} | {
        "confusion": confusion.tolist(),
        "rates": {name: value.to_dict() for name, value in rates.items()},
    }


def _labels(
    truth: np.ndarray,
    told: np.ndarray,
    fitted: Any,
    task: "Multilabel",
    bootstrap: PatientBootstrap,
) -> list[dict[str, Any]]:
    rows = []
    for k, name in enumerate(task.columns):
        positive = told[:, k] >= fitted.thresholds[name]
        point = _point(truth[:, k], told[:, k], positive, bootstrap)
        one = np.ones(1)
        rows.append(
            {
                "auc": point["auc"],
                "average_precision": point["average_precision"],
                "images": int(truth[:, k].sum()),
                "log_loss": float(multilabel.log_losses(truth[:, [k]], told[:, [k]], one).mean()),
                "name": name,
                "sensitivity": point["rates"]["sensitivity"],
                "specificity": point["rates"]["specificity"],
                "threshold": float(fitted.thresholds[name]),
                "weight": float(task.weights[k]),
            }
        )
    return rows


def _alarms(
    decision: dict[str, Any], counts: dict[str, Any], names: Any, *, patients_known: bool
) -> list[str]:
    found = alarms.missing(decision["confusion"], names)
    found += alarms.one_answer(decision["confusion"], names)
    found += alarms.chance("The AUC of the decision", metrics.from_json(decision["auc"]), 0.5)
    patients = [row["patients"] for row in counts["per_class"].values()]
    few = alarms.few(list(names), patients, patients_known=patients_known)
    who = "patients" if patients_known else "images"
    return found + [f"Too few {who} to conclude: {'; '.join(few)}."] * bool(few)


def _patients(predictions: pd.DataFrame, fitted: Any, task: "Multilabel") -> dict[str, Any] | None:
    """Return figures of patients; None where none has several images, or all are of one group."""
    evaluation, decided = task.experiment.evaluation, fitted.patients
    table = patients.fuse(
        predictions["patient"],
        predictions["target"],
        task.scores.deciding(predictions),
        top=evaluation.top,
        weights=decided.weights,
    )
    if table["images"].max() == 1 or table["target"].nunique() == 1:
        return None
    cluster_of = predictions.drop_duplicates("patient").set_index("patient")["cluster"]
    clusters = table["patient"].map(cluster_of)
    bootstrap = PatientBootstrap(clusters, resamples=evaluation.bootstrap_resamples)
    target, share = table["target"].to_numpy(), float(table["target"].mean())
    found: dict[str, Any] = {
        "images": int(table["images"].max()),
        "majority_class": task.experiment.task.class_names[int(share > 0.5)],
        "majority_rate": max(share, 1 - share),
        "patients": len(table),
        "top": evaluation.top,
        patients.FITTED: None,
    }
    for name in decided.fusions:
        limit, score = float(decided.thresholds[name]), table[name].to_numpy()
        found[name] = _point(target, score, score >= limit, bootstrap) | {"threshold": limit}
    return found


def _most_wrong(
    predictions: pd.DataFrame, positive: np.ndarray, fitted: Any, task: "Multilabel"
) -> list[dict[str, Any]]:
    """Return the worst errors of each group, the worst first."""
    groups, names = predictions["target"].to_numpy(), task.experiment.task.class_names
    wrongness = task.scores.wrongness(predictions, groups, fitted)
    table = predictions.assign(wrongness=wrongness, decided=positive.astype(int))
    table = table[table["decided"] != table["target"]]
    table = table.sort_values(["wrongness", "id"], ascending=[False, True])
    return [
        {
            "decision": names[int(row["decided"])],
            "id": row["id"],
            "patient": row["patient"],
            "stratum": task.experiment.dataset.label_names[int(row["stratum"])],
            "truth": names[int(row["target"])],
            "wrongness": float(row["wrongness"]),
        }
        for row in table.groupby("target").head(_LISTED_ERRORS).to_dict("records")
    ]


def checked(predictions: pd.DataFrame, task: "Multilabel") -> pd.DataFrame:
    """Return the predictions with float64 probabilities.

    Raises:
      ValueError: a column is missing, or a probability is impossible; names the image.
    """
    columns = [PROBABILITY + name for name in task.columns]
    needed = ["id", "patient", "stratum", "target", *columns]
    missing = [c for c in (*needed, *(TRUTH + n for n in task.columns)) if c not in predictions]
    if missing:
        raise ValueError(f"predictions lack the columns {missing}; got {list(predictions.columns)}")
    found = predictions.astype(dict.fromkeys(columns, np.float64))
    for column in columns:
        bad = found[~found[column].between(0, 1)]  # NaN is bad too.
        if len(bad):
            raise ValueError(
                f"{len(bad)} values of '{column}' are not within [0, 1], first "
                f"{bad[column].iloc[0]} of image '{bad['id'].iloc[0]!s}': did training diverge?"
            )
    return found
