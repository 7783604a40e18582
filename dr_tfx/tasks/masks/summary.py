"""Predictions of lesion maps to figures of merit, and the list of what is returned.

These are the keys of metrics.json that the kind `masks` gives, sorted; the module
`dr_tfx.evaluation.evaluate` lists those of every kind. An interval is {value, low, high}, 95 %;
each is null where it is undefined. Areas are shares of the picture.

    alarms                 sentences; empty when nothing is wrong
    clip_limits            the pictures with CLAHE of each of `evaluation.clip_limits`, and first as
                           they were prepared, at the same thresholds: clip_limit (null of those as
                           prepared) and lesions [{name, false_marks, sensitivity, dice (as below),
                           more (false marks an image beyond those of the first, paired)}], all
                           intervals; empty where no limit was asked for
    figures                the figures of lesions (intervals): the means over those that are there
    lesions                for each its name, threshold, images and patients of which it is known,
                           images_with and patients_with it, share (of all pixels that it covers,
                           which is what guessing gives for aupr), aupr, dice, iou (intervals, of
                           the pixels of all images together), sensitivity and false_marks (of
                           whole lesions, and marks an image, at the threshold), froc (the mean
                           sensitivity at `lesion_counts.RATES`), parts (how many lesions there
                           are; intervals but this), and area {truth and marked (means),
                           difference (interval of marked minus truth), low and high (the limits
                           of agreement of Bland and Altman 1986), correlation (Spearman's)},
                           marked (the share of all pixels)
    most_wrong             the images of the lowest Dice over all lesions: id, patient, dice, and
                           lesions [{name, truth, marked}], areas
    selection              thresholds {lesion: threshold}
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from scipy import stats

from dr_tfx.statistics import lesion_counts, metrics, pixel_counts
from dr_tfx.statistics.intervals import PatientBootstrap, percentiles
from dr_tfx.statistics.metrics import Estimate
from dr_tfx.tasks import alarms
from dr_tfx.tasks.masks import scores
from dr_tfx.tasks.masks.kind import COVER

if TYPE_CHECKING:
    from dr_tfx.tasks.masks.kind import Masks

SCHEMA = 3
"""Version of metrics.json."""

MEASURES = ("aupr", "dice", "iou", "froc", "sensitivity", "false_marks")
"""Keys of the figures of merit."""

FloatArray = npt.NDArray[np.float64]
_LISTED = 8  # Images of the lowest Dice.
_FULL = 0.5  # From this share of the pixels on, almost everything is marked.


class LesionCounts:
    """The counts of one lesion in some images.

    Attributes:
      lesion: float64 (images, BINS), how much lesion is in each step of probability.
      other: likewise of what is none. Both are 0 where nothing is known of the image.
      known: bool (images,).
      hit: float64 (images,), how much lesion is marked.
      extra: likewise of what is none.
    """

    def __init__(self, predictions: pd.DataFrame, name: str, step: npt.ArrayLike):
        """Count what is marked from a step on: one for all images, or (images,)."""
        self._fine = scores.compared_in(predictions, name)
        self.lesion, self.other = map(pixel_counts.in_steps, self._fine)
        self.found = scores.of_texts(predictions[scores.FOUND + name])
        self.false = scores.of_texts(predictions[scores.FALSE + name])
        self.known = (self.lesion + self.other).sum(axis=1) > 0
        first = np.broadcast_to(step, len(predictions))[:, np.newaxis]
        is_marked = np.arange(pixel_counts.BINS) >= first
        self.hit, self.extra = ((x * is_marked).sum(axis=1) for x in (self.lesion, self.other))
        # Beyond the last step nothing is marked.
        self._then = [
            np.take_along_axis(np.pad(counts, ((0, 0), (0, 1))), first, axis=1)
            for counts in (self.found, self.false)
        ]

    @property
    def truth(self) -> FloatArray:
        """How much lesion each image has, (images,)."""
        return self.lesion.sum(axis=1)

    @property
    def pixels(self) -> FloatArray:
        """How many pixels of each image are known, (images,)."""
        return self.truth + self.other.sum(axis=1)

    def figures(self) -> dict[str, FloatArray]:
        """Return `MEASURES` of the pixels and the lesions of all images together."""
        return _figures(self._columns.sum(axis=0))

    def samples(self, bootstrap: PatientBootstrap) -> dict[str, FloatArray]:
        """Return the same of every resample, (resamples,), and `patients_with` this lesion."""
        patients_with = np.array(bootstrap.patients(self.truth > 0))
        return _figures(bootstrap.sums(self._columns).T) | {"patients_with": patients_with}

    @property
    def _columns(self) -> FloatArray:
        of_steps = *self._fine, self.found, self.false
        decided = self.hit, self.extra, *self._then, self.known
        return np.column_stack([*of_steps, *decided])


def _figures(sums: FloatArray) -> dict[str, FloatArray]:
    """Return the figures of sums over images, (..., 2 * FINE + 2 * BINS + 5)."""
    ends = np.cumsum([*[pixel_counts.FINE] * 2, *[pixel_counts.BINS] * 2])
    lesion, other, found, false, decided = np.split(sums, ends, axis=-1)
    hit, extra, found_then, false_then, images = np.moveaxis(decided, -1, 0)
    dice, iou = pixel_counts.overlap(lesion.sum(axis=-1), hit, extra)
    with np.errstate(invalid="ignore", divide="ignore"):
        at_threshold = found_then / found[..., 0], false_then / images
    return {
        "aupr": pixel_counts.average_precision(lesion, other),
        "dice": dice,
        "iou": iou,
        "froc": lesion_counts.sensitivity_at(found, false, images),
        "sensitivity": at_threshold[0],
        "false_marks": at_threshold[1],
    }


def estimates(
    values: Mapping[str, Mapping[str, Any]], samples: Mapping[str, Mapping[str, Any]]
) -> tuple[dict[str, Estimate], dict[str, dict[str, Estimate]]]:
    """Return figures with their intervals: the means over the lesions, and those of each lesion.

    Args:
      values: lesion -> figure -> its value, or the difference of two.
      samples: lesion -> what `LesionCounts.samples` returns, or the difference of two.
    """
    of_each = {
        name: {key: interval(key, float(values[name][key]), samples[name]) for key in MEASURES}
        for name in values
    }
    means = {
        key: percentiles(
            float(_mean_known([values[name][key] for name in values])),
            _mean_known([samples[name][key] for name in values]),
        )
        for key in MEASURES
    }
    return means, of_each


def interval(key: str, value: float, samples: Mapping[str, FloatArray]) -> Estimate:
    """Return a figure of a lesion with its interval.

    Where all lesions are found, or none, every resample agrees and tells nothing of the spread: the
    share has Wilson's interval then, for which a patient counts as one.

    Args:
      key: which of the figures.
      value: what it is.
      samples: what `LesionCounts.samples` returns.
    """
    patients = int(samples["patients_with"])
    if key == "sensitivity" and value in (0.0, 1.0) and patients:
        return metrics.wilson_interval(value, patients)
    return percentiles(value, samples[key])


def _mean_known(figures: Sequence[npt.ArrayLike]) -> FloatArray:
    """Return the mean of those figures that are defined; NaN where none is."""
    table = np.asarray(figures, np.float64)
    known = ~np.isnan(table)
    with np.errstate(invalid="ignore"):
        return np.asarray(np.where(known, table, 0).sum(axis=0) / known.sum(axis=0))


def summarise(
    predictions: pd.DataFrame, fitted: Any, task: "Masks", *, patients_known: bool
) -> dict[str, Any]:
    """Return everything that can be said about the predictions, as plain JSON types.

    Args:
      predictions: one row an image, as `checked` returns it, and cluster (what the bootstrap draws
        as one).
      fitted: the thresholds, applied as they are.
      task: the kind, bound to its settings.
      patients_known: whether 'patient' is more than the image's own name.
    """
    resamples = task.experiment.evaluation.bootstrap_resamples
    bootstrap = PatientBootstrap(predictions["cluster"], resamples=resamples)
    counts = {
        name: LesionCounts(predictions, name, scores.step_of(fitted, name)) for name in task.lesions
    }
    means, of_each = estimates(
        {name: of.figures() for name, of in counts.items()},
        {name: of.samples(bootstrap) for name, of in counts.items()},
    )
    rows = [
        {
            **{key: figure.to_dict() for key, figure in of_each[name].items()},
            **_lesion(predictions, of, bootstrap),
            "name": name,
            "threshold": fitted.thresholds[name],
        }
        for name, of in counts.items()
    ]
    return {
        "alarms": [
            *(text for row in rows for text in _alarms(row)),
            *_few(rows, patients_known=patients_known),
        ],
        "clip_limits": [],  # Until pictures have been altered: see `contrast`.
        "counts": {},
        "figures": {key: figure.to_dict() for key, figure in means.items()},
        "lesions": rows,
        "most_wrong": _most_wrong(predictions, counts),
    }


def _lesion(
    predictions: pd.DataFrame, counts: LesionCounts, bootstrap: PatientBootstrap
) -> dict[str, Any]:
    """Return what is told of one lesion besides its figures."""
    has, pixels = counts.truth > 0, counts.pixels.sum()
    return {
        "area": _area(counts, bootstrap),
        "images": int(counts.known.sum()),
        "images_with": int(has.sum()),
        "marked": float((counts.hit + counts.extra).sum() / pixels) if pixels else None,
        "parts": int(counts.found[:, 0].sum()),
        "patients": int(predictions["patient"][counts.known].nunique()),
        "patients_with": int(predictions["patient"][has].nunique()),
        "share": float(counts.truth.sum() / pixels) if pixels else None,
    }


def areas(counts: LesionCounts) -> tuple[FloatArray, FloatArray]:
    """Return the true and the marked share of every image of which the lesion is known."""
    marked = counts.hit + counts.extra
    known = counts.known
    pixels = counts.pixels[known]
    return counts.truth[known] / pixels, marked[known] / pixels


def _area(counts: LesionCounts, bootstrap: PatientBootstrap) -> dict[str, Any] | None:
    """Return how well true and marked areas agree; None if nothing is known of any image."""
    if not counts.known.any():
        return None
    with np.errstate(invalid="ignore"):
        truth, marked = areas(counts)
    difference = marked - truth
    padded = np.zeros((len(counts.known), 2))
    padded[counts.known] = np.stack([difference, np.ones_like(difference)], axis=1)
    total, images = bootstrap.sums(padded)
    with np.errstate(invalid="ignore"):
        estimate = percentiles(float(difference.mean()), total / images)
    spread = float(difference.std(ddof=1)) if len(truth) > 1 else None
    low, high = (
        None if spread is None else float(difference.mean() + sign * metrics.Z * spread)
        for sign in (-1, 1)
    )
    varies = len(np.unique(truth)) > 1 and len(np.unique(marked)) > 1
    return {
        "correlation": float(stats.spearmanr(truth, marked).statistic) if varies else None,
        "difference": estimate.to_dict(),
        "high": high,
        "low": low,
        "marked": float(marked.mean()),
        "truth": float(truth.mean()),
    }


def _alarms(row: Mapping[str, Any]) -> list[str]:
    """Return the alarms that one lesion raises."""
    name = row["name"]
    if not row["images"]:
        return [f"Of no image it is known whether it has '{name}': nothing can be said of it."]
    if not row["images_with"]:
        return [f"No image has '{name}': whether it is found cannot be seen here."]
    found = []
    if row["marked"] == 0:
        found.append(f"No pixel of any image is marked as '{name}': the maps are empty.")
    elif row["marked"] >= _FULL > row["share"]:
        found.append(
            f"{100 * row['marked']:.1f} % of all pixels are marked as '{name}', yet only "
            f"{100 * row['share']:.2f} % are: the maps are full."
        )
    aupr = metrics.from_json(row["aupr"])
    return found + alarms.chance(f"The AUPR of '{name}'", aupr, row["share"])


def _few(rows: Sequence[Mapping[str, Any]], *, patients_known: bool) -> list[str]:
    names = [row["name"] for row in rows]
    small = alarms.few(names, [r["patients_with"] for r in rows], patients_known=patients_known)
    who = "patients" if patients_known else "images"
    return [f"Too few {who} to conclude: {'; '.join(small)}."] * bool(small)


def _most_wrong(
    predictions: pd.DataFrame, counts: Mapping[str, LesionCounts]
) -> list[dict[str, Any]]:
    """Return the images of the lowest Dice, all lesions together."""
    hit, truth, extra = (
        np.sum([getattr(of, key) for of in counts.values()], axis=0)
        for key in ("hit", "truth", "extra")
    )
    dice, _ = pixel_counts.overlap(truth, hit, extra)
    worst = pd.DataFrame({"dice": dice, "id": predictions["id"].to_numpy()}).dropna(subset="dice")
    return [
        {
            "dice": float(dice[row]),
            "id": str(predictions["id"].iloc[row]),
            "lesions": [
                {
                    "marked": float((of.hit + of.extra)[row] / of.pixels[row]),
                    "name": name,
                    "truth": float(of.truth[row] / of.pixels[row]),
                }
                for name, of in counts.items()
                if of.known[row]
            ],
            "patient": str(predictions["patient"].iloc[row]),
        }
        for row in worst.sort_values(["dice", "id"]).index[:_LISTED]
    ]


def checked(predictions: pd.DataFrame, lesions: Sequence[str]) -> pd.DataFrame:
    """Return predictions that can be judged.

    Raises:
      ValueError: a column is missing, or holds no counts or decisions; names the column.
    """
    fine = dict.fromkeys((scores.LESION, scores.OTHER), pixel_counts.FINE)
    sides = fine | dict.fromkeys((scores.ALL, scores.FOUND, scores.FALSE), pixel_counts.BINS)
    counted = {side + name: steps for name in lesions for side, steps in sides.items()}
    needed = ["id", "patient", "stratum", COVER, *counted]
    if missing := [column for column in needed if column not in predictions]:
        raise ValueError(f"predictions lack the columns {missing}; got {list(predictions.columns)}")
    for column, steps in counted.items():
        try:
            scores.of_texts(predictions[column], steps)
        except (ValueError, AttributeError) as error:
            raise ValueError(f"the column '{column}' of the predictions is damaged: {error}") from (
                error
            )
    if "decision" in predictions:
        for name in lesions:
            scores.steps_decided(predictions, name)
    return predictions.reset_index(drop=True)
