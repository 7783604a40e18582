"""The figures of a binary model's report, of its predictions and its figures of merit.

`draw_figures` is pure: it returns finished drawings, which the engine writes.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.metrics import precision_recall_curve, roc_curve

from dr_tfx.reports import confusion, reliability
from dr_tfx.reports.pages import number, percent
from dr_tfx.reports.style import INK, PAPER, SERIES, SOFT, ReportFigure, draw, tell, unit_square

_FIRST, _SECOND, _THIRD = SERIES[:3]
_BELOW: dict[str, Any] = {"loc": "upper center", "bbox_to_anchor": (0.5, -0.16)}


_Plan = tuple[str, str, Callable[[Sequence[Axes]], None], dict[str, Any]]


class MarkedPoint(NamedTuple):
    """An operating point that the page speaks of."""

    letter: str
    names: tuple[str, ...]  # Short; there are several where rules choose the same threshold.
    descriptions: tuple[str, ...]  # The rules in words.
    chosen: bool  # Whether it decides.
    point: Mapping[str, Any]


def marked_points(summary: Mapping[str, Any]) -> list[MarkedPoint]:
    """Return the point that decides, then the others by threshold, each threshold once."""
    tta, chosen = summary["scores"]["tta"], summary["selection"]["threshold"]
    found: dict[float, list[Mapping[str, Any]]] = {chosen: []}
    half = tta["at_half"] | {"rule": "0.5", "bound": None, "description": "a score of 0.5"}
    for point in sorted([*tta["operating_points"], half], key=lambda point: point["threshold"]):
        found.setdefault(point["threshold"], []).append(point)
    return [
        MarkedPoint(
            chr(ord("A") + i),
            tuple(map(_short_name, points)),
            tuple(point["description"] for point in points),
            threshold == chosen,
            points[0],
        )
        for i, (threshold, points) in enumerate(found.items())
    ]


def _short_name(point: Mapping[str, Any]) -> str:
    if point["bound"] is None:
        return {"youden": "Youden"}.get(point["rule"], point["rule"])
    return f"{point['rule'].removeprefix('min_')} ≥ {point['bound']:g}"


def draw_figures(predictions: pd.DataFrame, summary: Mapping[str, Any]) -> list[ReportFigure]:
    """Return every figure of the report but the learning curves.

    Where all images are of one class, there is no curve of both.

    Args:
      predictions: one row an image, with columns target (0 or 1) and score.
      summary: what `summary.summarise` returned, with its selection.
    """
    words, strata = _words(summary), len(summary["strata"])
    ranking: list[_Plan] = [
        ("roc", "ROC curve", lambda a: _roc(a[0], predictions, summary), {}),
        (
            "precision_recall",
            "Precision and recall",
            lambda a: _precision_recall(a[0], predictions, summary),
            {},
        ),
    ]
    plans: list[_Plan] = [
        *(ranking if summary["scores"]["tta"]["auc"]["value"] is not None else ()),
        ("confusion", "Confusion matrix", lambda a: _confusion(a[0], summary), {"height": 3.6}),
        (
            "strata",
            "Decided correctly, by label",
            lambda a: _strata(a[0], summary),
            {"height": 1.0 + 0.42 * strata},
        ),
        ("threshold_sweep", "Threshold sweep", lambda a: _sweep(a[0], summary), {}),
        (
            "calibration",
            "Reliability, and how the scores are spread",
            lambda a: _calibration(a, predictions, summary),
            {"rows": (3.2, 1), "height": 5.6},
        ),
        ("referral", "Referral curve", lambda a: _referral(a[0], summary), {}),
    ]
    return [
        draw(name, paint, title=title, alt=words[name], **shape)
        for name, title, paint, shape in plans
    ]


def _words(summary: Mapping[str, Any]) -> dict[str, str]:
    """Return a text for each figure, for those who do not see it."""
    tta, (negative, positive) = summary["scores"]["tta"], summary["counts"]["per_class"]
    point, calibration = tta["at_threshold"], summary["calibration"]
    rates = {name: percent(point["rates"][name]) for name in ("sensitivity", "specificity", "ppv")}
    (cleared, alarmed), (missed, found) = point["confusion"]
    at = f"at threshold {point['threshold']:.3g}"
    pair = f"sensitivity {rates['sensitivity']}, specificity {rates['specificity']}"
    kept, fewest = summary["referral"][0], summary["referral"][-1]
    strata = [f"{row['name']} {percent(row['rate'])}" for row in summary["strata"]]
    return {
        "roc": f"ROC curve with area {number(tta['auc'])}; {at}: {pair}.",
        "precision_recall": f"Precision-recall curve with average precision "
        f"{number(tta['average_precision'])}; {at}: recall {rates['sensitivity']}, precision "
        f"{rates['ppv']}.",
        "confusion": f"Confusion matrix {at}: of '{negative}', {cleared} correct and {alarmed} "
        f"false alarms; of '{positive}', {missed} missed and {found} found.",
        "strata": f"Share decided correctly {at}, with intervals: {', '.join(strata)}.",
        "threshold_sweep": f"Accuracy, sensitivity and specificity by threshold; {at}: {pair}.",
        "calibration": f"Reliability curve: share of '{positive}' by mean score, before and after "
        f"calibration (slope {calibration['slope']:.3g}); expected calibration error "
        f"{calibration['before']['ece']:.3f} before, {calibration['after']['ece']:.3f} after. "
        "Below, how many images of each class have which score.",
        "referral": f"Accuracy by the share of images referred to a human, most uncertain first: "
        f"{percent(kept['accuracy'])} with none, {percent(fewest['accuracy'])} with "
        f"{percent(fewest['fraction'])} referred.",
    }


def _roc(axis: Axes, predictions: pd.DataFrame, summary: Mapping[str, Any]) -> None:
    false_alarms, found, scores = roc_curve(predictions["target"], predictions["score"])
    auc = summary["scores"]["tta"]["auc"]["value"]
    axis.plot([0, 1], [0, 1], color=SOFT, lw=1, ls="--", label="guessing")
    _band(axis, summary, "roc")
    axis.plot(false_alarms, found, color=_FIRST, label=f"AUC {auc:.3f}")
    tell(
        axis,
        false_alarms[1:],  # The first point is that of no score.
        found[1:],
        lambda i: (
            f"sensitivity {found[i + 1]:.3f}, specificity {1 - false_alarms[i + 1]:.3f} from a "
            f"score of {scores[i + 1]:.3g} on"
        ),
    )
    _mark(axis, summary, x="specificity", y="sensitivity", flip_x=True)
    unit_square(axis, "1 − specificity", "sensitivity")
    axis.legend(loc="lower right")


def _precision_recall(axis: Axes, predictions: pd.DataFrame, summary: Mapping[str, Any]) -> None:
    precision, recall, scores = precision_recall_curve(predictions["target"], predictions["score"])
    value = summary["scores"]["tta"]["average_precision"]["value"]
    share = predictions["target"].mean()
    axis.axhline(share, color=SOFT, lw=1, ls="--", label=f"guessing {share:.3f}")
    label = f"average precision {value:.3f}"
    _band(axis, summary, "precision_recall")
    axis.plot(recall, precision, color=_FIRST, drawstyle="steps-post", label=label)
    tell(
        axis,
        recall[:-1],  # The last point is that of no score.
        precision[:-1],
        lambda i: (
            f"precision {precision[i]:.3f}, recall {recall[i]:.3f} from a score of "
            f"{scores[i]:.3g} on"
        ),
    )
    _mark(axis, summary, x="sensitivity", y="ppv", flip_x=False)
    unit_square(axis, "recall (sensitivity)", "precision (PPV)")
    axis.legend(loc="lower left")


def _band(axis: Axes, summary: Mapping[str, Any], name: str) -> None:
    bands = summary["scores"]["tta"]["bands"]
    look: dict[str, Any] = {"color": _FIRST, "alpha": 0.15, "lw": 0}
    axis.fill_between(bands["at"], *bands[name], label="95 % of the resamples", **look)


def _mark(axis: Axes, summary: Mapping[str, Any], *, x: str, y: str, flip_x: bool) -> None:
    """Draw the letters of the operating points in discs; that of the point that decides is filled.

    Points whose decisions are the same share a disc.

    Args:
      axis: where to draw.
      summary: what `summary.summarise` returned, with its selection.
      x: key of the rate along the axis.
      y: key of the rate up the axis.
      flip_x: whether 1 - rate is drawn along the axis.
    """
    alike: dict[str, list[MarkedPoint]] = {}
    for at in marked_points(summary):
        alike.setdefault(str(at.point["confusion"]), []).append(at)
    for first, *others in alike.values():
        across, up = first.point["rates"][x]["value"], first.point["rates"][y]["value"]
        if up is None:  # There is no precision where nothing is called positive.
            continue
        face, text = (_SECOND, PAPER) if first.chosen else (PAPER, _SECOND)
        axis.text(
            1 - across if flip_x else across,
            up,
            "".join(at.letter for at in (first, *others)),
            color=text,
            fontsize=7.5,
            fontweight="bold",
            ha="center",
            va="center",
            zorder=4 + first.chosen,
            bbox={
                "boxstyle": "circle,pad=0.25" if not others else "round,pad=0.3,rounding_size=0.7",
                "facecolor": face,
                "edgecolor": _SECOND,
            },
        )


def _confusion(axis: Axes, summary: Mapping[str, Any]) -> None:
    counts = summary["scores"]["tta"]["at_threshold"]["confusion"]
    confusion.paint(axis, counts, list(summary["counts"]["per_class"]))


def _strata(axis: Axes, summary: Mapping[str, Any]) -> None:
    classes = list(summary["counts"]["per_class"])
    for i, row in enumerate(summary["strata"]):
        colour = SERIES[classes.index(row["class"])]
        rate = row["rate"]
        ends = [rate["value"] if end is None else end for end in (rate["low"], rate["high"])]
        axis.plot(ends, [i, i], color=colour, lw=5, alpha=0.3, solid_capstyle="round")
        axis.plot([rate["value"]], [i], color=colour, marker="o", ms=6, clip_on=False)
    for name, colour, means in zip(classes, SERIES, ("specificity", "sensitivity"), strict=False):
        axis.plot([], [], color=colour, marker="o", ls="none", label=f"{name} ({means})")
    labels = [f"{row['name']} ({row['images']:,})" for row in summary["strata"]]
    axis.set_yticks(range(len(labels)), labels)
    axis.set(xlim=(-0.02, 1.02), ylim=(len(labels) - 0.5, -0.5))
    axis.xaxis.set_major_formatter(PercentFormatter(1, symbol=" %"))
    axis.grid(axis="x")
    axis.tick_params(axis="y", length=0)
    axis.spines["left"].set_visible(False)
    axis.figure.legend(loc="outside lower center", ncols=2)


def _sweep(axis: Axes, summary: Mapping[str, Any]) -> None:
    table = pd.DataFrame(summary["sweep"]).astype(np.float64)
    chosen, majority = summary["selection"]["threshold"], summary["counts"]["majority_rate"]
    for column, colour in (
        ("sensitivity", _SECOND),
        ("specificity", _THIRD),
        ("accuracy", _FIRST),
    ):
        axis.plot(table["threshold"], table[column], color=colour, label=column)
    told = table.to_dict("records")
    tell(
        axis,
        table["threshold"],
        table["accuracy"].where(table.notna().all(axis=1)),  # Of one class, a rate is not defined.
        lambda i: (
            f"threshold {told[i]['threshold']:.3g}: accuracy {told[i]['accuracy']:.3f}, "
            f"sensitivity {told[i]['sensitivity']:.3f}, specificity {told[i]['specificity']:.3f}"
        ),
    )
    axis.axhline(majority, color=SOFT, lw=1, ls="--", label="majority rate")
    axis.axvline(chosen, color=INK, lw=1, ls=":", label=f"chosen, {chosen:.3g}")
    axis.set(xlabel="threshold", ylabel="share", ylim=(-0.02, 1.02))
    axis.grid()
    axis.legend(**_BELOW, ncols=3)


def _calibration(
    axes: Sequence[Axes], predictions: pd.DataFrame, summary: Mapping[str, Any]
) -> None:
    """Draw the reliability curve before and after calibration, and how scores are spread."""
    curve, spread = axes
    reliability.paint(curve, summary["calibration"])
    curve.set(ylabel=f"share of '{list(summary['counts']['per_class'])[1]}'", ylim=(-0.02, 1.02))
    curve.grid()
    for target, (name, colour) in enumerate(
        zip(summary["counts"]["per_class"], (SOFT, _FIRST), strict=True)
    ):
        scores = predictions["score"][predictions["target"] == target]
        spread.hist(scores, list(np.linspace(0, 1, 41)), color=colour, alpha=0.55, label=name)
    spread.axvline(summary["selection"]["threshold"], color=INK, lw=1, ls=":", label="threshold")
    spread.set(xlabel="score", ylabel="images", xlim=(-0.02, 1.02))
    spread.yaxis.set_major_locator(MaxNLocator(3, integer=True))
    spread.figure.legend(loc="outside lower center", ncols=2)


def _referral(axis: Axes, summary: Mapping[str, Any]) -> None:
    rows = summary["referral"]
    x = [row["fraction"] for row in rows]
    for column, colour in (
        ("sensitivity", _SECOND),
        ("specificity", _THIRD),
        ("accuracy", _FIRST),
    ):
        value = np.array([row[column]["value"] for row in rows], np.float64)
        axis.plot(x, value, color=colour, label=column)
    ends = [[row["accuracy"][end] for row in rows] for end in ("low", "high")]
    axis.fill_between(x, *np.array(ends, np.float64), color=_FIRST, alpha=0.15, lw=0)
    majority = [row["majority_rate"] for row in rows]
    axis.plot(x, majority, color=SOFT, lw=1, ls="--", label="majority of the rest")
    axis.set(xlabel="referred to a human, most uncertain first", ylabel="share of the rest")
    axis.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
    axis.set_xlim(0, max(x))
    axis.grid()
    axis.legend(**_BELOW, ncols=2)
