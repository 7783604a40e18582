"""An export beside its bundle, on the pictures of a split: how far it is from it, and how fast."""

import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import tensorflow as tf
from sklearn.metrics import roc_auc_score

from dr_tfx.dataset import folds, manifest
from dr_tfx.evaluation import evaluate
from dr_tfx.explanation import gradcam
from dr_tfx.inference import exported, scoring
from dr_tfx.models import bundles

MOST = 1e-4
"""The largest difference between an output of an export in float32 and of the bundle."""
_MOST_OF_MAPS = 1e-3  # The same of a heat map, which goes from 0 to 1.
_MOST_AUC, _MOST_CHANGED = 0.005, 0.01  # By which one that is quantised may be worse.
_ROUNDS = 5  # Timed passes of each, of which the median counts.


class Compared(NamedTuple):
    """An export beside its bundle, on the pictures of a split.

    Attributes:
      split: its name.
      images: how many there were.
      outputs: the largest difference of an output.
      heatmaps: the largest difference of a heat map.
      auc: by how much the AUC falls; of several distinctions, the most. None where none is defined.
      changed: the share of the images that are decided otherwise.
      times: seconds a batch of the export, divided by those of the bundle.
      bytes: the size of the export's files,
      of_bundle: divided by that of the bundle's weights.
    """

    split: str
    images: int
    outputs: float
    heatmaps: float
    auc: float | None
    changed: float
    times: float
    bytes: int = 0
    of_bundle: float = 0.0


def compare(
    model: exported.ExportedModel,
    bundle: bundles.Bundle,
    heatmaps: gradcam.HeatMaps,
    *,
    data_dir: Path,
    quantize: str,
) -> Compared:
    """Give both the pictures of a split, and refuse an export that is another model.

    The split is validation, but for the models of all folds, which have seen every picture. What is
    looked at is whether two programs compute the same, which any picture tells.

    Args:
      model: the export.
      bundle: what it was made of.
      heatmaps: those of the bundle.
      data_dir: folder of the data set.
      quantize: how the numbers of the export are stored, "" for float32.

    Returns:
      All that is known without the files.

    Raises:
      ValueError: they differ by too much.
    """
    split = "train" if bundle.manifest.fold == manifest.EVERY_FOLD else evaluate.SELECTION_SPLIT
    both = _Both(model, bundle, heatmaps)
    data = folds.load_trained_on(bundle.manifest, data_dir)
    table = scoring.stream(bundle, both.score, data_dir, data=data, split=split)
    columns = bundle.columns(np.concatenate(both.given))
    tables = [bundle.kind.judgement.checked(one) for one in (table, table.assign(**columns))]
    found = Compared(
        split,
        len(table),
        both.outputs,
        both.maps,
        _auc_fallen(bundle.kind.judgement, *tables),
        _changed(bundle, *tables),
        both.times,
    )
    if quantize:
        _check_quantized(found, quantize, bundle.folder)
    elif not (found.outputs <= MOST and found.heatmaps <= _MOST_OF_MAPS):
        raise ValueError(
            f"the export differs from {bundle.folder}: by {found.outputs:.2g} in an output and "
            f"{found.heatmaps:.2g} in a heat map of {found.images} pictures of '{split}'; expected "
            f"at most {MOST:g} and {_MOST_OF_MAPS:g}. Nothing was written"
        )
    return found


class _Both:
    """The scorer of a bundle, which gives every batch to the export, too.

    Attributes:
      given: the outputs of the export, an array a batch.
      outputs: the largest difference of an output so far.
      maps: the largest difference of a heat map so far.
      times: seconds of the export for the first batch, divided by those of the bundle.
    """

    def __init__(
        self, model: exported.ExportedModel, bundle: bundles.Bundle, heatmaps: gradcam.HeatMaps
    ):
        self._model, self._heatmaps = model, heatmaps
        self._of_bundle = scoring.view_scorer(bundle)
        self.given: list[np.ndarray] = []
        self.outputs = self.maps = self.times = 0.0

    def score(self, images: tf.Tensor) -> tf.Tensor:
        """Return the outputs of the bundle."""
        wanted, rgb = self._of_bundle(images), images.numpy()
        outputs, maps = self._model.outputs_and_maps(rgb)
        # The first of each compile.
        if not self.given:
            of_bundle = _time(lambda: self._of_bundle(images).numpy())
            self.times = _time(lambda: self._model.outputs(rgb)) / of_bundle
        self.given.append(outputs)
        self.outputs = max(self.outputs, float(np.abs(outputs - wanted.numpy()).max()))
        self.maps = max(self.maps, float(np.abs(maps - self._heatmaps(rgb)[0]).max()))
        return wanted


def _check_quantized(found: Compared, quantize: str, folder: Path) -> None:
    """Refuse a quantised export that is worse, or decides otherwise."""
    if (found.auc or 0.0) <= _MOST_AUC and found.changed <= _MOST_CHANGED:
        return
    fallen = "" if found.auc is None else f"its AUC falls by {found.auc:.4f}, and "
    smaller = " or --quantize=float16" if quantize != "float16" else ""
    raise ValueError(
        f"the export in {quantize} is another model than {folder}: {fallen}"
        f"{100 * found.changed:.2f} % of the decisions change on {found.images} pictures of "
        f"'{found.split}'; expected at most {_MOST_AUC:g} and {100 * _MOST_CHANGED:g} %. Nothing "
        f"was written. Export without --quantize{smaller}"
    )


def _auc_fallen(judgement: Any, before: pd.DataFrame, after: pd.DataFrame) -> float | None:
    """Return by how much the AUC of a distinction falls at most; None if none has one."""
    falls = [
        roc_auc_score(old.positive, old.score) - roc_auc_score(old.positive, new.score)
        for old, new in zip(judgement.rankings(before), judgement.rankings(after), strict=True)
        if 0 < old.positive.sum() < len(old.positive)
    ]
    return float(max(falls)) if falls else None


def _changed(bundle: bundles.Bundle, before: pd.DataFrame, after: pd.DataFrame) -> float:
    """Return the share of the images that are decided otherwise, by what was fitted."""
    read = bundle.kind.scores.read
    old, new = (read(table, bundle.fitted) for table in (before, after))
    return float(np.mean([a.decision != b.decision for a, b in zip(old, new, strict=True)]))


def _time(work: Callable[[], np.ndarray]) -> float:
    """Return the median of the seconds that some work takes."""
    seconds = []
    for _ in range(_ROUNDS):
        began = time.perf_counter()
        work()
        seconds.append(time.perf_counter() - began)
    return statistics.median(seconds)
