"""The evaluation as one page that needs nothing else.

`render` is pure: it returns text, and `evaluate` writes it. What a page is, is said in `pages`. Its
pictures, from `report_figures` and `gallery`, are part of it.
"""

import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePath
from typing import Any

import numpy as np
import pandas as pd

from dr_tfx.config import specs
from dr_tfx.dataset import manifest
from dr_tfx.tasks.binary.report_figures import marked_points
from dr_tfx.reports import pages
from dr_tfx.reports.learning_curves import MEASURES
from dr_tfx.reports.style import ReportFigure, data_uri

PATIENTS_NOT_KNOWN = "patients not known: every photograph counts as its own"

_SHOWN = 8  # Entries of a list in the data set's contract before it is cut short.
_COMMAND_WIDTH = 96
_VIEWS = {
    "identity": "as it is",
    "left_right": "mirrored",
    "up_down": "upside down",
    "left_right_up_down": "turned by 180°",
}
_REFERRED = (0, 10, 20, 30, 50)  # Percent, in the table; the figure has all.
_RATES = (  # Key of a point's rates, its name, and how it is written.
    ("sensitivity", "Sensitivity", "percent"),
    ("specificity", "Specificity", "percent"),
    ("ppv", "PPV", "percent"),
    ("npv", "NPV", "percent"),
    ("lr_positive", "LR+", "ratio"),
    ("lr_negative", "LR−", "ratio"),
    ("f1", "F1", "number"),
    ("mcc", "MCC", "number"),
    ("kappa", "Cohen's kappa", "number"),
    ("balanced_accuracy", "Balanced accuracy", "percent"),
    ("accuracy", "Accuracy", "percent"),
)
_DATA = {  # Words for what is not said well by the key itself.
    "counts": "Images",
    "dataset.image_column": "Column of the image",
    "dataset.label_column": "Column of the label",
    "dataset.label_names": "Labels",
    "dataset.max_reject_rate": "Most rejects allowed",
    "dataset.patient_pattern": "Pattern of the patient",
    "dataset.shard_examples": "Examples a shard, at most",
    "dataset.split.method": "Split by",
    "dataset.split.strata": "Strata of the split",
    "rows": "Rows of the CSV",
    "shared_names": "Patients in several splits, by name",
    "shared_patients": "Patients in several splits",
    "twins": "Byte-identical photographs",
    "unlabelled": "Photographs without a label",
}


@dataclass(frozen=True)
class Picture:
    """A photograph and its heat map, as JPEG files of `side` x `side` pixels."""

    id: str
    photograph: bytes
    overlay: bytes | None  # With its heat map laid over it; None where nothing raises the score.
    side: int

    @property
    def photograph_uri(self) -> str:
        """The photograph as an address that holds its own content."""
        return data_uri(self.photograph, "image/jpeg")

    @property
    def overlay_uri(self) -> str | None:
        """The same for the one with the heat map."""
        return None if self.overlay is None else data_uri(self.overlay, "image/jpeg")


def render(
    summary: Mapping[str, Any],
    figures: Sequence[ReportFigure],
    *,
    contract: Mapping[str, Any],
    training: Mapping[str, Any],
    history: pd.DataFrame | None,
    commands: Sequence[Sequence[str]],
    pictures: Sequence[Picture] = (),
) -> str:
    """The page, as HTML text; everything that comes from data is escaped.

    Args:
      summary: what `summary.summarise` returned, with notices, schema, selection, split and task.
      figures: from `report_figures.draw_figures`.
      contract: the data set's manifest as plain types.
      training: experiment (as plain types), best_epoch, precision and libraries of the model.
      history: one row an epoch, or None.
      commands: shell commands that produce this page again, word by word.
      pictures: of the most wrong; a mistake without one is told in words alone.
    """
    known = summary["counts"]["patients_known"]
    return pages.render(
        "report.html.j2",
        s=summary,
        tta=summary["scores"]["tta"],
        figures={figure.name: figure for figure in figures},
        facts=[
            *_elsewhere_facts(summary["elsewhere"]),
            *_data_facts(contract, patients_known=known),
        ],
        training_facts=[*_training_facts(training), *_cost_facts(history)],
        commands=[shell(words) for words in commands],
        measures=MEASURES,
        not_known=PATIENTS_NOT_KNOWN,
        pictures={picture.id: picture for picture in pictures},
        points=marked_points(summary),
        rates=_RATES,
        weakest=min(summary["strata"], key=lambda row: row["rate"]["value"]),
        referral=_referral_rows(summary["referral"]),
        view_words=[_VIEWS.get(view, view.replace("_", " ")) for view in summary["views"]],
    )


def _referral_rows(rows: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Those of the round fractions: 0, 10, 20, 30 and 50 %."""
    return [row for row in rows if round(100 * row["fraction"]) in _REFERRED]


def shell(words: Sequence[str]) -> str:
    """A command, word by word, as it is typed: in lines that fit the page."""
    first, *rest = map(shlex.quote, words)
    lines = [first]
    for word in rest:
        if len(lines[-1]) + len(word) < _COMMAND_WIDTH:
            lines[-1] += f" {word}"
        else:
            lines.append(f"    {word}")
    return " \\\n".join(lines)


def _training_facts(training: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The model and its training as rows of (name, text)."""
    model, fit = training["experiment"]["model"], training["experiment"]["training"]
    weights = {"imagenet": "ImageNet", "none": "none, from scratch"}
    yield "Backbone", model["backbone"]
    yield "Weights", weights.get(model["weights"], PurePath(model["weights"]).name)
    if model["weights"] != "none" or model["from_scratch"] != "whole":
        layers = model["trainable_layers"]
        tuned = "all layers" if layers < 0 else f"the last {layers} layers"
        yield "Trained", f"{tuned}, BatchNorm {model['batch_norm']}"
    hidden = f"hidden layers {_listed([str(n) for n in model['hidden']])}, " * bool(model["hidden"])
    yield "Head", f"{hidden}dropout {_listed([str(rate) for rate in model['dropout']])}"
    focal = f" (gamma {fit['focal_gamma']:g}, alpha {fit['focal_alpha']:g})"
    yield "Loss", _class_fact(fit, "loss") + focal * (fit["loss"] == "focal")
    yield "Balance", _balance(fit)
    yield "Epochs", f"best {training['best_epoch']}, at most {fit['epochs']}"
    yield "Batch size", str(fit["batch_size"])
    yield "Learning rate", f"{fit['learning_rate']:g} at first, {_class_fact(fit, 'optimizer')}"
    changes = {k.replace("_", " "): v for k, v in fit["augmentation"].items() if v}
    said = [k if v is True else f"{k} {v:g}" for k, v in changes.items()]
    yield "Augmentation", _listed(said) if said else "none"
    yield "Seed", str(fit["seed"])
    yield "Precision", training["precision"].replace("_", " ")
    yield "Libraries", _listed([f"{k} {v}" for k, v in training["libraries"].items()])


def _class_fact(fit: Mapping[str, Any], key: str) -> str:
    """A loss or optimizer in words; one of tensorflow-addons as it is called, with arguments."""
    name = fit[key]
    given = fit.get("arguments", {}).get(name.removeprefix(specs.ADDONS), {})
    said = f" ({_listed([f'{k} {v}' for k, v in given.items()])})" if given else ""
    plain = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "cross_entropy": "cross entropy"}
    return plain.get(name, name) + said


def _balance(fit: Mapping[str, Any]) -> str:
    """How rare classes are made up for, in words."""
    drawn = {"oversample": "classes equally often", "none": "as they occur"}[fit["balance"]]
    if fit["label_weights"]:
        drawn = f"labels {' : '.join(f'{weight:g}' for weight in fit['label_weights'])}"
    if fit["anneal_epochs"]:
        drawn += f" at first, as they occur after {fit['anneal_epochs']} epochs"
    weights = " : ".join(f"{weight:g}" for weight in fit["class_weights"])
    return drawn + f"; losses weighted {weights}" * bool(weights)


def _cost_facts(history: pd.DataFrame | None) -> Iterator[tuple[str, str]]:
    """What the epochs took of time and memory, as rows of (name, text)."""
    if history is None or "input_wait" not in history:
        return
    yield "Time an epoch", f"{history['seconds'].median():.3g} s"
    share = np.average(history["input_wait"], weights=history["seconds"])
    yield "Waiting for input", f"{share:.1%} of the time in training".replace("%", " %")
    yield "Memory", f"{history['peak_memory_gb'].max():.2f} GB at most"


def _elsewhere_facts(elsewhere: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Where photographs are from that are not of the model's own data set, and what it has, too."""
    if elsewhere is None:
        return
    yield "Photographs", elsewhere["external_dir"]
    yield "Labels from", elsewhere["labels"]
    known = "not looked for; give the model's own data set with --data_dir"
    if elsewhere["compared"]:
        counts = [f"{n:,} in its {split} split" for split, n in elsewhere["photographs"].items()]
        names = f"{len(elsewhere['patients']):,} names of patients or photographs"
        known = f"identical once prepared: {', '.join(counts)}; {names}"
    yield "In the model's own data set, too", known


def _without_splits(contract: Mapping[str, Any]) -> Mapping[str, Any]:
    """The contract of photographs from elsewhere, which are one split: its facts, and no others."""
    ((split, counts),) = contract["counts"].items()
    hidden = ("max_reject_rate", "split")
    dataset = {key: value for key, value in contract["dataset"].items() if key not in hidden}
    kept = {k: v for k, v in contract.items() if k not in ("shared_patients", "shared_names")}
    return {**kept, "dataset": dataset, "counts": counts, "patients": contract["patients"][split]}


def _data_facts(contract: Mapping[str, Any], *, patients_known: bool) -> Iterator[tuple[str, str]]:
    """The data set's contract as rows of (name, text), in words."""
    groups, recipe = len(contract["twins"]), contract["dataset"]["recipe"]
    said = {
        "dataset.recipe": _listed([f"{k.replace('_', ' ')} {v}" for k, v in recipe.items()]),
        "shards": f"{len(contract['shards'])} files",
        "twins": f"{groups} group{'s' * (groups != 1)}" if groups else "none",
    }
    if contract.get("prepared") == manifest.ELSEWHERE:
        said["dataset.recipe"] = f"none: prepared elsewhere, size {recipe['size']}"
    if not patients_known:
        said["patients"] = PATIENTS_NOT_KNOWN
        said["dataset.split.method"] = (
            f"{contract['dataset']['split']['method']}; " + said["patients"]
        )
    if contract["dataset"]["split"]["method"] == "external":
        contract = _without_splits(contract)
    elif not contract["shared_names"]:
        contract = {key: value for key, value in contract.items() if key != "shared_names"}
    for name, text in _facts({**contract, "rejected": contract["rejected"] or "none"}):
        plain = name.removeprefix("dataset.").replace("_", " ")
        for key, words in (("counts.", "images in "), ("split.", "split, ")):
            plain = plain.replace(key, words)
        yield _DATA.get(name, plain[:1].upper() + plain[1:]), said.get(name, text)


def _facts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """A nested mapping as rows of (dotted name, text), long lists cut short."""
    if isinstance(value, Mapping):
        leaves = [v for v in value.values() if not isinstance(v, Mapping | list | tuple)]
        if name and leaves and len(leaves) == len(value):
            yield name, _listed([f"{k}: {v}" for k, v in value.items()])
        else:
            for key, item in value.items():
                yield from _facts(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        nested = any(isinstance(item, Mapping | list | tuple) for item in value)
        yield name, f"{len(value)} entries" if nested else _listed([str(v) for v in value])
    else:
        yield name, "–" if value in (None, "") else str(value)


def _listed(items: list[str]) -> str:
    rest = len(items) - _SHOWN
    return ", ".join(items[:_SHOWN]) + (f" and {rest} more" if rest > 0 else "") or "–"
