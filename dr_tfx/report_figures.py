"""The pictures of an evaluation's report.

`draw_figures` is pure: it returns PNG files as bytes. Every figure exists twice, for light and for
dark screens; the light one is also the file beside the page and what a printer gets.
"""

import base64
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from sklearn.metrics import precision_recall_curve, roc_curve

MEASURES = {
    "val_auc": "validation AUC",
    "val_accuracy": "validation accuracy",
    "val_loss": "validation loss",
}
"""Words for the columns of history.csv that can decide something."""

_WIDTH, _DPI = 4.8, 160  # Inches: as wide as a phone, where 10 points stay readable.


@dataclass(frozen=True)
class _Theme:
    """Colours of one rendering. The two series differ in lightness too, for grey printers."""

    paper: str
    ink: str
    soft: str
    faint: str
    first: str
    second: str
    third: str


_Paint = Callable[[Sequence[Axes], _Theme], None]
_LIGHT = _Theme("#ffffff", "#1f2933", "#7b8794", "#c3cad2", "#1f5f99", "#c2571a", "#4f8a5b")
_DARK = _Theme("#171b20", "#dfe4ea", "#8b97a4", "#434c57", "#74b0e8", "#f0955a", "#86c794")


@dataclass(frozen=True)
class ReportFigure:
    """A finished picture: name of its file (without .png), words for it, and two PNG files."""

    name: str
    title: str
    alt: str
    light: bytes
    dark: bytes

    @property
    def light_uri(self) -> str:
        """The light picture as an address that holds its own content."""
        return "data:image/png;base64," + base64.b64encode(self.light).decode()

    @property
    def dark_uri(self) -> str:
        """The same for the dark picture."""
        return "data:image/png;base64," + base64.b64encode(self.dark).decode()


def draw_figures(
    predictions: pd.DataFrame, summary: Mapping[str, Any], history: pd.DataFrame | None
) -> list[ReportFigure]:
    """Learning curves (given a history), ROC, precision-recall, confusion, threshold sweep.

    Args:
      predictions: one row an image, with columns target (0 or 1) and score.
      summary: what `summary.summarise` returned, with its selection.
      history: one row an epoch; columns are drawn when present: epoch, loss, val_loss, accuracy,
        val_accuracy, auc, val_auc.
    """
    words, tta = _words(summary), summary["scores"]["tta"]
    figures = []
    if history is not None and len(history):
        rule = summary["selection"]["checkpoint_rule"]
        alt = f"Training and validation curves, {len(history)} epochs; {_best(history, rule)}"
        figures.append(
            _draw(
                ("learning_curves", "Learning curves", alt),
                lambda axes, theme: _learning_curves(axes, theme, history, rule),
                panels=max(1, len(list(_panels(history)))),
            )
        )
    plans: list[tuple[str, str, _Paint]] = [
        ("roc", "ROC curve", lambda a, t: _roc(a[0], t, predictions, tta)),
        (
            "precision_recall",
            "Precision and recall",
            lambda a, t: _precision_recall(a[0], t, predictions, tta),
        ),
        ("confusion", "Confusion matrix", lambda a, t: _confusion(a[0], t, summary)),
        ("threshold_sweep", "Threshold sweep", lambda a, t: _sweep(a[0], t, summary)),
    ]
    figures += [_draw((name, title, words[name]), paint) for name, title, paint in plans]
    return figures


def _words(summary: Mapping[str, Any]) -> dict[str, str]:
    """What each figure says, for those who do not see it."""
    tta, (negative, positive) = summary["scores"]["tta"], summary["counts"]["per_class"]
    point = tta["at_threshold"]
    rates = {name: percent(value) for name, value in point["rates"].items()}
    (cleared, alarmed), (missed, found) = point["confusion"]
    at = f"at threshold {point['threshold']:.3g}"
    pair = f"sensitivity {rates['sensitivity']}, specificity {rates['specificity']}"
    return {
        "roc": f"ROC curve with area {tta['auc']['value']:.3f}; {at}: {pair}.",
        "precision_recall": f"Precision-recall curve with average precision "
        f"{tta['average_precision']['value']:.3f}; {at}: recall {rates['sensitivity']}, precision "
        f"{rates['ppv']}.",
        "confusion": f"Confusion matrix {at}: of '{negative}', {cleared} correct and {alarmed} "
        f"false alarms; of '{positive}', {missed} missed and {found} found.",
        "threshold_sweep": f"Accuracy, sensitivity and specificity by threshold; {at}: {pair}.",
    }


def percent(value: Any) -> str:
    """A share, or the estimate of one, as '96.0 %'; undefined as a dash."""
    if isinstance(value, Mapping):
        value = value["value"]
    return "–" if value is None else f"{100 * value:.1f} %"


def _draw(
    words: tuple[str, str, str],
    paint: _Paint,
    *,
    panels: int = 1,
) -> ReportFigure:
    """Runs `paint` once a theme; `words` are name, title and alt.

    No pyplot: its figures are global state that outlives the call.
    """
    pictures = []
    for theme in (_LIGHT, _DARK):
        style: Any = {
            "axes.edgecolor": theme.faint,
            "axes.facecolor": theme.paper,
            "axes.labelcolor": theme.ink,
            "axes.spines.right": False,
            "axes.spines.top": False,
            "figure.facecolor": theme.paper,
            "font.size": 10,
            "grid.color": theme.faint,
            "grid.alpha": 0.5,
            "grid.linewidth": 0.6,
            "legend.frameon": False,
            "legend.fontsize": 9,
            "text.color": theme.ink,
            "xtick.color": theme.ink,
            "ytick.color": theme.ink,
        }
        with mpl.rc_context(style):
            height = 4.0 if panels == 1 else 0.6 + 2.2 * panels
            figure = Figure((_WIDTH, height), dpi=_DPI, layout="constrained")
            FigureCanvasAgg(figure)
            axes = figure.subplots(panels, 1, squeeze=False, sharex=True)[:, 0]
            paint(list(axes), theme)
            buffer = io.BytesIO()
            figure.savefig(buffer, format="png", metadata={"Software": None})
        pictures.append(buffer.getvalue())
    return ReportFigure(*words, *pictures)


def _panels(history: pd.DataFrame) -> Iterator[tuple[str, str, str]]:
    for name, title in (("loss", "loss"), ("auc", "AUC"), ("accuracy", "accuracy")):
        if name in history or f"val_{name}" in history:
            yield name, f"val_{name}", title


def _best_row(history: pd.DataFrame, rule: str) -> int | None:
    """Position of the epoch whose checkpoint was kept: of equals the first."""
    if rule not in history or history[rule].isna().all():
        return None
    values = history[rule].to_numpy(np.float64)
    return int(np.nanargmin(values) if rule.endswith("loss") else np.nanargmax(values))


def _epochs(history: pd.DataFrame) -> pd.Series:
    return history.get("epoch", pd.Series(range(1, len(history) + 1), index=history.index))


def _best(history: pd.DataFrame, rule: str) -> str:
    best = _best_row(history, rule)
    if best is None:
        return "no epoch is marked."
    value = history[rule].iloc[best]
    return f"best epoch {_epochs(history).iloc[best]:g}, {MEASURES.get(rule, rule)} {value:.4f}."


def _learning_curves(axes: Sequence[Axes], theme: _Theme, history: pd.DataFrame, rule: str) -> None:
    epochs, best = _epochs(history), _best_row(history, rule)
    for axis, (train, validation, title) in zip(axes, _panels(history), strict=False):
        for column, label, colour in (
            (train, "training", theme.first),
            (validation, "validation", theme.second),
        ):
            if column in history:
                axis.plot(epochs, history[column], color=colour, label=label, marker=".", ms=4)
        axis.set_ylabel(title)
        axis.grid(axis="y")
        if best is not None:
            axis.axvline(epochs.iloc[best], color=theme.ink, lw=1, ls=":", label="best epoch")
    axes[0].legend(loc="best")
    axes[-1].set_xlabel("epoch")
    axes[-1].xaxis.set_major_locator(MaxNLocator(integer=True, steps=[1, 2, 5, 10]))


def _roc(axis: Axes, theme: _Theme, predictions: pd.DataFrame, tta: Mapping[str, Any]) -> None:
    false_alarms, found, _ = roc_curve(predictions["target"], predictions["score"])
    rates = tta["at_threshold"]["rates"]
    axis.plot([0, 1], [0, 1], color=theme.soft, lw=1, ls="--", label="guessing")
    axis.plot(false_alarms, found, color=theme.first, label=f"AUC {tta['auc']['value']:.3f}")
    chosen = (1 - rates["specificity"]["value"], rates["sensitivity"]["value"])
    _unit_square(axis, theme, chosen=chosen, labels=("1 − specificity", "sensitivity"))
    axis.legend(loc="lower right")


def _precision_recall(
    axis: Axes, theme: _Theme, predictions: pd.DataFrame, tta: Mapping[str, Any]
) -> None:
    precision, recall, _ = precision_recall_curve(predictions["target"], predictions["score"])
    rates = tta["at_threshold"]["rates"]
    share = predictions["target"].mean()
    axis.axhline(share, color=theme.soft, lw=1, ls="--", label=f"guessing {share:.3f}")
    label = f"average precision {tta['average_precision']['value']:.3f}"
    axis.plot(recall, precision, color=theme.first, drawstyle="steps-post", label=label)
    chosen = (rates["sensitivity"]["value"], rates["ppv"]["value"])
    labels = ("recall (sensitivity)", "precision (PPV)")
    _unit_square(axis, theme, chosen=chosen, labels=labels)
    axis.legend(loc="best")


def _unit_square(
    axis: Axes, theme: _Theme, *, chosen: tuple[float, float | None], labels: tuple[str, str]
) -> None:
    """Marks the chosen threshold, if it has a place, and makes the axes a labelled square."""
    x, y = chosen
    if y is not None:
        axis.plot(x, y, color=theme.second, label="chosen threshold", ls="none", marker="o")
    axis.set(xlabel=labels[0], ylabel=labels[1], xlim=(-0.02, 1.02), ylim=(-0.02, 1.02))
    axis.set_aspect("equal")
    axis.grid()


def _confusion(axis: Axes, theme: _Theme, summary: Mapping[str, Any]) -> None:
    counts = np.array(summary["scores"]["tta"]["at_threshold"]["confusion"])
    names = list(summary["counts"]["per_class"])
    shares = counts / counts.sum(axis=1, keepdims=True)
    colours = LinearSegmentedColormap.from_list("share", [theme.paper, theme.first])
    axis.imshow(shares, cmap=colours, vmin=0, vmax=2)  # Half the range: text stays readable.
    for (row, column), count in np.ndenumerate(counts):
        axis.text(
            column,
            row,
            f"{count:,}\n{100 * shares[row, column]:.1f} %",
            ha="center",
            va="center",
            fontsize=13,
        )
    axis.set_xticks(range(len(names)), names)
    axis.set_yticks(range(len(names)), names, rotation=90, va="center")
    axis.set_xlabel("decision")
    axis.set_ylabel("truth")
    axis.tick_params(length=0)


def _sweep(axis: Axes, theme: _Theme, summary: Mapping[str, Any]) -> None:
    table = pd.DataFrame(summary["sweep"])
    chosen, majority = summary["selection"]["threshold"], summary["counts"]["majority_rate"]
    for column, colour in (
        ("sensitivity", theme.second),
        ("specificity", theme.third),
        ("accuracy", theme.first),
    ):
        axis.plot(table["threshold"], table[column], color=colour, label=column)
    axis.axhline(majority, color=theme.soft, lw=1, ls="--", label="majority rate")
    axis.axvline(chosen, color=theme.ink, lw=1, ls=":", label=f"chosen, {chosen:.3g}")
    axis.set_xlabel("threshold")
    axis.set_ylabel("share")
    axis.set_ylim(-0.02, 1.02)
    axis.grid()
    axis.legend(loc="upper center", bbox_to_anchor=(0.5, -0.16), ncols=3)
