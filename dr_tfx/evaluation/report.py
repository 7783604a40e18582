"""The evaluation as one page that needs nothing else.

`render` returns text that depends on what was judged and on the day, and `evaluate` writes it. The
shell of the page, which every kind of task shares, is the template `report.html.j2`: alarms,
notices, the facts about training and data set, and the commands to reproduce them. The kind's own
`evaluation.html.j2` extends it.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import PurePath
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from dr_tfx import tasks
from dr_tfx.config import specs, typed
from dr_tfx.dataset import manifest
from dr_tfx.evaluation import reproduce
from dr_tfx.evaluation.scored import Scored
from dr_tfx.reports import pages
from dr_tfx.reports.learning_curves import words_of
from dr_tfx.reports.style import ReportFigure

if TYPE_CHECKING:
    from dr_tfx.evaluation.gallery import GalleryImage
    from dr_tfx.models import bundles

PATIENTS_NOT_KNOWN = "patients not known: every photograph counts as its own"

_SHOWN = 8  # Entries of a list in the data set's contract before it is cut short.
_VIEWS = {
    "identity": "as it is",
    "left_right": "mirrored",
    "up_down": "upside down",
    "left_right_up_down": "turned by 180°",
}
_DATA = {  # Words where the key itself does not say it well.
    "counts": "Images",
    "dataset.image_column": "Column of the image",
    "dataset.label_column": "Column of the label",
    "dataset.label_names": "Labels",
    "dataset.label_values": "Texts of the labels",
    "dataset.max_reject_rate": "Most rejects allowed",
    "dataset.patient_column": "Column of the patient",
    "dataset.patient_pattern": "Pattern of the patient",
    "dataset.shard_examples": "Examples a shard, at most",
    "dataset.split.column": "Column of the split",
    "dataset.split.method": "Split by",
    "dataset.split.strata": "Strata of the split",
    "fold": "Fold that is tested",
    "identities": "Hash of the photographs' identities",
    "rows": "Rows of the CSV",
    "shared_names": "Patients in several splits, by name",
    "shared_patients": "Patients in several splits",
    "twins": "Byte-identical photographs",
    "unknown_patients": "Photographs whose patient is not known",
    "near_twins": "Other copies of one photograph",
    "unlabelled": "Photographs without a label",
}


def render(
    scored: Scored,
    summary: Mapping[str, Any],
    *,
    figures: Sequence[ReportFigure],
    history: pd.DataFrame | None,
    images: Sequence["GalleryImage"] = (),
) -> str:
    """Return the page as HTML text; everything that comes from data is escaped.

    Args:
      scored: what was judged.
      summary: what `evaluate.metrics_of` returned.
      figures: those of the kind of task, and the learning curves if there are any.
      history: history.csv, or None.
      images: the photographs to show; one that is missing is told of in words alone.
    """
    judgement, known = scored.judgement, summary["counts"]["patients_known"]
    return pages.render(
        "evaluation.html.j2",
        templates=judgement.TEMPLATES,
        s=summary,
        data_name=scored.data.dataset.name,
        model=scored.bundle.backbone,
        groups=scored.bundle.kind.data.groups,
        figures={figure.name: figure for figure in figures},
        facts=[
            *_elsewhere_facts(summary["elsewhere"]),
            *_data_facts(scored.data.to_dict(), patients_known=known),
        ],
        training_facts=[*model_facts(scored.bundle), *_cost_facts(history)],
        commands=[reproduce.shell(words) for words in scored.commands],
        explain=[reproduce.shell(words) for words in scored.explain],
        selected_by=words_of(summary["selection"]["checkpoint_rule"], judgement.CURVES),
        not_known=PATIENTS_NOT_KNOWN,
        no_probe=scored.no_probe,
        images={image.id: image for image in images},
        view_words=views_in_words(summary["views"]),
        **judgement.page_values(summary),
    )


def views_in_words(names: Sequence[str]) -> list[str]:
    """Return test-time views for people."""
    return [_VIEWS.get(name, name.replace("_", " ")) for name in names]


def model_facts(bundle: "bundles.Bundle") -> Iterator[tuple[str, str]]:
    """Yield the model as rows of (name, text): its training, or what an ensemble is made of."""
    if not bundle.members:
        yield from _training_facts(bundle)
        return
    yield "Ensemble", f"the mean of the calibrated probabilities of {len(bundle.members)} runs"
    for member in bundle.members:
        model = tasks.from_config(member.experiment).model
        yield PurePath(member.folder).name, f"{model.backbone}, best epoch {member.best_epoch}"
    yield "Precision", bundle.precision.replace("_", " ")
    yield "Libraries", _listed([f"{k} {v}" for k, v in bundle.libraries.items()])


def _training_facts(bundle: "bundles.Bundle") -> Iterator[tuple[str, str]]:
    """Yield the model and its training as rows of (name, text)."""
    model, fit = bundle.experiment.model, bundle.experiment.training
    weights = {"imagenet": "ImageNet", "none": "none, from scratch"}
    yield "Backbone", model.backbone
    yield "Weights", weights.get(model.weights, PurePath(model.weights).name)
    if model.weights != "none" or model.from_scratch != "whole":
        yield "Trained", f"{_tuned(model.trainable_layers)}, BatchNorm {model.batch_norm}"
    hidden = f"hidden layers {_listed(model.hidden)}, " * bool(model.hidden)
    yield "Head", f"{hidden}dropout {_listed(model.dropout)}"
    focal = f" (gamma {fit.focal_gamma:g}, alpha {fit.focal_alpha:g})" * (fit.loss == "focal")
    yield "Loss", _class_fact(fit, fit.loss) + focal
    yield "Balance", _balance(fit)
    for stage in fit.stages:
        layers = _tuned(stage.trainable_layers)
        yield "Stage before", f"{stage.epochs} epochs, {layers}, rate {stage.learning_rate:g}"
    most = fit.epochs + sum(stage.epochs for stage in fit.stages)
    yield "Epochs", f"best {bundle.best_epoch}, at most {most}"
    yield "Batch size", str(fit.batch_size)
    yield "Learning rate", f"{fit.learning_rate:g} at first, {_class_fact(fit, fit.optimizer)}"
    changes = {k.replace("_", " "): v for k, v in typed.to_dict(fit.augmentation).items() if v}
    said = [k if v is True else f"{k} {v:g}" for k, v in changes.items()]
    yield "Augmentation", _listed(said) if said else "none"
    yield "Seed", str(fit.seed)
    yield "Precision", bundle.precision.replace("_", " ")
    yield "Libraries", _listed([f"{k} {v}" for k, v in bundle.libraries.items()])


def _tuned(layers: int) -> str:
    """Return which layers of the backbone learn, in words."""
    if layers <= 0:
        return "all layers" if layers else "the head alone"
    return f"the last {layers} layers"


def _class_fact(fit: specs.Training, name: str) -> str:
    """Return a loss or optimizer in words; that of tensorflow-addons keeps its name."""
    given = fit.arguments.get(name.removeprefix(specs.ADDONS), {})
    said = f" ({_listed([f'{k} {v}' for k, v in given.items()])})" if given else ""
    plain = {"adam": "Adam", "adamw": "AdamW", "sgd": "SGD", "cross_entropy": "cross entropy"}
    return plain.get(name, name) + said


def _balance(fit: specs.Training) -> str:
    """Return how training makes up for rare classes, in words."""
    drawn = {"oversample": "classes equally often", "none": "as they occur"}[fit.balance]
    if fit.label_weights:
        drawn = f"labels {' : '.join(f'{weight:g}' for weight in fit.label_weights)}"
    if fit.anneal_epochs:
        drawn += f" at first, as they occur after {fit.anneal_epochs} epochs"
    weights = " : ".join(f"{weight:g}" for weight in fit.class_weights)
    return drawn + f"; losses weighted {weights}" * bool(weights)


def _cost_facts(history: pd.DataFrame | None) -> Iterator[tuple[str, str]]:
    """Yield the time and the memory that epochs took as rows of (name, text)."""
    if history is None or "input_wait" not in history:
        return
    yield "Time an epoch", f"{history['seconds'].median():.3g} s"
    share = np.average(history["input_wait"], weights=history["seconds"])
    yield "Waiting for input", f"{share:.1%} of the time in training".replace("%", " %")
    yield "Memory", f"{history['peak_memory_gb'].max():.2f} GB at most"


def _elsewhere_facts(elsewhere: Mapping[str, Any] | None) -> Iterator[tuple[str, str]]:
    """Yield where photographs from elsewhere are from, and what the model's own data set shares."""
    if elsewhere is None:
        return
    yield "Photographs", elsewhere["external_dir"]
    yield "Labels from", elsewhere["labels"]
    known = "not looked for; give the model's own data set with --data_dir"
    if elsewhere["compared"]:
        counts = [f"{n:,} in its {split} split" for split, n in elsewhere["photographs"].items()]
        names = f"{len(elsewhere['patients']):,} names of patients or photographs"
        known = f"the photograph or a copy of it: {', '.join(counts)}; {names}"
    yield "In the model's own data set, too", known


def _without_splits(contract: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the contract of photographs from elsewhere without the facts on splits."""
    ((split, counts),) = contract["counts"].items()
    hidden = ("max_reject_rate", "split")
    dataset = {key: value for key, value in contract["dataset"].items() if key not in hidden}
    of_splits = ("fold", "shared_patients", "shared_names")
    kept = {k: v for k, v in contract.items() if k not in of_splits}
    return {**kept, "dataset": dataset, "counts": counts, "patients": contract["patients"][split]}


def _with_what_matters(contract: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the contract without empty names, and without what decides nothing with folds."""
    has_folds, split = contract["fold"] >= 0, contract["dataset"]["split"]
    hidden = ("validation", "test") if has_folds else ("folds",)
    dataset = {**contract["dataset"], "split": {k: split[k] for k in split if k not in hidden}}
    dropped = ["shared_names"] * (not contract["shared_names"]) + ["fold"] * (not has_folds)
    return {**{k: v for k, v in contract.items() if k not in dropped}, "dataset": dataset}


def _data_facts(contract: Mapping[str, Any], *, patients_known: bool) -> Iterator[tuple[str, str]]:
    """Yield the data set's contract as rows of (name, text), in words."""
    recipe = contract["dataset"]["recipe"]
    said = {
        "dataset.recipe": _listed([f"{k.replace('_', ' ')} {v}" for k, v in recipe.items()]),
        "shards": f"{len(contract['shards'])} files",
    }
    for key in ("twins", "near_twins"):
        groups = len(contract[key])
        said[key] = f"{groups} group{'s' * (groups != 1)}" if groups else "none"
    if contract.get("prepared") == manifest.ELSEWHERE:
        said["dataset.recipe"] = f"none: prepared elsewhere, size {recipe['size']}"
    if not patients_known:
        said["patients"] = PATIENTS_NOT_KNOWN
        said["dataset.split.method"] = (
            f"{contract['dataset']['split']['method']}; " + said["patients"]
        )
    if contract["dataset"]["split"]["method"] == "external":
        contract = _without_splits(contract)
    else:
        contract = _with_what_matters(contract)
    for name, text in _facts({**contract, "rejected": contract["rejected"] or "none"}):
        plain = name.removeprefix("dataset.").replace("_", " ")
        for key, words in (("counts.", "images in "), ("split.", "split, ")):
            plain = plain.replace(key, words)
        yield _DATA.get(name, plain[:1].upper() + plain[1:]), said.get(name, text)


def _facts(value: Any, name: str = "") -> Iterator[tuple[str, str]]:
    """Yield a nested mapping as rows of (dotted name, text), long lists cut short."""
    if isinstance(value, Mapping):
        leaves = [v for v in value.values() if not isinstance(v, Mapping | list | tuple)]
        if name and leaves and len(leaves) == len(value):
            yield name, _listed([f"{k}: {v}" for k, v in value.items()])
        else:
            for key, item in value.items():
                yield from _facts(item, f"{name}.{key}" if name else str(key))
    elif isinstance(value, list | tuple):
        nested = any(isinstance(item, Mapping | list | tuple) for item in value)
        yield name, f"{len(value)} entries" if nested else _listed(value)
    else:
        yield name, "–" if value in (None, "") else str(value)


def _listed(items: Sequence[Any]) -> str:
    rest = len(items) - _SHOWN
    return ", ".join(map(str, items[:_SHOWN])) + (f" and {rest} more" if rest > 0 else "") or "–"
