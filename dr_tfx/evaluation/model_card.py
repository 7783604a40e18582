"""The card of a model: what it is, what it was trained on, what it is worth and what it is not for.

It has the form of Hugging Face, a head in YAML and then Markdown, and the sections of Mitchell et
al., "Model Cards for Model Reporting", FAT* 2019, https://arxiv.org/abs/1810.03993. `render` is
pure; `evaluate` writes the card beside each report.
"""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dr_tfx import __version__
from dr_tfx.evaluation import report
from dr_tfx.evaluation.scored import SELECTION_SPLIT, Scored, patients_known, usual_folder
from dr_tfx.reports import pages
from dr_tfx.words import languages

FILE = "model_card.md"
_BEST_FIRST = ("test", SELECTION_SPLIT)


def render(scored: Scored, summary: Mapping[str, Any], *, weights: str) -> str:
    """Return the card as Markdown; what comes from data is escaped.

    Args:
      scored: what was judged.
      summary: what `evaluate.metrics_of` returned.
      weights: SHA-256 of the bundle's file of weights.
    """
    bundle, kind = scored.bundle, scored.bundle.kind
    comparison, known = scored.judgement.comparison, summary["counts"]["patients_known"]
    found = comparison.figures_of(summary)
    measures = [
        {**found[measure.key], "key": measure.key, "name": measure.name, "unit": measure.unit}
        for measure in comparison.MEASURES
    ]
    maps = kind.model.reads == "pyramid"
    with languages.speaking(languages.ENGLISH):  # Whoever reads a Hub reads English.
        text = pages.render(
            "model_card.md.j2",
            s=summary,
            version=__version__,
            weights=weights,
            kind=bundle.experiment.task.kind,
            pipeline="image-segmentation" if maps else "image-classification",
            data_name=scored.data.dataset.name,
            measures=measures,
            training_facts=[*report.model_facts(bundle)],
            recipe=bundle.experiment.dataset.recipe,
            views=report.views_in_words(summary["views"]),
            rule=kind.scores.rule(scored.fitted),
            factors=f"The labels are {', '.join(bundle.experiment.dataset.label_names)}.",
            measured=_measured(summary, bundle.experiment.evaluation.bootstrap_resamples, known),
            trained_on=bundle.manifest,
            patients_known=patients_known(bundle.manifest),
        )
    return re.sub(r"\n{3,}", "\n\n", text.lstrip())


def of_run(workdir: Path) -> Path | None:
    """Return the card of a run: that of its test split, or else of validation; None without one."""
    cards = [usual_folder(workdir, split) / FILE for split in _BEST_FIRST]
    return next((card for card in cards if card.is_file()), None)


def _measured(summary: Mapping[str, Any], resamples: int, known: bool) -> str:
    drawn = "patients" if known else "images"
    return (
        f"Intervals are those of a bootstrap of {resamples:,} resamples over {drawn}, or exact for "
        f"single shares. Whatever is fitted, thresholds and calibration, was fitted on "
        f"'{summary['selection']['chosen_on']}' and is merely used elsewhere; the epoch was chosen "
        f"there by {summary['selection']['checkpoint_rule']}."
    )
