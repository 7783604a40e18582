"""The figures of the report of a lesion model."""

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd
from matplotlib.axes import Axes

from dr_tfx.reports.pages import number, ratio
from dr_tfx.reports.style import LEGEND_LINE, SOFT, ReportFigure, draw, series, tell, unit_square
from dr_tfx.statistics import lesion_counts, pixel_counts
from dr_tfx.statistics.intervals import PatientBootstrap
from dr_tfx.tasks.masks.summary import LesionCounts, areas
from dr_tfx.words import languages

_RESAMPLES = 500  # Of patients, for the bands.
_CONTRAST_HEIGHT = 3.2  # Inches, without the legend.
# False marks an image, for the figure of contrast, which may multiply them.
_MARKS = (0.25, 1, 4, 16, 64, 256, 1024, 4096, 16_384)
_MORE = (16, 32, 64)  # False marks an image, beyond those of FROC, that the figure shows.


def draw_figures(predictions: pd.DataFrame, summary: Mapping[str, Any]) -> list[ReportFigure]:
    """Return the figures of the report but the learning curves.

    Args:
      predictions: one row an image.
      summary: what `summary.summarise` returned.
    """
    rows = [row for row in summary["lesions"] if row["images"]]
    if not rows:
        return []
    counts = [
        LesionCounts(predictions, row["name"], round(row["threshold"] * pixel_counts.BINS))
        for row in rows
    ]
    named = ", ".join(f"{row['name']} {number(row['aupr'])}" for row in rows)
    sizes = ", ".join(
        f"{row['name']} {100 * row['area']['truth']:.2g} % and {100 * row['area']['marked']:.2g} %"
        for row in rows
    )
    found = ", ".join(f"{row['name']} {number(row['froc'])}" for row in rows)
    below = LEGEND_LINE * len(rows)
    bootstrap = PatientBootstrap(predictions["patient"], resamples=_RESAMPLES)
    return [
        draw(
            "precision_recall",
            lambda axes: _precision_recall(axes[0], rows, counts, bootstrap),
            title="Precision and recall of pixels",
            alt="Curves of precision and recall of each lesion, with the bands of 95 % of the "
            f"resamples. Areas: {named}.",
            height=4.0 + below,
        ),
        draw(
            "froc",
            lambda axes: _froc(axes[0], rows, counts, bootstrap),
            title="Lesions found and false marks",
            alt="Curves of the share of single lesions that are found against false marks an "
            f"image. Means at 1/8 to 8 of them: {found}.",
            height=4.0 + below,
        ),
        draw(
            "areas",
            lambda axes: _areas(axes[0], rows, counts),
            title="True and marked area of each image",
            alt=f"Areas of each image, on the diagonal where they agree. Means: {sizes}.",
            height=4.0 + below,
        ),
        *([_contrast(summary["clip_limits"], rows, below)] if summary["clip_limits"] else []),
    ]


def _contrast(
    limits: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], below: float
) -> ReportFigure:
    """Return the figure of `clip_limits`, of the lesions in `rows`."""
    of_each = {
        row["name"]: [
            each["false_marks"]
            for limit in limits
            for each in limit["lesions"]
            if each["name"] == row["name"]
        ]
        for row in rows
    }
    told = "; ".join(
        f"{name} {', '.join(ratio(mark['value']) for mark in marks)}"
        for name, marks in of_each.items()
    )
    return draw(
        "contrast",
        lambda axes: _false_marks(axes[0], limits, of_each),
        title="False marks and contrast",
        alt="Lines of each lesion's false marks an image, of the pictures as prepared and then at "
        f"each clip limit. {told}.",
        height=_CONTRAST_HEIGHT + below,
    )


def _false_marks(
    axis: Axes,
    limits: Sequence[Mapping[str, Any]],
    of_each: Mapping[str, Sequence[Mapping[str, float]]],
) -> None:
    places = np.arange(len(limits))
    names = [f"{limit['clip_limit']:g}" for limit in limits[1:]]
    for i, (name, marks) in enumerate(of_each.items()):
        low, value, high = (
            np.array([mark[end] for mark in marks], np.float64) for end in ("low", "value", "high")
        )
        axis.fill_between(places, low, high, color=series(i)["color"], alpha=0.12, lw=0)
        axis.plot(places, value, **series(i), marker="o", ms=4, label=name)
    axis.set_xticks(places, [languages.current().said("as prepared"), *names])
    axis.set(xlabel="clip limit of CLAHE", ylabel="false marks an image")
    most = max(mark["high"] or mark["value"] for marks in of_each.values() for mark in marks)
    ticks = [0.0, *(tick for tick in _MARKS if tick <= max(most, 1))]
    axis.set_yscale("symlog", base=4, linthresh=_MARKS[0])
    axis.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.set_ylim(0, 1.1 * max(most, 1))
    axis.grid()
    axis.figure.legend(loc="outside lower center", ncols=3)


def _precision_recall(
    axis: Axes,
    rows: Sequence[Mapping[str, Any]],
    counts: Sequence[LesionCounts],
    bootstrap: PatientBootstrap,
) -> None:
    for i, (row, of) in enumerate(zip(rows, counts, strict=True)):
        if not row["images_with"]:
            continue
        recall, precision = pixel_counts.curve(of.lesion.sum(axis=0), of.other.sum(axis=0))
        lesion, other = _resampled(bootstrap, of.lesion, of.other)
        drawn = pixel_counts.curve(lesion, other)
        _band(axis, np.linspace(0, 1, 101), drawn, colour=series(i)["color"])
        label = f"{row['name']}, AUPR {number(row['aupr'])}"
        axis.plot(recall, precision, **series(i), drawstyle="steps-pre", label=label)
        steps = np.arange(pixel_counts.BINS)[::-1]
        words = "precision {:.3f}, recall {:.3f}"
        tell(axis, recall, precision, _told(row["name"], words, steps, precision, recall))
        place = pixel_counts.BINS - 1 - round(row["threshold"] * pixel_counts.BINS)
        colour = series(i)["color"]
        axis.plot(recall[place], precision[place], color=colour, marker="o", ms=7, ls="none")
    unit_square(axis, "recall", "precision")
    if axis.lines:
        axis.figure.legend(loc="outside lower center")


def _told(name: str, words: str, steps: np.ndarray, *columns: np.ndarray) -> Callable[[int], str]:
    """Return what a page tells of the points of a curve, each that of a step."""
    return lambda i: (
        f"{name} from a probability of {steps[i] / pixel_counts.BINS:.2f} on: "
        + words.format(*(column[i] for column in columns))
    )


def _resampled(
    bootstrap: PatientBootstrap, *of_images: npt.NDArray[np.float64]
) -> list[npt.NDArray[np.float64]]:
    """Return the sums over the images of every resample, (resamples, k), of each (images, k)."""
    return [bootstrap.sums(values).T for values in of_images]


def _band(
    axis: Axes,
    at: npt.NDArray[np.float64],
    drawn: tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]],
    *,
    colour: str,
) -> None:
    """Draw between which ends 95 % of curves lie, (resamples, points) of x, rising, and of y.

    Resamples without a lesion have no curve. Where nothing is marked, none of it is wrong.
    """
    lines = [
        np.interp(at, x, np.nan_to_num(y, nan=1.0))
        for x, y in zip(*drawn, strict=True)
        if np.isfinite(x).all() and np.isfinite(y).any()
    ]
    if not lines:
        return
    low, high = np.quantile(lines, [0.025, 0.975], axis=0)
    axis.fill_between(at, low, high, color=colour, alpha=0.12, lw=0)


def _froc(
    axis: Axes,
    rows: Sequence[Mapping[str, Any]],
    counts: Sequence[LesionCounts],
    bootstrap: PatientBootstrap,
) -> None:
    for i, (row, of) in enumerate(zip(rows, counts, strict=True)):
        if not row["parts"]:
            continue
        found, false = of.found.sum(axis=0), of.false.sum(axis=0)
        sensitivity, rate = lesion_counts.curve(found, false, np.array(float(row["images"])))
        axis.plot(rate, sensitivity, **series(i), label=f"{row['name']}, {row['parts']:,} lesions")
        images = _resampled(bootstrap, np.ones((len(of.found), 1)))[0][:, 0]
        parts, marks = _resampled(bootstrap, of.found, of.false)
        drawn = lesion_counts.curve(parts, marks, images)
        rates = np.concatenate([[0], np.geomspace(lesion_counts.RATES[0], _MORE[-1], 60)])
        turned = drawn[1][:, ::-1], drawn[0][:, ::-1]  # False marks rise as the step falls.
        _band(axis, rates, turned, colour=series(i)["color"])
        words = "share of lesions found {:.3f}, false marks an image {:.3g}"
        steps = np.arange(1, pixel_counts.BINS)
        tell(axis, rate, sensitivity, _told(row["name"], words, steps, sensitivity, rate))
        place = round(row["threshold"] * pixel_counts.BINS) - 1
        colour = series(i)["color"]
        axis.plot(rate[place], sensitivity[place], color=colour, marker="o", ms=7, ls="none")
    axis.set_xscale("symlog", base=2, linthresh=lesion_counts.RATES[0])
    axis.set_xticks(
        [0, *lesion_counts.RATES, *_MORE],
        ["0", "⅛", "¼", "½", "1", "2", "4", "8", *map(str, _MORE)],
    )
    axis.set(xlabel="false marks an image", ylabel="share of lesions found")
    axis.set(xlim=(0, _MORE[-1]), ylim=(-0.02, 1.02))
    axis.grid()
    if axis.lines:
        axis.figure.legend(loc="outside lower center")


def _areas(axis: Axes, rows: Sequence[Mapping[str, Any]], counts: Sequence[LesionCounts]) -> None:
    largest = 0.0
    for i, (row, of) in enumerate(zip(rows, counts, strict=True)):
        truth, marked = (100 * area for area in areas(of))
        largest = max(largest, float(np.max(truth)), float(np.max(marked)))
        axis.plot(
            truth,
            marked,
            color=series(i)["color"],
            marker="o",
            ms=4,
            alpha=0.6,
            ls="none",
            label=row["name"],
        )
    end = 1.05 * largest or 1.0
    axis.plot([0, end], [0, end], color=SOFT, lw=1, ls="--", zorder=0)
    axis.set(xlabel="true area, % of the picture", ylabel="marked area, % of the picture")
    axis.set(xlim=(-0.02 * end, end), ylim=(-0.02 * end, end))
    axis.set_aspect("equal")
    axis.grid()
    axis.figure.legend(loc="outside lower center", ncols=3)
